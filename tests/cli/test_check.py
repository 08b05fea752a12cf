"""`holdfast check` shows what is wrong in all workflows of a module, where an import stops at the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main
from holdfast.task import ACTIONS
from holdfast.workflow import WORKFLOWS

HEAD = """
import time
from holdfast import Workflow, action, workflow

@action
async def act() -> None: ...

class Base(Workflow):
    async def help(self) -> None:
        await act()
"""

BAD = """
@workflow
class First(Workflow):
    async def run(self) -> None:
        time.sleep(1)

@workflow(name="second")
class Second(Base):
    async def run(self) -> None:
        global x
        act()

class Third(Workflow):
    async def run(self) -> None:
        return missing

@workflow
class Fourth(Workflow):
    def run(self) -> None: ...
"""

GOOD = """
@workflow
class Good(Base):
    async def run(self) -> None:
        await later()

async def later() -> None:
    await act()
"""


@pytest.fixture(autouse=True)
def _defined_here_is_forgotten() -> Iterator[None]:
    workflows, actions = dict(WORKFLOWS), dict(ACTIONS)
    yield
    for table, before in ((WORKFLOWS, workflows), (ACTIONS, actions)):
        table.clear()
        table.update(before)


def checked(name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return CliRunner().invoke(main, ["check", name])


def test_the_problems_of_all_workflows_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked("checked_bad", HEAD + BAD, tmp_path, monkeypatch)
    assert result.exit_code == 1
    for code, line in (("HF005", 15), ("HF010", 20), ("HF024", 21), ("HF002", 25), ("HF020", 27)):
        assert f"checked_bad.py:{line}:" in result.output
        assert code in result.output
    assert "4 workflows: 4 cannot be made durable" in result.output


def test_a_module_without_problems_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked("checked_good", HEAD + GOOD, tmp_path, monkeypatch)
    assert (result.exit_code, result.output) == (0, "1 workflow: all can be made durable\n")


def test_a_module_without_workflows_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked("checked_none", HEAD, tmp_path, monkeypatch)
    assert (result.exit_code, result.output) == (1, "no workflow is defined there\n")


def test_a_module_that_is_not_there_is_told_in_words() -> None:
    result = CliRunner().invoke(main, ["check", "not_there"])
    assert result.exit_code == 1
    assert "the module 'not_there' is not found" in result.output
