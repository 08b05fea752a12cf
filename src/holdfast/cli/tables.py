"""Tables: fitted to a terminal for people, whole for whatever else reads them. Knows no command.

Where output goes to no terminal, and COLUMNS does not say how wide it is to be, nothing is wrapped or cut. Ids never are.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console()

Row = dict[str, Any]

SHORT = 12
"""Cells of at most so many characters are never wrapped."""
ID_WIDTH = 40
"""A longer id has a line of its own."""
NARROWEST = 8
"""Characters that a column keeps which is cut."""
ROOM_FOR_A_NOTE = 36
"""With less than that, notes stand beneath their rows."""


def room() -> int | None:
    """How wide a table may be; None: as wide as it is."""
    return console.width if console.is_terminal or "COLUMNS" in os.environ else None


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, default=str))


def show(rows: Sequence[Row], *, columns: Sequence[str] | None = None, headed: bool = True) -> None:
    """Print rows whose cells may be long: those are wrapped. Columns that are empty are left out."""
    if not rows:
        click.echo("nothing found")
        return
    names = _filled(rows, columns or list(rows[0]))
    width = room()
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=headed)
    for at, name in enumerate(names):
        natural = _width(rows, name)
        # The first column is what the others are about, and what people copy.
        whole = width is None or natural <= (ID_WIDTH if at == 0 else SHORT)
        table.add_column(
            _title(name),
            overflow="fold",
            no_wrap=whole,
            min_width=natural if whole else None,
            ratio=None if whole else min(natural, 60),
        )
    for row in rows:
        table.add_row(*[Text(_cell(row.get(name))) for name in names])
    if width is not None:
        console.print(table)
        return
    wide = Console(width=sum(_width(rows, name) + 2 for name in names), file=console.file)
    with wide.capture() as written:
        wide.print(table)
    click.echo("\n".join(line.rstrip() for line in written.get().splitlines()))


def listing(
    rows: Sequence[Row],
    *,
    columns: Sequence[str],
    cut: Sequence[str] = (),
    spare: Sequence[str] = (),
    note: str = "",
) -> None:
    """Print rows of short cells, a line each, the id first. Columns that are empty are left out.

    Where room is short, those in `spare` go first, the last one before the others; then those in `cut` are cut. The cell
    named by `note` may be long: it stands at the end of the line, or beneath it.
    """
    if not rows:
        click.echo("nothing found")
        return
    names = _filled(rows, columns)
    width = room()
    widths = {name: _width(rows, name) for name in names}
    if width is None:
        _print_whole(rows, widths, note)
        return
    first = names[0]
    widths[first] = min(widths[first], ID_WIDTH)
    for name in reversed(spare):
        if name in widths and _total(widths) > width:
            del widths[name]
    for name in cut:
        if name in widths:
            widths[name] = max(min(widths[name], NARROWEST), widths[name] - max(0, _total(widths) - width))
    beside = width - _total(widths) - 2
    notes = note and any(_cell(row.get(note)) for row in rows)
    beneath = not notes or beside < ROOM_FOR_A_NOTE
    heading = _line({name: _title(name) for name in widths}, widths)
    console.print(Text(heading if beneath else f"{heading}  {_title(note)}", "bold"), soft_wrap=True)
    for row in rows:
        said = " ".join(_cell(row.get(note)).split()) if note else ""
        _print_row({name: _cell(row.get(name)) for name in widths}, widths, said, width=width, beneath=beneath)


def _print_whole(rows: Sequence[Row], widths: dict[str, int], note: str) -> None:
    names = [*widths, *_filled(rows, [note] if note else [])]
    widths = {name: widths.get(name, 0) for name in names}
    click.echo(_line({name: _title(name) for name in names}, widths).rstrip())
    for row in rows:
        click.echo(_line({name: " ".join(_cell(row.get(name)).split()) for name in names}, widths).rstrip())


def _print_row(cells: dict[str, str], widths: dict[str, int], note: str, *, width: int, beneath: bool) -> None:
    first = next(iter(cells))
    if len(cells[first]) > widths[first]:
        console.print(Text(cells[first]), soft_wrap=True)
        cells = {**cells, first: ""}
    line = _line(cells, widths)
    indent = 4 if beneath else len(line) + 2
    notes = [" " * indent + part for part in textwrap.wrap(note, max(NARROWEST, width - indent))]
    if notes and not beneath:
        line += "  " + notes.pop(0).lstrip()
    console.print(Text(line), soft_wrap=True)
    for part in notes:
        console.print(Text(part, "dim" if beneath else ""), soft_wrap=True)


def _line(cells: dict[str, str], widths: dict[str, int]) -> str:
    return "  ".join(_cut(text, widths[name]).ljust(widths[name]) for name, text in cells.items())


def _cut(text: str, width: int) -> str:
    return text if width == 0 or len(text) <= width else text[: width - 1] + "…"


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _filled(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    return [name for name in names if any(_cell(row.get(name)) for row in rows)]


def _width(rows: Sequence[Row], name: str) -> int:
    return max(len(_title(name)), *(len(line) for row in rows for line in _cell(row.get(name)).splitlines() or [""]))


def _title(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
