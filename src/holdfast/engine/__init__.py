"""Programs and states: link, advance, save, load. No I/O: events and the time come in, commands go out."""

import holdfast.engine.saved  # noqa: F401  # pyright: ignore[reportUnusedImport] - teaches the codec the engine's own values
from holdfast.engine.events import Command, DropCall, Ended, GiveUpChild, Note, PendingCall, Send, StartCall
from holdfast.engine.kit import KIT, DurableAsyncio, durable_asyncio
from holdfast.engine.link import LinkedProgram, link
from holdfast.engine.machine import Machine
from holdfast.engine.record import begin_calls_anew, forget_cancel
from holdfast.engine.state import Change, Entries, Saver, fold, load, read, renewed
from holdfast.engine.timing import FAR

__all__ = [
    "FAR",
    "KIT",
    "Change",
    "Command",
    "DropCall",
    "DurableAsyncio",
    "Ended",
    "Entries",
    "GiveUpChild",
    "LinkedProgram",
    "Machine",
    "Note",
    "PendingCall",
    "Saver",
    "Send",
    "StartCall",
    "begin_calls_anew",
    "durable_asyncio",
    "fold",
    "forget_cancel",
    "link",
    "load",
    "read",
    "renewed",
]
