"""Workflow classes: what users subclass, and how a class becomes a program. Definitions only; nothing runs here."""

from __future__ import annotations

import functools
import inspect
from abc import ABCMeta
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn, ParamSpec, TypeVar, cast, overload

from holdfast.arguments import Binder
from holdfast.clock import as_seconds
from holdfast.codec.registry import BY_TAG, BY_TYPE, Registered
from holdfast.compiler import compile_workflow, only_undefined
from holdfast.engine.values import CURRENT
from holdfast.errors import CompileError, ConfigurationError
from holdfast.ids import ProgramHash
from holdfast.ir.program import Program
from holdfast.ir.text import program_hash, render
from holdfast.limits import check_priority, check_queue, check_text
from holdfast.model.call import Call, Child, Receive, message_key, warn_unawaited
from holdfast.model.outside import Outside
from holdfast.retry import BackoffPolicy, RetryPolicy
from holdfast.task import ActionCall, by_awaiting_only, call_options, refuse_namesake

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
W = TypeVar("W", bound="type[Workflow]")

WORKFLOWS: dict[str, type[Workflow]] = {}
"""All workflow classes defined in this process, by name. The last definition of a name counts."""


START_OPTIONS = ("id", "delay", "queue", "priority", "tags")
"""What `start` takes beside the arguments of `run`."""


class Launcher:
    """How a run is started outside of a workflow. The composition root puts its own in place."""

    async def launch(self, run: Run[Any]) -> Any:
        raise ConfigurationError("no App is set up; import holdfast, or make an App, before starting workflows")


LAUNCHERS: list[Launcher] = [Launcher()]
"""All that are entered in this process, the default one first."""

ENTERED: ContextVar[tuple[Launcher, ...]] = ContextVar("holdfast_entered", default=())
"""Those entered in this context, the innermost last. Some may have been left since, in another."""


def launcher() -> Launcher:
    """The launcher in use: the innermost entered in this context, else the one entered last in any.

    A web framework enters an App in a task of its own, and serves requests in others, which know nothing of it.
    """
    return next((one for one in reversed(ENTERED.get()) if one in LAUNCHERS), LAUNCHERS[-1])


def enter_launcher(one: Launcher) -> None:
    """Put `one` in use."""
    LAUNCHERS.append(one)
    ENTERED.set((*ENTERED.get(), one))


def leave_launcher(one: Launcher) -> None:
    """Put `one` out of use, in whichever context."""
    if one in LAUNCHERS:
        LAUNCHERS.remove(one)
    ENTERED.set(tuple(other for other in ENTERED.get() if other is not one))


