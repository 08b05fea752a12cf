"""Pages of documentation as tests see them: their code blocks, headings and links. Reads; runs nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^( *)```(\w*)\s*$")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is that of its first line of code in the page, counted from 1."""

    language: str
    code: str
    line: int


def name_of(page: Path) -> str:
    """The page's path below the root, for test ids."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order; indented ones without their indentation."""
    found: list[Block] = []
    language: str | None = None
    indent, lines, begin = 0, [], 0
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.match(line)
        if language is None and fence:
            language, indent, lines, begin = fence[2], len(fence[1]), [], number + 1
        elif language is not None and fence and not fence[2]:
            found.append(Block(language, "\n".join(lines) + "\n", begin))
            language = None
        elif language is not None:
            lines.append(line[indent:] if line[:indent].isspace() else line)
    assert language is None, "a code fence is not closed"
    return found


def prose(text: str) -> str:
    """The page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```\s*$", "", text, flags=re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    """The targets of all links."""
    return _LINK.findall(prose(text))


def anchors(text: str) -> set[str]:
    """The anchors that headings make, spelled as common renderers do."""
    headings = re.findall(r"^#+ (.+?)\s*$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


def sections(text: str, level: int = 2) -> dict[str, str]:
    """The text below each heading of one level, by heading. Headings inside code blocks do not count."""
    found: dict[str, str] = {}
    heading: str | None = None
    inside = False
    for line in text.splitlines():
        inside ^= line.lstrip().startswith("```")
        if not inside and line.startswith("#" * level + " "):
            heading = line[level:].strip()
            found[heading] = ""
        elif heading is not None:
            found[heading] += line + "\n"
    return found
