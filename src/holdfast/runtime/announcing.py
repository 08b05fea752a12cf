"""Announcing: after a write, tell whoever waits for what it did. A word that is lost costs time only: all of them poll."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from holdfast.errors import StoreUnavailable
from holdfast.ids import WorkerId
from holdfast.logs import get_logger
from holdfast.model.instance import Committed
from holdfast.ports import NEWS_LIMIT, WORK_CHANNEL, Announcements, inbox_channel
from holdfast.runtime import joining
from holdfast.runtime.background import Background

log = get_logger("holdfast.worker")


class Announcer:
    """Wakes clients and workers. Of what concerns this worker itself, `mail` and `look` are called."""

    def __init__(
        self, worker: WorkerId, *, store: Announcements, mail: Callable[[], None], look: Callable[[], None]
    ) -> None:
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
        news = news_of_endings(committed.waiters)
        for owner in set(committed.owners):
            if owner == self._worker:
                self._mail()
            else:
                news[inbox_channel(owner)] = ""
        if committed.started:
            self._look()
            if others:
                news[WORK_CHANNEL] = ""
        if news:
            # Those who wait for the writer need not wait for that.
            self._background.begin(notify(self._store, news))


async def notify(to: Announcements, news: Mapping[str, str]) -> None:
    """Say so on these channels; what carries words may be out of reach, and then nobody hears it."""
    try:
        await to.notify(news)
    except StoreUnavailable as error:
        log.warning("notification lost", channels=len(news), error=str(error))


def news_of_endings(waiters: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What clients are told of the instances or jobs they wait for, by channel, of pairs of a channel and an id."""
    ended: defaultdict[str, list[str]] = defaultdict(list)
    for channel, id in waiters:
        if not joining.is_word(channel):
            ended[channel].append(id)
    return {channel: list_ended(ids) for channel, ids in ended.items()}


def list_ended(ids: Sequence[str]) -> str:
    """What a client is told of instances that ended: their ids, as JSON; nothing where they are too many for that."""
    text = json.dumps(list(ids), separators=(",", ":"))
    return text if len(text) <= NEWS_LIMIT else ""


def read_ended(text: str) -> list[str] | None:
    """The ids in what `list_ended` wrote; None where it does not say."""
    try:
        ids = json.loads(text)
    except ValueError:
        return None
    return [id for id in cast("list[object]", ids) if isinstance(id, str)] if isinstance(ids, list) else None
