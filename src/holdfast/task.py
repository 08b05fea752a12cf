"""Actions: functions that run on a worker, with a retry policy, a timeout and injected dependencies. Definitions only."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar, cast, overload

from holdfast.clock import as_seconds
from holdfast.codec import register_type
from holdfast.codec.refusals import refusal_of
from holdfast.engine.functions import NAMED
from holdfast.engine.values import CURRENT
from holdfast.errors import ConfigurationError, DecodeError
from holdfast.inject import Plan, plan_for, provided
from holdfast.limits import check_queue, check_text
from holdfast.model.call import DEFAULT_OPTIONS, Call, CallOptions, CannotGoOn, warn_unawaited
from holdfast.model.outside import Outside
from holdfast.retry import BackoffPolicy, RetryPolicy, policy_from_tree, policy_to_tree

P = ParamSpec("P")
R = TypeVar("R")

Pool = Literal["thread", "process"]

ACTIONS: dict[str, Action[Any, Any]] = {}
"""All actions defined in this process, by name. The last definition of a name counts."""


class BatchLimits(NamedTuple):
    """How calls are gathered into one."""

    size: int
    """Items of one call, at most."""
    within: float
    """Seconds for which the first one waits for others, at most."""


class Gathered(list[Any]):
    """The items of a batch, where a function also takes one item."""


class ActionCall(Outside[R], Call):
    """One call of an action. In a workflow it is durable; awaited anywhere else it just runs, here and once."""

    __slots__ = ("_coroutine", "_guard")

    _guard: _Unawaited
    """Of one that was made outside of a workflow; without a value inside of one."""

    def begin(self) -> Coroutine[Any, Any, R]:
        """Run it, here and once. Raises RuntimeError in a workflow, where awaiting it is the only way."""
        by_awaiting_only(self.name)
        self.used()
        return ACTIONS[self.name].run(*self.args, **self.kwargs)

    def outside(self) -> ActionCall[R]:
        """The call, from now on warned of if it is neither awaited nor passed on."""
        self._guard = _Unawaited(self.name)
        self.spent = None
        return self

    def used(self) -> None:
        """It is awaited, or passed on."""
        guard = getattr(self, "_guard", None)
        if guard is not None:
            guard.unused = False


class _Unawaited:
    """Goes with its call. Apart from it, so that the calls of workflows have no finalizer to run."""

    __slots__ = ("name", "unused")

    def __init__(self, name: str) -> None:
        self.name = name
        self.unused = True

    def __del__(self) -> None:
        if self.unused:
            warn_unawaited(f"{self.name.rpartition(':')[2]}(…)", self)


class Action(Generic[P, R]):
    """A function that workers run. Calling it gives something to await."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        backoff: BackoffPolicy | None = None,
        timeout: timedelta | float | None = None,
        queue: str | None = None,
        pool: Pool = "thread",
    ) -> None:
        if not callable(function) or isinstance(function, type):
            raise ConfigurationError(f"what is decorated is a function, by `def` or `async def`, not {function!r}")
        if name is not None:
            check_text("name", name)
        elif not hasattr(function, "__qualname__"):
            raise ConfigurationError(f"{function!r} is no function by `def`, and has no name: give it one by name=")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(f"the action {function.__qualname__} yields; let it return a list")
        if pool not in ("thread", "process"):
            raise ConfigurationError(f"pool= is 'thread' or 'process', not {pool!r}")
        self.function = function
        self.name = name if name is not None else f"{function.__module__}:{function.__qualname__}"
        self.pool: Pool = pool
        self.is_async = inspect.iscoroutinefunction(function)
        if pool == "process" and self.is_async:
            raise ConfigurationError(f"the action {self.name} is async; only sync functions run in processes")
        self.plan: Plan = plan_for(function)
        self.defaults = call_options(retry=retry, backoff=backoff, timeout=timeout, queue=queue)
        tree = self.defaults.retry
        self.batch: BatchLimits | None = None
        """How its calls are gathered, if they are."""
        self.policy = None if tree is None else policy_from_tree(tree)
        """How it is retried; None: as the default of where it runs."""
        self.check = _checker(function, self.plan)
        """Raises TypeError, as the function would, for arguments that do not fit; does nothing else."""
        self.__holdfast_action__ = self.name
        self.__name__ = getattr(function, "__name__", self.name)
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        refuse_namesake("actions or tasks", self.name, ACTIONS.get(self.name), self)
        ACTIONS[self.name] = self

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ActionCall[R]:
        if ACTIONS.get(self.name) is not self:
            self.refuse_twin()
        try:
            self.check(*args, **kwargs)
        except TypeError as misfit:
            machine = CURRENT.get(None)
            if machine is None or not machine.pinned:
                raise
            machine.stopped = CannotGoOn(unfit(self.name, misfit))
            raise machine.stopped from None
        call: ActionCall[R] = ActionCall(self.name, args, kwargs, self.defaults)
        return call.outside() if CURRENT.get(None) is None else call

    def refuse_twin(self) -> None:
        """Raise ConfigurationError where the same `def` has made another one since, by whose function calls would be run."""
        now = ACTIONS.get(self.name, self)
        code: object = getattr(self.function, "__code__", None)
        if now.function is not self.function and code is not None and getattr(now.function, "__code__", None) is code:
            raise ConfigurationError(
                f"{self.name!r} was defined once more since, and calls would run that: give each a name= of its own"
            )

    async def run(self, *args: Any, **kwargs: Any) -> R:
        """Run the function here and now, with its dependencies, once."""
        async with provided(self.plan) as injected:
            result = self.function(*args, **{**injected, **kwargs})
            return await result if inspect.isawaitable(result) else result

    def __repr__(self) -> str:
        return f"<action {self.name}>"


