"""`holdfast visualize`: a workflow's program as text, Mermaid or SVG."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.common import find_workflow, json_option
from holdfast.cli.tables import show_json
from holdfast.errors import ConfigurationError
from holdfast.ir.graph import mermaid, svg
from holdfast.workflow import definition_of


@click.command()
@click.argument("target", metavar="MODULE:WORKFLOW")
@click.option("--format", type=click.Choice(["mermaid", "text", "svg"]), default="mermaid", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@json_option
def visualize(target: str, format: str, output: Path | None, as_json: bool) -> None:
    """Draw the program that a workflow class was compiled to."""
    definition = definition_of(find_workflow(target))
    match format:
        case "svg":
            drawn = svg(definition.program)
        case "text":
            drawn = definition.text.encode()
        case _:
            drawn = mermaid(definition.program).encode()
    if output is not None:
        try:
            output.write_bytes(drawn)
        except OSError as error:
            raise ConfigurationError(f"{output} cannot be written: {error.strerror or error}") from error
    if as_json:
        told = {"workflow": definition.program.name, "program": definition.hash, "format": format}
        show_json({**told, "file": str(output)} if output is not None else {**told, "drawn": drawn.decode()})
    elif output is None:
        click.echo(drawn.decode(), nl=False)
