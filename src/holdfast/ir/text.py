"""The program's text form: what is stored, hashed, signed and read by people. `parse(render(p)) == p`, always."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import orjson

from holdfast.errors import ProgramError
from holdfast.ids import ProgramHash
from holdfast.ir.program import (
    Await,
    Block,
    Branch,
    Function,
    Jump,
    Native,
    Next,
    Program,
    Raise,
    Ref,
    Return,
    Terminator,
)

FORMAT = "holdfast program 1"


def program_hash(text: str) -> ProgramHash:
    """The name under which a program's text is stored."""
    return ProgramHash(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40])


def render(program: Program) -> str:
    """The program as text."""
    out = [FORMAT, f"workflow {program.name}", f"class {program.cls}", f"entry {program.entry}"]
    out += [f"module {name}" for name in program.modules]
    out += [f"method {attr} = {name}" for attr, name in sorted(program.methods.items())]
    out += [f"static {attr}" for attr in program.statics]
    for space in sorted(program.refs.keys() | program.consts.keys()):
        out.append(f"names {space}")
        for name, ref in sorted(program.refs.get(space, {}).items()):
            out.append(f"  ref {name} = {ref.kind} {ref.target}")
        for name, tree in sorted(program.consts.get(space, {}).items()):
            out.append(f"  const {name} = {orjson.dumps(tree, option=orjson.OPT_SORT_KEYS).decode()}")
    for _, function in sorted(program.functions.items()):
        out += _function(function)
    return "\n".join(out) + "\n"


def _function(function: Function) -> Iterator[str]:
    yield f"def {function.name}({function.params})"
    yield f"  at {function.file}:{function.line} as {function.title} in {function.space}"
    yield f"  var {' '.join(function.variables)}"
    for index, block in enumerate(function.blocks):
        notes = ""
        if block.catches:
            notes += f" catches {block.catches}"
        if block.handler is not None:
            notes += f" on-error b{block.handler}"
        if block.context:
            notes += f" handling {block.context}"
        yield f"  b{index}:{notes}"
        for native in block.code:
            yield from _native("do", native)
        yield from _end(block.end)


def _native(word: str, native: Native) -> Iterator[str]:
    first, *rest = native.source.split("\n")
    yield f"    {word} @{','.join(map(str, native.lines))} | {first}"
    for line in rest:
        yield f"      | {line}"


def _end(end: Terminator) -> Iterator[str]:
    match end:
        case Jump(to):
            yield f"    jump b{to}"
        case Branch(test, then, orelse):
            yield from _native("if", test)
            yield f"    then b{then} else b{orelse}"
        case Next(iterator, into, body, done, line):
            yield f"    next @{line} {iterator} into {into} then b{body} done b{done}"
        case Await(value, into, to, keep):
            yield from _native("await", value)
            yield f"    into {into or '-'} then b{to} keep {' '.join(keep)}".rstrip()
        case Return(value):
            if value is None:
                yield "    return"
            else:
                yield from _native("return", value)
        case Raise(error):
            yield f"    raise {error}"


_NATIVE = re.compile(r"    (do|if|await|return) @([\d,]+) \| (.*)", re.DOTALL)
_BLOCK = re.compile(r"  b(\d+):(?: catches (\S+))?(?: on-error b(\d+))?(?: handling (\S+))?")
_DEF = re.compile(r"def (\S+?)\((.*)\)")
_AT = re.compile(r"  at (.*):(\d+) as (\S+) in (\S+)")


def parse(text: str) -> Program:
    """The program of a text. Raises ProgramError where the text is not one."""
    try:
        return _Parser(text).program()
    except (IndexError, ValueError, AttributeError, TypeError) as error:
        raise ProgramError("the stored program is damaged: its text does not parse") from error


