"""What stores and brokers have in common: they are opened, keep the leases of workers, and carry words between processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from holdfast.ids import WorkerId
from holdfast.model.instance import WorkerView


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a backend can do beyond its port; conformance tests and the runtime read it."""

    name: str
    notifies: bool
    """It pushes wake-ups between processes; where it does not, callers poll."""
    embedded: bool
    """It lives in this process's files: a caller without a worker may work itself."""
    sees_changes: bool = False
    """`version` tells when another process has written, so that callers may ask often; else they look now and then."""
    ephemeral: bool = False
    """It ends with this process."""
    ranks: bool = True
    """Jobs have priorities and unique texts; where they cannot, asking for either is refused."""
    finds_jobs: bool = True
    """A job is found by its id: it can be cancelled, its end waited for, its result and progress kept."""
    pauses: bool = True
    """Queues can be paused here; else where they are administered."""
    gates: bool = True
    """Jobs may have gates, which let so many through at once or in a time; where they cannot, a job with one is refused."""
    keys: bool = True
    """Jobs of a gate that lets through one at a time run in order, whether there are other gates or not."""
    knows_workers: bool = True
    """It knows all workers and what they hold; where it does not, each job has a lock of its own."""
    lists_all: bool = True
    """Jobs are listed whatever their status; else only those that are queued or dead."""
    prompt: bool = True
    """A claim gives all that is due by the caller's clock; else jobs come a moment after they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The answer to a heartbeat."""

    alive: bool
    """False: the lease ended and others have taken what this worker held."""
    workers: int
    """How many workers are alive, this one included."""
    idle_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enlistment:
    """How a worker presents itself."""

    id: WorkerId
    host: str
    pid: int
    queues: Sequence[str]
    lease: float
    """Seconds without a heartbeat after which its work goes to others."""
    now: float
    version: str = ""
    """Its release of Holdfast."""


CLIENT_CHANNEL = "hf_c_"
"""What the channels of waiting clients begin with."""


def inbox_channel(worker: str) -> str:
    """Notified when something that `worker` holds wants to be looked at."""
    return f"hf_w_{worker}"


WakeUp = Callable[[str, str], None]
"""Called from the event loop with the name of the channel that was notified, and what was said there."""

NEWS_LIMIT = 4000
"""Bytes in UTF-8 of what is said on a channel, at most."""


class Leases(Protocol):
    """The leases of workers. Every worker has one with each backend in which it holds anything."""

    async def enlist(self, worker: Enlistment) -> None:
        """Take a lease, under an id that no worker had before: no old commit may pass for a new worker's."""
        ...

    async def heartbeat(self, worker: WorkerId, *, lease: float, now: float) -> Beat:
        """Renew the lease and free what dead workers held. Safe to call from another thread's event loop."""
        ...

    async def close_thread(self) -> None:
        """Close what `heartbeat` opened for the running loop, before that loop ends."""
        ...

    async def retire(self, worker: WorkerId, *, now: float) -> None:
        """End the lease and free everything it held, at once."""
        ...

    async def workers(self, *, now: float) -> Sequence[WorkerView]: ...


class Announcements(Protocol):
    """Words between processes. One that gets lost costs time only: whoever waits looks for himself now and then."""

    @property
    def traits(self) -> Traits: ...

    async def listen(self, channel: str, wake: WakeUp) -> Callable[[], Awaitable[None]]:
        """Call `wake` when `channel` is notified; return the way to stop. Where `traits.notifies` is False, does nothing."""
        ...

    async def notify(self, news: Mapping[str, str]) -> None:
        """Wake those who listen on these channels; with each comes what they are told, of `NEWS_LIMIT` bytes at most."""
        ...

    async def version(self) -> int | None:
        """A number that is another one whenever another process has written since; cheap. None where that is not known."""
        ...


class Backend(Leases, Announcements, Protocol):
    """What an App opens and closes: a store, or a broker that lies beside none."""

    async def open(self, *, create: bool = True) -> None:
        """Connect, and create or migrate what must be there (safe from many processes at once).

        Raises ConfigurationError where there can be nothing, or with `create=False` where there is nothing.
        """
        ...

    async def close(self) -> None: ...

    def abandon(self) -> None:
        """Let go of what was opened in an event loop that has ended without closing it."""
        ...
