"""Task definitions: a function, its policy, and the ways to ask for a call of it later. Sends through an App's client."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from holdfast.arguments import Fitter
from holdfast.codec import Tree, encode, encode_call
from holdfast.errors import ConfigurationError, EncodeError, ValidationError
from holdfast.ids import JobId, uuid7
from holdfast.inject import STATE
from holdfast.limits import compared
from holdfast.model.job import Gate, Job
from holdfast.runtime.messages import Chain, Link, Message, Placeholder, write
from holdfast.task import ACTIONS, Action, save_by_name
from holdfast.tasks.client import JobHandle
from holdfast.tasks.gates import check_key, gate_of, key_of
from holdfast.tasks.options import CallOptions, JobOptions, check_names, job_options
from holdfast.tasks.signature import Signature

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Sender(Protocol):
    """What takes jobs: the App that a task belongs to."""

    def now(self) -> float:
        """The present moment in Unix seconds."""
        ...

    @property
    def results_ttl(self) -> float:
        """For how many seconds results are kept where a task does not say."""
        ...

    @property
    def default_retries(self) -> int:
        """How often a task is retried where it does not say."""
        ...

    @property
    def state(self) -> Any:
        """What its tasks share; None: nothing."""
        ...

    async def send(self, jobs: list[Job], *, through: Any = None) -> list[JobHandle[Any]]:
        """Send jobs; in the transaction of the connection `through`, if one is given."""
        ...

    def give(self, sending: Coroutine[Any, Any, Any]) -> Any:
        """What `delay` of signatures gives, whose handles `sending` gives: itself, or in a blocking App handles that block."""
        ...


STAND_INS: list[Callable[[Sender], Sender]] = []
"""For tests: the last gives what takes jobs instead of an App."""


class Task(Action[P, R]):
    """An action that can be enqueued: `await task.delay(…)` asks for a call, and gives the job's handle.

    In a workflow it is an action like any other.
    """

    def __init__(self, function: Callable[..., Any], *, sender: Sender, jobs: JobOptions, **definition: Any) -> None:
        super().__init__(function, **definition)
        self._signature = _signature_of(function)
        if jobs.key is not None:
            given = [name for name in self._signature.parameters if name not in self.plan.names]
            check_key(jobs.key, given, self.name)
        self._fitter: Fitter | None = None
        """Made when it is first needed: by then all names in its annotations are known."""
        self.own_sender = sender
        """The App that it was made with."""
        self.jobs = jobs
        """How its jobs are sent, unless a call says otherwise."""

    @property
    def sender(self) -> Sender:
        """The App that it belongs to; in tests, what stands in for that."""
        return STAND_INS[-1](self.own_sender) if STAND_INS else self.own_sender

    async def run(self, *args: Any, **kwargs: Any) -> R:
        """Run the function here and now, with its dependencies, once; outside of a worker with the state of its App."""
        with self.with_state():
            return await super().run(*args, **kwargs)

    @contextmanager
    def with_state(self) -> Generator[None]:
        """Inside, there is the state of its App, or that of a worker on which this runs."""
        if STATE.get(None) is not None or self.sender.state is None:
            yield
            return
        token = STATE.set(self.sender.state)
        try:
            yield
        finally:
            STATE.reset(token)

    async def delay(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Ask for a call, to be made by whichever worker has room. Raises TypeError where the arguments don't fit."""
        return await Asked(self, self.jobs).delay(*args, **kwargs)

    async def delay_many(self, calls: Iterable[Any]) -> list[JobHandle[R]]:
        """Ask for many calls in few statements: each item is the one argument, or a tuple of several."""
        return await Asked(self, self.jobs).delay_many(calls)

    async def map(self: Task[[T], R], values: Iterable[T]) -> list[JobHandle[R]]:
        """Ask for a call with each of these values, a tuple included, in few statements."""
        return await Asked(self, self.jobs).map(values)

    async def starmap(self, calls: Iterable[Iterable[Any]]) -> list[JobHandle[R]]:
        """Ask for a call with the arguments in each of these, in few statements."""
        return await Asked(self, self.jobs).starmap(calls)

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """A call to be sent later, alone or after another one: see `Signature`. RESULT and ERROR may stand in it."""
        return Asked(self, self.jobs).s(*args, **kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """A call to be sent later that takes nothing from the one before it."""
        return Asked(self, self.jobs).si(*args, **kwargs)

    def in_transaction(self, connection: Any) -> Asked[P, R]:
        """The same task, sent in the transaction of a connection of yours: the job commits or vanishes with it.

        `connection` is one of asyncpg, psycopg, sqlite3 or aiosqlite, a connection or session of SQLAlchemy, or Django's, to the
        database in which the jobs lie. Nothing is committed here.

            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("INSERT INTO orders …")
                await send_receipt.in_transaction(connection).delay(7)
        """
        return Asked(self, self.jobs, through=connection)

    def options(self, **options: Unpack[CallOptions]) -> Asked[P, R]:
        """The same task with other options for one call: `await task.options(delay=60).delay(…)`. See `CallOptions`."""
        return Asked(self, self.chosen(options))

    def chosen(self, options: CallOptions) -> JobOptions:
        """How jobs are sent with these options for one call. Raises ConfigurationError."""
        check_names(options, CallOptions, "options()")
        given: dict[str, Any] = {**options}
        if "key" in given:
            given["exact_key"] = _text(given.pop("key"))
        return job_options(self.jobs, given)

    def gate(self, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions) -> Gate | None:
        """What one call passes before it runs. Raises ConfigurationError."""
        key = options.exact_key
        if key is None and options.key is not None:
            if any(isinstance(each, Placeholder) for each in (*args, *kwargs.values())):
                raise ConfigurationError(
                    f"the key of {self.name} is made of its arguments, and not all of them are known yet: "
                    "give it with .options(key=…)"
                )
            key = key_of(options.key, self._signature, args, kwargs)
        return gate_of(self.name, key, concurrency=options.concurrency, interval=options.interval, burst=options.burst)

    @property
    def result_ttl(self) -> float:
        """For how many seconds its results are kept."""
        return self.sender.results_ttl if self.jobs.result_ttl is None else self.jobs.result_ttl

    def job(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: JobOptions,
        *,
        then: tuple[Chain, ...] = (),
        otherwise: tuple[Chain, ...] = (),
    ) -> Job:
        """One call as a job, with what follows from it."""
        for each in (*args, *kwargs.values()):
            if isinstance(each, Placeholder):
                raise ConfigurationError(f"{each!r} stands for what another call has given; {self.name} follows none")
        args, kwargs = self._fitting(args, kwargs)
        message = self._message(args, kwargs, options, then, otherwise)
        now = self.sender.now()
        due = now if options.delay is None else now + options.delay
        if options.eta is not None:
            due = options.eta
        unique = options.unique
        if unique is True:
            unique = f"{self.name}:{write(Message(self._canonical(args, kwargs))).decode()}"
        return Job(
            id=JobId(options.id or uuid7()),
            name=self.name,
            payload=write(message),
            created_at=now,
            due_at=due,
            queue=options.queue or self.defaults.queue or "default",
            priority=options.priority,
            unique=compared(unique) if unique else None,
            expires_at=None if options.expires is None else due + options.expires,
            gate=self.gate(args, kwargs, options),
            plain=options.id is None and message.keep is None,
        )

    def link(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: JobOptions,
        *,
        filled: bool,
        otherwise: tuple[Chain, ...],
    ) -> Link:
        """One call as what follows another. `filled` says that placeholders stand in its arguments."""
        for name, value in (("id", options.id), ("eta", options.eta), ("unique", options.unique)):
            if value:
                raise ConfigurationError(f"{name}= cannot be given to a call that follows another ({self.name})")
        args, kwargs = self._fitting(args, kwargs)
        return Link(
            self.name,
            self._message(args, kwargs, options, (), otherwise),
            options.queue or self.defaults.queue or "default",
            options.priority,
            options.delay,
            options.expires,
            filled,
            self.gate(args, kwargs, options),
        )

    def _fitting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the annotations want them. Raises TypeError, ValidationError."""
        if ACTIONS.get(self.name) is not self:
            self.refuse_twin()
        self.check(*args, **kwargs)
        return self._fit(args, kwargs)

    def _fit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.batch is not None:
            # The annotation is that of many.
            return args, kwargs
        if self._fitter is None:
            self._fitter = Fitter(self.function, self._signature, name=self.name, but=self.plan.names)
        return self._fitter.fit(args, kwargs, leave=Placeholder)

    def _canonical(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tree:
        """The arguments, the same whether they are given by place, by name, or by the defaults of their parameters."""
        bound = self._signature.bind_partial(*args, **kwargs)
        whole = {**self._own_defaults, **bound.arguments}
        bound.arguments = {name: whole[name] for name in self._signature.parameters if name in whole}
        return encode_call(bound.args, dict(sorted(bound.kwargs.items())), "task", self.name)

    @cached_property
    def _own_defaults(self) -> dict[str, Any]:
        """The defaults of parameters, as they would be sent; without those that could not be."""
        found: dict[str, Any] = {}
        for name, parameter in self._signature.parameters.items():
            if name in self.plan.names or parameter.default is parameter.empty:
                continue
            default = {name: parameter.default}
            # A default need not fit its annotation, as in `n: int = None`.
            with suppress(ValidationError):
                _, default = self._fit((), default)
            with suppress(EncodeError):
                encode(default)
                found |= default
        return found

    def _message(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: JobOptions,
        then: tuple[Chain, ...],
        otherwise: tuple[Chain, ...],
    ) -> Message:
        keep = self.sender.results_ttl if options.result_ttl is None else options.result_ttl
        return Message(
            encode_call(args, kwargs, "task", self.name),
            retry=dict(options.retry) or None,
            timeout=options.timeout,
            keep=keep if keep > 0 else None,
            dead=options.dead_letter,
            then=then,
            otherwise=otherwise,
            early=options.acks == "early",
        )

    async def send(self, jobs: list[Job], *, through: Any = None) -> list[JobHandle[R]]:
        """Send jobs of this task."""
        # A transaction of the caller's is in the database that its own App has.
        sender = self.sender if through is None else self.own_sender
        return cast("list[JobHandle[R]]", await sender.send(jobs, through=through))

    def __repr__(self) -> str:
        return f"<task {self.name}>"


save_by_name(Task, "task_action")


class Asked(Generic[P, R]):
    """A task with the options of one call."""

    def __init__(self, task: Task[P, R], options: JobOptions, *, through: Any = None) -> None:
        self.task = task
        self.chosen = options
        self._through = through
        """The caller's own connection, if jobs are to be sent in its transaction."""

    def in_transaction(self, connection: Any) -> Asked[P, R]:
        """See `Task.in_transaction`."""
        return Asked(self.task, self.chosen, through=connection)

    async def delay(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Ask for a call. Raises TypeError where the arguments don't fit."""
        [handle] = await self.task.send([self.task.job(args, kwargs, self.chosen)], through=self._through)
        return handle

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """A call to be sent later, alone or after another one. RESULT and ERROR may stand in it, as whole arguments."""
        for each in (*args, *kwargs.values()):
            if (found := _inside(each)) is not None:
                raise ConfigurationError(
                    f"{found!r} stands for a whole argument, and is part of {each!r}: give it by itself"
                )
        return self._call(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """A call to be sent later that takes nothing from the one before it."""
        for each in (*args, *kwargs.values()):
            if isinstance(each, Placeholder):
                raise ConfigurationError(f"si() takes nothing from the call before it; write s({each!r})")
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signature[R]:
        if self._through is not None:
            raise ConfigurationError(
                f"s() and si() make no calls for a transaction of yours: there {self.task.name} is sent by delay() alone"
            )
        return Signature(self, args, kwargs)

    async def delay_many(self, calls: Iterable[Any]) -> list[JobHandle[R]]:
        """Ask for many calls in few statements: each item is the one argument, or a tuple of several."""
        spread = [cast("tuple[Any, ...]", each) if isinstance(each, tuple) else (each,) for each in calls]
        return await self.starmap(spread)

    async def map(self: Asked[[T], R], values: Iterable[T]) -> list[JobHandle[R]]:
        """Ask for a call with each of these values, a tuple included, in few statements."""
        return await self.starmap((each,) for each in values)

    async def starmap(self, calls: Iterable[Iterable[Any]]) -> list[JobHandle[R]]:
        """Ask for a call with the arguments in each of these, in few statements."""
        if self.chosen.id is not None:
            raise ConfigurationError("one id= cannot be that of many jobs")
        jobs = [self.task.job(tuple(each), {}, self.chosen) for each in calls]
        return await self.task.send(jobs, through=self._through)


def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The parameters of a function, whatever they are where it does not say."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        kinds = inspect.Parameter
        return inspect.Signature([kinds("args", kinds.VAR_POSITIONAL), kinds("kwargs", kinds.VAR_KEYWORD)])


def _inside(value: object) -> Placeholder | None:
    """A placeholder that is part of a list, tuple, set or dict, if there is one."""
    parts: list[object] = []
    if isinstance(value, list | tuple | set | frozenset):
        parts = [*cast("Iterable[object]", value)]
    elif isinstance(value, dict):
        parts = [*cast("dict[object, object]", value).values()]
    for part in parts:
        if isinstance(part, Placeholder):
            return part
        if (
            isinstance(part, list | tuple | set | frozenset | dict)
            and (found := _inside(cast("object", part))) is not None
        ):
            return found
    return None


def _text(key: object) -> str | None:
    if key is not None and not (isinstance(key, str) and key):
        raise ConfigurationError(f"the key= of a call is a text, not {key!r}")
    return key


class TaskDecorator:
    """What `@app.task(…)` gives: makes a function a task."""

    def __init__(
        self, sender: Sender, jobs: JobOptions, definition: dict[str, Any], *, made: type[Task[..., Any]]
    ) -> None:
        self._made = made
        self._sender = sender
        self._jobs = jobs
        self._definition = definition

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return self._made(function, sender=self._sender, jobs=self._jobs, **self._definition)
