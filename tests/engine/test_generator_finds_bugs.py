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

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    for seed in range(MOST):
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
