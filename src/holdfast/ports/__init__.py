"""The seams towards storage: a few verbs of the domain each, in batches. Backends implement them, nothing else does I/O."""

from holdfast.ports.broker import JOB_CHANNEL, Broker, BrokerTraits
from holdfast.ports.store import (
    CLIENT_CHANNEL,
    NEWS_LIMIT,
    WORK_CHANNEL,
    Beat,
    Enlistment,
    Settled,
    Store,
    StoreTraits,
    Swept,
    WakeUp,
    inbox_channel,
)

__all__ = [
    "CLIENT_CHANNEL",
    "JOB_CHANNEL",
    "NEWS_LIMIT",
    "WORK_CHANNEL",
    "Beat",
    "Broker",
    "BrokerTraits",
    "Enlistment",
    "Settled",
    "Store",
    "StoreTraits",
    "Swept",
    "WakeUp",
    "inbox_channel",
]
