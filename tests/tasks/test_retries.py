"""When a task is tried again: for which exceptions, after how long, and who has the say."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import App, BackoffPolicy, JobStatus, NoRetry, Retry, RetryMode, RetryPolicy
from holdfast.errors import ConfigurationError, TaskFailed
from holdfast.tasks import RESULT


class Declined(Exception):
    """Of this test's own."""


class Lost(Declined):
    """A special case of it."""


class Shop:
    """A task for each way to define one; what it raises is told by the caller."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.moments: list[float] = []

    def task(self, **options: Any) -> Any:
        @self.app.task(**options)
        async def raising(error: Exception) -> None:
            self.moments.append(self.app.clock.now())
            raise error

        return raising

    async def attempts(self, asked: Any, error: Exception) -> int:
        """How often it is attempted before it is a dead letter."""
        self.moments.clear()
        handle = await asked.delay(error)
        with pytest.raises(TaskFailed):
            await handle.get()
        # The last failure is recorded at the last attempt, and not at a delivery after it.
        assert (await handle.view()).attempt == len(self.moments)
        return len(self.moments)


@pytest.fixture
def shop(app: App) -> Shop:
    return Shop(app)


async def test_only_some_exceptions_are_tried_again(shop: Shop):
    task = shop.task(retries=2, retry_on=Declined)
    assert await shop.attempts(task, Declined()) == 3
    assert await shop.attempts(task, Lost()) == 3
    assert await shop.attempts(task, ValueError()) == 1


async def test_some_exceptions_are_final(shop: Shop):
    task = shop.task(retries=2, give_up_on=(Lost, "builtins:KeyError"))
    assert await shop.attempts(task, Declined()) == 3
    assert await shop.attempts(task, Lost()) == 1
    assert await shop.attempts(task, KeyError()) == 1


async def test_without_a_number_they_are_tried_again_as_often_as_by_default(shop: Shop):
    assert await shop.attempts(shop.task(retry_on=(Declined, ValueError)), ValueError()) == 11
    assert await shop.attempts(shop.task(give_up_on=Declined), Declined()) == 1


async def test_a_call_changes_only_what_it_names(shop: Shop):
    task = shop.task(retry=RetryPolicy(3, delay=5, give_up_on=Lost))
    assert await shop.attempts(task.options(retries=4), Declined()) == 5
    assert [round(b - a) for a, b in zip(shop.moments, shop.moments[1:], strict=False)] == [5, 5, 5, 5]
    assert await shop.attempts(task.options(retries=4), Lost()) == 1
    assert await shop.attempts(task.options(backoff=BackoffPolicy(7)), Declined()) == 3
    assert [round(b - a) for a, b in zip(shop.moments, shop.moments[1:], strict=False)] == [7, 14]
    assert await shop.attempts(task.options(give_up_on=()), Lost()) == 3
    assert await shop.attempts(task.options(retry_on=ValueError), Declined()) == 1
    assert await shop.attempts(task.options(retry=RetryPolicy(2)), Lost()) == 2


async def test_options_of_a_call_lie_over_the_default_of_the_worker(shop: Shop):
    task = shop.task()
    assert await shop.attempts(task.options(retry_on=ValueError), Declined()) == 1
    assert await shop.attempts(task.options(retry_on=ValueError), ValueError()) == 11


async def test_what_follows_has_the_options_of_its_own_call(shop: Shop):
    @shop.app.task
    async def error() -> Exception:
        return Declined("no")

    handle = await (error.s() >> shop.task().options(give_up_on=Declined).s(RESULT)).delay()
    with pytest.raises(TaskFailed):
        await handle.get()
    assert len(shop.moments) == 1
    assert await handle.status() is JobStatus.DEAD


async def test_a_raised_retry_goes_before_what_the_policy_says_of_exceptions(shop: Shop):
    assert await shop.attempts(shop.task(retries=3, retry_on=ValueError), Retry("once more", delay=1)) == 4
    assert await shop.attempts(shop.task(retries=3), Retry(policy=RetryPolicy(2))) == 2
    assert await shop.attempts(shop.task(retry=NoRetry()), Retry("once more")) == 1


@pytest.mark.parametrize("wrong", [3, "ValueError", [int], object])
def test_what_is_no_exception_class_is_refused(wrong: Any):
    app = App("refusing", url="sqlite://:memory:")
    with pytest.raises(ConfigurationError, match="take exception classes, or module:qualname"):
        app.task(retry_on=wrong)
    with pytest.raises(ConfigurationError, match="take exception classes, or module:qualname"):
        app.task(lambda: None).options(give_up_on=wrong)


async def test_a_policy_in_a_message_that_is_none_makes_a_dead_letter(app: App):
    @app.task
    async def fine() -> None: ...

    job = fine.options(retries=3, retry_on=Declined)
    sent = fine.job((), {}, job.chosen)
    for number, (what, instead) in enumerate(
        [
            (b'"attempts":4', b'"attempts":"4"'),
            (b'"retry_on":[', b'"retry_on":[3,'),
            (b'{"attempts"', b'{"mode":"x","attempts"'),
        ]
    ):
        assert what in sent.payload
        [handle] = await app.send(
            [sent._replace(id=f"wrong-{number}", payload=sent.payload.replace(what, instead))]  # type: ignore[arg-type]
        )
        with pytest.raises(TaskFailed, match="retry is no policy") as caught:
            await handle.get()
        assert caught.value.reason == "unreadable"


GROWTH = {
    RetryMode.Fixed: lambda n: 2.0,
    RetryMode.Linear: lambda n: 2.0 * (n - 1),
    RetryMode.Exponential: lambda n: 2.0 * 3.0 ** (n - 2),
}
"""As docs/howto/retries.md has it, with delay=2 and multiplier=3."""


@pytest.mark.parametrize("mode", RetryMode)
@pytest.mark.parametrize("chance", [0.0, 0.25, 0.999])
def test_the_pause_before_attempt_n_follows_the_formula(mode: RetryMode, chance: float):
    policy = RetryPolicy(
        100, backoff=BackoffPolicy(2.0, multiplier=3.0, max_delay=50.0, jitter=0.4, mode=mode), retry_on=Declined
    )
    for n in range(2, 101):
        waited = policy.next_delay(n - 1, lineage=[f"{__name__}:Declined"], timed_out=False, chance=chance)
        assert waited == pytest.approx(min(GROWTH[mode](n), 50.0) * (1 - 0.4 * chance))
    assert policy.next_delay(100, lineage=[f"{__name__}:Declined"], timed_out=False, chance=chance) is None
