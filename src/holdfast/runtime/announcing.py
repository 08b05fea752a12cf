"""Announcing: after a write, tell whoever waits for what it did. A word that is lost costs time only: all of them poll."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.errors import StoreUnavailable
from holdfast.ids import WorkerId
from holdfast.logs import get_logger
from holdfast.model.instance import Committed
from holdfast.ports import WORK_CHANNEL, Store, inbox_channel
from holdfast.runtime import joining
from holdfast.runtime.background import Background

log = get_logger("holdfast.worker")


class Announcer:
    """Wakes clients and workers. Of what concerns this worker itself, `mail` and `look` are called."""

    def __init__(self, worker: WorkerId, *, store: Store, mail: Callable[[], None], look: Callable[[], None]) -> None:
        self._worker = worker
        self._store = store
        self._mail = mail
        self._look = look
        self._background = Background()

    @property
    def busy(self) -> bool:
        """Whether somebody is being told."""
        return self._background.busy

    def tell(self, committed: Committed, *, others: bool) -> None:
        """Tell whoever waits for what a commit did; `others` says whether there are other workers."""
        channels = {channel for channel, _ in committed.waiters if not joining.is_word(channel)}
        for owner in set(committed.owners):
            if owner == self._worker:
                self._mail()
            else:
                channels.add(inbox_channel(owner))
        if committed.started:
            self._look()
            if others:
                channels.add(WORK_CHANNEL)
        if channels:
            # Those who wait for the writer need not wait for that.
            self._background.begin(self._notify(sorted(channels)))

    async def _notify(self, channels: Sequence[str]) -> None:
        try:
            await self._store.notify(channels)
        except StoreUnavailable as error:
            log.warning("notification lost", channels=len(channels), error=str(error))
