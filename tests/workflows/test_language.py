"""What the reference texts promise of workflow code, run from end to end."""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pytest

from holdfast import (
    ActionTimeout,
    BackoffPolicy,
    Depend,
    NoRetry,
    RetryMode,
    RetryPolicy,
    Status,
    Workflow,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowParked,
    action,
    workflow,
)
from holdfast.errors import ConfigurationError
from holdfast.model.instance import DeliveryKind


@dataclass
class User:
    id: str
    active: bool = True
    email: str = ""


@dataclass
class EmailResult:
    to: str
    subject: str


class Database:
    closed = 0

    async def get_many(self, ids: list[str]) -> list[User]:
        return [User(i, active=i != "b", email=f"{i}@example.org") for i in ids]


async def get_db():
    db = Database()
    yield db
    Database.closed += 1


class EmailClient:
    async def send(self, to: str, subject: str) -> EmailResult:
        return EmailResult(to, subject)


def get_email_client(db: Annotated[Database, Depend(get_db)]) -> EmailClient:
    assert isinstance(db, Database)
    return EmailClient()


@action
async def fetch_users(user_ids: list[str], db: Annotated[Database, Depend(get_db)]) -> list[User]:
    return await db.get_many(user_ids)


@action
async def send_email(to: str, subject: str, emailer: EmailClient = Depend(get_email_client)) -> EmailResult:
    return await emailer.send(to=to, subject=subject)


@workflow
class WelcomeEmailWorkflow(Workflow):
    async def run(self, user_ids: list[str]) -> list[EmailResult]:
        users = await fetch_users(user_ids)
        active_users = [user for user in users if user.active]
        results = await asyncio.gather(*[send_email(to=user.email, subject="Welcome") for user in active_users])
        return results


async def test_a_filter_and_a_fan_out_with_injected_dependencies(app):
    before = Database.closed
    result = await WelcomeEmailWorkflow().run(["a", "b", "c"])
    assert result == [EmailResult("a@example.org", "Welcome"), EmailResult("c@example.org", "Welcome")]
    assert Database.closed - before == 3 or app.forgetful


ATTEMPTS: dict[str, int] = {}


@action
async def inconsistent_action(key: str, works_at: int) -> int:
    ATTEMPTS[key] = ATTEMPTS.get(key, 0) + 1
    if ATTEMPTS[key] < works_at:
        raise ConnectionError(f"attempt {ATTEMPTS[key]}")
    return ATTEMPTS[key]


@workflow
class Retrying(Workflow):
    async def run(self, key: str, works_at: int) -> int:
        return await self.run_action(
            inconsistent_action(key, works_at),
            retry=RetryPolicy(attempts=50),
            backoff=BackoffPolicy(base_delay=5),
            timeout=timedelta(minutes=10),
        )


@pytest.mark.parametrize(
    "policy",
    [
        {"retry": RetryPolicy(attempts=3)},
        {"retry": RetryPolicy(max_tries=3, delay=2, delay_max=1000, retry_mode=RetryMode.Exponential)},
        {"retry": RetryPolicy.default()},
        {"backoff": BackoffPolicy(base_delay=5)},
        {"retry": RetryPolicy(attempts=9, delay=20, delay_max=100, retry_mode=RetryMode.Linear), "timeout": 5},
    ],
)
async def test_each_form_of_policy_retries(app, policy):
    key = str(uuid.uuid4())

    @workflow
    class Policy(Workflow):
        async def run(self, key: str) -> int:
            return await self.run_action(inconsistent_action(key, 3), **policy)

    assert await Policy().run(key) == 3


async def test_backoff_moves_time_not_the_clock_on_the_wall(app):
    key = str(uuid.uuid4())
    before = app.clock.now()
    assert await Retrying().run(key, 6) == 6
    # 5 + 10 + 20 + 40 + 80 seconds between six attempts.
    assert app.clock.now() - before >= 155


async def test_one_attempt_is_the_default_and_the_error_keeps_its_type(app):
    @workflow
    class Once(Workflow):
        async def run(self, key: str) -> int:
            return await inconsistent_action(key, 2)

    key = str(uuid.uuid4())
    with pytest.raises(ConnectionError, match="attempt 1"):
        await Once().run(key)
    assert ATTEMPTS[key] == 1


async def test_no_retry_is_one_attempt_for_timeouts_too(app):
    @action
    async def slow() -> None:
        await asyncio.Event().wait()

    @workflow
    class Slow(Workflow):
        async def run(self) -> str:
            try:
                await self.run_action(slow(), retry=NoRetry(), timeout=0.01)
            except ActionTimeout as error:
                return type(error).__name__
            return "never"

    assert await Slow().run() == "ActionTimeout"