class _Parser:
    def __init__(self, text: str) -> None:
        self.lines = text.removesuffix("\n").split("\n")
        self.at = 0

    def program(self) -> Program:
        if self.lines[0] != FORMAT:
            raise ProgramError(f"the stored program has another format than {FORMAT!r}: {self.lines[0][:40]!r}")
        self.at = 1
        name = self._after("workflow ")
        cls = self._after("class ")
        entry = self._after("entry ")
        modules: list[str] = []
        while self._starts("module "):
            modules.append(self._after("module "))
        methods: dict[str, str] = {}
        while self._starts("method "):
            attr, function_name = self._after("method ").split(" = ", 1)
            methods[attr] = function_name
        statics: list[str] = []
        while self._starts("static "):
            statics.append(self._after("static "))
        refs: dict[str, dict[str, Ref]] = {}
        consts: dict[str, dict[str, object]] = {}
        while self._starts("names "):
            space = self._after("names ")
            while self._starts("  ref "):
                ref, kind, target = re.fullmatch(r"(\S+) = (\S+) (.*)", self._after("  ref ")).groups()  # type: ignore[union-attr]
                refs.setdefault(space, {})[ref] = Ref(kind, target)
            while self._starts("  const "):
                const, tree = self._after("  const ").split(" = ", 1)
                consts.setdefault(space, {})[const] = orjson.loads(tree)
        functions: dict[str, Function] = {}
        while self.at < len(self.lines):
            function = self._function()
            functions[function.name] = function
        return Program(
            name=name,
            cls=cls,
            functions=functions,
            refs=refs,
            consts=consts,
            entry=entry,
            methods=methods,
            statics=tuple(statics),
            modules=tuple(modules),
        )

    def _function(self) -> Function:
        name, params = _DEF.fullmatch(self._take()).groups()  # type: ignore[union-attr]
        file, line, title, space = _AT.fullmatch(self._take()).groups()  # type: ignore[union-attr]
        variables = tuple(self._after("  var").split())
        blocks: list[Block] = []
        while self._starts("  b"):
            blocks.append(self._block(len(blocks)))
        return Function(name, title, space, params, file, int(line), variables, tuple(blocks))

    def _block(self, index: int) -> Block:
        number, catches, handler, context = _BLOCK.fullmatch(self._take()).groups()  # type: ignore[union-attr]
        if int(number) != index:
            raise ProgramError("the stored program is damaged: its blocks are out of order")
        code: list[Native] = []
        while self._starts("    do "):
            code.append(self._native())
        end = self._end()
        return Block(tuple(code), end, None if handler is None else int(handler), catches, context)

    def _end(self) -> Terminator:
        line = self.lines[self.at]
        word = line.split()[0]
        if word == "jump":
            self.at += 1
            return Jump(int(line.split()[1][1:]))
        if word == "if":
            test = self._native()
            _, then, _, orelse = self._take().split()
            return Branch(test, int(then[1:]), int(orelse[1:]))
        if word == "next":
            self.at += 1
            _, at, iterator, _, into, _, body, _, done = line.split()
            return Next(iterator, into, int(body[1:]), int(done[1:]), int(at[1:]))
        if word == "await":
            value = self._native()
            _, into, _, to, _, *keep = self._take().split()
            return Await(value, None if into == "-" else into, int(to[1:]), tuple(keep))
        if word == "return":
            if line == "    return":
                self.at += 1
                return Return(None)
            return Return(self._native())
        if word == "raise":
            self.at += 1
            return Raise(line.split()[1])
        raise ProgramError(f"the stored program is damaged: unknown terminator {word!r}")

    def _native(self) -> Native:
        _, lines, first = _NATIVE.fullmatch(self._take()).groups()  # type: ignore[union-attr]
        source = [first]
        while self._starts("      | "):
            source.append(self._take()[8:])
        return Native("\n".join(source), tuple(map(int, lines.split(","))))

    def _starts(self, prefix: str) -> bool:
        return self.at < len(self.lines) and self.lines[self.at].startswith(prefix)

    def _after(self, prefix: str) -> str:
        line = self._take()
        if not line.startswith(prefix):
            raise ProgramError(f"the stored program is damaged: expected {prefix.strip()!r}, found {line[:40]!r}")
        return line[len(prefix) :]

    def _take(self) -> str:
        line = self.lines[self.at]
        self.at += 1
        return line
