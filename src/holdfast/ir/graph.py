"""A program drawn: Mermaid of its functions, blocks and ways. Reads the program; runs nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from holdfast.errors import UnsupportedError
from holdfast.ir.program import Await, Block, Branch, Function, Jump, Next, Program, Raise, Return

_COMPILERS = re.compile(r"\b_hf\w*?\d+\b")
_LIMIT = 60


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


def _function(prefix: str, function: Function) -> Iterator[str]:
    for index, block in enumerate(function.blocks):
        yield f"{prefix}b{index}{_shape(block)}"
    for index, block in enumerate(function.blocks):
        here = f"{prefix}b{index}"
        for to, label in _ways(block):
            arrow = f"-->|{label}|" if label else "-->"
            yield f"{here} {arrow} {prefix}b{to}"
        if block.handler is not None and (block.code or isinstance(block.end, Await)):
            yield f"{here} -.->|error| {prefix}b{block.handler}"


def _shape(block: Block) -> str:
    text = _escape(label(block))
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
    match block.end:
        case Jump(to) | Await(_, _, to, _):
            return [(to, "")]
        case Branch(_, then, orelse):
            return [(then, "yes"), (orelse, "no")]
        case Next(_, _, body, done, _):
            return [(body, "next"), (done, "done")]
        case _:
            return []


def label(block: Block) -> str:
    """A block in a few words: its statements and how it ends."""
    lines = [_short(native.source) for native in block.code if not native.source.startswith("_hf")]
    match block.end:
        case Branch(test, _, _):
            lines.append(_short(test.source) + "?")
        case Next():
            lines.append("next item?")
        case Await(value, into, _, _):
            target = f"{into} = " if into and not into.startswith("_hf") else ""
            lines.append(_short(f"{target}await {value.source}"))
        case Return(None):
            lines.append("return")
        case Return(value):
            lines.append(_short(f"return {value.source if value else ''}"))
        case Raise():
            lines.append("raise")
        case Jump():
            pass
    return "\n".join(lines) or "·"


def _short(text: str) -> str:
    line = _COMPILERS.sub("…", " ".join(text.split()))
    return line if len(line) <= _LIMIT else line[: _LIMIT - 1] + "…"


def _escape(text: str) -> str:
    for old, new in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;"), ("\n", "<br/>")):
        text = text.replace(old, new)
    return text


def _dot(program: Program) -> str:
    lines = ["digraph {", '  node [fontname="sans-serif" fontsize=10]']
    for number, (_, function) in enumerate(sorted(program.functions.items(), key=lambda item: item[1].line)):
        lines.append(f'  subgraph cluster_{number} {{ label="{_quote(function.title)}"')
        for index, block in enumerate(function.blocks):
            shape = (
                "oval" if isinstance(block.end, Await) else "diamond" if isinstance(block.end, Branch | Next) else "box"
            )
            lines.append(f'    f{number}b{index} [shape={shape} label="{_quote(label(block))}"]')
        lines.append("  }")
        for index, block in enumerate(function.blocks):
            lines += [f'  f{number}b{index} -> f{number}b{to} [label="{way}"]' for to, way in _ways(block)]
            if block.handler is not None and (block.code or isinstance(block.end, Await)):
                lines.append(f'  f{number}b{index} -> f{number}b{block.handler} [style=dotted label="error"]')
    return "\n".join([*lines, "}"])


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
