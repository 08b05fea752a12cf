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
from holdfast.ports.store import WORK_CHANNEL, Settled, Store, Swept

__all__ = [
    "CLIENT_CHANNEL",
    "JOB_CHANNEL",
    "NEWS_LIMIT",
    "WORK_CHANNEL",
    "Announcements",
    "Backend",
    "Beat",
    "Broker",
    "Enlistment",
    "Leases",
    "Settled",
    "Store",
    "Swept",
    "Traits",
    "WakeUp",
    "inbox_channel",
]
