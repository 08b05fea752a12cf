"""Workers come and go as there is more or less to do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.test_commands import Shell
from tests.cli.test_metrics import WORK, client, serving

from holdfast import Settings
from holdfast.cli.scaling import GROW_AFTER, Scale, ado
from holdfast.errors import ConfigurationError
from holdfast.runtime.reading import Reading

REST = Reading(pid=1, ready=True, draining=False, turned=0.0, renewed=0.0, lease=15.0)
FULL = replace(REST, busy=1.0, pressed=True)


class Told:
    """A scale that is told the same at each step of a second."""

    def __init__(self, least: int, most: int) -> None:
        self.scale = Scale(least, most, idle_after=60.0)
        self.now = 1000.0

    def steps(self, seconds: int, *readings: Reading, fresh: bool = True, places: int | None = None) -> list[int]:
        """What was decided, without the steps at which nothing was."""
        made: list[int] = []
        for _ in range(seconds):
            self.now += 1.0
            at = self.now if fresh else 1.0
            told = [replace(reading, pressed_at=at) if reading.pressed else reading for reading in readings]
            made.append(self.scale.decide(told, places=len(told) if places is None else places, now=self.now))
        return [each for each in made if each]


def test_where_all_have_been_full_for_a_while_another_one_starts():
    told = Told(1, 3)
    assert told.steps(int(GROW_AFTER), FULL) == []
    assert told.steps(1, FULL) == [1]
    # Nothing more happens until that has started.
    assert told.steps(100, FULL, places=2) == []
    assert told.steps(100, FULL, replace(FULL, ready=False)) == []
    assert told.steps(3, FULL, FULL) == [1]
    assert told.steps(100, FULL, FULL, FULL) == []


def test_one_that_has_room_is_enough():
    assert Told(1, 3).steps(100, FULL, REST) == []


def test_what_was_left_behind_once_starts_one_process_and_no_more():
    told = Told(1, 3)
    told.scale.decide([replace(FULL, pressed_at=1.0)], places=1, now=2.0)
    assert told.steps(10, FULL, fresh=False) == [1]
    assert told.steps(200, FULL, FULL, fresh=False) == []


def test_one_that_is_not_needed_for_long_ends_and_others_stay():
    told = Told(1, 3)
    half = replace(REST, busy=0.4)
    assert told.steps(60, half, half, REST) == []
    assert told.steps(1, half, half, REST) == [-1]
    # Of two that use so much, neither can do without the other.
    assert told.steps(1000, half, half) == []
    assert told.steps(61, half, REST) == [-1]
    assert told.steps(1000, REST) == []


def test_a_moment_of_work_begins_the_wait_anew():
    told = Told(1, 2)
    assert told.steps(59, REST, REST) == []
    assert told.steps(1, REST, FULL) == []
    assert told.steps(60, REST, REST) == []
    assert told.steps(1, REST, REST) == [-1]


def test_fewer_than_the_least_are_never_left():
    assert Told(2, 3).steps(1000, REST, REST) == []


def test_who_ends_is_the_one_with_the_least_to_do():
    assert min([FULL, replace(REST, busy=0.2), REST, replace(REST, busy=0.1)], key=ado) is REST


@pytest.mark.parametrize(
    ("given", "bounds"), [(4, (4, 4)), ("4", (4, 4)), ("1..8", (1, 8)), (" 2 .. 3 ", (2, 3)), ("5..5", (5, 5))]
)
def test_a_number_of_processes_or_bounds_are_read(given: int | str, bounds: tuple[int, int]):
    settings = Settings.load(worker_count=given)
    assert settings.process_bounds == bounds
    assert Settings.load(**settings.model_dump()).process_bounds == bounds


def test_bounds_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOLDFAST_WORKER_COUNT", "2..6")
    assert Settings.load().process_bounds == (2, 6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0, "0 is no number of processes from 1 on, such as 4, and no two bounds, such as 1..8"),
        ("0..3", "no number of processes"),
        ("1-8", "'1-8' is no number of processes"),
        ("..8", "no number of processes"),
        (2.5, "no number of processes"),
        ("8..1", "'8..1' has the higher bound first; 1..8 would do"),
    ],
)
def test_bounds_that_are_none_are_refused(given: object, said: str):
    with pytest.raises(ConfigurationError, match=f"HOLDFAST_WORKER_COUNT.*{re.escape(said)}"):
        Settings.load(worker_count=given)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "work.py").write_text(WORK)
    return made


async def test_a_number_that_is_none_is_told_in_a_sentence(shell: Shell):
    assert "no number of processes" in await shell("worker", "work:app", "--processes", "many", status=1)


async def test_processes_start_while_jobs_wait_and_end_when_none_do(shell: Shell):
    shell.env["HOLDFAST_SCALE_DOWN_SECONDS"] = "1"
    async with serving(shell, "--processes", "1..3", "--concurrency", "2") as served:
        assert (await served.numbers())["holdfast_processes{}"] == 1
        await client(shell, "await waits.delay_many([()] * 20)")
        found = await served.until_counted("holdfast_processes_ready{}", 3)
        assert found["holdfast_attempts_running{}"] >= 4
        await served.until_counted("holdfast_attempts_running{}", 6)
        (shell.folder / "go-on").touch()
        await served.until_counted("holdfast_jobs_total{waits,default,done}", 20)
        found = await served.until_counted("holdfast_processes{}", 1)
        assert found["holdfast_process_restarts_total{died}"] == 0
        assert found["holdfast_jobs_total{waits,default,done}"] == 20
        assert (await served.ask("/readyz"))[0] == 200
