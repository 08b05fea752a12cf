"""What commands share: options, finding what the command line names, running a coroutine, showing errors."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any, TypeVar

import click

from holdfast.app import App
from holdfast.errors import CompileError, ConfigurationError, HoldfastError, told_with_place
from holdfast.workflow import Workflow

T = TypeVar("T")


class Group(click.Group):
    """A group whose commands show Holdfast's errors as sentences instead of tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HoldfastError as error:
            raise click.ClickException(str(error)) from error


class Commands(Group):
    """A group whose commands are imported when they are used: none waits for what only others need."""

    def __init__(self, *args: Any, modules: Mapping[str, str], **options: Any) -> None:
        """`modules`: the module in `holdfast.cli` of each command, by its name."""
        super().__init__(*args, **options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._modules})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._modules:
            module = importlib.import_module(f"holdfast.cli.{self._modules[cmd_name]}")
            self.add_command(getattr(module, cmd_name.replace("-", "_")), cmd_name)
        return super().get_command(ctx, cmd_name)


def app_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--app` and `--url`: which App, or which database, to speak to."""
    command = click.option("--url", help="The database, instead of HOLDFAST_DATABASE_URL.")(command)
    return click.option("--app", "target", metavar="MODULE:NAME", help="The application, such as shop.app:app.")(
        command
    )


def jobs_app(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--app`, `--url` and `--tasks-url`, and gives the command the App that they name."""

    @functools.wraps(command)
    def with_app(*, target: str | None, url: str | None, tasks_url: str | None, **given: Any) -> Any:
        return command(app=find_app(target, url, tasks_url=tasks_url), **given)

    where = click.option("--tasks-url", help="Where jobs lie, instead of HOLDFAST_TASKS_URL.")
    return app_option(where(with_app))


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def run(app: App, work: Callable[[App], Awaitable[T]], *, create: bool = False) -> T:
    """Open the App, do the work, close it. Raises ConfigurationError where there is no database, unless it may be made."""

    async def main() -> T:
        await app.open(create=create)
        try:
            return await work(app)
        finally:
            await app.close()

    return asyncio.run(main())


# --- what the command line names


def find_app(target: str | None, url: str | None = None, **settings: Any) -> App:
    """The App named on the command line, or one made from the settings. Raises ConfigurationError."""
    if target is None:
        return App(url=url, **settings)
    app: App = _find(target, "App", lambda found: isinstance(found, App), default="app")
    app.reconfigure(database_url=url, **settings)
    return app


def find_workflow(target: str) -> type[Workflow]:
    """The workflow class named on the command line. Raises ConfigurationError."""
    return _find(target, "workflow", _is_workflow)


def find_type(target: str) -> type[Any]:
    """The class named on the command line. Raises ConfigurationError."""
    return _find(target, "class", lambda found: isinstance(found, type))


def find_module(name: str) -> ModuleType:
    """The module named on the command line. Raises ConfigurationError."""
    return _import(name, name, what="")


def from_json(text: str, *, what: str) -> Any:
    """The value of a JSON text that was given as `what`. Raises ConfigurationError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{what}: {text!r} is not JSON (a text needs quotes): {error}") from error


def pairs_from_json(items: tuple[str, ...], *, what: str) -> dict[str, Any]:
    """Values given as NAME=JSON, by name. Raises ConfigurationError."""
    values: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            raise ConfigurationError(f"{what} NAME=JSON, not {item!r}")
        values[name.strip()] = from_json(text, what=name.strip())
    return values


def _find(target: str, kind: str, is_one: Callable[[Any], bool], *, default: str = "") -> Any:
    """What `module:name` names, which is to be of a kind. Raises ConfigurationError that says what there is instead."""
    module_name, _, name = target.partition(":")
    module = _import(module_name, target)
    name = name or default
    if not name:
        raise ConfigurationError(f"{target} names only a module; write {target}:NAME; {_what_there_is(module, is_one)}")
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"module `{module_name}` has no {kind} `{name}`; {_what_there_is(module, is_one)}")
        found = getattr(found, part)
    if not is_one(found):
        what = f"`{name}` of module `{module_name}` is of type {type(found).__name__}, and no {kind}"
        raise ConfigurationError(f"{what}; {_what_there_is(module, is_one)}")
    return found


def _import(name: str, target: str, *, what: str = ":NAME") -> ModuleType:
    if not name or "/" in name or name.endswith(".py"):
        meant = name.removesuffix(".py").strip("./").replace("/", ".") or "MODULE"
        raise ConfigurationError(f"{target!r} names no module; write it as in an import: {meant}{what}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if missing != name and not name.startswith(f"{missing}."):
            raise ConfigurationError(
                f"module `{name}` imports `{missing}`, which is not found; install it, or run this where it is"
            ) from error
        near = _near(missing)
        raise ConfigurationError(
            f"the module {missing!r} is not found (looking for {target}); "
            + (f"did you mean {near}?" if near else "run this where it can be imported")
        ) from error
    except CompileError:
        raise
    except Exception as error:
        raise ConfigurationError(f"module `{name}` cannot be imported: {told_with_place(error)}") from error


def _near(missing: str) -> str:
    """Modules whose names look like one that is missing, beside it or in this folder."""
    parent, _, last = missing.rpartition(".")
    folders = getattr(importlib.import_module(parent), "__path__", []) if parent else [""]
    names = [module.name for module in pkgutil.iter_modules(list(folders))]
    return " or ".join(f"`{parent}.{name}`" if parent else f"`{name}`" for name in get_close_matches(last, names, n=3))


def _what_there_is(module: ModuleType, is_one: Callable[[Any], bool]) -> str:
    names = [name for name, value in vars(module).items() if is_one(value) and not name.startswith("_")]
    own = [name for name in names if getattr(vars(module)[name], "__module__", None) == module.__name__]
    shown = own or names
    if not shown:
        return "it has none"
    return "it has " + ", ".join(f"`{name}`" for name in shown[:20]) + (", …" if len(shown) > 20 else "")


def _is_workflow(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Workflow) and found is not Workflow
