"""Dependencies of actions and tasks: found in the signature, made before the call, torn down after it."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from holdfast.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Depend:
    """Marks a parameter whose value comes from `provider`: `Annotated[Database, Depend(get_db)]` or `= Depend(get_db)`.

    A provider is a function, sync or async, a generator that yields once, a context manager function, or a class; it
    may have dependencies of its own. Within one call each provider runs once.

    Source: the idea and spelling follow FastAPI's dependencies.
    """

    provider: Callable[..., Any]
    use_cache: bool = field(default=True, kw_only=True)


STATE: ContextVar[Any] = ContextVar("holdfast_state")
"""The state of the App whose worker runs this call."""


def app_state() -> Any:
    """The state of the App on whose worker this runs. Raises ConfigurationError where there is none."""
    state = STATE.get(None)
    if state is None:
        raise ConfigurationError("there is no state here: give it by App(state=…), or by App(lifespan=…) on workers")
    return state


T = TypeVar("T")

State = Annotated[T, Depend(app_state)]
"""Marks a parameter that is given the App's state: `shop: State[Shop]`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a function needs: (parameter, dependency, the dependency's own plan)."""

    needs: tuple[tuple[str, Depend, Plan], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The injected parameters."""
        return frozenset(name for name, _, _ in self.needs)


def plan_for(function: Callable[..., Any]) -> Plan:
    """What must be injected into `function`. Raises ConfigurationError for a cycle."""
    return _plan(function, ())


def _plan(function: Callable[..., Any], above: tuple[Callable[..., Any], ...]) -> Plan:
    if function in above:
        chain = " → ".join(_name(f) for f in (*above[above.index(function) :], function))
        raise ConfigurationError(f"these dependencies need each other: {chain}; break the cycle")
    needs: list[tuple[str, Depend, Plan]] = []
    for name, depend in _marked(function).items():
        needs.append((name, depend, _plan(depend.provider, (*above, function))))
    return Plan(tuple(needs))


def _marked(function: Callable[..., Any]) -> dict[str, Depend]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    hints: Mapping[str, Any] = {}
    if any(_may_be_marked(parameter) for parameter in parameters.values()):
        hints = _hints(function)
    found: dict[str, Depend] = {}
    for name, parameter in parameters.items():
        if isinstance(parameter.default, Depend):
            found[name] = parameter.default
            continue
        hint = hints.get(name, parameter.annotation)
        if typing.get_origin(hint) is Annotated:
            for meta in typing.get_args(hint)[1:]:
                if isinstance(meta, Depend):
                    found[name] = meta
    return found


def _may_be_marked(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return True
    return typing.get_origin(annotation) is Annotated


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    target = function.__init__ if inspect.isclass(function) else function
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # A name only the type checker knows: evaluate what can be, one by one.
        raw: dict[str, Any] = getattr(target, "__annotations__", {})
        space: dict[str, Any] = getattr(inspect.unwrap(target), "__globals__", {})
        out: dict[str, Any] = {}
        for name, hint in raw.items():
            if not isinstance(hint, str):
                out[name] = hint
            elif "Depend" in hint or "State" in hint:
                try:
                    out[name] = eval(hint, space)
                except Exception as error:
                    raise ConfigurationError(
                        f"the annotation {hint!r} of {_name(function)} cannot be evaluated; import its names at run time"
                    ) from error
        return out


@asynccontextmanager
async def provided(plan: Plan) -> AsyncGenerator[dict[str, Any], None]:
    """The injected arguments of a call; they are torn down in reverse order when the block ends, errors included."""
    if not plan.needs:
        yield {}
        return
    async with AsyncExitStack() as stack:
        yield await _provide(plan, stack, {})


async def _provide(plan: Plan, stack: AsyncExitStack, made: dict[Callable[..., Any], Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, depend, inner in plan.needs:
        if depend.use_cache and depend.provider in made:
            arguments[name] = made[depend.provider]
            continue
        value = await _make(depend.provider, await _provide(inner, stack, made), stack)
        if depend.use_cache:
            made[depend.provider] = value
        arguments[name] = value
    return arguments


async def _make(provider: Callable[..., Any], arguments: dict[str, Any], stack: AsyncExitStack) -> Any:
    if inspect.isasyncgenfunction(provider):
        return await stack.enter_async_context(asynccontextmanager(provider)(**arguments))
    if inspect.isgeneratorfunction(provider):
        return stack.enter_context(contextlib.contextmanager(provider)(**arguments))
    value = provider(**arguments)
    if inspect.isawaitable(value):
        return await value
    if inspect.isclass(provider):
        return value
    if isinstance(value, contextlib.AbstractAsyncContextManager):
        return await stack.enter_async_context(typing.cast("contextlib.AbstractAsyncContextManager[Any]", value))
    if isinstance(value, contextlib._GeneratorContextManager):  # pyright: ignore[reportPrivateUsage]
        return stack.enter_context(typing.cast("contextlib.AbstractContextManager[Any]", value))
    return value


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
