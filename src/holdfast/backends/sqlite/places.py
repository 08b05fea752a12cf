"""Places in the file system where a database is not, or cannot be. Looks; makes nothing."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.errors import ConfigurationError


def refuse_absent(path: str) -> None:
    """Raise ConfigurationError if there is no file of this path."""
    if not Path(path).exists():
        raise ConfigurationError(
            f"there is no database at {Path(path).absolute()}: name another (--url, HOLDFAST_DATABASE_URL), "
            "or start a worker or a workflow first, which make one"
        )


def refuse_unfit(path: str, error: Exception) -> None:
    """Raise ConfigurationError if the database cannot be opened, by this error, for a reason that does not pass."""
    reason = None if path == ":memory:" else _trouble(Path(path).absolute())
    if reason is not None:
        raise ConfigurationError(f"there can be no database at {Path(path).absolute()}: {reason}") from error


def _trouble(path: Path) -> str | None:
    folder = path.parent
    if not folder.exists():
        return f"the folder {folder} does not exist; make it, or correct the URL"
    if not folder.is_dir():
        return f"{folder} is no folder; correct the URL"
    if path.is_dir():
        return "it is a folder; name a file in it"
    if not os.access(path if path.exists() else folder, os.W_OK) or not os.access(folder, os.W_OK):
        return "this process may not write there; give it the right to, to the file and to its folder"
    return None
