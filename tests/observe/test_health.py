"""Whether worker processes live and are ready, judged from what they told."""

from __future__ import annotations

import dataclasses

import pytest

from holdfast.errors import DecodeError
from holdfast.observe.health import DEATHS, Told, health_of
from holdfast.runtime.reading import Reading, read_reading, write_reading

WELL = Reading(pid=7, ready=True, draining=False, turned=0.1, renewed=2.0, lease=15.0)


def told(*, age: float = 0.0, **changes: object) -> Told:
    return Told(reading=dataclasses.replace(WELL, **changes), age=age)


def test_where_all_is_well_there_is_nothing_to_say():
    health = health_of([told(), told(pid=8)], wanted=2)
    assert (health.dead, health.unready) == ([], [])


@pytest.mark.parametrize(
    ("each", "reason"),
    [
        (told(turned=16.0), "the event loop of process 7 has not turned for 16 seconds"),
        (told(age=30.0), "process 7 has told nothing for 30 seconds"),
    ],
)
def test_what_only_a_new_start_mends_is_dead_and_not_ready(each: Told, reason: str):
    health = health_of([each], wanted=1)
    assert health.dead == [reason]
    assert reason in health.unready


@pytest.mark.parametrize(
    ("each", "reason"),
    [
        (told(ready=False, renewed=None), "process 7 has no lease"),
        (told(draining=True), "process 7 drains"),
        (told(renewed=16.0), "process 7 has not renewed its lease for 16 seconds"),
    ],
)
def test_who_takes_no_work_lives_and_is_not_ready(each: Told, reason: str):
    health = health_of([each], wanted=1)
    assert health.dead == []
    assert health.unready == ["0 of 1 worker processes take work", reason]


def test_fewer_processes_than_wanted_are_not_ready():
    assert health_of([told()], wanted=2).unready == ["1 of 2 worker processes take work"]
    assert health_of([told(), told(pid=8, ready=False)], wanted=1).unready == []


def test_who_was_asked_to_stop_is_not_ready():
    assert health_of([told()], wanted=1, stopping=True).unready == ["it was asked to stop"]


def test_a_place_in_which_processes_keep_dying_is_dead():
    assert health_of([told()], wanted=1, deaths=[0, DEATHS - 1]).dead == []
    assert health_of([told()], wanted=1, deaths=[0, DEATHS]).dead == [f"{DEATHS} worker processes in a row have died"]


def test_a_reading_is_read_as_it_was_written():
    reading = dataclasses.replace(WELL, numbers={"holdfast_jobs_total": {("a", "b", "done"): [3]}})
    assert read_reading(write_reading(reading)) == reading


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b'{"numbers": {}}', b'{"numbers": [1]}', b'{"numbers": {"a": [1]}}']
)
def test_what_is_no_reading_is_refused(line: bytes):
    with pytest.raises(DecodeError):
        read_reading(line)
