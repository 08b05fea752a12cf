"""The page of refusals: each code has a section, what it shows as refused is refused with that code, the rest compiles."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, blocks, sections

from holdfast import CompileError, Workflow
from holdfast.compiler.diagnostics import REASONS
from holdfast.workflow import definition_of

PAGE = ROOT / "docs/reference/refusals.md"
PRELUDE = "import asyncio\nfrom dataclasses import dataclass\n\nfrom holdfast import Workflow, action, workflow\n"
SECTIONS = {heading.split()[0]: body for heading, body in sections(PAGE.read_text()).items() if heading[:2] == "HF"}


def examples(code: str) -> list[str]:
    return [block.code for block in blocks(SECTIONS[code]) if block.language == "python"]


def found_in(source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The codes of all problems that compiling the workflows of a module shows."""
    file = tmp_path / f"{name}.py"
    file.write_text(PRELUDE + source)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    try:
        spec.loader.exec_module(module)
        for value in list(vars(module).values()):
            # A base class without `run` is no workflow of its own.
            if isinstance(value, type) and issubclass(value, Workflow) and hasattr(value, "run"):
                definition_of(value)
    except CompileError as error:
        return {problem.code for problem in error.problems}  # type: ignore[attr-defined]
    return set()


def test_each_code_has_a_section_and_each_section_a_code() -> None:
    assert list(SECTIONS) == list(REASONS)


@pytest.mark.parametrize("code", REASONS)
def test_a_section_says_what_the_code_means(code: str) -> None:
    assert REASONS[code] in " ".join(SECTIONS[code].split())


@pytest.mark.parametrize("code", REASONS)
def test_before_is_refused_and_after_compiles(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = examples(code)
    assert code in found_in(before, f"{code.lower()}_before", tmp_path, monkeypatch)
    assert found_in(after, f"{code.lower()}_after", tmp_path, monkeypatch) == set()
