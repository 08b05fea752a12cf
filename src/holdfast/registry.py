"""What names mean in this process: refs of programs to live objects, stored programs to runnable ones."""

from __future__ import annotations

import functools
import hashlib
import hmac
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from holdfast.codec.names import bases_of, look_up
from holdfast.compiler.objects import is_private, object_of, open_module
from holdfast.engine import KIT, DurableAsyncio, LinkedProgram, durable_asyncio, link
from holdfast.errors import CompileError, DecodeError, ProgramError
from holdfast.ids import ProgramHash
from holdfast.ir.program import Program, Ref
from holdfast.ir.rules import closed, is_closed
from holdfast.ir.text import parse, program_hash
from holdfast.model.instance import StoredProgram
from holdfast.reach import Reach, check_reach, is_compiled_here
from holdfast.task import ACTIONS
from holdfast.workflow import WORKFLOWS, Definition, Workflow, definition_of, durable_class


class Registry:
    """Links programs once, and keeps them. `signing_key` makes programs and their signatures inseparable."""

    def __init__(self, *, signing_key: str | None = None) -> None:
        self.signing_key = signing_key
        self._linked: dict[ProgramHash, LinkedProgram] = {}

    def stored(self, definition: Definition[Any]) -> StoredProgram:
        """A compiled workflow as it goes into the store."""
        return StoredProgram(
            hash=definition.hash,
            name=definition.program.name,
            text=definition.text,
            signature=self._signature(definition.text),
        )

    def get(self, hash: ProgramHash) -> LinkedProgram | None:
        """A program linked before."""
        return self._linked.get(hash)

    def is_current(self, name: str, hash: ProgramHash) -> bool:
        """Whether this program is that of the workflow class of this name in the running code."""
        cls = WORKFLOWS.get(name)
        try:
            return cls is not None and definition_of(cls).hash == hash
        except CompileError:
            # The running code is no program; what was stored before it goes on.
            return False

    def link(self, stored: StoredProgram) -> LinkedProgram:
        """Make a stored program runnable. Raises ProgramError if it is not what was compiled, or cannot run here."""
        found = self._linked.get(stored.hash)
        if found is None:
            program = self.read(stored)
            reach: Reach | None = None
            if self.signing_key is None and not is_compiled_here(program, hash=stored.hash):
                reach = Reach(object_of)
                check_reach(program, reach)
            for module in program.modules:
                open_module(module)

            def durable(methods: dict[str, Callable[..., Any]]) -> type:
                return durable_class(_workflow_class(program.cls), methods)

            meaning = functools.partial(resolve, reach=reach)
            linked = link(program, resolve=meaning, cls=durable, kit=KIT, guarded=reach is not None)
            found = self._linked[stored.hash] = linked
        return found

    def read(self, stored: StoredProgram) -> Program:
        """A stored program as data. Raises ProgramError if it is not what was compiled, or not signed with the key."""
        self._verify(stored)
        return parse(stored.text)

    def _verify(self, stored: StoredProgram) -> None:
        if program_hash(stored.text) != stored.hash:
            raise ProgramError(f"program {stored.name} was changed after it was stored: its hash does not fit its text")
        if self.signing_key is not None and not hmac.compare_digest(stored.signature, self._signature(stored.text)):
            raise ProgramError(
                f"program {stored.name} is not signed with this HOLDFAST_SIGNING_KEY; start it anew from a process that "
                "has the key, or give this worker the key it was signed with"
            )

    def _signature(self, text: str) -> str:
        if self.signing_key is None:
            return ""
        return hmac.new(self.signing_key.encode(), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


class ModuleView:
    """A module as workflow code sees it: its open names, and no way through it to other modules.

    With a `reach`, only what that vouches for.
    """

    def __init__(self, module: ModuleType, reach: Reach | None = None) -> None:
        self.__dict__["_hf_module"] = module
        self.__dict__["_hf_reach"] = reach

    def __getattr__(self, name: str) -> Any:
        module: ModuleType = self.__dict__["_hf_module"]
        value = getattr(module, name)
        dotted = f"{module.__name__}.{name}"
        if name.startswith("__") or is_private(module.__name__, name) or closed(dotted) or is_closed(value):
            raise AttributeError(f"{dotted} is closed to workflow code; use it in an @action")
        reach: Reach | None = self.__dict__["_hf_reach"]
        if reach is not None and not reach.vouches_attribute(module.__name__, name):
            raise AttributeError(f"nothing here vouches for {dotted}; import it in a module of yours")
        if isinstance(value, ModuleType):
            inside = value.__name__.startswith(module.__name__ + ".") or sys.modules.get(dotted) is value
            if not inside:
                raise AttributeError(f"{dotted} leads to another module; import {value.__name__} by its own name")
            value = ModuleView(value, reach)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        module: ModuleType = self.__dict__["_hf_module"]
        raise AttributeError(f"workflow code cannot assign to {module.__name__}.{name}")


def resolve(ref: Ref, *, reach: Reach | None = None) -> object:
    """The live object a ref stands for. Raises ProgramError where there is none in this process.

    With a `reach`, a module gives only what that vouches for.
    """
    match ref.kind:
        case "action":
            found: object = ACTIONS.get(ref.target)
            if found is None:
                raise ProgramError(
                    f"no action {ref.target!r} is defined here; bring it back, or import its module in the worker"
                )
            return found
        case "module":
            return DurableAsyncio if ref.target == "asyncio" else ModuleView(open_module(ref.target), reach)
        case "async":
            return durable_asyncio(ref.target)
        case "exception":
            return _exception(ref.target)
        case "workflow":
            return _workflow_class(ref.target)
        case _:
            return object_of(ref.target)


def _exception(target: str) -> object:
    """A class that says what failed, even of a module that is closed: one that is loaded here, and by its own name."""
    try:
        found = look_up(target)
    except DecodeError as error:
        module = target.partition(":")[0]
        raise ProgramError(f"{target} does not exist here; import {module!r} in the module of the workflow") from error
    if BaseException not in bases_of(found):
        raise ProgramError(f"{target} is no exception, and its module is closed to workflow code")
    return found


def _workflow_class(target: str) -> type[Workflow]:
    for cls in WORKFLOWS.values():
        if f"{cls.__module__}:{cls.__qualname__}" == target:
            return cls
    found = object_of(target)
    if not (isinstance(found, type) and issubclass(found, Workflow)):
        raise ProgramError(f"{target} is not a workflow class any more; bring it back, or cancel what needs it")
    return found
