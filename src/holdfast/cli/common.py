"""What commands share: finding the App, running a coroutine, showing errors and tables."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from holdfast.app import App
from holdfast.errors import ConfigurationError, HoldfastError

T = TypeVar("T")
console = Console()

SHORT = 12
"""Cells of at most so many characters are never wrapped."""
ID_WIDTH = 40


class Group(click.Group):
    """A group whose commands show Holdfast's errors as sentences instead of tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HoldfastError as error:
            raise click.ClickException(str(error)) from error


def app_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--app` and `--url`: which App, or which database, to speak to."""
    command = click.option("--url", help="The database, instead of HOLDFAST_DATABASE_URL.")(command)
    return click.option("--app", "target", metavar="MODULE:NAME", help="The application, such as shop.app:app.")(
        command
    )


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def find_app(target: str | None, url: str | None = None, **settings: Any) -> App:
    """The App named on the command line, or one made from the settings. Raises ConfigurationError."""
    if target is None:
        return App(url=url, **settings)
    found = load_object(target, default="app")
    if not isinstance(found, App):
        raise ConfigurationError(f"{target} is a {type(found).__name__}, not a holdfast.App")
    found.reconfigure(database_url=url, **settings)
    return found


def load_object(target: str, *, default: str | None = None) -> Any:
    """The object that `module:name` names. Raises ConfigurationError that says what is missing."""
    module_name, _, name = target.partition(":")
    name = name or default or ""
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the module {error.name!r} is not found (looking for {target}); run this where it can be imported"
        ) from error
    if not name:
        raise ConfigurationError(f"{target} names only a module; write {target}:NAME")
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{module_name} has no {name!r}")
        found = getattr(found, part)
    return found


def run(app: App, work: Callable[[App], Awaitable[T]], *, create: bool = False) -> T:
    """Open the App, do the work, close it. Raises ConfigurationError where there is no database, unless it may be made."""

    async def main() -> T:
        await app.open(create=create)
        try:
            return await work(app)
        finally:
            await app.close()

    return asyncio.run(main())


def show(rows: Sequence[dict[str, Any]], *, as_json: bool, columns: Sequence[str] | None = None) -> None:
    """Print rows as a table, or as JSON. A table leaves out columns that are empty, and wraps only long ones."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=2, default=str))
        return
    if not rows:
        click.echo("nothing found")
        return
    names = [name for name in columns or rows[0] if any(_cell(row.get(name)) for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, name in enumerate(names):
        title = name.replace("_", " ")
        width = max(len(title), *(len(line) for row in rows for line in _cell(row.get(name)).splitlines() or [""]))
        # The first column is what the others are about, and what people copy.
        whole = width <= (ID_WIDTH if at == 0 else SHORT)
        table.add_column(
            title,
            overflow="fold",
            no_wrap=whole,
            min_width=width if whole else None,
            ratio=None if whole else min(width, 60),
        )
    for row in rows:
        table.add_row(*[Text(_cell(row.get(name))) for name in names])
    console.print(table)


def moment(seconds: float | None) -> str | None:
    """A moment in ISO form, to the millisecond, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
