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
    "a chained comparison evaluates its middle twice": 0,
    "a kept function comes back as another": 0,
    "a kept method is bound to another object": 0,
    "aliases are saved apart": 0,
    "continue leaves the loop": 0,
    "what handlers need is not kept": 0,
    "only assigned variables are saved": 1,
    "the name of an except clause stays bound": 1,
    "a failing group leaves its tasks running": 2,
    "contexts of awaited errors are lost": 2,
    "short circuits are evaluated eagerly": 6,
    "the else of a loop runs after break": 6,
    "a loop variable is not kept": 7,
    "finally is skipped on break": 7,
    "contexts of native errors are lost": 8,
    "operands are not put aside": 8,
    "unmatched parts of a group are swallowed": 15,
    "timers of one moment fire backwards": 17,
    "a kept action comes back as another": 18,
    "nothing is suppressed": 19,
    "a value is evaluated for each target": 20,
    "an augmented assignment reads late": 24,
    "finally is skipped on return": 28,
    "gather always raises": 28,
    "sleep 0 does not give way": 29,
    "a walrus behind a name is overlooked": 40,
    "gather gives results as they end": 40,
    "deleted variables come back": 44,
    "a stop iteration leaves a coroutine as it is": 58,
    "a cancelled wait swallows the cancellation": 67,
    "managers hear of no errors": 277,
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
