"""The entry function of a decorated `run`: takes what the caller gave by name, and calls the wrapper as Python would."""

from __future__ import annotations

import inspect
from types import FunctionType

from holdfast.ir.program import Await, Block, Function, Native, Return

CALLED = "_hfm_run"
"""What the entry function calls the wrapper."""

_RESULT = "_hf1"


def calling(signature: inspect.Signature, *, function: FunctionType, name: str) -> Function:
    """A function of these parameters that passes all of them on, at the place of `function`."""
    parameters = list(signature.parameters.values())
    bare = [each.replace(annotation=each.empty, default=each.empty) for each in parameters]
    line = function.__code__.co_firstlineno
    call = Native(f"{CALLED}({', '.join(map(_passed, parameters))})", (line,))
    return Function(
        name=name,
        title=function.__qualname__,
        space=name,
        params=str(inspect.Signature(bare))[1:-1],
        file=function.__code__.co_filename,
        line=line,
        variables=tuple(sorted([_RESULT, *signature.parameters])),
        blocks=(
            Block((), Await(call, _RESULT, 1)),
            Block((), Return(Native(_RESULT, (line,)))),
        ),
    )


def _passed(parameter: inspect.Parameter) -> str:
    match parameter.kind:
        case inspect.Parameter.KEYWORD_ONLY:
            return f"{parameter.name}={parameter.name}"
        case inspect.Parameter.VAR_POSITIONAL:
            return f"*{parameter.name}"
        case inspect.Parameter.VAR_KEYWORD:
            return f"**{parameter.name}"
        case _:
            return parameter.name
