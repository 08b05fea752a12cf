"""Awaits deep in expressions, lifted out in evaluation order. What is evaluated before an await is put aside first."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Sequence
from typing import cast

from holdfast.compiler.blocks import Builder, Draft
from holdfast.compiler.diagnostics import refuse
from holdfast.compiler.pieces import at, load
from holdfast.compiler.syntax import put_off, rebinds, waits
from holdfast.ir.scopes import comprehension_targets, every_node


class Lifter:
    """Rewrites expressions until no await is left in them. `statement` lowers a synthetic statement (for loops)."""

    def __init__(
        self,
        build: Builder,
        *,
        file: str,
        variables: set[str],
        bound: set[str],
        shared: set[str],
        statement: Callable[[ast.stmt], None],
    ) -> None:
        self.build = build
        self.file = file
        self.variables = variables
        self.bound = bound
        """Variables that always have a value, so that reading one later is the same as reading it now."""
        self.shared = shared
        """Variables that nested functions may bind anew, whenever they are called."""
        self.statement = statement
        self.own: set[str] = set()
        """The collections that comprehensions fill, whose methods nobody changes."""

    def lift(self, node: ast.expr) -> ast.expr:  # noqa: RET503 - refuse() never returns
        """An expression with the same value and no await in it; what must happen before is emitted."""
        if not waits(node):
            return node
        match node:
            case ast.Await(value):
                return self._await(value, node)
            case ast.BoolOp(op, values):
                return self._short_circuit(op, values, node)
            case ast.IfExp(test, body, orelse):
                return self._choice(test, body, orelse, node)
            case ast.Compare() if len(node.ops) > 1:
                return self._chain(node)
            case ast.NamedExpr(target, value):
                lifted = self.lift(value)
                self.build.assign(target.id, lifted)
                return load(target.id, node)
            case ast.ListComp() | ast.SetComp() | ast.DictComp():
                return self._comprehension(node)
            case ast.GeneratorExp(elt, [first, *others]) if not any(map(waits, put_off(node))):
                # What it goes over first is evaluated where it stands; the rest waits until it is asked.
                over = ast.comprehension(first.target, self.lift(first.iter), first.ifs, 0)
                return at(ast.GeneratorExp(elt, [over, *others]), node)
            case ast.GeneratorExp():
                refuse(
                    node,
                    self.file,
                    code="HF012",
                    message="a generator expression holds an await",
                    hint="write a list comprehension: [… for … in …]",
                )
            case ast.JoinedStr(values):
                return self._fstring(values, node)
            case _:
                return self._operands(node)

    def into(self, node: ast.expr, target: str) -> None:
        """Emit `target = node`, waiting straight into the variable where the expression is one await."""
        if isinstance(node, ast.Await):
            self.build.wait(self.lift(node.value), target)
        else:
            self.build.assign(target, self.lift(node))

    def branch(self, test: ast.expr, yes: Draft, no: Draft) -> None:
        """End the block by the truth of `test`, asking each operand for its own once, as Python does."""
        if waits(test):
            match test:
                case ast.BoolOp(op, values):
                    for value in values[:-1]:
                        onward = self.build.block()
                        ways = (onward, no) if isinstance(op, ast.And) else (yes, onward)
                        self.branch(value, *ways)
                        self.build.start(onward)
                    self.branch(values[-1], yes, no)
                    return
                case ast.UnaryOp(ast.Not(), operand):
                    self.branch(operand, no, yes)
                    return
                case ast.IfExp(chosen, body, orelse):
                    first, second = self.build.block(), self.build.block()
                    self.branch(chosen, first, second)
                    for start, value in ((first, body), (second, orelse)):
                        self.build.start(start)
                        self.branch(value, yes, no)
                    return
                case ast.Compare() if len(test.ops) > 1:
                    self.build.branch(self._compared(test, no), yes, no)
                    return
                case _:
                    pass
        self.build.branch(self.lift(test), yes, no)

    def spill(self, node: ast.expr, later: Sequence[ast.expr]) -> ast.expr:
        """Evaluate `node` now, and return an expression that gives its value once `later` has been evaluated."""
        match node:
            case ast.Constant():
                return node
            case ast.Lambda(args, body):
                return at(ast.Lambda(self._with_defaults(args, later), body), node)
            case ast.Name(name) if name not in self.variables:
                return node
            case ast.Name(name) if name not in self.shared and not rebinds(list(later), name):
                if name not in self.bound:
                    # Reading an unbound name must fail here, before what comes later has had an effect.
                    self.build.emit(_statement(node))
                return node
            case ast.Attribute(value) if self._of_global(value):
                return node
            case ast.Starred(value):
                return at(ast.Starred(self._aside(at(ast.List([node], ast.Load()), node)), ast.Load()), value)
            case ast.Slice(lower, upper, step):
                parts = [part and self.spill(part, later) for part in (lower, upper, step)]
                return at(ast.Slice(*parts), node)
            case _:
                return self._aside(node)

    def _with_defaults(self, args: ast.arguments, later: Sequence[ast.expr]) -> ast.arguments:
        """Parameters whose defaults are evaluated now."""
        made = copy.copy(args)
        made.defaults = [self.spill(default, later) for default in args.defaults]
        made.kw_defaults = [default and self.spill(default, later) for default in args.kw_defaults]
        return made

    def lift_all(self, nodes: Sequence[ast.expr]) -> list[ast.expr]:
        """Lift several expressions that are evaluated one after the other."""
        last = max((i for i, node in enumerate(nodes) if waits(node)), default=-1)
        out: list[ast.expr] = []
        for i, node in enumerate(nodes):
            lifted = self.lift(node)
            out.append(self.spill(lifted, nodes[i + 1 :]) if i < last else lifted)
        return out

    def _of_global(self, node: ast.expr) -> bool:
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id not in self.variables and not self.build.is_temp(node.id)

    def _is_own(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self.own

    def _aside(self, node: ast.expr) -> ast.expr:
        name = self.build.temp()
        self.build.assign(name, node)
        return load(name, node)

    def _await(self, value: ast.expr, node: ast.expr) -> ast.expr:
        waited = self.lift(value)
        name = self.build.temp()
        self.build.wait(waited, name)
        return load(name, node)

    def _short_circuit(self, op: ast.boolop, values: list[ast.expr], node: ast.expr) -> ast.expr:
        name = self.build.temp()
        end = self.build.block()
        for value in values[:-1]:
            self.into(value, name)
            onward = self.build.block()
            test = load(name, value)
            if isinstance(op, ast.And):
                self.build.branch(test, onward, end)
            else:
                self.build.branch(test, end, onward)
            self.build.start(onward)
        self.into(values[-1], name)
        self.build.jump(end)
        self.build.start(end)
        return load(name, node)

    def _choice(self, test: ast.expr, body: ast.expr, orelse: ast.expr, node: ast.expr) -> ast.expr:
        name = self.build.temp()
        yes, no, end = self.build.block(), self.build.block(), self.build.block()
        self.branch(test, yes, no)
        for start, value in ((yes, body), (no, orelse)):
            self.build.start(start)
            self.into(value, name)
            self.build.jump(end)
        self.build.start(end)
        return load(name, node)

    def _chain(self, node: ast.Compare) -> ast.expr:
        """`a < b < c` evaluates b once, and c only if a < b."""
        name = self.build.temp()
        end = self.build.block()
        self.build.assign(name, self._compared(node, end, name))
        self.build.jump(end)
        self.build.start(end)
        return load(name, node)

    def _compared(self, node: ast.Compare, end: Draft, name: str | None = None) -> ast.expr:
        """The last comparison of several; before it, the first that is not true leads to `end`, as `name` if that is given."""
        operands = [node.left, *node.comparators]
        left = self.spill(self.lift(node.left), node.comparators[:1])
        for i, op in enumerate(node.ops[:-1]):
            right = self.spill(self.lift(operands[i + 1]), operands[i + 2 :])
            compared = at(ast.Compare(left, [op], [right]), node)
            if name is not None:
                self.build.assign(name, compared)
                compared = load(name, node)
            onward = self.build.block()
            self.build.branch(compared, onward, end)
            self.build.start(onward)
            left = right
        return at(ast.Compare(left, node.ops[-1:], [self.lift(operands[-1])]), node)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> ast.expr:
        """A loop that fills a new collection; the comprehension's own names get names of the compiler's."""
        first = node.generators[0]
        iterated = self.lift(first.iter)
        own = {name: f"{self.build.temp()}_{name}" for name in sorted(comprehension_targets(node))}
        self.variables.update(own.values())
        renamed = cast("ast.ListComp | ast.SetComp | ast.DictComp", _Rename(own).generic_visit(copy.deepcopy(node)))
        renamed.generators[0].iter = iterated
        result = self.build.temp()
        self.variables.add(result)
        self.own.add(result)
        empty = ast.Dict([], []) if isinstance(node, ast.DictComp) else ast.List([], ast.Load())
        if isinstance(node, ast.SetComp):
            empty = ast.Call(ast.Name("_hf_set", ast.Load()), [], [])
        self.build.assign(result, at(empty, node))
        body: list[ast.stmt] = self._fill(renamed, result)
        for generator in reversed(renamed.generators):
            for test in reversed(generator.ifs):
                body = [ast.If(test, body, [])]
            loop = ast.AsyncFor if generator.is_async else ast.For
            body = [loop(generator.target, generator.iter, body, [])]
        for stmt in body:
            self.statement(at(stmt, node))
        return load(result, node)

    def _fill(self, node: ast.ListComp | ast.SetComp | ast.DictComp, result: str) -> list[ast.stmt]:
        collection = ast.Name(result, ast.Load())
        if isinstance(node, ast.DictComp):
            key = self.build.temp()
            self.variables.add(key)
            slot = ast.Subscript(collection, ast.Name(key, ast.Load()), ast.Store())
            # The key is evaluated before the value, which a plain assignment would turn around.
            return [ast.Assign([ast.Name(key, ast.Store())], node.key), ast.Assign([slot], node.value)]
        verb = "add" if isinstance(node, ast.SetComp) else "append"
        return [ast.Expr(ast.Call(ast.Attribute(collection, verb, ast.Load()), [node.elt], []))]

    def _fstring(self, values: list[ast.expr], node: ast.expr) -> ast.expr:
        """Each part is formatted before the next one is evaluated."""
        last = max(i for i, value in enumerate(values) if waits(value))
        parts: list[ast.expr] = []
        for i, value in enumerate(values):
            if isinstance(value, ast.FormattedValue):
                inner, spec = value.value, value.format_spec
                if spec is not None and waits(spec):
                    shown = self.spill(self.lift(inner), [spec])
                    spec = self._fstring(cast("ast.JoinedStr", spec).values, spec)
                else:
                    shown = self.lift(inner)
                value = at(ast.FormattedValue(shown, value.conversion, spec), node)
                if i < last:
                    text = self._aside(at(ast.JoinedStr([value]), node))
                    value = at(ast.FormattedValue(text, -1, None), node)
            parts.append(value)
        return at(ast.JoinedStr(parts), node)

    def _operands(self, node: ast.expr) -> ast.expr:  # noqa: RET503 - refuse() never returns
        """All other expressions: their operands in Python's order, then the node over what is left of them."""
        match node:
            case ast.BinOp(left, op, right):
                left, right = self.lift_all([left, right])
                return at(ast.BinOp(left, op, right), node)
            case ast.UnaryOp(op, operand):
                return at(ast.UnaryOp(op, self.lift(operand)), node)
            case ast.Compare(left, ops, comparators):
                left, *rest = self.lift_all([left, *comparators])
                return at(ast.Compare(left, ops, rest), node)
            case ast.Call():
                return self._call(node)
            case ast.Tuple(elts, context):
                return at(ast.Tuple(self.lift_all(elts), context), node)
            case ast.List(elts, context):
                return at(ast.List(self.lift_all(elts), context), node)
            case ast.Set(elts):
                return self._set(elts, node)
            case ast.Dict():
                return self._dict(node)
            case ast.Subscript(value, index, context):
                value, index = self.lift_all([value, index])
                return at(ast.Subscript(value, index, context), node)
            case ast.Slice(lower, upper, step):
                lifted = iter(self.lift_all([part for part in (lower, upper, step) if part]))
                return at(ast.Slice(*[part and next(lifted) for part in (lower, upper, step)]), node)
            case ast.Attribute(value, attr, context):
                return at(ast.Attribute(self.lift(value), attr, context), node)
            case ast.Starred(value, context):
                return at(ast.Starred(self.lift(value), context), node)
            case _:
                refuse(
                    node,
                    self.file,
                    code="HF022",
                    message=f"an await inside this expression ({type(node).__name__}) is not supported",
                    hint="await into a variable of its own first",
                )

    def _set(self, elts: list[ast.expr], node: ast.expr) -> ast.expr:
        """From its first starred element on, a set takes each as soon as it is evaluated, and refuses what cannot be hashed."""
        first = next((i for i, each in enumerate(elts) if isinstance(each, ast.Starred)), len(elts))
        last = max(i for i, each in enumerate(elts) if waits(each))
        if first >= last:
            return at(ast.Set(self.lift_all(elts)), node)
        result = self.build.temp()
        before = self.lift_all(elts[:first])
        empty = ast.Call(ast.Name("_hf_set", ast.Load()), [], [])
        self.build.assign(result, at(ast.Set(before) if before else empty, node))
        for each in elts[first:]:
            verb, value = ("update", each.value) if isinstance(each, ast.Starred) else ("add", each)
            taking = ast.Attribute(load(result, each), verb, ast.Load())
            self.build.emit(at(ast.Expr(ast.Call(taking, [self.lift(value)], [])), each))
        return load(result, node)

    def _call(self, node: ast.Call) -> ast.expr:
        func = node.func
        arguments: list[ast.expr] = [*node.args, *(at(_Keyword(k), k.value) for k in node.keywords)]
        if isinstance(func, ast.Attribute):
            arguments_wait = any(waits(a) for a in arguments)
            owner = self.lift(func.value)
            func = at(ast.Attribute(owner, func.attr, ast.Load()), func)
            if arguments_wait:
                func.value = self.spill(owner, arguments)
                if not self._of_global(func) and not self._is_own(func.value):
                    func = self._looked_up(func)
        elif any(waits(a) for a in arguments):
            func = self.spill(self.lift(func), arguments)
        else:
            func = self.lift(func)
        lifted = self._lift_arguments(arguments)
        positional = [a for a in lifted if not isinstance(a, _Keyword)]
        keywords = [a.keyword for a in lifted if isinstance(a, _Keyword)]
        return at(ast.Call(func, positional, keywords), node)

    def _looked_up(self, func: ast.Attribute) -> ast.expr:
        """A method that is looked up now, for a call after the awaits of its arguments.

        Most bound methods cannot be kept. These are looked up again for the call; anything else is kept.
        """
        name = self.build.temp()
        parts = [func, func.value, ast.Constant(func.attr)]
        self.build.assign(name, at(ast.Call(ast.Name("_hf_look", ast.Load()), copy.deepcopy(parts), []), func))
        kept = ast.Call(ast.Name("_hf_looked", ast.Load()), [load(name, func)], [])
        gone = ast.Compare(load(name, func), [ast.Is()], [ast.Constant(None)])
        return at(ast.IfExp(gone, func, kept), func)

    def _lift_arguments(self, arguments: list[ast.expr]) -> list[ast.expr]:
        values = [a.keyword.value if isinstance(a, _Keyword) else a for a in arguments]
        last = max((i for i, value in enumerate(values) if waits(value)), default=-1)
        # A starred argument that is the only one by place is gone through when the call is made, others where they stand.
        late = sum(not isinstance(argument, _Keyword) for argument in arguments) == 1
        out: list[ast.expr] = []
        for i, (argument, value) in enumerate(zip(arguments, values, strict=True)):
            lifted = self.lift(value)
            if i < last and late and isinstance(lifted, ast.Starred) and isinstance(lifted.value, _STANDING):
                lifted = at(ast.Starred(self.spill(lifted.value, values[i + 1 :]), ast.Load()), value)
            elif i < last:
                if isinstance(argument, _Keyword) and argument.keyword.arg is None:
                    lifted = at(ast.Dict([None], [lifted]), value)
                lifted = self.spill(lifted, values[i + 1 :])
            if isinstance(argument, _Keyword):
                lifted = at(_Keyword(ast.keyword(argument.keyword.arg, lifted)), value)
            out.append(lifted)
        return out

    def _dict(self, node: ast.Dict) -> ast.expr:
        flat: list[ast.expr] = []
        for key, value in zip(node.keys, node.values, strict=True):
            flat += [value] if key is None else [key, value]
        merged = [value for key, value in zip(node.keys, node.values, strict=True) if key is None]
        last = max(i for i, part in enumerate(flat) if waits(part))
        lifted: list[ast.expr] = []
        for i, part in enumerate(flat):
            done = self.lift(part)
            if i < last:
                if any(part is value for value in merged):
                    done = at(ast.Dict([None], [done]), part)
                done = self.spill(done, flat[i + 1 :])
            lifted.append(done)
        parts = iter(lifted)
        keys: list[ast.expr | None] = []
        values: list[ast.expr] = []
        for key in node.keys:
            keys.append(None if key is None else next(parts))
            values.append(next(parts))
        return at(ast.Dict(keys, values), node)


