"""Settling: what becomes of held jobs is written, sent and settled, in an order that a crash cannot hurt. Receives nothing.

First the ledger, then what follows and the next attempt, last the message itself: a crash between leaves both, never none.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from holdfast.backends.servicebus.deaths import described
from holdfast.backends.servicebus.held import Held, Holdings
from holdfast.backends.servicebus.ledger import Ledger
from holdfast.backends.servicebus.letters import Letter, letter_of
from holdfast.backends.servicebus.links import Links
from holdfast.errors import StoreError, UnsupportedError
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import Again, Failed, Returned, SettledJobs, Settlement

Settled = Sequence[tuple[Settlement, Held]]
"""Jobs that are held here, and what became of them."""


class Settling:
    """Ends the jobs that are held here."""

    def __init__(self, links: Links, holdings: Holdings, ledger: Ledger | None) -> None:
        self._links = links
        self._holdings = holdings
        self._ledger = ledger

    async def settle(self, worker: WorkerId, settlements: Sequence[Settlement]) -> SettledJobs:
        """Settle those of these that this worker holds; the others are lost."""
        held = {each.id: self._holdings.get(worker, each.id) for each in settlements}
        mine: list[tuple[Settlement, Held]] = []
        for each in {each.id: each for each in settlements}.values():
            one = held[each.id]
            if one is not None and one.job.claim == each.claim and not one.lost:
                mine.append((each, one))
        lost = held.keys() - {each.id for each, _ in mine}
        waiters = await self._conclude(mine)
        await self._send_after(mine)
        lost |= await self._settle(mine)
        self._holdings.forget(one for one in held.values() if one is not None and (one.settled or one.lost))
        return SettledJobs(lost=frozenset(lost), waiters=waiters)

    async def end(self, ended: Settled) -> Sequence[tuple[str, JobId]]:
        """Have these end, which nobody has claimed; returns (channel, job) of those to notify."""
        waiters = await self._conclude(ended)
        await self._settle(ended)
        self._holdings.forget(held for _, held in ended)
        return waiters

    async def give_back(self, rest: Sequence[Held], now: float) -> None:
        """Send these again as they were, and remove them: to be let go would count as a lost worker."""
        returned = [(held.job.settled(Returned(now)), held) for held in rest if not held.lost]
        await self._send_after(returned)
        await self._settle(returned)
        self._holdings.forget(rest)

    async def _conclude(self, settled: Settled) -> Sequence[tuple[str, JobId]]:
        return [] if self._ledger is None else await self._ledger.conclude(settled)

    async def _send_after(self, settled: Settled) -> None:
        """Send what follows from these, and their next attempts. Raises StoreError for what cannot be sent."""
        rest = [(each, held) for each, held in settled if not held.copied]
        try:
            letters = {job.id: letter_of(job) for each, _ in rest for job in each.follow}
        except UnsupportedError as error:
            raise StoreError(f"what follows cannot be sent: {error}") from error
        alone = [(each, held) for each, held in rest if held.session is None]
        again = [letter for each, held in alone if (letter := next_letter(each, held)) is not None]
        if self._ledger is not None:
            await self._ledger.expect(list(letters.values()))
        await self._links.send([*letters.values(), *again])
        for _, held in rest:
            held.copied = True

    async def _settle(self, settled: Settled) -> set[JobId]:
        """Have the messages removed, or put among the dead; returns the jobs that were not ours any more."""
        gone: defaultdict[str, list[UUID]] = defaultdict(list)
        lost: set[JobId] = set()
        for each, held in settled:
            if held.settled or held.session is not None:
                continue
            if isinstance(each.outcome, Failed) and each.outcome.dead:
                desk = self._links.desk(held.entity)
                if not await desk.bury(held.token, each.outcome.reason.value, described(each.outcome)):
                    lost.add(each.id)
                held.settled = True
            else:
                gone[held.entity].append(held.token)
        by_token = {held.token: held for _, held in settled}
        for entity, tokens in gone.items():
            lost |= {by_token[token].job.id for token in await self._links.desk(entity).complete(tokens)}
            for token in tokens:
                by_token[token].settled = True
        # Last: one of them that is out of reach keeps nobody else waiting.
        return lost | await self._settle_in_sessions([each for each in settled if each[1].session is not None])

    async def _settle_in_sessions(self, settled: Settled) -> set[JobId]:
        """Have the sessions do it that hold these, all at once; returns the jobs that were not ours any more."""

        async def one(settlement: Settlement, held: Held) -> bool:
            return held.settled or held.session is None or await held.session.settle(held, settlement)

        answers = await asyncio.gather(*[one(*each) for each in settled], return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        for (_, held), mine in zip(settled, answers, strict=True):
            held.lost = held.lost or not mine
        return {each.id for (each, _), mine in zip(settled, answers, strict=True) if not mine}


def next_letter(settlement: Settlement, held: Held) -> Letter | None:
    """The message that takes this one's place."""
    letter, job = held.letter, held.job
    match settlement.outcome:
        case Again(due_at, error):
            return letter._replace(attempt=job.attempt + 1, claims=job.claim, losses=0, due_at=due_at, error=error)
        case Returned(due_at):
            return letter._replace(claims=job.claim, losses=job.losses, due_at=due_at)
        case _:
            return None
