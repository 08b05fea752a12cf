"""The store on SQLite: one file beside the program, or memory. Nothing to set up."""

from holdfast.backends.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
