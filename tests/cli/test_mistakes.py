"""Mistakes in modules, URLs and files are answered in a sentence on standard error, with exit status 1."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.cli.test_commands import Shell

from holdfast import App, Workflow, workflow
from holdfast.backends.postgres.address import parse
from holdfast.cli import main
from holdfast.errors import ConfigurationError


@workflow
class Done(Workflow):
    async def run(self) -> None: ...


WORKFLOW = """
from holdfast import Workflow, workflow

@workflow
class Drawn(Workflow):
    async def run(self) -> int:
        return 1
"""


def told(*args: str) -> str:
    """What a command says that fails."""
    result: Result = CliRunner().invoke(main, args)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr


@pytest.mark.parametrize(
    ("name", "text", "line", "error"),
    [
        ("mistaken_syntax", "x = 1\ndef f(:\n", 2, "SyntaxError: invalid syntax"),
        ("mistaken_value", "import json\nx = 1\njson.loads('{')\n", 3, "JSONDecodeError: "),
        ("mistaken_import", "\nfrom json import nothing\n", 2, "ImportError: cannot import name 'nothing'"),
        ("mistaken_app", "\n\nfrom holdfast import App\napp = App('x', url='nosuch://x')\n", 4, "no store speaks"),
    ],
)
@pytest.mark.parametrize("command", [["check"], ["worker"], ["workflows", "list", "--app"]])
def test_a_module_that_raises_is_told_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str, text: str, line: int, error: str
) -> None:
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    said = told(*command, name)
    assert f"module `{name}` cannot be imported: {tmp_path / name}.py:{line}: {error}" in said


def test_the_doctor_names_the_line_at_which_a_module_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mistaken_for_doctor.py").write_text("\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(main, ["doctor", "--app", "mistaken_for_doctor", "--json"])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "mistaken_for_doctor.py:2: ZeroDivisionError: division by zero" in result.output


def test_a_user_module_that_raises_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mistaken_user_module.py").write_text("\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOLDFAST_USER_MODULE", "mistaken_user_module")
    said = told("worker", "--url", f"sqlite:///{tmp_path}/x.db")
    assert "mistaken_user_module.py:2: ZeroDivisionError: division by zero" in said


@pytest.mark.parametrize("port", ["notaport", "99999", "-1"])
def test_a_port_that_is_none_is_told(port: str) -> None:
    assert f"port '{port}' in the database URL" in told("workers", "--url", f"postgresql://u:p@localhost:{port}/x")


def test_a_broken_url_is_told() -> None:
    assert "the database URL cannot be read" in told("workers", "--url", "postgresql://[::1/x")


def test_several_hosts_and_addresses_of_version_6_have_their_ports() -> None:
    for hosts in ("a:1,b:2", "[::1]:5432", "[::1]", "a", "", ":5432"):
        parse(f"postgresql://{hosts}/x")
    with pytest.raises(ConfigurationError):
        parse("postgresql://a:1,b:x/x")


def test_a_drawing_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mistaken_drawing.py").write_text(WORKFLOW)
    monkeypatch.syspath_prepend(tmp_path)
    said = told("visualize", "mistaken_drawing:Drawn", "--output", str(tmp_path / "no" / "where.svg"))
    assert "where.svg cannot be written: No such file or directory" in said


def test_a_path_given_to_check_is_answered_with_the_modules_name() -> None:
    assert told("check", "some/bad.py").rstrip().endswith("write it as in an import: some.bad")


def test_waiting_for_an_instance_that_is_not_there_still_tells_of_the_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"

    async def done() -> None:
        async with App("test", url=url):
            await (await Done().start(id="o-0")).result()

    asyncio.run(done())
    result = CliRunner().invoke(main, ["workflows", "wait", "o-0", "nope", "--url", url])
    assert result.exit_code == 1
    assert "o-0" in result.output
    assert "there is no instance 'nope'" in result.output or "nope" in result.output


async def test_a_worker_that_knows_nothing_says_so_and_what_to_do(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    (tmp_path / "bare.py").write_text("from holdfast import App\napp = App()\n")
    worker = await shell.start("worker", "bare:app", "--processes", "1")
    assert worker.stderr is not None
    try:
        async with asyncio.timeout(20):
            said = ""
            while "worker started" not in said:
                said += (await worker.stderr.readline()).decode()
    finally:
        worker.terminate()
        await worker.communicate()
    assert "nothing defined" in said
    assert "name it in HOLDFAST_USER_MODULE" in said
