"""Arguments of tasks are validated where a job is asked for, as those of workflows are where a run is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from holdfast import App, Depend, ValidationError
from holdfast.codec import decode_call
from holdfast.runtime import messages
from holdfast.task import ACTIONS
from holdfast.tasks import RESULT


@dataclass
class Parcel:
    to: str
    weight: float = 1.0


async def connection() -> str:
    return "connection"


@pytest.fixture
def app() -> Any:
    before = dict(ACTIONS)
    yield App("test", url="sqlite://:memory:")
    ACTIONS.clear()
    ACTIONS.update(before)


def sent(task: Any, *args: Any, **kwargs: Any) -> Any:
    """The arguments that a worker gets."""
    return decode_call(messages.read(task.job(args, kwargs, task.jobs).payload).arguments)


async def test_what_does_not_fit_is_refused_where_it_is_asked_for(app: App):
    @app.task(name="shop:square")
    async def square(n: int, *, label: str = "") -> int:
        return n * n

    told = (
        r"shop:square cannot be sent with these arguments:\n  n: .*integer.* \(got 'x'\)\n  label: .*string.*\(got 3\)"
    )
    with pytest.raises(ValidationError, match=told):
        await square.delay("x", label=3)
    with pytest.raises(ValidationError):
        await square.map([1, "x"])
    with pytest.raises(ValidationError):
        await (square.s(1) >> square.s("x")).delay()
    with pytest.raises(TypeError, match="missing 1 required"):
        await square.delay()


def test_what_fits_is_sent_as_the_annotations_want_it(app: App):
    @app.task
    async def ship(
        parcel: Parcel, *more: int, via: Annotated[str, Depend(connection)], fast: bool = False, **notes: int
    ):
        return None

    assert sent(ship, {"to": "Ada", "weight": "2"}, "1", 2, fast="yes", why="7") == (
        (Parcel("Ada", 2.0), 1, 2),
        {"fast": True, "why": 7},
    )
    with pytest.raises(ValidationError, match="why: "):
        sent(ship, Parcel("Ada"), why="so")


def test_a_parameter_behind_one_that_is_injected_is_validated_by_its_name(app: App):
    @app.task
    async def ship(first: int, via: Annotated[str, Depend(connection)], second: int):
        return None

    assert sent(ship, "1", second="2") == ((1,), {"second": 2})


def test_what_stands_for_a_result_and_what_is_only_iterated_over_is_sent_as_it_is(app: App):
    @app.task
    async def total(numbers: Iterable[int], factor: int = 1) -> int:
        return sum(numbers) * factor

    assert sent(total, [1, 2]) == (([1, 2],), {})
    assert (total.s([3]) >> total.s(RESULT, factor=RESULT)).job()


def test_the_items_of_a_batch_are_not_taken_for_the_list_of_them(app: App):
    @app.batch_task(size=2, within=1)
    async def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    assert sent(double, 3) == ((3,), {})


def test_jobs_with_arguments_that_are_the_same_once_validated_are_one(app: App):
    @app.task(unique=True)
    async def square(n: int) -> int:
        return n * n

    assert square.job((3,), {}, square.jobs).unique == square.job((), {"n": "3"}, square.jobs).unique


def test_arguments_that_are_left_to_their_defaults_make_the_same_job(app: App):
    nothing = object()

    @app.task(unique=True)
    def tell(
        n: int,
        to: str = "x",
        *more: int,
        share: float = 1,
        size: int = None,  # type: ignore[assignment]
        lock: Any = nothing,
        shop: Annotated[str, Depend(lambda: "a shop")] = "none",
        **words: str,
    ) -> None: ...

    def unique(*args: Any, **kwargs: Any) -> str | None:
        return tell.job(args, kwargs, tell.jobs).unique

    assert unique(1) == unique(1, "x") == unique(to="x", n=1) == unique(1, share=1.0) == unique(1, share=1)
    assert len({unique(1), unique(2), unique(1, "y"), unique(1, "x", 3), unique(1, size=4), unique(1, a="b")}) == 6
