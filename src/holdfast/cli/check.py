"""`holdfast check`: compile all workflows of modules, and show everything that is wrong in them at once."""

from __future__ import annotations

import click

from holdfast.cli.common import find_module
from holdfast.errors import CompileError
from holdfast.workflow import WORKFLOWS, Workflow, compiling_later, definition_of


@click.command()
@click.argument("modules", metavar="MODULE...", nargs=-1, required=True)
def check(modules: tuple[str, ...]) -> None:
    """Compile the workflows of modules and of what they import, and show every problem; exit status 1 if there is one."""
    before = set(WORKFLOWS.values())
    with compiling_later() as decorated:
        for module in modules:
            find_module(module)
    # A class that is not decorated is a workflow where it has a `run`: others are bases.
    found = dict.fromkeys([*decorated, *(cls for cls in WORKFLOWS.values() if hasattr(cls, "run"))])
    checked = [cls for cls in found if cls not in before]
    refused = [error for cls in checked if (error := _refusal(cls)) is not None]
    for error in refused:
        click.echo(f"{error}\n")
    count = "1 workflow" if len(checked) == 1 else f"{len(checked)} workflows"
    bad = f"{len(refused)} cannot be made durable" if refused else "all can be made durable"
    click.echo(f"{count}: {bad}" if checked else "no workflow is defined there")
    if refused or not checked:
        raise SystemExit(1)


def _refusal(cls: type[Workflow]) -> CompileError | None:
    try:
        definition_of(cls)
    except CompileError as error:
        return error
    return None
