"""The reference pages say what the code says: settings, commands, links."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.docs.pages import PAGES, ROOT, anchors, links, name_of, prose, sections

from holdfast import Settings
from holdfast.cli import main
from holdfast.compiler.diagnostics import REASONS
from holdfast.engine.values import Task
from holdfast.ir.rules import ASYNC_NAMES, BUILTINS
from holdfast.runtime.counting import METRICS

SETTINGS = ROOT / "docs/reference/settings.md"
CLI = ROOT / "docs/reference/cli.md"
LANGUAGE = ROOT / "docs/reference/language.md"


def test_the_page_of_the_language_names_what_a_task_of_a_workflow_has() -> None:
    [told] = re.findall(r"a task has ((?:`\w+`|,|and|\s)+)", LANGUAGE.read_text())
    has = {name for name in dir(Task) if not name.startswith("_") and hasattr(asyncio.Task, name)}
    assert set(re.findall(r"`(\w+)`", told)) == has


# --- settings


def fields_of_settings() -> dict[str, str]:
    """The meaning of each setting: the docstring below its field, on one line."""
    (cls,) = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body
    assert isinstance(cls, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, following in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                found[statement.target.id] = " ".join(str(following.value.value).split())
    return {name: found[name] for name in Settings.model_fields}


def table() -> dict[str, list[str]]:
    """The rows of the page's table, by setting."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in SETTINGS.read_text().splitlines()
        if line.startswith("| `") and "HOLDFAST_" in line
    ]
    return {row[0].strip("`"): row for row in rows}


def test_the_table_has_every_setting_in_order() -> None:
    assert list(table()) == list(Settings.model_fields)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_described_as_its_field_is(name: str) -> None:
    _, variable, default, meaning = table()[name]
    assert variable == f"`HOLDFAST_{name.upper()}`"
    field = Settings.model_fields[name]
    if field.default_factory is not None:
        assert default == "one per processor"
    elif field.default is None:
        assert default == "none"
    elif isinstance(field.default, str):
        assert default == f"`{field.default}`"
    else:
        assert ast.literal_eval(default.strip("`")) == field.default
    said = fields_of_settings()[name]
    if said:
        assert said in meaning


# --- commands


def commands(
    group: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from commands(command, (*path, name))


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "holdfast")
def test_help_is_shown(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_the_page_and_the_command_line_have_the_same_commands() -> None:
    shown = set(re.findall(r"^#{2,3} `holdfast ([a-z -]+?)`$", CLI.read_text(), flags=re.MULTILINE))
    assert shown == {" ".join(path) for path in COMMANDS if path}


@pytest.mark.parametrize("path", [path for path in COMMANDS if path], ids=" ".join)
def test_a_command_is_described_with_all_its_options(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    if isinstance(command, click.Group):
        return
    text = CLI.read_text()
    part = text.split(f"# `holdfast {' '.join(path)}`\n", 1)[1].split("\n#", 1)[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden and parameter.name != "help":
            assert parameter.opts[0] in part, parameter.opts[0]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_that_pages_name_exist(page: Path) -> None:
    for words in re.findall(r"\bholdfast ((?:[a-z-]+ )?[a-z-]+)\b(?![:.])", "\n".join(_code(page.read_text()))):
        first, *rest = words.split()
        if first == "import":
            continue
        assert (first,) in COMMANDS, words
        if isinstance(COMMANDS[first,], click.Group):
            assert tuple([first, *rest]) in COMMANDS, words


def _code(text: str) -> list[str]:
    shell = re.findall(r"^ *```bash\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for part in shell for line in part.splitlines() if re.match(r" *(\$ )?holdfast ", line)]
    return [*lines, *re.findall(r"`(holdfast [^`]+)`", prose(text))]


# --- the language


def test_the_page_names_all_of_asyncio_that_may_be_used() -> None:
    part = sections(LANGUAGE.read_text())["Names from asyncio"]
    assert set(re.findall(r"`asyncio\.(\w+)", part)) >= ASYNC_NAMES


def test_the_page_names_all_builtins_that_may_be_used() -> None:
    part = sections(LANGUAGE.read_text())["Builtins"]
    named = set(re.findall(r"`(\w+)`", part))
    assert named >= BUILTINS - {"True", "False", "None", "Ellipsis", "NotImplemented", "__debug__"}


# --- links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        if anchor and other.suffix == ".md":
            assert anchor in anchors(other.read_text()), target


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs/index.md"
    reached = {(index.parent / target.partition("#")[0]).resolve() for target in links(index.read_text())}
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - {index} <= reached


def test_codes_that_pages_name_exist() -> None:
    for page in PAGES:
        assert set(re.findall(r"\bHF\d{3}\b", page.read_text())) <= set(REASONS), page


# --- metrics


def test_the_page_has_every_metric_as_it_is() -> None:
    """What `/metrics` gives is compared with the same table by `tests/cli/test_metrics.py`."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in (ROOT / "docs/reference/metrics.md").read_text().splitlines()
        if line.startswith("| `holdfast_")
    ]
    expected = [
        [f"`{name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels) or "–", metric.words]
        for name, metric in METRICS.items()
    ]
    assert rows == expected


# --- production


PRODUCTION = ROOT / "docs/howto/production.md"


def test_the_page_on_production_names_metrics_that_there_are() -> None:
    named = set(re.findall(r"\bholdfast_[a-z_]+", PRODUCTION.read_text()))
    assert len(named) > 8
    assert {name.removesuffix("_bucket") for name in named} <= set(METRICS)


def test_the_page_on_production_sets_what_can_be_set() -> None:
    named = set(re.findall(r"\bHOLDFAST_[A-Z_]+", PRODUCTION.read_text()))
    assert {name.removeprefix("HOLDFAST_").lower() for name in named} <= set(Settings.model_fields)


def test_the_commands_of_the_page_on_production_can_be_run() -> None:
    found = re.findall(r"holdfast worker (shop[^#\n]*)", PRODUCTION.read_text())
    assert len(found) >= 4
    for line in found:
        context = COMMANDS["worker",].make_context("worker", line.split())
        Settings.load(worker_count=context.params["processes"], metrics_port=context.params["metrics_port"])
