"""A drawn program speaks in the words of its workflow: none of the compiler's own names are in it."""

from __future__ import annotations

import random
import re

import pytest
from tests.engine.harness import linked, program_module
from tests.engine.programs import Writer

from holdfast.ir.graph import mermaid

SHOP = """
class W(Workflow):
    async def run(self, orders):
        total = 0
        try:
            for order in orders:
                total += await act(order)
            async with asyncio.timeout(5) as limit:
                await act(limit.when())
        except ValueError as error:
            await act(str(error))
        finally:
            await act("release")
        match await act(total):
            case [first, *_]:
                return first
        if total and await act(2):
            return [await act(n) for n in orders if n]
        async for one in asyncio.as_completed([act(1)]):
            await one
        return await act(3)
"""

RELEASED = """
class W(Workflow):
    async def run(self, order):
        for n in order:
            try:
                if await act(n):
                    return n
            except OSError:
                break
            finally:
                await act("release")
        await act("end")
"""


def drawn(text: str) -> str:
    with program_module(text, durable=True) as module:
        return mermaid(linked(module.W).program)


def boxes(drawing: str) -> list[str]:
    """What stands in the boxes, in order."""
    lines = [line.strip() for line in drawing.splitlines() if re.match(r"\s+f0b\d+[\[({]", line)]
    return [re.sub(r'^\w+\W+?"|"\W*$', "", line).replace("&gt;", ">") for line in lines]


def test_statements_are_drawn_as_they_were_written() -> None:
    assert boxes(drawn(SHOP)) == [
        "total = 0",
        "for order in orders",
        "await act(order)",
        "total += …",
        "except ValueError?",
        "as error",
        "await act(str(error))",
        "await act('release')",
        "failed?",
        "raise",
        "await act(total)",
        "case [first, *_]?",
        "return first",
        "total?",
        "await act(2)",
        "act(2)?",
        "for n in orders",
        "n?",
        "await act(n)",
        "return …",
        "async for one in asyncio.as_completed([act(1)])",
        "one more?",
        "await one",
        "await act(3)",
        "return …",
        "raise",
        "raise",
        "async with asyncio.timeout(5) as limit",
        "await act(limit.when())",
        "leave asyncio.timeout(5)",
        "leave asyncio.timeout(5)",
        "suppressed?",
        "raise",
    ]


def test_what_a_finally_owes_is_drawn_as_ways_out() -> None:
    assert boxes(drawn(RELEASED)) == [
        "for n in order",
        "await act(n)",
        "act(n)?",
        "return n",
        "await act('release')",
        "returning?",
        "return n",
        "leaving?",
        "await act('end')",
        "return",
        "failed?",
        "raise",
        "except OSError?",
        "leave",
        "raise",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_drawing_holds_a_name_of_the_compilers(seed: int) -> None:
    text = Writer(random.Random(seed).randrange).program()
    drawing = drawn(text)
    assert "_hf" not in drawing
    made = re.findall(r"^ +(f\d+b\d+)[\[({]", drawing, flags=re.MULTILINE)
    ends = re.findall(r"^ +(f\d+b\d+) -.*> ?(?:\|\w+\|)? ?(f\d+b\d+)$", drawing, flags=re.MULTILINE)
    assert ends
    assert {box for pair in ends for box in pair} <= set(made)
