"""Refusals: what is wrong, where, why, and how to write it instead. Only describes; the other compiler files decide."""

from __future__ import annotations

import ast
import linecache
from dataclasses import dataclass
from typing import NoReturn

from holdfast.errors import CompileError

REASONS: dict[str, str] = {
    "HF001": "The source of a workflow function cannot be read.",
    "HF002": "A name is not defined anywhere.",
    "HF003": "A generator cannot be saved between two steps.",
    "HF004": "Something is awaited that is neither an action nor another durable call.",
    "HF005": "A blocking call in workflow code would stop every workflow of the worker.",
    "HF006": "A plain `with` block holds an await, but an open context manager cannot be saved.",
    "HF007": "`async with` over something that cannot be saved.",
    "HF008": "`async for` over something that cannot be saved.",
    "HF009": "A nested async function or class cannot be saved.",
    "HF010": "Workflow code changes something global, which no other worker would see.",
    "HF011": "A nested function or lambda is still needed after an await, but cannot be saved.",
    "HF012": "A generator expression, or what else gives its items one by one, holds an await or is needed after one.",
    "HF013": "Double-underscore attributes reach behind the program's declared names.",
    "HF014": "Names that begin with `_hf` are reserved.",
    "HF015": "An import inside workflow code would run at an unknown time on an unknown worker.",
    "HF017": "This part of asyncio has no durable counterpart.",
    "HF018": "This builtin reaches outside the program or inspects its frame.",
    "HF019": "A default value cannot be captured.",
    "HF020": "The workflow class is not shaped as a workflow.",
    "HF021": "`super()` stands in a compiled function for more than the call of a method.",
    "HF022": "This syntax is not supported in workflow code.",
    "HF023": "A global name holds something that can be neither captured by value nor imported by name.",
    "HF024": "A call that must be awaited is made, and never awaited.",
}
"""What each code means; `docs/reference/refusals.md` explains each at length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One refusal. `column` counts from 1."""

    code: str
    message: str
    file: str
    line: int
    column: int
    hint: str
    width: int = 1

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.line).rstrip("\n")
        out = [f"{self.file}:{self.line}:{self.column}: {self.code} {self.message}"]
        if text:
            stripped = text.lstrip()
            caret = max(self.column - 1 - (len(text) - len(stripped)), 0)
            width = max(1, min(self.width, len(stripped) - caret))
            out += [f"    {stripped}", f"    {' ' * caret}{'^' * width}"]
        out += [f"  why: {REASONS[self.code]}", f"  instead: {self.hint}"]
        return "\n".join(out)


class Refused(Exception):
    """Stops the lowering of one statement; carries its problem to the collector."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Problems:
    """Collects refusals, so that a person sees all of them at once."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, problem: Problem) -> None:
        """Remember one, once for each place and code."""
        place = (problem.code, problem.file, problem.line, problem.column)
        if all((p.code, p.file, p.line, p.column) != place for p in self.found):
            self.found.append(problem)

    def raise_if_any(self, subject: str) -> None:
        """Raise one CompileError that shows them all."""
        if self.found:
            raise compile_error(subject, self.found)


def compile_error(subject: str, problems: list[Problem]) -> CompileError:
    """The error that shows these problems of `subject`."""
    ordered = sorted(problems, key=lambda p: (p.file, p.line, p.column))
    count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
    shown = "\n\n".join(str(problem) for problem in ordered)
    error = CompileError(f"{subject} cannot be made durable ({count}):\n\n{shown}")
    error.problems = tuple(ordered)
    return error


def refuse(node: ast.AST, file: str, *, code: str, message: str, hint: str) -> NoReturn:
    """Refuse `node`."""
    raise Refused(problem_at(node, file, code=code, message=message, hint=hint))


def problem_at(node: ast.AST, file: str, *, code: str, message: str, hint: str) -> Problem:
    """A problem at the place of `node`."""
    line = getattr(node, "lineno", 1)
    column = getattr(node, "col_offset", 0)
    end_line, end_column = getattr(node, "end_lineno", line), getattr(node, "end_col_offset", None)
    width = end_column - column if end_line == line and end_column is not None else 80
    return Problem(code=code, message=message, file=file, line=line, column=column + 1, hint=hint, width=width)


INSTEAD_OF_LOCK = "do what it guards in one @action, and lock there; workflows run on many workers, which share no lock"


def instead_of_closed(value: object) -> str:
    """What to write for an object that is closed to workflow code."""
    if not isinstance(value, type) and hasattr(value, "acquire") and hasattr(value, "release"):
        return INSTEAD_OF_LOCK
    return "use it in an @action, and await that"
