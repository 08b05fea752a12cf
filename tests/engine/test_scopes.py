"""Names that inner scopes have too, and bindings that may not come about: nothing is kept too short or too long."""

from __future__ import annotations

import os
import random
from textwrap import indent

import pytest
from tests.engine.harness import Endless, compare, program_module

from holdfast.compiler import compile_workflow
from holdfast.ir.program import Await
from holdfast.workflow import Workflow

EXAMPLES = int(os.environ.get("HOLDFAST_EXAMPLES", "0"))
NAMES = "abc"


class Writer:
    """Random programs of few variables, in which each is bound in each way, and then needed or not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.depth = 0

    def program(self) -> str:
        body = ["a, b, c, xs = n, 2, 3, [4, 5, n]"]
        for _ in range(5):
            body += self.statement()
        body.append("return a, b, c, xs")
        lines = "\n".join(["class W(Workflow):", "    async def run(self, n):", indent("\n".join(body), " " * 8)])
        return lines + "\n"

    def one(self, *choices: str) -> str:
        return self.random.choice(choices)

    def name(self) -> str:
        return self.random.choice(NAMES)

    def value(self, depth: int = 2) -> str:
        """A number. It may bind names on its way, or only seem to read them."""
        v = self.name()
        if depth == 0:
            return self.one(v, v, "1", "0")
        e, f, g = (self.value(depth - 1) for _ in range(3))
        return self.one(
            v,
            f"({v} := {e})",
            f"({e} + {f})",
            f"({e} and {f} and {g})",
            f"({e} or {f} or {g})",
            f"({e} if {f} else {g})",
            f"({e} < {f} < {g})",
            f"sum([{v} + {e} for {v} in xs if {f}])",
            f"sum([{e} for _ in xs if ({v} := {f})])",
            f"sum([{v} for {v} in [{e}] for {self.name()} in [{v}, 1]])",
            f"len({{{v}: {e} for {v} in xs}})",
            f"(lambda {v}: {e.replace(':=', '+')})({f})",
            f"(lambda {v}={e}: {v} + {self.name()})()",
            f"note({e}, {f})",
            f"max({e}, *[{f}], key=lambda {v}: -{v})",
        )

    def test(self) -> str:
        return f"{self.value()} % 2"

    def block(self, *, waits: bool) -> list[str]:
        self.depth += 1
        body = [line for _ in range(1 + self.random.randrange(2)) for line in self.statement(waits=waits)]
        self.depth -= 1
        return [f"    {line}" for line in body]

    def statement(self, *, waits: bool = True) -> list[str]:
        v, w = self.name(), self.name()
        simple = [
            [f"{v} = {self.value()}"],
            [f"{v} += {self.value()}"],
            [f"{v}, {w} = {self.value()}, {self.value()}"],
            [self.value()],
            [f"def g({v}):", f"    return {v} + {w}", f"{self.name()} = g({self.value()})"],
            [f"def g(k={v}):", f"    {w} = k", f"    return {w}", f"{self.name()} = g()"],
            ["def g():", f"    nonlocal {v}", f"    {v} = {self.name()} + 1", "g()"],
            [f"assert ({v} := {self.value()}) is not None"],
        ]
        if waits:
            simple += [[f"{v} = await act({self.value()})"], [f"await act({self.value()})"]] * 3
            simple += [[f"{v} = {self.value(1)} + await act({self.value(1)})"]]
        if self.depth > 1:
            return self.random.choice(simple)
        waits = waits and self.random.random() < 0.6
        inner, other = self.block(waits=waits), self.block(waits=waits)
        native = self.block(waits=False)
        boom = self.one("raise Worse(1)", "raise Oops(2)", "note()", f"note({v})")
        failing = [f"    {boom}", *native] if self.random.random() < 0.5 else [*native, f"    {boom}"]
        managers = self.one(
            f"Managed({self.value(1)}) as {v}",
            f"Managed({self.value(1)}) as {v}, Managed({v}) as {w}",
            f"Managed(1), Managed({self.value(1)}) as {w}",
            f"Managed([1, 2]) as ({v}, {w})",
            f"Managed(3), Managed((_ for _ in ()).throw(Worse(1))) as {w}",
            f"Managed(3) as {v}, Managed((_ for _ in ()).throw(Worse(1))) as {w}",
        )
        pattern = self.one(
            f"[1, {v}]",
            f"[{v}, {w}]" if v != w else f"[{v}, 1]",
            f"[*{v}]",
            f"{v} if {self.test()}",
            f"int() as {v}",
            "[]",
            "2",
        )
        last = [["case _:", *other], [f"case {w}:", *other], []]
        parts = self.random.choice(last)
        compound = [
            [f"if {self.test()}:", *inner, "else:", *other],
            [f"if {self.test()}:", *inner],
            [f"for {v} in {self.one('xs', '[]', f'[{self.value()}]')}:", *inner],
            [f"for {v} in [{self.value()}]:", *inner, "else:", *other],
            ["k = 2", f"while (k := k - 1) > 0 and ({v} := {self.value()}) < 9:", *inner],
            [
                "try:",
                *inner,
                f"    {boom}",
                "except Worse as e:",
                "    note(e)",
                *other,
                "except Oops:",
                f"    note({v})",
            ],
            ["try:", *failing, "except (Worse, Oops) as e:", *other, "finally:", f"    note({w})"],
            ["try:", f"    with {managers}:", *_in(failing), "except Oops:", "    pass"],
            [f"with {managers}:", *native, "    raise Worse(1)"],
            [
                "try:",
                f"    with {managers}:",
                f"        {boom}",
                "except (Oops, TypeError):",
                f"    note({self.value()})",
            ],
            ["try:", f"    with {managers}:", f"        {boom}", "finally:", f"    {self.name()} = {self.value(0)}"],
            [f"match {self.one('xs[:2]', self.value(), '[1, 2]')}:", *_in([f"case {pattern}:", *inner, *parts])],
            [f"match {self.value()}:", *_in(["case int():", *inner, f"case [{v}]:", *native, *parts])],
        ]
        chosen = self.random.choice(compound if self.random.random() < 0.6 else simple)
        if self.depth == 0:
            chosen = [*chosen, "await act(0)", f"note({self.one(v, w)})"]
        return chosen


def _in(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("batch", range(4))
def test_a_name_is_kept_wherever_python_would_have_it(batch: int) -> None:
    size = EXAMPLES or 12
    for seed in range(batch * size, batch * size + size):
        text = Writer(seed).program()
        try:
            compile(text, "program", "exec")
        except SyntaxError:
            continue
        try:
            compare(text, seed % 5)
        except (Endless, RecursionError):
            continue


THROW = "(_ for _ in ()).throw(Worse(1))"


@pytest.mark.parametrize(
    "lines",
    [
        ["with Managed(1) as b:", "    raise Worse(1)", "    a = 2"],
        ["with Managed(1) as b:", f"    a = {THROW}"],
        [f"with Managed(1) as b, Managed({THROW}) as a:", "    pass"],
        [f"with Managed(1), Managed(a := {THROW}):", "    pass"],
        ["try:", f"    a = {THROW}", "except Worse:", "    pass"],
        ["try:", f"    with Managed({THROW}) as a:", "        pass", "except Worse:", "    pass"],
        ["try:", f"    note(a := {THROW})", "except Worse:", "    pass"],
        ["for a in []:", "    pass"],
        ["for b in [1]:", "    break", "    a = 2"],
        ["while b > 9:", "    a = 2"],
        ["while b > 9 and (a := 2):", "    pass"],
        ["note(b > 9 and (a := 2))", "note(b or (a := 2))", "note((a := 2) if b > 9 else 3)"],
        ["note(9 < b < (a := 5))", "note([c for c in [] if (a := 2)], [(a := 3) for c in []])"],
        ["note((lambda: (a := 4))(), (lambda a: a)(3), [a for a in (1, 2)], sum(a for a in (1, 2)))"],
        ["def g(a):", "    return a", "note(g(1))"],
        ["def g():", "    a = 3", "    return a", "note(g())"],
        ["def g():", "    nonlocal a", "    note(a)", "g()"],
        ["note((lambda: a)())", "a = 5"],
        ["note([a for _ in (1, 2)], [a for a in (a, 2)])", "a = 5"],
        ["note((lambda k=a: k)())", "a = 5"],
        ["note((a := 5) if b > 9 else a)", "a = 5"],
        ["match b:", "    case [a]:", "        pass"],
        ["match b:", "    case a if a > 9:", "        pass"],
        ["match b:", "    case 1 | 2:", "        a = 5", "    case 3:", "        pass"],
        ["match b:", "    case [a]:", "        await act(0)", "    case 9:", "        await act(1)"],
        ["match [b]:", "    case [a] if await act(a) > 9:", "        await act(0)", "    case _:", "        note(a)"],
        ["if b > 9:", "    a = 5"],
        ["if (a := b) > 9:", "    note(a)"],
        ["a += 1"],
        ["del a", "a = 3"],
    ],
)
def test_what_may_keep_its_value_is_kept(lines: list[str]) -> None:
    body = ["a, b, c = n + 7, 2, 3", "await act(0)", *lines, "note(a)", "await act(a)", "return a, b"]
    compare("\n".join(["class W(Workflow):", "    async def run(self, n):", *_in(_in(body))]) + "\n", 1)


@pytest.mark.parametrize(
    "value",
    [
        "sum(x for x in await make('list', 3, 4))",
        "[b, *(x + a for x in await make('list', a, b) if x > 1)]",
        "sorted((x, y) for x in [await act(3)] for y in (x, a))",
        "dict((a, a) for a in await make('list', a))",
        "list(note(x) for x in [note(7), await act(1), note(8)])",
        "any(x for x in await act(1))",
    ],
)
def test_what_a_generator_expression_goes_over_first_may_wait(value: str) -> None:
    body = ["a, b = n, 2", "await act(0)", f"c = {value}", "return a, b, c"]
    compare("\n".join(["class W(Workflow):", "    async def run(self, n):", *_in(_in(body))]) + "\n", 1)


def kept(lines: list[str]) -> set[str]:
    """What is kept over the await that stands alone, among `a`, `b` and `c`."""
    body = ["a, b, c = 1, 2, 3", "await act(0)", *lines]
    text = "\n".join(["class W(Workflow):", "    async def run(self, n):", *_in(_in(body))]) + "\n"
    with program_module(text, durable=True) as module:
        program = compile_workflow(module.W, name="W", base=Workflow)
    first = next(block.end for block in program.functions[program.entry].blocks if isinstance(block.end, Await))
    return set(first.keep) & set(NAMES)


@pytest.mark.parametrize(
    "lines",
    [
        ["return [a for a in (1, 2)]"],
        ["return {a: a for a in (1, 2) if a}, {a for a in (1, 2)}, sum(a for a in (1, 2) for b in (a,))"],
        ["return (lambda a, *b, c=3: a + len(b) + c)(1)"],
        ["def g(a, b=1):", "    c = a", "    return c", "return g(1)"],
        ["with Managed(1) as a, Managed(a) as b:", "    note(a, b)"],
        ["with Managed(1) as a:", "    note(a)", "return a"],
        ["match n:", "    case [a, *b]:", "        return a, b", "    case c:", "        return c"],
        ["match n:", "    case [a]:", "        await act(a)", "    case {'k': b, **c}:", "        await act(b, c)"],
        ["match n:", "    case a:", "        pass", "return a"],
        ["if (a := n) and a > 1:", "    return a"],
        ["while (a := n) and a > 1:", "    n -= 1"],
        ["note(a := n, a)", "return a"],
        ["try:", "    note(1)", "except ValueError as a:", "    note(a)"],
    ],
)
def test_a_name_of_an_inner_scope_or_one_that_is_bound_anew_is_not_kept(lines: list[str]) -> None:
    assert kept(lines) == set()


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["return [a for _ in (1, 2)]"], {"a"}),
        (["return [b for b in (a, 2)]"], {"a"}),
        (["return [b for b in (1, 2) for c in (a, b)]"], {"a"}),
        (["return (lambda b=a: b)()"], {"a"}),
        (["def g(b):", "    return a + b", "return g(1)"], {"a"}),
        (["def g():", "    nonlocal a", "    a += 1", "g()"], {"a"}),
        (["with Managed(1) as b, Managed(2) as a:", "    pass", "return a, b"], {"a"}),
    ],
)
def test_a_free_name_of_an_inner_scope_is_kept(lines: list[str], names: set[str]) -> None:
    assert kept(lines) == names
