"""What compiled code calls: asyncio's durable counterpart, and the compiler's own small verbs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from inspect import getattr_static
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType
from typing import Any, cast

from holdfast.engine.functions import BoundMethod, is_named, looked
from holdfast.engine.iterate import iterate
from holdfast.engine.timing import FAR
from holdfast.engine.values import (
    Completed,
    Exit,
    Future,
    NextDone,
    Ready,
    Sleep,
    Sub,
    Task,
    TaskGroup,
    Timeout,
    WaitFor,
    WaitSet,
    machine,
)
from holdfast.errors import ProgramError


class DurableAsyncio:
    """Stands for the module `asyncio` in workflow code."""

    CancelledError = asyncio.CancelledError
    TimeoutError = TimeoutError
    InvalidStateError = asyncio.InvalidStateError
    ALL_COMPLETED = asyncio.ALL_COMPLETED
    FIRST_COMPLETED = asyncio.FIRST_COMPLETED
    FIRST_EXCEPTION = asyncio.FIRST_EXCEPTION
    Task = Task
    Future = Future

    @staticmethod
    def gather(*coros_or_futures: Any, return_exceptions: bool = False) -> Any:
        return machine().gather(coros_or_futures, return_exceptions)

    @staticmethod
    def sleep(delay: float, result: Any = None) -> Sleep:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        if isinstance(seconds, str | bytes | bytearray):
            raise TypeError(f"'<=' not supported between instances of '{type(seconds).__name__}' and 'int'")
        return Sleep(float(seconds), result)

    @staticmethod
    def wait_for(fut: Any, timeout: float | None) -> WaitFor:
        return WaitFor(fut, timeout)

    @staticmethod
    def wait(fs: Iterable[Any], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED) -> WaitSet:
        if return_when not in (asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION):
            raise ValueError(f"Invalid return_when value: {return_when}")
        return WaitSet(list(fs), timeout, return_when)

    @staticmethod
    def timeout(delay: float | None) -> Timeout:
        made = Timeout(machine().fresh(), None)
        made.delay = delay
        machine().track(made)
        return made

    @staticmethod
    def timeout_at(when: float | None) -> Timeout:
        if when is not None and when != when:
            raise ValueError("Invalid moment: NaN (not a number)")
        made = Timeout(machine().fresh(), None if when is None else min(when, FAR))
        made.delay = None
        machine().track(made)
        return made

    @staticmethod
    def TaskGroup() -> TaskGroup:
        made = TaskGroup(machine().fresh())
        machine().track(made)
        return made

    @staticmethod
    def create_task(coro: Any, *, name: str | None = None, context: Any = None) -> Future:
        return machine().future_of(coro, name=name)

    @staticmethod
    def ensure_future(coro_or_future: Any) -> Future:
        return machine().future_of(coro_or_future)

    @staticmethod
    def as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Completed:
        if timeout is not None:
            raise TypeError(
                "as_completed(timeout=) is not durable; put `async with asyncio.timeout(…)` around the loop"
            )
        return machine().as_completed(list(fs))

    @staticmethod
    def shield(arg: Any) -> Future:
        return machine().shield(arg)

    @staticmethod
    def current_task() -> Task:
        return machine().running.task


def durable_asyncio(name: str) -> Any:
    """The counterpart of `asyncio.<name>`."""
    found = getattr(DurableAsyncio, name, None)
    if found is None:
        raise ProgramError(f"asyncio.{name} has no durable counterpart")
    return found


def _matches(error: BaseException, classes: Any) -> bool:
    """Whether `except classes:` catches `error`."""
    flat = _flat(classes)
    for cls in flat:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise TypeError("catching classes that do not inherit from BaseException is not allowed")
    lineage = type(error).__mro__
    return any(cls in lineage for cls in flat)


def _flat(classes: Any) -> tuple[Any, ...]:
    """What a clause names; as in Python, a tuple in a tuple is no class."""
    return cast("tuple[Any, ...]", classes) if isinstance(classes, tuple) else (classes,)


def _all_of(classes: Any) -> tuple[Any, ...]:
    """What `issubclass` takes, as one tuple, without classes that no exception is of."""
    if not isinstance(classes, tuple):
        given: Any = classes
        return () if isinstance(given, type) and not issubclass(given, BaseException) else (classes,)
    return tuple(each for one in cast("tuple[Any, ...]", classes) for each in _all_of(one))


def _async_iterator(source: Any) -> Completed:
    if not isinstance(source, Completed):
        raise TypeError(
            f"'async for' over '{type(source).__name__}' cannot be kept; let an @action return a list, and loop over it"
        )
    return source


def _split(error: BaseException) -> dict[str, Any]:
    """`except*` begins: the group that is still to be handled, and what its clauses raise."""
    naked = not isinstance(error, BaseExceptionGroup)
    group = cast("BaseException", BaseExceptionGroup("", (error,)) if naked else error)
    return {"naked": naked, "original": error, "rest": group, "part": None, "raised": [], "again": []}


def _part(split: dict[str, Any], classes: Any) -> BaseException | None:
    for cls in _flat(classes):
        if isinstance(cls, type) and issubclass(cls, BaseExceptionGroup):
            raise TypeError("catching ExceptionGroup with except* is not allowed. Use except instead.")
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise TypeError("catching classes that do not inherit from BaseException is not allowed")
    split["part"] = None
    rest = split["rest"]
    if rest is None:
        return None
    if split["naked"]:
        part, split["rest"] = (rest, None) if isinstance(split["original"], classes) else (None, rest)
    else:
        part, left = rest.split(classes)
        if part is not None:
            # Else what comes to the next clause is the very group, and no copy.
            split["rest"] = left
    split["part"] = part
    return part


def _raised(split: dict[str, Any], error: BaseException) -> None:
    """A clause raised `error`: anew, or what it was given once more.

    The latter by `raise` alone: `raise e` makes another place, and so another error, of it, as `from` makes another cause.
    """
    again = error is split["part"] and _circumstances(error) == _circumstances(split["original"])
    split["again" if again else "raised"].append(error)


def _circumstances(error: BaseException) -> tuple[int, int, int]:
    return id(error.__traceback__), id(error.__cause__), id(error.__context__)


def _rest(split: dict[str, Any]) -> BaseException | None:
    """What is raised after all clauses: the rest, what was raised again, and what was raised anew."""
    original = split["original"]
    if split["naked"]:
        # One clause at most has had it, as a group; what that raised is raised as it is.
        new = [*split["raised"], *split["again"]]
        return new[0] if new else original if split["rest"] is not None else None
    back = [*split["again"]]
    if split["rest"] is not None:
        back.append(split["rest"])
    leaves = {id(leaf) for group in back for leaf in _leaves(group)}

    def is_back(error: BaseException) -> bool:
        return id(error) in leaves

    if not split["raised"]:
        return original.subgroup(is_back) if leaves else None
    errors = [*split["raised"]]
    if leaves:
        kept = original.subgroup(is_back)
        if kept is not None:
            errors.append(kept)
    if len(errors) == 1:
        return errors[0]
    return BaseExceptionGroup("", errors)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for inner in group.exceptions for leaf in _leaves(inner)]
    return [error]


def _next(source: Completed) -> NextDone:
    return NextDone(source, True)


def _enter(manager: Any) -> Ready:
    return Ready(machine().enter(manager))


def _open(manager: Any) -> Any:
    """Enter a plain context manager, as `with` does: what it gives."""
    cls = cast(Any, type(manager))
    if not (hasattr(cls, "__enter__") and hasattr(cls, "__exit__")):
        raise TypeError(f"{cls.__name__!r} object does not support the context manager protocol")
    return cls.__enter__(manager)


def _close(manager: Any, error: BaseException | None) -> Any:
    """Leave it: whether it suppresses the error."""
    leave = cast(Any, type(manager)).__exit__
    return (
        leave(manager, None, None, None) if error is None else leave(manager, type(error), error, error.__traceback__)
    )


def _look(found: Any, owner: Any, name: str) -> Any:
    """What `owner.name` was, for a call later; None if it is a method of its class, which will be there again."""
    method = isinstance(found, MethodType | FunctionType | BuiltinFunctionType)
    raw = getattr_static(owner.__class__, name, None)
    held = name in _own(owner) or raw is None or isinstance(raw, property | MemberDescriptorType)
    held = held and not isinstance(owner, type)
    if method and is_named(found):
        # What the program names is kept as such.
        return found
    if not held:
        return None
    return BoundMethod.of(found) if method else found


def _own(owner: Any) -> frozenset[str]:
    """The names that stand in an object itself; of a class none, since nobody saves that."""
    return frozenset() if isinstance(owner, type) else frozenset[str](getattr(owner, "__dict__", ()))


KIT: dict[str, Any] = {
    "_hf_look": _look,
    "_hf_looked": looked,
    "_hf_flat": _all_of,
    "_hf_iter": iterate,
    "_hf_aiter": _async_iterator,
    "_hf_anext": _next,
    "_hf_matches": _matches,
    "_hf_split": _split,
    "_hf_part": _part,
    "_hf_raised": _raised,
    "_hf_rest": _rest,
    "_hf_enter": _enter,
    "_hf_exit": Exit,
    "_hf_open": _open,
    "_hf_close": _close,
    "_hf_set": set,
    "_hf_assertion": AssertionError,
    "_hf_sub": Sub,
}
