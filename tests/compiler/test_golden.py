"""The program of each construct, as text. `HOLDFAST_REWRITE_GOLDEN=1 pytest tests/compiler/test_golden.py` writes anew.

A file of `golden/` holds cases: a line `[case name]`, the body of `run` and what stands before the class, a line `[out]`,
and the functions of the program. Files and modules are named `program`; lines count from the first one of the source.
"""

from __future__ import annotations

import asyncio
import linecache
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from holdfast.compiler import compile_workflow
from holdfast.ir.text import parse, render
from holdfast.task import action
from holdfast.workflow import WORKFLOWS, Workflow

GOLDEN = Path(__file__).parent / "golden"
REWRITE = bool(os.environ.get("HOLDFAST_REWRITE_GOLDEN"))
MODULE = "golden_program"


@action(name="act")
async def act(*args: Any) -> Any:
    return args


def cases_of(file: Path) -> list[tuple[str, str, str]]:
    """Name, source and expected text of each case."""
    found: list[tuple[str, str, str]] = []
    for part in re.split(r"^\[case ", file.read_text(), flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("]\n")
        source, _, out = rest.partition("[out]\n")
        found.append((name, source.strip("\n"), out.strip("\n")))
    return found


CASES = [(file.name, *case) for file in sorted(GOLDEN.glob("*.test")) for case in cases_of(file)]


def program_text(source: str) -> str:
    """The functions of the program whose `run` has this body, as text."""
    before, _, body = source.rpartition("---\n")
    lines = "\n".join("        " + line if line else "" for line in body.split("\n"))
    text = f"{before}class W(Workflow):\n    async def run(self, a, b, xs):\n{lines}\n"
    module = types.ModuleType(MODULE)
    module.__file__ = MODULE
    module.__dict__.update(Workflow=Workflow, act=act, asyncio=asyncio)
    linecache.cache[MODULE] = (len(text), None, text.splitlines(keepends=True), MODULE)
    sys.modules[MODULE] = module
    try:
        exec(compile(text, MODULE, "exec"), module.__dict__)
        rendered = render(compile_workflow(module.W, name="W", base=Workflow))
    finally:
        del sys.modules[MODULE], linecache.cache[MODULE]
        WORKFLOWS.pop(f"{MODULE}:W", None)
    assert render(parse(rendered)) == rendered
    functions = rendered[rendered.index("\ndef ") + 1 :]
    return functions.replace(MODULE, "program").strip("\n")


@pytest.mark.parametrize(("file", "name", "source", "expected"), CASES, ids=[f"{c[0]}:{c[1]}" for c in CASES])
def test_a_construct_becomes_these_blocks(file: str, name: str, source: str, expected: str) -> None:
    got = program_text(source)
    if REWRITE:
        _write(GOLDEN / file, name, got)
    else:
        assert got == expected


def test_every_family_has_cases() -> None:
    assert len(CASES) >= 30
    assert len({(file, name) for file, name, _, _ in CASES}) == len(CASES)


def _write(file: Path, name: str, out: str) -> None:
    cases = [(n, s, out if n == name else o) for n, s, o in cases_of(file)]
    file.write_text("\n".join(f"[case {n}]\n{s}\n[out]\n{o}\n" for n, s, o in cases))