async def test_branches_helpers_and_sleeps(app):
    def is_high_value(amount: float) -> bool:
        return amount > 10

    @action
    async def amounts(n: int) -> list[float]:
        return [float(i * 7 % 20) for i in range(n)]

    @workflow
    class Spenders(Workflow):
        async def run(self, n: int) -> list[float]:
            top_spenders: list[float] = []
            for amount in await amounts(n):
                if is_high_value(amount):
                    top_spenders.append(amount)
            await asyncio.sleep(24 * 60 * 60)
            return top_spenders

    before = app.clock.now()
    assert await Spenders().run(5) == [14.0]
    assert app.clock.now() - before >= 86400


async def test_sync_actions_run_in_threads(app):
    import threading

    main = threading.get_ident()

    @action
    def where() -> bool:
        return threading.get_ident() == main

    @workflow
    class Where(Workflow):
        async def run(self) -> bool:
            return await where()

    assert await Where().run() is False


async def test_time_chance_and_ids_simply_work(app):
    @action
    async def echo(value: object) -> object:
        return value

    @workflow
    class Nondeterministic(Workflow):
        async def run(self) -> bool:
            id, at, number = uuid.uuid4(), datetime.now(UTC), random.random()
            back = await asyncio.gather(echo(id), echo(at), echo(number))
            await asyncio.sleep(1)
            return back == [id, at, number]

    assert await Nondeterministic().run() is True


async def test_a_child_is_awaited_and_its_error_travels(app):
    @workflow
    class Child(Workflow):
        def __init__(self, factor: int) -> None:
            self.factor = factor

        async def run(self, n: int) -> int:
            if n < 0:
                raise ValueError(n)
            await asyncio.sleep(5)
            return n * self.factor

    @workflow
    class Parent(Workflow):
        async def run(self) -> list[object]:
            first = await Child(2).run(4)
            both = await asyncio.gather(Child(3).run(1), Child(3).run(2))
            try:
                await Child(1).run(-1)
            except ValueError as error:
                return [first, both, error.args]
            return []

    assert await Parent().run() == [8, [3, 6], (-1,)]


async def test_messages_come_by_name_and_by_type(app):
    @dataclass
    class Approval:
        by: str

    @workflow
    class Waiting(Workflow):
        async def run(self) -> list[object]:
            named = await self.receive("go")
            try:
                await self.receive("never", timeout=60)
            except TimeoutError:
                late = True
            return [named, late]

    handle = await Waiting().start(id=f"waiting-{uuid.uuid4()}")
    assert await handle.send("go", {"n": 1}) is True
    assert await handle.result() == [{"n": 1}, True]
    assert await handle.send("go", 2) is False


async def test_cancel_runs_finally_and_compensation(app):
    undone: list[str] = []

    @action
    async def undo(what: str) -> None:
        undone.append(what)

    @workflow
    class Booking(Workflow):
        async def run(self) -> None:
            try:
                await self.receive("what never comes")
            finally:
                await undo("booking")

    handle = await Booking().start()
    await handle.cancel()
    with pytest.raises(WorkflowCancelled):
        await handle.result()
    assert undone == ["booking"]
    assert await handle.status() is Status.CANCELLED
    assert await handle.cancel() is False


async def test_starting_twice_with_one_id_is_one_instance(app):
    @workflow
    class Chosen(Workflow):
        async def run(self, n: int) -> int:
            return n

    id = f"chosen-{uuid.uuid4()}"
    first = await Chosen().start(1, id=id)
    second = await Chosen().start(2, id=id)
    assert await first.result() == await second.result() == 1


async def test_a_child_started_just_before_the_end_is_started(app):
    @workflow
    class Kid(Workflow):
        async def run(self) -> str:
            return "grown"

    @workflow
    class Leaving(Workflow):
        async def run(self, id: str) -> str:
            child = await Kid().start(id=id)
            return child.id

    id = f"kid-{uuid.uuid4()}"
    assert await Leaving().run(id) == id
    assert await app.handle(id).result() == "grown"


async def test_a_started_child_has_a_handle(app):
    @workflow
    class Listening(Workflow):
        async def run(self) -> str:
            try:
                return await self.receive("word")
            except asyncio.CancelledError:
                return "cancelled in time"

    @workflow
    class Talking(Workflow):
        async def run(self) -> list[str]:
            first, second = await Listening().start(), await Listening().start()
            await asyncio.sleep(5)
            await first.send("word", "hello")
            await second.cancel()
            return [await first.result(), await second.result(), str(first.done())]

    assert await Talking().run() == ["hello", "cancelled in time", "True"]


async def test_messages_come_in_the_order_they_were_sent(app):
    @workflow
    class Ordered(Workflow):
        async def run(self, n: int) -> list[int]:
            return [await self.receive("number") for _ in range(n)]

    handle = await Ordered().start(30)
    for n in range(30):
        await handle.send("number", n)
    assert await handle.result() == list(range(30))


