"""Dismissals: instances that nobody owns, ended from outside, as one function of a session."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.backends.shared import split_waiters
from holdfast.backends.sqlite.clients import put_deliveries
from holdfast.backends.sqlite.database import Session, as_json
from holdfast.model.instance import Committed, Dismissal


def dismiss(session: Session, dismissals: Sequence[Dismissal]) -> Committed:
    with session.writing():
        standing = {row["id"]: row for row in session.all("dismissible", ids=as_json(d.instance for d in dismissals))}
        fit = [d for d in dismissals if d.instance in standing and standing[d.instance]["last_seq"] == d.step.seq - 1]
        session.many("append_step", [(d.instance, d.step.seq, d.step.at, d.step.full, d.step.payload) for d in fit])
        session.many(
            "dismiss",
            [(d.ending.status.value, d.ending.payload, d.reason, d.step.at, d.instance) for d in fit],
        )
        ids = as_json(d.instance for d in fit)
        session.run("clear_inbox", ids=ids)
        session.run("clear_calls", ids=ids)
        # After the endings: those dismissed with others receive nothing from them.
        taken = put_deliveries(session, [delivery for d in fit for delivery in d.deliveries])
    return Committed(
        waiters=[(channel, d.instance) for d in fit for channel in split_waiters(standing[d.instance]["waiter"])],
        owners=sorted(taken.owners),
        started=taken.woken,
        lost=frozenset(d.instance for d in dismissals) - {d.instance for d in fit},
    )
