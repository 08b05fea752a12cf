"""The Lua scripts beside this file, by name: each what the server does at once for one verb."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

SHARED = "shared.lua"
"""What comes before every script: the names of keys, and what several verbs do."""


class Script(NamedTuple):
    """A script, and the name by which a server knows it that has run it once."""

    text: str
    sha: str


def load(package: str) -> Mapping[str, Script]:
    """The scripts of `package`'s `lua/*.lua`, without their comments."""
    folder = files(package).joinpath("lua")
    shared = folder.joinpath(SHARED).read_text("utf-8")
    found: dict[str, Script] = {}
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".lua") and file.name != SHARED:
            text = _without_comments(shared + file.read_text("utf-8"))
            found[file.name.removesuffix(".lua")] = Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
    return found


def _without_comments(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))


SCRIPTS = load("holdfast.backends.redis")
