"""Random programs for comparing Holdfast with Python. Chooses and writes text; runs nothing.

All programs end: every loop is bounded, helpers call only those before them, lists hold numbers and containers hold
lists, so that nothing grows without end. Each choice is one call of `pick`, so that Hypothesis can shrink programs.

Left out on purpose:

* `asyncio.wait_for` that is cancelled from outside, or whose timeout comes in the very turn of something else: Python
  3.11 and 3.12 differ there. It stands only where nothing cancels, and its timeouts are fractions no other wait uses.
* The order in which tasks left over at the end are cancelled: `asyncio.run` takes them from a set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

Pick = Callable[[int], int]
"""A number from 0 to below the one given."""

Lines = list[str]


FETCHING = [
    "async def fetch(self, v):",
    "    await act(v)",
    "    self.kept.value = v",
    "    return self.kept",
    "",
    "async def turn(self, v):",
    "    await act(v)",
    "    self.chosen = max if self.chosen is min else min",
    "    return v",
    "",
]
"""Methods that change what others have in hand."""


class Scope:
    """What the function being written may use."""

    def __init__(self, name: str, *, helpers: int, root: bool) -> None:
        self.name = name
        self.helpers = helpers
        """How many of the helper methods it may call."""
        self.root = root
        self.in_loop = 0
        self.guarded = 0
        """How many blocks around may cancel what is in them."""
        self.handling: list[str] = []
        self.may_leave = True
        self.budget = 9 if root else 4
        self.tasks: list[str] = []


class Writer:
    """Writes one program."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.serial = 0
        self.waits = True
        self.walrus = True
        self.fstring = True
        self.extra: list[str] = []
        """Numbers that are bound here and now: comprehension and pattern variables."""
        self.scope = Scope("run", helpers=0, root=True)

    def program(self) -> str:
        """The text of a workflow class `W` with helpers."""
        helpers = 1 + self.pick(2)
        out = self.module_helper()
        out += ["class W(Workflow):", "    def __init__(self):", "        self.x = 1", "        self.items = [5]"]
        out += ["        self.kept = Box(3)", "        self.chosen = min", ""]
        for number in range(helpers):
            out += _indented(self.helper(number)) + [""]
        out += _indented(self.recursive()) + [""]
        out += _indented(FETCHING)
        self.scope = Scope("run", helpers=helpers, root=True)
        body = [
            "a, b, c = 1, n, 3",
            "xs, ys = [1, 2], [3]",
            'd = {"k": 1, "m": 2}',
            "box = Box(7)",
            "err = e = None",
            "i = j = 4",
        ]
        for _ in range(4 + self.pick(5)):
            body += self.survived(self.statement(top=True))
        body += [self.returning()]
        out += _indented(["async def run(self, n):", *_indented(body)])
        return "\n".join(out) + "\n"

    # --- functions

    def survived(self, lines: Lines) -> Lines:
        """Mostly, an error ends one statement of `run` and not all of it."""
        if self.chance(20):
            return lines
        return ["try:", *_indented(lines), "except Exception as e:", "    note('survived', seen(e))"]

    def module_helper(self) -> Lines:
        self.scope = Scope("outside", helpers=-1, root=False)
        body = ["a, b, c = p, 2, 3", "xs, ys = [p], []", 'd = {"k": 1}', "box = Box(1)", "err = e = None", "i = j = 4"]
        body += ["me = Box(2)", *(line.replace("self.", "me.") for line in self.block(most=3)), "return a + r"]
        return ["async def outside(p, q=4, *rest, r=1, **more):", *_indented(body), ""]

    def helper(self, number: int) -> Lines:
        self.scope = Scope(f"h{number}", helpers=number, root=False)
        xs = self.one(["[p, 8]", "self.items"])
        body = [
            "a, b, c = p, q, 6",
            f"xs, ys = {xs}, [q]",
            'd = {"k": p}',
            "box = Box(q)",
            "err = e = None",
            "i = j = 4",
        ]
        body += self.block(most=4)
        return [f"async def h{number}(self, p, q=2):", *_indented([*body, self.returning(plain=True)])]

    def recursive(self) -> Lines:
        self.scope = Scope("rec", helpers=0, root=False)
        self.scope.budget = 3
        body = [
            "a, b, c = k, 1, 2",
            "xs, ys = [k], self.items",
            'd = {"k": k}',
            "box = Box(k)",
            "err = e = None",
            "i = j = 4",
        ]
        body += ["if k <= 0:", f"    return {self.number(1)}"]
        body += self.block(most=2)
        onward = self.one(
            ["a + await self.rec(k - 1)", "await self.rec(k - 1)", "await act(a) + await self.rec(k - 1)"]
        )
        return ["async def rec(self, k):", *_indented([*body, f"return {onward}"])]

    def returning(self, *, plain: bool = False) -> str:
        if plain:
            return self.one(["return a + b", "return c", f"return {self.number(2)}", f"return {self.number(1)}"])
        whole = "[a, b, c, xs, ys, d, box, self.x, self.items, xs is ys, xs is self.items, seen(err)]"
        return self.one([f"return {whole}", f"return {whole}", f"return {whole} + [{self.number(2)}]"])

    # --- statements

    def block(self, *, most: int, least: int = 1) -> Lines:
        """A block of statements."""
        out: Lines = []
        for _ in range(least + self.pick(most - least + 1)):
            out += self.statement()
        return out or ["pass"]

    def statement(self, *, top: bool = False) -> Lines:
        scope = self.scope
        scope.budget -= 0 if top else 1
        simple: list[tuple[int, Callable[[], Lines]]] = [
            (8, self.assign),
            (5, self.augment),
            (4, self.alias),
            (3, self.expression),
            (2, self.delete),
            (2, self.local_function),
            (3, self.task),
            (3, self.use_task),
            (2, self.held),
            (5, self.leave),
            (2, self.raising),
            (1, self.asserting),
        ]
        if scope.budget < 0:
            return self.weighted(simple[:4])()
        if top:
            simple = simple[:-3]
        compound: list[tuple[int, Callable[[], Lines]]] = [
            (4, self.choice),
            (3, self.while_loop),
            (4, self.for_loop),
            (8, self.trying),
            (3, self.matching),
            (1, self.trying_star),
            (2, self.timeout),
            (3, self.group),
            (2, self.waiting),
            (3, self.completed),
            (2, self.waiting_for),
            (4, self.managed),
            (4, self.suppressing),
        ]
        if top:
            return self.weighted(simple[4:] + compound + compound)() if self.chance(70) else self.weighted(simple[:4])()
        return self.weighted(simple + compound)()

    def assign(self) -> Lines:
        return self.one_of(
            lambda: [f"{self.variable()} = {self.number(3)}"],
            lambda: [f"{self.variable()} = {self.number(3)}"],
            lambda: [f"{self.variable()} = await act({self.number(2)})"],
            lambda: [f"{self.sequence_name()} = {self.sequence(2)}"],
            lambda: [f"{self.variable()} = {self.variable()} = {self.number(2)}"],
            lambda: [f"a, b = {self.number(2)}, {self.number(2)}"],
            lambda: [f"a, (b, *xs) = {self.number(2)}, {self.sequence(2)}"],
            lambda: [f"c, *ys = [{self.number(2)}, *{self.sequence(1)}]"],
            lambda: [f"self.x = {self.number(2)}"],
            lambda: [f"box.value = {self.number(2)}"],
            lambda: [f"{self.sequence(0)}[{self.index()}] = {self.number(2)}"],
            lambda: [f"d[{self.key()}] = {self.number(2)}"],
            lambda: [f"box.value, d[{self.key()}] = {self.number(2)}, {self.number(1)}"],
            lambda: [f"self.x: int = {self.number(2)}"],
            lambda: [f"b: int = {self.number(2)}"],
            lambda: [f"{self.sequence(0)}[{self.number(1)} % 2:] = {self.sequence(2)}"],
        )

    def augment(self) -> Lines:
        op = self.one(["+=", "-=", "+=", "*=", "|="])
        value = f"{self.number(2)} % 7" if op == "*=" else self.number(2)
        return self.one_of(
            lambda: [f"{self.variable()} {op} {value}"],
            lambda: [f"{self.variable()} += await act({self.number(2)})"],
            lambda: [f"self.x {op} {value}"],
            lambda: [f"box.value {op} {value}"],
            lambda: [f"{self.sequence(0)}[{self.index()}] {op} {value}"],
            lambda: [f"d[{self.key()}] {op} {value}"],
            lambda: [f"{self.sequence_name()} += [{self.number(2)}]"],
            lambda: [f"box.items += [{self.number(2)}]"],
            lambda: [f"self.items += [{self.number(2)}]"],
        )

    def alias(self) -> Lines:
        return self.one_of(
            lambda: ["xs = ys"],
            lambda: ["ys = xs"],
            lambda: ["self.items = xs"],
            lambda: ["xs = self.items"],
            lambda: ["box.items = ys"],
            lambda: ["d['k'] = xs", f"await act({self.number(1)})"],
            lambda: ["ys = box.items"],
            lambda: ["self.box = box", "box = self.box"],
            lambda: [f"{self.sequence_name()}.append({self.number(2)})"],
            lambda: [f"box.put({self.number(2)})"],
            lambda: [f"(xs, ys)[{self.number(0)} % 2].append({self.number(2)})"],
            lambda: ["xs = box.items = self.items"],
            lambda: [f"ys = await make('list', {self.number(1)}, {self.number(1)})"],
        )

    def expression(self) -> Lines:
        return self.one_of(
            lambda: [f"note({self.number(3)})"],
            lambda: [f"note({self.sequence(2)}, {self.number(2)})"],
            lambda: [f"note(a, {self.number(2)}, *{self.sequence(1)})"],
            lambda: [f"await asyncio.sleep({self.one(['0', '0', '1', '2'])})"],
            lambda: [f"await act({self.number(2)})"],
            lambda: [self.number(3)],
            lambda: ["note(a, b, c, xs, ys, d, box)"],
            lambda: [self.failing()],
        )

    def failing(self) -> str:
        kind = self.one(['"Oops"', '"Worse"', '"ValueError"', '"KeyError"'])
        return f"await fail({kind}, {self.number(1)})"

    def leave(self) -> Lines:
        if not self.scope.may_leave:
            return self.assign()
        ways = [f"return {self.number(2)}", "return", "return await act(c)", f"return [{self.number(1)}, xs]"]
        if self.scope.in_loop:
            ways = ["break", "continue"] * 4 + ways
        way = self.one(ways)
        return [f"if {self.test()}:", f"    {way}"] if self.chance(85) else [way]

    def raising(self) -> Lines:
        ways = [
            f"raise {self.error()}",
            f"raise {self.error()} from {self.error()}",
            f"raise {self.one(['Oops', 'ValueError'])}",
            f"raise {self.error()} from None",
            "xs[99]",
            "if err is not None:\n    raise err",
            self.failing(),
        ]
        if not self.scope.root:
            # What it becomes there is the coroutine's doing.
            ways += [f"raise StopIteration({self.number(0)})"] * 2
        if self.scope.handling:
            error = self.scope.handling[-1]
            ways += [
                "raise",
                "raise",
                f"raise {error}",
                f"raise {self.error()} from {error}",
                f"err = {error}",
                "raise",
            ]
        way = self.one(ways).split("\n")
        return [f"if {self.test()}:", *_indented(way)] if self.chance(75) else way

    def error(self) -> str:
        kind = self.one(["Oops", "Worse", "ValueError", "KeyError", "StopIteration"])
        return f"{kind}({self.number(1)})"

    def delete(self) -> Lines:
        return self.one_of(
            lambda: ["del a", f"await act({self.pick(3)})", *self.reading("a"), "a = 4"],
            lambda: [f"if {self.test()}:", "    del c", *self.expression(), *self.reading("c"), "c = 8"],
            lambda: [f"del {self.sequence(0)}[:1]"],
            lambda: self.reading("e"),
            lambda: [f"del d[{self.key()}]", 'd["k"] = 2'],
            lambda: [f"del xs[({self.number(1)}) % 3:]"],
            lambda: [f"if {self.test()}:", "    late = 1", "note(late)"],
        )

    def asserting(self) -> Lines:
        return [f"assert {self.test()}, {self.number(2)}"] if self.chance(60) else [f"assert {self.test()}"]

    def local_function(self) -> Lines:
        name = self.fresh("f")
        with self.native():
            body = self.number(2)
        return self.one_of(
            lambda: [f"def {name}(v, w=a):", f"    return v + w + {body}", f"b = {name}({self.index()})"],
            lambda: [f"def {name}(v):", "    nonlocal_free = v", f"    note({body})", f"note({name}(b))"],
            lambda: [
                f"def {name}():",
                "    nonlocal b",
                f"    b = {body}",
                "    return b",
                f"c = {name}() + {name}()",
                f"note(b, {self.number(1)})",
            ],
            lambda: [f"c = (lambda v, *w: v + len(w) + a)({self.number(2)}, {self.number(1)})"],
            lambda: [f"ys = sorted({self.sequence(1)}, key=lambda v: -v)"],
        )

    # --- compound statements

    def choice(self) -> Lines:
        out = [f"if {self.test()}:", *_indented(self.block(most=3))]
        if self.chance(30):
            out += [f"elif {self.test()}:", *_indented(self.block(most=2))]
        if self.chance(50):
            out += ["else:", *_indented(self.block(most=2))]
        return out

    def reading(self, name: str) -> Lines:
        """Read a name that may be unbound."""
        return ["try:", f"    note({name} is None)", "except NameError as unbound:", "    note(str(unbound))"]

    def while_loop(self) -> Lines:
        counter = self.fresh("k")
        test = f"{counter} < {1 + self.pick(3)}"
        test = self.one(
            [test, f"{test} and {self.test()}", f"{test} and {self.test()}", f"not {counter} >= {1 + self.pick(2)}"]
        )
        with self.looping():
            body = [*self.block(most=3), *self.jumping()]
        out = [f"{counter} = 0", f"while {test}:", f"    {counter} += 1", *_indented(body)]
        return out + self.loop_else()

    def jumping(self) -> Lines:
        """At the end of a loop's body: perhaps out of it, or on, perhaps through a `finally`."""
        test = self.one([self.test(1), f"{self.number(1)} != {self.pick(3)}"])
        jump = [f"if {test}:", f"    {self.one(['break', 'break', 'continue'])}"]
        return self.one_of(
            lambda: [],
            lambda: jump,
            lambda: ["try:", *_indented(jump), "finally:", f"    note('finally', {self.number(2)})"],
            lambda: [
                "try:",
                *_indented([*jump, f"note({self.number(1)})"]),
                "finally:",
                *_indented(self.block(most=1)),
            ],
        )

    def loop_else(self) -> Lines:
        return ["else:", "    note('else')", *_indented(self.block(most=2))] if self.chance(50) else []

    def for_loop(self) -> Lines:
        item = self.one(["i", "j", "a", "b"])
        head, first = self.one_of(
            lambda: (f"for {item} in range({self.number(1)} % 4):", []),
            lambda: (f"for {item} in xs:", ["if len(xs) > 9:", "    break"]),
            lambda: (f"for {item} in self.items:", ["if len(self.items) > 9:", "    break"]),
            lambda: (f"for {item} in {self.sequence(2)}[:4]:", []),
            lambda: (f"for {item}, c in enumerate({self.sequence(1)}[:3]):", []),
            lambda: (f"for {item}, c in zip({self.sequence(1)}[:3], {self.sequence(1)}):", []),
            lambda: (f"for {item} in reversed({self.sequence(0)}[:3]):", []),
            lambda: ("for key, i in d.items():", ["if len(d) > 6:", "    break", f"note(key, {self.number(1)})"]),
            lambda: ("for key in d:", ["if len(d) > 6:", "    break", f"note(key, {self.number(1)})"]),
            lambda: (f"for {item} in {{1, 2, {self.number(1)}}}:", []),
            lambda: (f"for {item} in sorted(await asyncio.gather(act(2), act(1))):", []),
            lambda: (f"for box.value in [{self.number(1)}, {self.number(1)}]:", []),
        )
        with self.looping():
            if item in ("i", "j"):
                self.extra.append(item)
            body = [*first, *self.block(most=3), *self.jumping()]
            if item in ("i", "j"):
                self.extra.pop()
        return [head, *_indented(body), *self.loop_else()]

    def trying(self) -> Lines:
        scope = self.scope
        out = ["try:", *_indented(self.block(most=3))]
        catching = self.chance(80)
        if catching:
            for _ in range(1 + self.pick(2)):
                kind = self.one(["Oops", "Worse", "ValueError", "(KeyError, TypeError)", "Exception", "Exception"])
                if self.chance(8):
                    kind = f"(await act(1) and {kind})"
                name = self.one(["e", "e", "x"])
                named = self.chance(65)
                out.append(f"except {kind} as {name}:" if named else f"except {kind}:")
                held = name if named else "err"
                scope.handling.append(held)
                body = self.block(most=2)
                if named and self.chance(60):
                    body.insert(self.one([0, len(body)]), f"note(seen({name}))")
                if named and self.chance(20):
                    body.append(f"err = {name}")
                scope.handling.pop()
                out += _indented(body)
            if self.chance(5):
                out += ["except:", *_indented(self.block(most=1))]
            if self.chance(30):
                out += ["else:", *_indented(self.block(most=2))]
        if not catching or self.chance(45):
            out += ["finally:", *_indented(self.block(most=2))]
        if self.chance(25):
            out += self.reading("e")
        return out

    def trying_star(self) -> Lines:
        scope = self.scope
        before, scope.may_leave = scope.may_leave, False
        loops, scope.in_loop = scope.in_loop, 0
        first = self.one(
            [
                f"raise ExceptionGroup('g', [{self.error()}, {self.error()}])",
                f"raise ExceptionGroup('g', [{self.error()}, ExceptionGroup('h', [{self.error()}, {self.error()}])])",
                f"raise {self.error()}",
                self.failing(),
            ]
        )
        out = ["try:", *_indented([*self.block(most=1), first])]
        for _ in range(1 + self.pick(2)):
            kind = self.one(["Oops", "Worse", "ValueError", "(KeyError, TypeError)", "Exception"])
            scope.handling.append("e")
            out += [f"except* {kind} as e:", *_indented(["note(seen(e))", *self.block(most=2)])]
            scope.handling.pop()
        scope.may_leave = before
        scope.in_loop = loops
        if self.chance(30):
            out += ["else:", *_indented(self.block(most=1))]
        if self.chance(30):
            out += ["finally:", *_indented(self.block(most=1))]
        return out

    def managed(self) -> Lines:
        """A plain context manager around what does not wait, and may leave by all ways."""
        with self.native():
            managers = [f"Managed({self.number(1)})" + self.one(["", f" as {self.variable()}"])]
            if self.chance(30):
                managers.append(f"Managed({self.number(0)})")
            body = [f"note({self.number(2)})"]
            ways = [f"raise {self.error()}", "xs[99]", f"note({self.number(1)})"]
            if self.scope.may_leave:
                ways += [f"return {self.number(1)}", "return"]
            if self.scope.in_loop:
                ways += ["break", "continue"] * 2
            for _ in range(1 + self.pick(2)):
                body += [f"if {self.test(1)}:", f"    {self.one(ways)}"]
        return [f"with {', '.join(managers)}:", *_indented(body), *self.expression()]

    def suppressing(self) -> Lines:
        kinds = self.one(["Oops", "Worse", "ValueError, Oops", "*(KeyError, TypeError)", "Exception", ""])
        more = self.one(["", "", ", suppress(KeyError)"])
        out = [f"with suppress({kinds}){more}:", *_indented(self.block(most=3))]
        return [*out, "note('after')"]

    def matching(self) -> Lines:
        subject = self.one([self.number(2), self.sequence(2), f"({self.number(1)}, {self.number(1)})", "d", "box"])
        out = [f"match {subject}:"]
        for _ in range(1 + self.pick(3)):
            pattern = self.one(
                ["0 | 1 | 2", "int(a)", "[a, *xs]", "[b, c]", '{"k": b, **more}', "Box(value=c)", "None", "int() as b"]
            )
            guard = f" if {self.test()}" if self.chance(45) else ""
            out += _indented([f"case {pattern}{guard}:", *_indented(self.block(most=2))])
        if self.chance(60):
            last = self.one(["_", "whole"])
            out += _indented([f"case {last}:", *_indented(self.block(most=1))])
        return out

    # --- concurrency

    def awaitable(self) -> str:
        """Something to start on its own."""
        ways = [
            f"act({self.number(1)})",
            f"act({self.number(1)})",
            f"asyncio.sleep({self.one(['0', '1', '2', '3'])}, {self.number(1)})",
            f'fail("Oops", {self.number(0)})',
            f"outside({self.number(1)}, r={self.number(0)})",
        ]
        if self.scope.helpers > 0:
            ways.append(f"self.rec({self.pick(3)})")
        if self.scope.helpers < 0:
            ways = ways[:4]
        for number in range(max(self.scope.helpers, 0)):
            ways += [f"self.h{number}({self.number(1)})"] * 2
        return self.one(ways)

    def held(self) -> Lines:
        """Functions that variables hold over an await."""
        name = self.fresh("f")
        ways = ["act"] if self.scope.helpers < 0 else ["act", "outside"]
        ways += [f"self.h{number}" for number in range(max(self.scope.helpers, 0))]
        one, other = self.one(ways), self.one(ways)
        return self.one_of(
            lambda: [
                f"{name} = {one}",
                f"await act({self.number(1)})",
                f"{self.variable()} = await {name}({self.number(1)})",
            ],
            lambda: [f"for {name} in ({one}, {other}):", f"    {self.variable()} = await {name}({self.number(1)})"],
            lambda: [
                f"{name} = {{'p': {one}, 'q': note}}",
                f"await act({self.number(1)})",
                f"{name}['q']({self.number(1)})",
                f"{self.variable()} = await {name}['p']({self.number(1)})",
            ],
        )

    def gather(self, depth: int) -> str:
        parts = [self.awaitable() for _ in range(self.pick(4))]
        if self.chance(20):
            parts.append(f"*[act(i) for i in {self.sequence(0)}]")
        if depth > 0 and self.chance(20):
            parts.append(self.gather(depth - 1))
        if self.chance(45):
            parts.append(f"return_exceptions={self.one(['True', 'True', 'False'])}")
        return f"asyncio.gather({', '.join(parts)})"

    def task(self) -> Lines:
        if self.scope.helpers < 0:
            return self.assign()
        name = self.fresh("t")
        self.scope.tasks.append(name)
        made = self.one_of(
            lambda: f"asyncio.create_task({self.awaitable()}, name='{name}')",
            lambda: f"asyncio.create_task({self.awaitable()}, name='{name}')",
            lambda: f"asyncio.ensure_future({self.awaitable()})",
            lambda: self.gather(1),
            lambda: f"asyncio.shield({self.awaitable()})",
        )
        return [f"{name} = {made}"]

    def use_task(self) -> Lines:
        if not self.scope.tasks:
            return self.task()
        name = self.one(self.scope.tasks)
        other = self.one(self.scope.tasks)
        return self.one_of(
            lambda: [f"note(await {name})"],
            lambda: [f"b = await {name}"],
            lambda: [f"{name}.cancel()", *(["await asyncio.sleep(0)"] if self.chance(50) else [])],
            lambda: [f"note({name}.done(), {name}.cancelled())"],
            lambda: [
                f"if {name}.done() and not {name}.cancelled() and not {name}.exception():",
                f"    note({name}.result())",
            ],
            lambda: [f"note(await asyncio.gather({name}, {other}, return_exceptions=True) is None)"],
            lambda: ["try:", f"    xs.append(await {name})", "except asyncio.CancelledError:", "    note('cancelled')"],
            lambda: [f"b = await asyncio.shield({name})"],
        )

    def timeout(self) -> Lines:
        with self.cancelled():
            body = self.block(most=3)
        out = [f"async with asyncio.timeout({self.one(['1.5', '0.5', '2.5', 'None', '0'])}):", *_indented(body)]
        if self.chance(60):
            out = ["try:", *_indented(out), "except TimeoutError as e:", "    note('late', seen(e))"]
        return out

    def group(self) -> Lines:
        if self.scope.helpers < 0:
            return self.assign()
        name = self.fresh("g")
        body: Lines = []
        tasks: list[str] = []
        for _ in range(1 + self.pick(3)):
            task = self.fresh("t")
            tasks.append(task)
            body.append(f"{task} = {name}.create_task({self.awaitable()}, name='{task}')")
        with self.cancelled():
            body += self.block(most=2)
        out = [f"async with asyncio.TaskGroup() as {name}:", *_indented(body)]
        after = [f"note({', '.join(f'{task}.done()' for task in tasks)})"]
        ending = self.pick(3)
        if ending == 0:
            out = ["try:", *_indented([*out, *after]), "except ExceptionGroup as e:", "    note(seen(e))"]
        elif ending == 1:
            out = ["try:", *_indented(out), "except* Oops as e:", "    note(seen(e))"]
        else:
            out += after
        return out

    def waiting(self) -> Lines:
        if self.scope.helpers < 0:
            return self.assign()
        names = [self.fresh("t") for _ in range(1 + self.pick(3))]
        out = [f"{name} = asyncio.create_task({self.awaitable()}, name='{name}')" for name in names]
        timeout = self.one(["", "", ", timeout=1.5", ", timeout=0.5"])
        when = self.one(["", ", return_when=asyncio.FIRST_COMPLETED", ", return_when=asyncio.FIRST_EXCEPTION"])
        out.append(f"done, later = await asyncio.wait([{', '.join(names)}]{timeout}{when})")
        out.append("note(sorted(t.get_name() for t in done), sorted(t.get_name() for t in later))")
        self.scope.tasks += names
        return out

    def completed(self) -> Lines:
        if self.scope.helpers < 0:
            return self.assign()
        name = self.fresh("one")
        body = ["try:", f"    note(await {name})", "except Exception as e:", "    note(seen(e))"]
        with self.looping():
            body += self.block(most=1)
        # Tasks made beforehand: `as_completed` starts coroutines in the order of a set.
        tasks = [self.fresh("t") for _ in range(1 + self.pick(3))]
        # Nothing is awaited until it asks for them, either: it asks those that have ended in that order as well.
        with self.native():
            out = [f"{task} = asyncio.create_task({self.awaitable()}, name='{task}')" for task in tasks]
        return [*out, f"for {name} in asyncio.as_completed([{', '.join(tasks)}]):", *_indented(body)]

    def waiting_for(self) -> Lines:
        if not self.scope.root or self.scope.guarded:
            return self.assign()
        what = self.one_of(
            self.awaitable, lambda: self.gather(1), lambda: f"asyncio.gather(asyncio.sleep(3), {self.awaitable()})"
        )
        line = f"c = await asyncio.wait_for({what}, {self.one(['1.265625', '0.765625', 'None'])})"
        return ["try:", f"    {line}", "except TimeoutError as e:", "    note('late', seen(e))"]

    # --- expressions

    def number(self, depth: int) -> str:
        """An expression that is a number if all goes well."""
        if depth <= 0 or self.chance(15):
            return self.atom()
        ways: list[tuple[int, Callable[[], str]]] = [
            (4, lambda: f"{self.number(depth - 1)} + {self.number(depth - 1)}"),
            (2, lambda: f"({self.number(depth - 1)} - {self.number(depth - 1)})"),
            (1, lambda: f"({self.number(depth - 1)}) * ({self.number(depth - 1)}) % 97"),
            (2, lambda: f"({self.test(depth - 1)})"),
            (2, lambda: f"({self.number(depth - 1)} if {self.test(depth - 1)} else {self.number(depth - 1)})"),
            (2, lambda: f"({self.number(depth - 1)} {self.one(['and', 'or'])} {self.number(depth - 1)})"),
            (1, lambda: f"-({self.number(depth - 1)})"),
            (2, lambda: f"note({self.number(depth - 1)})"),
            (2, lambda: f"len({self.sequence(depth - 1)})"),
            (2, lambda: f"({self.sequence(depth - 1)} or [4, 5])[{self.index(depth - 1)}]"),
            (1, lambda: f"sum({self.sequence(depth - 1)}, {self.number(depth - 1)})"),
            (1, lambda: f"max({self.number(depth - 1)}, *{self.sequence(depth - 1)}, {self.number(depth - 1)})"),
            (1, lambda: f"box.put({self.number(depth - 1)})"),
            (1, lambda: f"(box if {self.test(depth - 1)} else Box({self.number(depth - 1)})).value"),
            (1, lambda: f"{{{self.number(depth - 1)}: {self.number(depth - 1)}, 3: {self.number(depth - 1)}}}[3]"),
            (1, lambda: f"({self.number(depth - 1)}, {self.number(depth - 1)}, *{self.sequence(depth - 1)})[1]"),
            (1, lambda: f"len({{{self.number(depth - 1)}, {self.number(depth - 1)}}})"),
            (1, lambda: f"d.get({self.key()}, {self.number(depth - 1)})"),
            (1, lambda: f"dict(k={self.number(depth - 1)}, **{{'z': {self.number(depth - 1)}}})['z']"),
        ]
        if self.fstring:
            ways.append((2, lambda: self.formatted(depth - 1)))
        if self.walrus:
            ways.append((2, lambda: f"({self.variable()} := {self.number(depth - 1)})"))
            ways.append((3, lambda: self.rebinding(depth - 1)))
        if self.waits:
            ways += [
                (6, lambda: f"await act({self.number(depth - 1)})"),
                (2, lambda: f"(await act({self.number(depth - 1)}, k={self.number(depth - 1)}))[0]"),
                (
                    1,
                    lambda: (
                        f"(await act(*{self.sequence(depth - 1)}, {self.number(depth - 1)}, "
                        f"**{{'k': {self.number(0)}}}))[-1]['k']"
                    ),
                ),
                (1, lambda: f"await asyncio.sleep(0, {self.number(depth - 1)})"),
                (1, lambda: self.failing() if self.chance(30) else f"await act({self.number(0)})"),
                (1, lambda: f"(await {self.gather(1)} or [0])[0]"),
            ]
            if self.scope.helpers >= 0:
                ways.append(
                    (
                        2,
                        lambda: (
                            f"await outside({self.number(depth - 1)}, {self.number(0)}, r={self.number(depth - 1)})"
                        ),
                    )
                )
            if self.scope.helpers >= 0 and self.scope.name != "outside":
                ways += [
                    (1, lambda: f"(await self.fetch({self.number(depth - 1)})).value + {self.number(depth - 1)}"),
                    (
                        2,
                        lambda: (
                            f"((await self.fetch({self.number(0)})).value - "
                            f"(await self.fetch({self.number(depth - 1)})).value)"
                        ),
                    ),
                    (1, lambda: f"(await self.fetch({self.number(0)})).put({self.number(depth - 1)})"),
                    (1, lambda: f"self.chosen({self.number(depth - 1)}, await self.turn({self.number(depth - 1)}))"),
                ]
            if self.scope.helpers > 0:
                number = self.pick(self.scope.helpers)
                ways.append((3, lambda: f"await self.h{number}({self.number(depth - 1)}, q={self.number(depth - 1)})"))
                ways.append((1, lambda: f"await self.rec({self.pick(3)})"))
        return self.weighted(ways)()

    def rebinding(self, depth: int) -> str:
        """A name read before and after it is bound anew."""
        name = self.variable()
        return self.one(
            [f"{name} + ({name} := {self.number(depth)}) + {name}", f"sum([{name}, ({name} := {self.number(depth)})])"]
        )

    def formatted(self, depth: int) -> str:
        before, self.fstring = self.fstring, False
        parts = [f"{{({self.number(depth)})}}", f"{{({self.number(depth)})!r:>{{({self.number(0)}) % 5}}}}"]
        self.fstring = before
        return f"len(f'''{parts[0]}-{parts[1]}''')"

    def test(self, depth: int = 2) -> str:
        """An expression to be tested."""
        ops = ["<", ">", "==", "!=", "<=", ">="]
        left, right = self.number(depth - 1), self.number(depth - 1)
        ways = [
            lambda: f"({left}) {self.one(ops)} {right}",
            lambda: f"({left}) {self.one(ops)} ({right}) {self.one(ops)} {self.number(depth - 1)}",
            lambda: f"truth({left})",
            lambda: f"not ({left})",
            lambda: f"(({left}) > 1 {self.one(['and', 'or'])} ({right}) {self.one(ops)} 2)",
            lambda: f"({left}) in {self.sequence(depth - 1)}",
            lambda: f"({left}) % 2",
            lambda: f"({left}) % 2 == {self.pick(2)}",
        ]
        return f"({self.one(ways)()})"

    def sequence(self, depth: int) -> str:
        """An expression that is a list."""
        if depth <= 0:
            return self.one(["xs", "ys", "xs", "self.items", "box.items"])
        with self.naming() as name:
            over = self.comprehension_source(depth - 1)
            self.extra.append(name)
            each = self.number(depth - 1)
            test = f" if {self.test(depth - 1)}" if self.chance(40) else ""
            inner = self.one(["", "", f" for {name}2 in range(2)"])
            self.extra.pop()
        return self.one_of(
            lambda: self.sequence(0),
            lambda: f"[{self.number(depth - 1)}, {self.number(depth - 1)}]",
            lambda: f"[{each} for {name} in {over}{inner}{test}]",
            lambda: f"[{each} for {name} in {over}{test}]",
            lambda: f"list({{{name}: {each} for {name} in {over}}}.values())",
            lambda: f"sorted({{{each} for {name} in {over}{test}}})",
            lambda: f"({self.sequence(depth - 1)} + {self.sequence(depth - 1)})[:5]",
            lambda: f"{self.sequence(depth - 1)}[{self.number(depth - 1)} % 3 : {self.number(0)}]",
            lambda: f"[*{self.sequence(depth - 1)}, {self.number(depth - 1)}][:6]",
        )

    def comprehension_source(self, depth: int) -> str:
        before, self.walrus = self.walrus, False
        made = self.one([f"range({self.pick(4)})", f"{self.sequence(0)}[:3]", f"{self.sequence(depth)}[:3]"])
        self.walrus = before
        return made

    def atom(self) -> str:
        names = ["a", "b", "c", "a", "b", "self.x", "box.value", "len(xs)", "0", "1", "2", "5"]
        if self.scope.root:
            names.append("n")
        return self.one(names + self.extra * 3)

    def index(self, depth: int = 0) -> str:
        return self.one(["0", "-1", "0", "0", f"({self.number(depth)}) % 2"])

    def key(self) -> str:
        return self.one(['"k"', '"k"', '"k"', '"m"', 'note("k")'])

    def variable(self) -> str:
        return self.one([name for name in ("a", "b", "c") if name not in self.extra])

    def sequence_name(self) -> str:
        return self.one(["xs", "ys"])

    # --- choosing

    def one(self, options: Sequence[T]) -> T:
        return options[self.pick(len(options))]

    def one_of(self, *options: Callable[[], T]) -> T:
        return self.one(options)()

    def weighted(self, options: Sequence[tuple[int, T]]) -> T:
        left = self.pick(sum(weight for weight, _ in options))
        for weight, option in options:
            if left < weight:
                return option
            left -= weight
        raise AssertionError

    def chance(self, percent: int) -> bool:
        return self.pick(100) >= 100 - percent

    def fresh(self, stem: str) -> str:
        self.serial += 1
        return f"{stem}{self.serial}"

    # --- where things may stand

    @contextmanager
    def native(self) -> Any:
        """Inside a nested function."""
        before = self.waits, self.walrus
        self.waits = self.walrus = False
        yield
        self.waits, self.walrus = before

    @contextmanager
    def looping(self) -> Any:
        self.scope.in_loop += 1
        yield
        self.scope.in_loop -= 1

    @contextmanager
    def cancelled(self) -> Any:
        """Inside something that may cancel its body."""
        self.scope.guarded += 1
        yield
        self.scope.guarded -= 1

    @contextmanager
    def naming(self) -> Any:
        """A comprehension's own name, sometimes that of a variable."""
        before = self.walrus
        name = self.one(["i", "j", "v"])
        if name in self.extra:
            name = self.fresh("v")
        yield name
        self.walrus = before


def _indented(lines: Sequence[str]) -> Lines:
    return ["    " + line for line in lines]
