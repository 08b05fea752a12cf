"""Dismissals: instances that nobody owns, ended from outside, in one transaction. Notifies nobody."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.backends.postgres.clients import delivery_columns, owners_of, told_columns, woken_among
from holdfast.backends.postgres.line import Line, Transaction
from holdfast.backends.shared import Row, split_waiters
from holdfast.model.instance import Committed, Dismissal


async def dismiss(line: Line, dismissals: Sequence[Dismissal]) -> Committed:
    if not dismissals:
        return Committed()
    ended, told = await line.transact(lambda transaction: _dismiss(transaction, dismissals))
    waiters = {row["id"]: row["waiter"] for row in ended}
    return Committed(
        waiters=[
            (channel, each.instance) for each in dismissals for channel in split_waiters(waiters.get(each.instance))
        ],
        owners=sorted(owners_of(told)),
        started=woken_among(told),
        lost=frozenset(each.instance for each in dismissals) - waiters.keys(),
    )


async def _dismiss(transaction: Transaction, dismissals: Sequence[Dismissal]) -> tuple[list[Row], list[Row]]:
    """The rows of those that ended, and of those that were told of it."""
    concerned = {each.instance for each in dismissals}
    concerned |= {delivery.instance for each in dismissals for delivery in each.deliveries}
    await transaction.fetch("dismiss_locked", ids=sorted(concerned))
    ended = await transaction.fetch("dismiss", **_columns(dismissals))
    gone = {row["id"] for row in ended}
    deliveries = [delivery for each in dismissals if each.instance in gone for delivery in each.deliveries]
    if not deliveries:
        return ended, []
    # Those dismissed with others have ended by now, and receive nothing from them.
    return ended, await transaction.fetch("deliver", **told_columns(deliveries), **delivery_columns(deliveries))


def _columns(dismissals: Sequence[Dismissal]) -> dict[str, list[object]]:
    return {
        "ids": [each.instance for each in dismissals],
        "seqs": [each.step.seq for each in dismissals],
        "ats": [each.step.at for each in dismissals],
        "payloads": [each.step.payload for each in dismissals],
        "statuses": [each.ending.status.value for each in dismissals],
        "outcomes": [each.ending.payload for each in dismissals],
        "reasons": [each.reason for each in dismissals],
    }