def by_awaiting_only(name: str) -> None:
    """Raise RuntimeError in a workflow: whoever drives a call by hand goes round what makes it durable."""
    if CURRENT.get(None) is not None:
        raise RuntimeError(f"in a workflow, {name} can only be awaited")


def refuse_namesake(kind: str, name: str, before: object, made: object) -> None:
    """Raise ConfigurationError for a name that something in another module has, which goes on to be used under it."""
    if before is None:
        return
    places = [(str(getattr(each, "__module__", "")), str(getattr(each, "__qualname__", ""))) for each in (before, made)]
    modules = [sys.modules.get(module) for module, _ in places]
    files = {getattr(module, "__file__", None) for module in modules}
    if len(files) < 2 or "__main__" in (places[0][0], places[1][0]):
        # Defined anew, or in a module that is known under two names.
        return
    found: object = modules[0]
    for part in places[0][1].split("."):
        found = getattr(found, part, None)
    if found is before:
        (module, title), (other, other_title) = places
        raise ConfigurationError(
            f"two {kind} are called {name!r}, {module}:{title} and {other}:{other_title}, and only one would be run: give one of "
            "them another name="
        )


def unfit(name: str, misfit: TypeError) -> str:
    """What to say of an action that does not take the arguments of a call that was written for an earlier one."""
    return f"action {name} takes other arguments than it did ({misfit}); let it take the earlier ones, too"


def call_options(
    *,
    retry: RetryPolicy | None = None,
    backoff: BackoffPolicy | None = None,
    timeout: timedelta | float | None = None,
    queue: str | None = None,
    base: CallOptions = DEFAULT_OPTIONS,
) -> CallOptions:
    """Options from what a person wrote; what is None stays as in `base`."""
    if retry is None and backoff is None and timeout is None and queue is None:
        return base
    if retry is not None and not isinstance(cast(object, retry), RetryPolicy):
        raise ConfigurationError(f"retry= is a RetryPolicy, such as RetryPolicy(attempts=3), not {retry!r}")
    if backoff is not None and not isinstance(cast(object, backoff), BackoffPolicy):
        raise ConfigurationError(f"backoff= is a BackoffPolicy, such as BackoffPolicy(base_delay=5), not {backoff!r}")
    if queue is not None:
        check_queue(queue)
    tree = base.retry
    if retry is not None:
        tree = policy_to_tree(retry.with_backoff(backoff))
    elif backoff is not None:
        tree = policy_to_tree(RetryPolicy(backoff=backoff))
    seconds = base.timeout
    if timeout is not None:
        seconds = as_seconds(timeout, "timeout=")
        if not seconds > 0:
            raise ConfigurationError(f"a timeout must be more than 0 seconds, not {timeout!r}")
    return CallOptions(tree, seconds, queue if queue is not None else base.queue)


