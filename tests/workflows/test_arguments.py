"""Arguments that do not fit are refused where a run is asked for, in words that name the workflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from holdfast import ValidationError, Workflow, workflow


@workflow
class Greeting(Workflow):
    def __init__(self, language: str = "en") -> None:
        self.language = language

    async def run(self, name: str, times: int = 1) -> str:
        return f"{self.language} {name}" * times


@workflow
class Silence(Workflow):
    async def run(self) -> None: ...


@workflow
class Positional(Workflow):
    async def run(self, name: str, /) -> str:
        return name


@workflow
class Open(Workflow):
    async def run(self, **options: int) -> dict[str, int]:
        return options


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: Greeting().run(nmae="Ada"), "^Greeting has no argument 'nmae'; did you mean 'name'\\?$"),
        (lambda: Greeting().start("Ada", tims=2), "^Greeting has no argument 'tims'; did you mean 'times'\\?$"),
        (lambda: Greeting().start("Ada", dealy=2), "^Greeting has no argument 'dealy'; did you mean 'delay'\\?$"),
        (lambda: Greeting().run("Ada", colour=2), "^Greeting has no argument 'colour'; it takes 'name', 'times'$"),
        (lambda: Silence().run(colour=2), "^Silence has no argument 'colour'; it takes none$"),
        (lambda: Positional().run(name="Ada"), "^Positional takes its argument 'name' by position only$"),
        (lambda: Greeting().run(), "^Greeting: missing a required argument: 'name'$"),
        (lambda: Greeting().run("Ada", 1, 2), "^Greeting: too many positional arguments$"),
    ],
)
def test_a_wrong_argument_is_told_by_its_name(ask, words):
    with pytest.raises(TypeError, match=words):
        ask()


def test_a_workflow_that_takes_any_argument_takes_any():
    assert bound(Open().run(colour=2)) == {"options": {"colour": 2}}


def test_values_of_run_are_validated_and_those_of_the_constructor_are_taken_as_python_does():
    with pytest.raises(ValidationError, match="Greeting cannot be started.*\n.*times: .*valid integer.*got 'x'"):
        Greeting().run("Ada", "x")
    assert bound(Greeting("de").run("Ada", "2")) == {"name": "Ada", "times": 2}
    assert Greeting(7).language == 7


def bound(run: Any) -> dict[str, Any]:
    """The arguments of a run that is not meant to begin."""
    run.unused = False
    return run.bound


@dataclass
class Parcel:
    to: Nowhere  # noqa: F821 - that is what is tested


@workflow
class Unclear(Workflow):
    async def run(self, first: Nope, parcel: Parcel, n: int) -> int:  # noqa: F821 - that is what is tested
        return n


def test_an_annotation_that_means_nothing_is_warned_of_once_and_the_others_still_count(
    caplog: pytest.LogCaptureFixture,
):
    with pytest.raises(ValidationError, match="n: Input should be a valid integer"):
        Unclear().run(1, Parcel("x"), "many")
    asked = Unclear().run("x", Parcel("x"), "3")
    assert asked.bound == {"first": "x", "parcel": Parcel("x"), "n": 3}
    asked.close()
    told = [record.__dict__["holdfast_fields"] for record in caplog.records]
    assert [(one["of"], one["parameter"], one["annotation"]) for one in told] == [
        ("Unclear", "first", "Nope"),
        ("Unclear", "parcel", "Parcel"),
    ]
