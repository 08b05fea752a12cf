"""Following: the jobs that are sent because of how another one ended. Decides, and sends nothing.

Their ids follow from that job's, so that they are sent once, however often its end is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from holdfast.codec import Decoder, Tree, decode_call, encode, loads
from holdfast.ids import JobId, derived
from holdfast.model.job import ClaimedJob, Done, Failed, Job, Outcome
from holdfast.runtime.messages import ERROR, RESULT, Chain, Link, Message, Placeholder, write


def following(job: ClaimedJob, message: Message | None, outcome: Outcome, *, now: float) -> Sequence[Job]:
    """The jobs that follow from this outcome. Raises CodecError where the arguments of one cannot be put together."""
    if message is None:
        return ()
    match outcome:
        case Done(result) if message.then:
            known = partial(_decoded, result)
            return jobs_that_follow(job.id, "then", message.then, RESULT, known, now)
        case Failed(_, error) if message.otherwise:
            # An exception of a class that is not known here is told in words.
            known = partial(_decoded, error, lenient=True)
            return jobs_that_follow(job.id, "else", message.otherwise, ERROR, known, now)
        case _:
            return ()


def link_id(job: JobId, number: int = 0, *, of: str = "then") -> JobId:
    """The id of the first job of the chain `number` that follows from `job`."""
    return JobId(derived(job, f"{of}/{number}"))


def jobs_that_follow(
    source: JobId, of: str, chains: Sequence[Chain], place: Placeholder, known: Callable[[], Any], now: float
) -> list[Job]:
    """The first jobs of these chains, with what is `known` by now where its placeholder stands."""
    jobs: list[Job] = []
    for number, (first, *rest) in enumerate(chains):
        message = first.message
        if first.filled:
            message = message._replace(arguments=_fill(message.arguments, place, known()))
        if rest:
            message = message._replace(then=(tuple(rest), *message.then))
        jobs.append(_job(link_id(source, number, of=of), first, message, now))
    return jobs


def _decoded(outcome: bytes, *, lenient: bool = False) -> Any:
    return Decoder(lenient_exceptions=lenient).decode(loads(outcome))


def _job(id: JobId, link: Link, message: Message, now: float) -> Job:
    due = now + (link.delay or 0.0)
    return Job(
        id=id,
        name=link.name,
        payload=write(message),
        created_at=now,
        due_at=due,
        queue=link.queue,
        priority=link.priority,
        expires_at=None if link.expires is None else due + link.expires,
        gate=link.gate,
    )


def _fill(arguments: Tree, place: Placeholder, value: Any) -> Tree:
    """The arguments with what has become known. The other placeholder has no meaning here, and gives None."""
    args, kwargs = decode_call(arguments)

    def known(each: Any) -> Any:
        if isinstance(each, Placeholder):
            return value if each is place else None
        return each

    return encode([[known(each) for each in args], {name: known(each) for name, each in kwargs.items()}])
