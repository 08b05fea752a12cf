"""What a program calls before anything else, read from its text alone. Runs and links nothing."""

from __future__ import annotations

import ast

from holdfast.ir.program import Await, Program


def first_action(program: Program) -> str | None:
    """The name of the action that it begins with; None where that cannot be told without running it."""
    entry = program.functions[program.entry]
    first = entry.blocks[0]
    if first.code or not isinstance(first.end, Await):
        return None
    try:
        tree = ast.parse(first.end.value.source, mode="eval").body
    except SyntaxError:
        return None
    match tree:
        case ast.Call(ast.Name(called), args, keywords):
            values = [*args, *(keyword.value for keyword in keywords)]
            ref = program.refs.get(entry.space, {}).get(called)
            plain = all(isinstance(value, ast.Name | ast.Constant) for value in values)
            return ref.target if ref is not None and ref.kind == "action" and plain else None
        case _:
            return None
