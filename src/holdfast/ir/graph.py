"""A program drawn: Mermaid of its functions, blocks and ways. Reads the program; runs nothing."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import UnsupportedError
from holdfast.ir.program import Await, Block, Branch, Function, Jump, Next, Program, Raise, Return
from holdfast.ir.words import Words


def mermaid(program: Program) -> str:
    """The program as a Mermaid flowchart: one subgraph a function, rounded boxes where it waits."""
    lines = ["flowchart TD"]
    for number, (_, function) in enumerate(sorted(program.functions.items(), key=lambda item: item[1].line)):
        lines += [f'  subgraph f{number}["{_escape(function.title)}"]']
        lines += [f"    {line}" for line in _function(f"f{number}", function)]
        lines.append("  end")
    return "\n".join(lines) + "\n"


def svg(program: Program) -> bytes:
    """The flowchart as SVG, where `mmdc` (mermaid-cli) or Graphviz' `dot` is installed. Raises UnsupportedError."""
    if mmdc := shutil.which("mmdc"):
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "graph.mmd"), Path(folder, "graph.svg")
            source.write_text(mermaid(program))
            subprocess.run([mmdc, "-i", str(source), "-o", str(target)], check=True, capture_output=True)
            return target.read_bytes()
    if dot := shutil.which("dot"):
        return subprocess.run([dot, "-Tsvg"], input=_dot(program).encode(), check=True, capture_output=True).stdout
    raise UnsupportedError("no renderer is installed: install Graphviz (dot) or mermaid-cli (mmdc), or use mermaid")


@dataclass(frozen=True, slots=True)
class _Arrow:
    start: int
    to: int
    label: str
    error: bool


def _boxes(function: Function) -> dict[int, str]:
    """The words of each block that says something, by its number."""
    words = Words(function)
    said = {index: words.of(block) for index, block in enumerate(function.blocks)}
    return {index: text for index, text in said.items() if text}


def _arrows(function: Function, boxes: Container[int]) -> Iterator[_Arrow]:
    """The ways between boxes, through the blocks that say nothing."""
    for index, block in enumerate(function.blocks):
        if index not in boxes:
            continue
        ways = [(to, label, False) for to, label in _ways(block)]
        if block.handler is not None and (block.code or isinstance(block.end, Await)):
            ways.append((block.handler, "error", True))
        for to, label, error in ways:
            if (box := _box(function, to, boxes)) is not None:
                yield _Arrow(index, box, label, error)


def _box(function: Function, index: int, boxes: Container[int]) -> int | None:
    """The box that a way to this block leads to; None if it goes round for ever."""
    seen: set[int] = set()
    while index not in boxes:
        end = function.blocks[index].end
        if index in seen or not isinstance(end, Jump):
            return None
        seen.add(index)
        index = end.to
    return index


def _function(prefix: str, function: Function) -> Iterator[str]:
    boxes = _boxes(function)
    for index, text in boxes.items():
        yield f"{prefix}b{index}{_shape(function.blocks[index], text)}"
    for arrow in _arrows(function, boxes):
        line = "-.->" if arrow.error else "-->"
        yield f"{prefix}b{arrow.start} {line}{f'|{arrow.label}|' if arrow.label else ''} {prefix}b{arrow.to}"


def _shape(block: Block, words: str) -> str:
    text = _escape(words)
    match block.end:
        case Await():
            return f'(["{text}"])'
        case Branch() | Next():
            return f'{{"{text}"}}'
        case Return() | Raise():
            return f'[["{text}"]]'
        case _:
            return f'["{text}"]'


def _ways(block: Block) -> list[tuple[int, str]]:
    if block.code and block.code[-1].source.partition(" ")[0] == "raise":
        return []
    match block.end:
        case Jump(to) | Await(_, _, to, _):
            return [(to, "")]
        case Branch(_, then, orelse):
            return [(then, "yes"), (orelse, "no")]
        case Next(_, _, body, done, _):
            return [(body, "next"), (done, "done")]
        case _:
            return []


def _escape(text: str) -> str:
    for old, new in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;"), ("\n", "<br/>")):
        text = text.replace(old, new)
    return text


def _dot(program: Program) -> str:
    lines = ["digraph {", '  node [fontname="sans-serif" fontsize=10]']
    for number, (_, function) in enumerate(sorted(program.functions.items(), key=lambda item: item[1].line)):
        lines.append(f'  subgraph cluster_{number} {{ label="{_quote(function.title)}"')
        boxes = _boxes(function)
        for index, text in boxes.items():
            end = function.blocks[index].end
            shape = "oval" if isinstance(end, Await) else "diamond" if isinstance(end, Branch | Next) else "box"
            lines.append(f'    f{number}b{index} [shape={shape} label="{_quote(text)}"]')
        lines.append("  }")
        for arrow in _arrows(function, boxes):
            style = "style=dotted " if arrow.error else ""
            ends = f"f{number}b{arrow.start} -> f{number}b{arrow.to}"
            lines.append(f'  {ends} [{style}label="{arrow.label}"]')
    return "\n".join([*lines, "}"])


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
