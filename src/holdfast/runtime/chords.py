"""Chords: calls made at once, and what follows when all have returned. Decides by how the members stand, and settles nothing.

Each member's end is followed by a job of Holdfast's own, which looks whether all others have ended, too. Whichever comes
last sees them all, and sends what follows; that has one id, however many of these jobs send it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from holdfast.codec import Decoder, decode, encode, loads
from holdfast.errors import DecodeError, HoldfastError
from holdfast.ids import JobId, derived
from holdfast.model.job import Job, JobStatus, JobView
from holdfast.runtime.following import jobs_that_follow, link_id
from holdfast.runtime.messages import ERROR, RESULT, Chain, Link, Message, write

JOIN = "holdfast:join"
"""The job that looks whether a chord is complete."""
FORGET = "holdfast:forget"
"""The job that removes the results of a chord's members once they have been passed on."""
OWN = (JOIN, FORGET)
"""Jobs that workers do themselves."""

MEMBERS_KEPT = 60 * 86400.0
"""Seconds for which a member's result is kept at least, for others may need a month for theirs."""
CALLBACK_KEPT = 86400.0
"""Seconds for which is remembered that the callback was sent."""
ALL_SENT_AFTER = 86400.0
"""Seconds after which a member that is not there will not come any more."""
AGAIN = 0.1
"""Seconds until a member is looked at again whose end is announced and not yet written."""

MOST = 1_000_000
"""Members of a chord, and calls of a line among them."""
NOTHING = b"null"

Look = Callable[[Sequence[JobId]], Awaitable[Sequence[JobView]]]


class Joining(NamedTuple):
    """What follows from the ends of some members."""

    follow: Sequence[Job] = ()
    again: bool = False
    """The end of one of them is not written yet."""


class ChordFailed(HoldfastError):
    """What follows a chord cannot be put together."""


class Members(NamedTuple):
    """The members of a chord: their ids follow from its own."""

    chord: JobId
    sent_at: float
    """When it was sent (Unix seconds)."""
    forgotten_after: float
    """Seconds for which their results are kept after the chord is complete."""
    lengths: Sequence[int]
    """Of how many calls in a line each of them is made."""

    def first(self, number: int) -> JobId:
        """The id of the first job of a member."""
        return JobId(derived(self.chord, f"member/{number}"))

    def last(self, number: int) -> JobId:
        """The id of the job with whose end a member has ended."""
        id = self.first(number)
        for _ in range(self.lengths[number] - 1):
            id = link_id(id)
        return id

    def ends(self) -> Iterator[JobId]:
        """The ids of the jobs with whose ends all have ended."""
        return map(self.last, range(len(self.lengths)))

    @property
    def callback(self) -> JobId:
        """The id of the first job that is sent when all have returned."""
        return link_id(self.chord)


def join_links(members: Members, number: int, callback: Chain) -> tuple[Link, Link | None]:
    """What follows when a member has returned, and what when it has failed for good."""
    failure = callback[0].message.otherwise
    queue, priority = callback[0].queue, callback[0].priority
    joined = Link(JOIN, Message(_arguments(members, number), then=(callback,)), queue, priority)
    if not failure:
        return joined, None
    failed = Message(_arguments(members, number, ERROR), otherwise=failure)
    return joined, Link(JOIN, failed, queue, priority, filled=True)


def callback_jobs(members: Members, callback: Chain, results: Callable[[], list[Any]], *, now: float) -> list[Job]:
    """The job that follows when all have returned. Raises CodecError where it cannot be put together."""
    return jobs_that_follow(members.chord, "then", (callback,), RESULT, results, now)


def read_own(message: Message) -> tuple[Any, ...]:
    """The members, which of them it was, and its exception if it has failed. Raises DecodeError for what is none of these."""
    try:
        (number, chord, sent_at, forgotten_after, (count, lines), *failure), _ = Decoder(
            lenient_exceptions=True
        ).decode(message.arguments)
        if not (isinstance(chord, str) and 0 <= number < count <= MOST and all(1 <= each <= MOST for _, each in lines)):
            raise DecodeError("there is no such chord")
        lengths = [1] * count
        for at, length in lines:
            lengths[at] = length
        return (Members(JobId(chord), float(sent_at), float(forgotten_after), lengths), number, *failure)
    except (TypeError, ValueError, LookupError) as error:
        raise DecodeError(f"this is no message about a chord: {error}") from error


def failure_jobs(members: Members, message: Message, error: object, *, now: float) -> list[Job]:
    """The jobs that follow when a member has failed. Raises CodecError where they cannot be put together."""
    return jobs_that_follow(members.callback, "else", message.otherwise, ERROR, lambda: error, now)


async def join(members: Members, numbers: Sequence[int], message: Message, *, look: Look, now: float) -> Joining:
    """What follows from the ends of the members `numbers`. Raises HoldfastError where that cannot be told."""
    found: dict[JobId, JobView] = {}
    for ids in _portions(members, numbers):
        found |= {view.id: view for view in await look(ids)}
        if members.callback in found:
            return Joining()
        if any(id in found and not found[id].status.ended for id in map(members.last, numbers)):
            return Joining(again=True)
        if any(id in found and found[id].status is not JobStatus.DONE for id in ids):
            return Joining()
        if any(id not in found for id in ids if id != members.callback):
            _check_missing(members, now=now)
            return Joining()

    def results() -> list[Any]:
        return [decode(loads(found[id].outcome or NOTHING)) for id in members.ends()]

    [callback] = message.then
    forget = Job(
        id=JobId(derived(members.chord, "forget")),
        name=FORGET,
        payload=write(Message(_arguments(members, 0))),
        created_at=now,
        due_at=now + members.forgotten_after,
        queue=callback[0].queue,
    )
    return Joining(follow=[*callback_jobs(members, callback, results, now=now), forget])


def _portions(members: Members, numbers: Sequence[int]) -> Iterator[list[JobId]]:
    """The ends of all members, those first that are said to have come, with the callback; then more and more of the others.

    Mostly one of the next few has not ended; only the last to come looks at all of them.
    """
    known = set(numbers)
    yield [members.callback, *map(members.last, numbers)]
    begin, count, size = numbers[0], len(members.lengths), 1
    step = 1
    while step < count:
        portion = [(begin + each) % count for each in range(step, min(step + size, count))]
        if ids := [members.last(each) for each in portion if each not in known]:
            yield ids
        step, size = step + size, min(2 * size, 500)


def _check_missing(members: Members, *, now: float) -> None:
    """Some member is not there, and nor is the callback: it was not sent yet; or its result is lost, and that is an error."""
    if now - members.sent_at > ALL_SENT_AFTER:
        raise ChordFailed(f"results of chord {members.chord} are not there any more; send the chord again")


def _arguments(members: Members, number: int, *more: object) -> Any:
    told: list[object] = [
        number,
        members.chord,
        members.sent_at,
        members.forgotten_after,
        _packed(members.lengths),
        *more,
    ]
    named: dict[str, object] = {}
    return encode([told, named])


def _packed(lengths: Sequence[int]) -> list[Any]:
    """How many there are, and which of them are lines of several calls: this is part of every member's message."""
    return [len(lengths), [[number, length] for number, length in enumerate(lengths) if length != 1]]
