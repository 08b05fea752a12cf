"""Every Python block of the documentation runs.

The convention: the ```python blocks of one page are one module, executed in order. They are written to a file at the
lines they have in the page, so that their source can be read, and errors point into the page. A block that ends with

    if __name__ == "__main__":
        asyncio.run(main())

is a complete script: its `main()` is run right after the block. Functions named `test_…` are run as well. A comment
line `# prints: text` says what a script prints: the page's output has all those lines, in their order. What is only a
fragment is fenced as ```text. `docs/reference/refusals.md` has a test of its own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, Block, blocks, name_of

GUARD = 'if __name__ == "__main__":'


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text()) if block.language == "python"]


EXAMPLES = [page for page in PAGES if page.name != "refusals.md" and python_blocks(page)]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", f"sqlite:///{tmp_path}/docs.db")


@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_the_examples_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "docs_" + name_of(page).removesuffix(".md").replace("/", "_").replace("-", "_").lower()
    file = tmp_path / f"{name}.py"
    found = python_blocks(page)
    file.write_text(laid_out(found))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    printed = ""
    for block in found:
        code = compile("\n" * (block.line - 1) + block.code, str(file), "exec", dont_inherit=True)
        before = dict(vars(module))
        exec(code, vars(module))
        if GUARD in block.code:
            asyncio.run(module.main())
        for key, value in list(vars(module).items()):
            if key.startswith("test_") and before.get(key) is not value:
                asyncio.run(value()) if inspect.iscoroutinefunction(value) else value()
        printed += capsys.readouterr().out
    expected = [text for block in found for text in prints(block)]
    lines = iter(printed.splitlines())
    for line in expected:
        assert line in lines, f"{line!r} was not printed, or not in this order:\n{printed}"


@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_every_script_says_what_it_prints(page: Path) -> None:
    for block in python_blocks(page):
        if GUARD in block.code:
            assert prints(block), f"{name_of(page)}:{block.line}"


def prints(block: Block) -> list[str]:
    """The lines that a block says it prints."""
    mark = "# prints: "
    return [line[len(mark) :] for line in block.code.splitlines() if line.startswith(mark)]


def laid_out(found: list[Block]) -> str:
    """The blocks at their lines, with nothing in between."""
    lines: list[str] = []
    for block in found:
        lines += [""] * (block.line - 1 - len(lines))
        lines += block.code.splitlines()
    return "\n".join(lines) + "\n"


def test_a_failing_example_is_noticed(tmp_path: Path) -> None:
    (block,) = blocks("# Title\n\n```python\nprint(1)\n\nprint(2)\n```\n")
    assert block == Block("python", "print(1)\n\nprint(2)\n", 4)
    assert laid_out([block]).splitlines()[3] == "print(1)"
