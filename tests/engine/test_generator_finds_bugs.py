"""The generator of programs is measured: planted bugs, and how many of them it finds.

`HOLDFAST_EXAMPLES=1000` gives it more programs for each than CI does.
"""

from __future__ import annotations

import os
import random
from functools import cache

import pytest
from tests.engine.harness import Endless, Seen, always, by_holdfast, by_python
from tests.engine.mutants import MUTANTS
from tests.engine.programs import Writer

MOST = int(os.environ.get("HOLDFAST_EXAMPLES", "90"))
"""Programs tried for one bug."""

FIRST = {
    "a callers frame is dropped with its callees": 0,
    "a kept method is bound to another object": 0,
    "a value is evaluated for each target": 0,
    "aliases are saved apart": 0,
    "an attribute of what was awaited is read late": 0,
    "continue leaves the loop": 0,
    "only assigned variables are saved": 0,
    "operands are not put aside": 0,
    "what handlers need is not kept": 0,
    "what is called is looked up late": 0,
    "a kept action comes back as another": 3,
    "deleted variables come back": 3,
    "an augmented assignment reads late": 5,
    "contexts of awaited errors are lost": 5,
    "contexts of native errors are lost": 5,
    "finally is skipped on break": 5,
    "the else of a loop runs after break": 5,
    "unmatched parts of a group are swallowed": 5,
    "gather always raises": 6,
    "a gather that is late is cancelled": 8,
    "short circuits are evaluated eagerly": 8,
    "timers of one moment fire backwards": 8,
    "finally is skipped on return": 9,
    "nothing is suppressed": 9,
    "a failing group leaves its tasks running": 10,
    "the name of an except clause stays bound": 10,
    "a kept function comes back as another": 13,
    "gather gives results as they end": 13,
    "a loop variable is not kept": 20,
    "sleep 0 does not give way": 23,
    "managers hear of no errors": 30,
    "a cancelled wait swallows the cancellation": 34,
    "a chained comparison evaluates its middle twice": 34,
    "a walrus behind a name is overlooked": 47,
    "a stop iteration leaves a coroutine as it is": 65,
}
"""The first program that shows it. It is tried before the others, which are for when the generator has changed."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    for seed in (FIRST.get(name, 0), *range(MOST)):
        # Python's own run does not touch what was patched.
        seen = expected(seed)
        if seen is not None and differs(seed, seen):
            return
    pytest.fail(f"{MOST} programs do not show that {name}")


def text_of(seed: int) -> tuple[str, int]:
    source = random.Random(seed)
    return Writer(source.randrange).program(), source.randrange(5)


@cache
def expected(seed: int) -> Seen | None:
    text, n = text_of(seed)
    try:
        return by_python(text, n)
    except (Endless, RecursionError):
        return None


def differs(seed: int, seen: Seen) -> bool:
    text, n = text_of(seed)
    try:
        return by_holdfast(text, n, crashes=(always,))[0] != seen
    except Exception:
        return True
