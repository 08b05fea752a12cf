"""`holdfast visualize`: a workflow's program as text, Mermaid or SVG."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.common import load_object
from holdfast.errors import ConfigurationError
from holdfast.ir.graph import mermaid, svg
from holdfast.workflow import Workflow, definition_of


@click.command()
@click.argument("target", metavar="MODULE:WORKFLOW")
@click.option("--format", type=click.Choice(["mermaid", "text", "svg"]), default="mermaid", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
def visualize(target: str, format: str, output: Path | None) -> None:
    """Draw the program that a workflow class was compiled to."""
    found = load_object(target)
    if not (isinstance(found, type) and issubclass(found, Workflow)):
        raise ConfigurationError(f"{target} is not a workflow class")
    definition = definition_of(found)
    match format:
        case "svg":
            drawn = svg(definition.program)
        case "text":
            drawn = definition.text.encode()
        case _:
            drawn = mermaid(definition.program).encode()
    if output is None:
        click.echo(drawn.decode(), nl=False)
    else:
        output.write_bytes(drawn)