@overload
def action(function: Callable[P, Awaitable[R]], /) -> Action[P, R]: ...
@overload
def action(function: Callable[P, R], /) -> Action[P, R]: ...
@overload
def action(
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    backoff: BackoffPolicy | None = None,
    timeout: timedelta | float | None = None,
    queue: str | None = None,
    pool: Pool = "thread",
) -> _Decorator: ...
def action(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    backoff: BackoffPolicy | None = None,
    timeout: timedelta | float | None = None,
    queue: str | None = None,
    pool: Pool = "thread",
) -> Any:
    """Make a function, sync or async, an action: something a workflow can await, run by whichever worker has room.

    By default an exception is final and a timeout (5 minutes) is tried again. Sync functions run in threads, or with
    `pool="process"` in processes, which a timeout ends; a thread runs on. Raises ConfigurationError for a definition
    that cannot work.

        @action(retry=RetryPolicy(attempts=3), timeout=timedelta(seconds=30))
        async def charge(card: str, cents: int) -> str: ...
    """
    policy = {
        "name": name,
        "retry": retry,
        "backoff": backoff,
        "timeout": timeout,
        "queue": queue,
        "pool": pool,
    }
    if function is not None:
        return cast("Action[..., Any]", Action(function, **cast(Any, policy)))
    return _Decorator(policy)


class _Decorator:
    def __init__(self, policy: dict[str, Any]) -> None:
        self.policy = policy

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Action[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Action[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return cast("Action[..., Any]", Action(function, **self.policy))


def _checker(function: Callable[..., Any], plan: Plan) -> Callable[..., None]:
    """A function with the same parameters, less the injected ones, that does nothing but raise Python's TypeErrors."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return lambda *args, **kwargs: None
    injected = plan.names
    parts: list[str] = []
    star = slash = False
    kinds = inspect.Parameter
    for name, parameter in signature.parameters.items():
        if parameter.kind is not kinds.POSITIONAL_ONLY and not slash and parts:
            if any(p.kind is kinds.POSITIONAL_ONLY for p in signature.parameters.values()):
                parts.append("/")
            slash = True
        if parameter.kind is kinds.VAR_POSITIONAL:
            star = True
            parts.append(f"*{name}")
        elif parameter.kind is kinds.VAR_KEYWORD:
            parts.append(f"**{name}")
        else:
            keyword_only = parameter.kind is kinds.KEYWORD_ONLY or (name in injected and not star)
            if keyword_only and not star:
                star = True
                parts.append("*")
            optional = parameter.default is not kinds.empty or name in injected
            # Behind an injected parameter all others are given by name, or they would shift.
            parts.append(f"{name}=None" if optional else name)
    space: dict[str, Any] = {}
    label = getattr(function, "__name__", "action")
    label = label if label.isidentifier() else "action"
    exec(f"def {label}({', '.join(parts)}): pass", space)
    check = space[label]
    check.__qualname__ = getattr(function, "__qualname__", label)
    return cast("Callable[..., None]", check)


def _encode_call(call: ActionCall[Any]) -> list[Any]:
    call.used()
    options = call.options
    parts = [call.name, list(call.args), call.kwargs, [options.retry, options.timeout, options.queue]]
    return parts if call.spent is False else [*parts, call.spent]


def _decode_call(parts: list[Any]) -> ActionCall[Any]:
    name, args, kwargs, options, *spent = parts
    call: ActionCall[Any] = ActionCall(name, tuple(args), kwargs, CallOptions(*options))
    if spent:
        call.spent = True if spent == [True] else None
    return call


def _name_of(action: Action[Any, Any]) -> str:
    if ACTIONS.get(action.name) is not action:
        raise refusal_of(action)
    return action.name


def _action_named(name: object) -> Any:
    """The action of a name that was saved. Raises DecodeError where none is defined here."""
    found = ACTIONS.get(name) if isinstance(name, str) else None
    if found is None:
        raise DecodeError(f"no action {name!r} is defined here; bring it back, or import its module in the worker")
    return found


def save_by_name(kind: type[Action[Any, Any]], tag: str) -> None:
    """Let actions of this very class be values: they are saved by their names."""
    register_type(kind, encode=_name_of, decode=_action_named, name=tag)
    NAMED.add(kind)


save_by_name(Action, "action")
register_type(ActionCall, encode=_encode_call, decode=_decode_call, name="call")
