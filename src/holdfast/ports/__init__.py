"""The seams towards storage: a few verbs of the domain each, in batches. Backends implement them, nothing else does I/O."""

from holdfast.ports.backend import (
    CLIENT_CHANNEL,
    NEWS_LIMIT,
    Announcements,
    Backend,
    Beat,
    Enlistment,
    Leases,
    Traits,
    WakeUp,
    inbox_channel,
)
from holdfast.ports.broker import JOB_CHANNEL, Broker
from holdfast.ports.results import ELSEWHERE, Ended, Results
from holdfast.ports.store import WORK_CHANNEL, Settled, Store, Swept

__all__ = [
    "CLIENT_CHANNEL",
    "ELSEWHERE",
    "JOB_CHANNEL",
    "NEWS_LIMIT",
    "WORK_CHANNEL",
    "Announcements",
    "Backend",
    "Beat",
    "Broker",
    "Ended",
    "Enlistment",
    "Leases",
    "Results",
    "Settled",
    "Store",
    "Swept",
    "Traits",
    "WakeUp",
    "inbox_channel",
]