class Run(Outside[R], Child):
    """A run of a workflow that was asked for. Awaited in a workflow it is a child; elsewhere it starts an instance."""

    __slots__ = ("_coroutine", "cls", "unused")

    def __init__(
        self,
        cls: type[Workflow],
        instance: Any,
        bound: dict[str, Any],
        *,
        wait: bool,
        id: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(cls.__holdfast_workflow__, instance, bound, wait=wait, id=id, options=options or {})
        self.cls = cls
        self.unused = False
        """Made outside of a workflow, and neither awaited nor passed on since."""

    def begin(self) -> Coroutine[Any, Any, R]:
        """Start the instance, and wait for its result if that was asked for."""
        by_awaiting_only(self._title)
        self.unused = False
        return launcher().launch(self)

    def __bool__(self) -> bool:
        if self.unused:
            raise TypeError(f"{self._title} is not the result; write `await {self._title}`")
        return True

    def __del__(self) -> None:
        if getattr(self, "unused", False):
            warn_unawaited(self._title, self)

    @property
    def _title(self) -> str:
        return f"{self.cls.__qualname__}().{'run' if self.wait else 'start'}(…)"


class _RunMethod:
    """`run` on a workflow class: calling it asks for a run instead of running the code."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__holdfast_original__ = function
        functools.update_wrapper(cast(Any, self), function)

    def __call__(self, *_: object, **__: object) -> NoReturn:
        name = self.__holdfast_original__.__qualname__
        made = name.removesuffix(".run")
        raise TypeError(f"{name}(…) is called on the class; make an object of it first: await {made}().run(…)")

    @overload
    def __get__(self, instance: None, owner: type) -> _RunMethod: ...
    @overload
    def __get__(self, instance: Workflow, owner: type) -> Callable[..., Run[Any]]: ...
    def __get__(self, instance: Workflow | None, owner: type) -> Any:
        if instance is None:
            return self
        return functools.partial(_ask, type(instance), instance)


def _ask(cls: type[Workflow], instance: Workflow, /, *args: Any, **kwargs: Any) -> Run[Any]:
    run: Run[Any] = Run(cls, instance, bind_arguments(cls, args, kwargs), wait=True)
    run.unused = CURRENT.get(None) is None
    return run


class Workflow:
    """A durable workflow: subclass it and write `async def run(self, …)` in plain Python.

    `await W().run(…)` starts an instance and waits for its result; `await W().start(…)` starts it and gives a handle.
    What is awaited in `run` is durable: actions, `asyncio.gather`, `asyncio.sleep`, timeouts, other workflows, messages.
    The code is compiled once, when it is first needed; what cannot be kept is refused with CompileError.
    """

    __holdfast_workflow__: ClassVar[str] = ""
    __holdfast_definition__: ClassVar[Definition[Any] | None] = None
    __holdfast_binder__: ClassVar[Binder | None] = None

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__holdfast_workflow__ = name or f"{cls.__module__}:{cls.__qualname__}"
        cls.__holdfast_definition__ = None
        cls.__holdfast_binder__ = None
        own = vars(cls).get("run")
        if own is not None and inspect.iscoroutinefunction(own):
            cls.run = _RunMethod(own)  # type: ignore[attr-defined]
        _savable(cls)
        refuse_namesake("workflows", cls.__holdfast_workflow__, WORKFLOWS.get(cls.__holdfast_workflow__), cls)
        WORKFLOWS[cls.__holdfast_workflow__] = cls

    if TYPE_CHECKING:

        async def run(self, *args: Any, **kwargs: Any) -> Any: ...

    def start(
        self,
        *args: Any,
        id: str | None = None,
        delay: timedelta | float | None = None,
        queue: str | None = None,
        priority: int | None = None,
        tags: str | None = None,
        **kwargs: Any,
    ) -> Run[Any]:
        """Start an instance and give its handle, without waiting. In a workflow this starts a child.

        The arguments are those of `run`. `id` makes it idempotent: a second start with the same id gives the same
        instance. `delay` is a timedelta or seconds; a higher `priority` goes first. A parameter of `run` that is called
        like one of these options is given by position.
        """
        options: dict[str, Any] = {}
        if delay is not None:
            options["delay"] = as_seconds(delay, "delay=")
        if queue is not None:
            options["queue"] = queue
        if priority is not None:
            options["priority"] = priority
        if tags is not None:
            options["tags"] = tags
        binder = binder_of(type(self))
        if binder.named.intersection(START_OPTIONS):
            _check_meaning(binder, len(args), options if id is None else {"id": id, **options})
        return ask_start(self, args, kwargs, id=id, options=options, others=START_OPTIONS)

    def run_action(
        self,
        call: Awaitable[R],
        *,
        retry: RetryPolicy | None = None,
        backoff: BackoffPolicy | None = None,
        timeout: timedelta | float | None = None,
        queue: str | None = None,
    ) -> Awaitable[R]:
        """The same call with another policy: how often it is tried, how long to wait in between, how long it may take.

        `timeout` is a timedelta or seconds; `queue` names whose workers run it.
        """
        if not isinstance(call, Call):
            raise TypeError(f"run_action() takes the call of an action, such as fetch(1), not {call!r}")
        options = call_options(retry=retry, backoff=backoff, timeout=timeout, queue=queue, base=call.options)
        if isinstance(call, ActionCall):
            call.used()
        return cast("Awaitable[R]", ActionCall(call.name, call.args, call.kwargs, options))

    @overload
    def receive(self, message: type[T], /, *, timeout: timedelta | float | None = None) -> Awaitable[T]: ...
    @overload
    def receive(self, message: str, /, *, timeout: timedelta | float | None = None) -> Awaitable[Any]: ...
    def receive(self, message: Any, /, *, timeout: timedelta | float | None = None) -> Any:
        """Wait for a message from outside, by its name or its type. Raises TimeoutError after `timeout`."""
        return Receive(message_key(message), None if timeout is None else as_seconds(timeout, "timeout="))

    # What the compiler tells a forgotten `await` by.
    cast(Any, run_action).__holdfast_awaitable__ = cast(Any, receive).__holdfast_awaitable__ = True

    @classmethod
    def visualize(cls, format: Literal["text", "mermaid"] = "mermaid") -> str:
        """The program as a graph: Mermaid by default, or its text."""
        from holdfast.ir.graph import mermaid

        definition = definition_of(cls)
        return definition.text if format == "text" else mermaid(definition.program)


def ask_start(
    made: Workflow,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    id: str | None = None,
    options: dict[str, Any] | None = None,
    others: Iterable[str] = (),
) -> Run[Any]:
    """What `start` gives, with the arguments of `run` apart from the options, so that both may have the same names.

    `others` are names that may be given beside the arguments.
    """
    check_options(id, options or {})
    cls = type(made)
    bound = bind_arguments(cls, args, kwargs, others=others)
    run: Run[Any] = Run(cls, made, bound, wait=False, id=id, options=options)
    run.unused = CURRENT.get(None) is None
    return run


def _check_meaning(binder: Binder, count: int, options: Iterable[str]) -> None:
    """Raise TypeError where an option of `start` may have been meant as the argument of `run` that has the same name."""
    for name in options:
        if name in binder.named and name not in binder.positional[:count]:
            way = (
                f"give the argument by position, and {name}= is the option"
                if name in binder.positional
                else f"rename the parameter, or let it be given by position, before {name}= can be the option"
            )
            raise TypeError(f"{binder.name}: {name}= is an option of start, and a parameter of run: {way}")


def check_options(id: object, options: dict[str, Any]) -> None:
    """Raise ConfigurationError for start options that no store could keep."""
    tags = options.get("tags")
    if tags is not None and not isinstance(tags, str):
        raise ConfigurationError(f"tags= is one text of words with spaces between them, such as 'vip eu', not {tags!r}")
    if id is not None:
        check_text("id", id)
    if tags:
        check_text("tags", tags)
    if "queue" in options:
        check_queue(options["queue"])
    if "priority" in options:
        check_priority(options["priority"])


class Definition(Generic[T]):
    """A compiled workflow class: its program, text and hash."""

    def __init__(self, cls: type[Workflow], program: Program) -> None:
        self.cls = cls
        self.program = program
        self.text = render(program)
        self.hash: ProgramHash = program_hash(self.text)


def definition_of(cls: type[Workflow]) -> Definition[Any]:
    """The compiled form of a workflow class, made when it is first asked for. Raises CompileError."""
    found: Definition[Any] | None = cls.__dict__.get("__holdfast_definition__")
    if found is None:
        try:
            program = compile_workflow(cls, name=cls.__holdfast_workflow__, base=Workflow)
        except CompileError as error:
            # A person looks for their own file: the compiler's frames say nothing of it.
            raise error.with_traceback(None)  # noqa: B904 - it is the same error
        found = cls.__holdfast_definition__ = Definition(cls, program)
    return found


@overload
def workflow(cls: W, /) -> W: ...
@overload
def workflow(*, name: str | None = None) -> Callable[[W], W]: ...
def workflow(cls: Any = None, /, *, name: str | None = None) -> Any:
    """Compile a workflow class where it is defined, so that what cannot be kept is refused at import time.

    Names that are defined further down in the module are looked up when the workflow is first used. `name` is the
    name it is stored under, `module:Class` by default. Raises CompileError.
    """
    if cls is None:
        return functools.partial(workflow, name=name)
    if not _is_workflow(cls):
        raise ConfigurationError(f"@workflow decorates a subclass of Workflow, not {cls!r}")
    if name is not None:
        WORKFLOWS.pop(cls.__holdfast_workflow__, None)
        cls.__holdfast_workflow__ = name
        refuse_namesake("workflows", name, WORKFLOWS.get(name), cls)
        WORKFLOWS[name] = cls
    if (put_off := _PUT_OFF.get()) is not None:
        put_off.append(cls)
        return cls
    try:
        definition_of(cls)
    except CompileError as error:
        if not only_undefined(error.problems):
            raise error.with_traceback(None)  # noqa: B904 - it is the same error
    return cls


_PUT_OFF: ContextVar[list[type[Workflow]] | None] = ContextVar("holdfast_put_off", default=None)


@contextmanager
def compiling_later() -> Generator[list[type[Workflow]]]:
    """Inside, `@workflow` compiles nothing and adds its class to this list, so that modules can be read whole."""
    met: list[type[Workflow]] = []
    token = _PUT_OFF.set(met)
    try:
        yield met
    finally:
        _PUT_OFF.reset(token)


def bind_arguments(
    cls: type[Workflow], args: tuple[Any, ...], kwargs: dict[str, Any], *, others: Iterable[str] = ()
) -> dict[str, Any]:
    """Arguments of `run` by parameter name. Raises TypeError as calling it would, ValidationError for a wrong value.

    `others` are names that may be given beside them.
    """
    return binder_of(cls).bind(args, kwargs, others=others)


def binder_of(cls: type[Workflow]) -> Binder:
    """What binds and validates arguments of `run`. Raises ConfigurationError where a class has none."""
    binder: Binder | None = cls.__dict__.get("__holdfast_binder__")
    if binder is None:
        method = inspect.getattr_static(cls, "run", None)
        function = getattr(method, "__holdfast_original__", method)
        if function is None:
            raise ConfigurationError(f"{cls.__qualname__} has no `async def run(self, …)`")
        binder = cls.__holdfast_binder__ = Binder(function, name=cls.__qualname__)
    return binder


class _Unannounced:
    """What a class is made of whose making nobody hears of: `__init_subclass__` of its other bases was called before."""

    __slots__ = ()

    def __init_subclass__(cls) -> None: ...


def durable_class(cls: type[Workflow], methods: dict[str, Callable[..., Any]]) -> type[Workflow]:
    """A class like `cls` whose async methods are the program's. Its objects are saved as the state's own `self`."""
    space = {**methods, "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    # A metaclass of the user's has done its work, and would do it twice; that of abstract classes keeps books for each.
    meta = type(cls)
    plain: Any = next(each for each in meta.__mro__ if each in (ABCMeta, type))
    made: type[Workflow] = plain.__new__(meta, cls.__name__, (_Unannounced, cls), space)
    BY_TYPE[made] = BY_TAG[":self"]
    return made


def _is_workflow(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Workflow)


def _attributes(made: Any) -> dict[str, Any]:
    return dict(made.__dict__)


def _savable(cls: type[Workflow]) -> None:
    """A workflow object that is a value (a child that was made and not started) is saved by its attributes."""
    tag = f":workflow:{cls.__module__}:{cls.__qualname__}"

    def blank(attributes: Any) -> Any:
        made = cast(Any, object.__new__(cls))
        made.__dict__.update(attributes)
        return made

    BY_TYPE[cls] = BY_TAG[tag] = Registered(cls, tag, _attributes, blank)