_STANDING = (ast.Name, ast.Attribute, ast.Subscript)
"""Expressions of what others may hold, and change meanwhile."""


class _Keyword(ast.expr):
    """A keyword argument in a list of expressions, so that all arguments are lifted in one order."""

    _fields = ("value",)

    def __init__(self, keyword: ast.keyword) -> None:
        super().__init__()
        self.keyword = keyword
        self.value = keyword.value


class _Rename(ast.NodeTransformer):
    """Renames a comprehension's own variables, also in functions and comprehensions nested in it."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        own = {a.arg for a in every_node(node.args) if isinstance(a, ast.arg)}
        inner = _Rename({old: new for old, new in self.names.items() if old not in own})
        node.body = cast("ast.expr", inner.visit(node.body))
        node.args.defaults = [cast("ast.expr", self.visit(d)) for d in node.args.defaults]
        node.args.kw_defaults = [d and cast("ast.expr", self.visit(d)) for d in node.args.kw_defaults]
        return node

    def _nested(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        own = comprehension_targets(node)
        if not own & self.names.keys():
            return self.generic_visit(node)
        node.generators[0].iter = cast("ast.expr", self.visit(node.generators[0].iter))
        first = node.generators[0].iter
        inner = _Rename({old: new for old, new in self.names.items() if old not in own})
        node.generators[0].iter = ast.Constant(None)
        inner.generic_visit(node)
        node.generators[0].iter = first
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _nested

    def visit(self, node: ast.AST) -> ast.AST:
        return super().visit(node)


def _statement(node: ast.expr) -> ast.stmt:
    return at(ast.Expr(copy.deepcopy(node)), node)