class Unkeepable(Workflow):
    async def run(self) -> int:
        import os

        return len(os.name)


async def test_a_child_that_cannot_be_compiled_fails_where_it_is_awaited(app):
    @workflow
    class Hopeful(Workflow):
        async def run(self) -> str:
            try:
                await Unkeepable().run()
            except Exception as error:
                return type(error).__name__
            return "?"

    assert await Hopeful().run() == "CompileError"


async def test_one_bad_turn_stops_nobody_else(app):
    @workflow
    class Leaving(Workflow):
        async def run(self, how: str) -> str:
            if how == "keyboard":
                raise KeyboardInterrupt
            if how == "system":
                raise SystemExit(7)
            await asyncio.sleep(float("nan"))
            return "never"

    @workflow
    class Good(Workflow):
        async def run(self) -> str:
            await asyncio.sleep(1)
            return "good"

    for how in ("keyboard", "system"):
        with pytest.raises(WorkflowFailed):
            await Leaving().run(how)
    with pytest.raises(ValueError, match="NaN"):
        await Leaving().run("nan")
    assert await Good().run() == "good"


async def test_an_action_may_cancel_itself_and_the_workflow_hears_of_it(app):
    @action
    async def fickle() -> None:
        raise asyncio.CancelledError

    @workflow
    class Patient(Workflow):
        async def run(self) -> str:
            try:
                await fickle()
            except asyncio.CancelledError:
                return "cancelled"
            return "?"

    assert await Patient().run() == "cancelled"


async def test_an_unreadable_message_parks_its_receiver_only(app):
    @workflow
    class Receiving(Workflow):
        async def run(self) -> object:
            return await self.receive("word")

    handle = await Receiving().start()
    await app.client.deliver([handle.id], DeliveryKind.MESSAGE, "word", b"{{{")
    with pytest.raises(WorkflowParked, match="cannot be read"):
        await handle.result(timeout=20)


@pytest.mark.parametrize(
    "options",
    [{"priority": "high"}, {"priority": 2**40}, {"tags": ["x"]}, {"id": 42}, {"id": "a\0b"}, {"delay": float("nan")}],
)
async def test_options_that_no_store_can_keep_are_refused(app, options):
    with pytest.raises(ConfigurationError):
        await WelcomeEmailWorkflow().start([], **options)


@action(name="language:shout")
async def shout(word: str) -> str:
    return word.upper()


class Root(Workflow):
    async def text(self, word: str = "root") -> str:
        return "root " + await shout(word)


class Base(Root):
    greeting = "hello"

    async def text(self, word: str = "base", *, end: str = "!") -> str:
        return f"{await Root.text(self, word)}{end}"

    async def run(self, name: str) -> str:
        self.greeting = await self.text(name)
        return self.greeting


@workflow
class Inherits(Base):
    async def text(self, word: str = "own", *, end: str = "?") -> str:
        return "own " + await Base.text(self, word, end=end)

    async def run(self, name: str) -> list[str]:
        first = await Base.run(self, name)
        both = await asyncio.gather(Base.text(self), Root.text(self))
        return [first, self.greeting, await Base.text(self, end="."), *both]


async def test_a_method_of_a_base_class_is_called_by_the_name_of_the_class(app):
    assert await Inherits().run("lamp") == [
        "own root LAMP?",
        "own root LAMP?",
        "root BASE.",
        "root BASE!",
        "root ROOT",
    ]


class Left(Root):
    def plain(self, *, end: str = "!") -> str:
        return f"left{end}"

    async def text(self, word: str = "left") -> str:
        return "left " + await super().text(word)


class Right(Root):
    @staticmethod
    def both(first: str, second: str) -> str:
        return f"{first} and {second}"

    async def text(self, word: str = "right") -> str:
        return "right " + await super().text(word)

    async def run(self, word: str) -> list[str]:
        return [await self.text(word)]


@workflow
class Mixed(Left, Right):
    def plain(self, *, end: str = "?") -> str:
        return super().plain(end=end) + " mixed"

    async def text(self, word: str = "mixed") -> str:
        return "mixed " + await super().text(word)

    async def run(self, word: str) -> list[str]:
        first = await super().run(word)
        pair = await asyncio.gather(super().text(), super().text(word="pen"))
        plain = super().plain(end=".")
        return [*first, *pair, plain, self.plain(), super().both("lamp", plain)]


async def test_super_means_the_next_class_in_the_order_of_the_workflows_own(app):
    assert await Mixed().run("lamp") == [
        "mixed left right root LAMP",
        "left right root LEFT",
        "left right root PEN",
        "left.",
        "left? mixed",
        "lamp and left.",
    ]
