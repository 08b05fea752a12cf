"""Tables in a terminal of eighty columns."""

from __future__ import annotations

import pytest
from rich.console import Console

from holdfast.cli import common
from holdfast.cli.workflows import print_history, told
from holdfast.observe.history import StepView


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    monkeypatch.setattr(common, "console", console)
    yield lambda: console.export_text().splitlines()
    console.file.close()


def step(seq: int, *events: str, line: int | None = 7, **changed: object) -> StepView:
    return StepView(seq=seq, at=1.9e9 + seq, events=events, changed=changed, line=line)


def test_events_alike_are_told_once_with_their_number():
    sent = [f"calls send(to='user-{n}')" for n in range(9)]
    assert told(["fetch gave 9", *sent, "fetch failed: x"]) == [
        "fetch gave 9",
        "calls send(to='user-0') × 9",
        "fetch failed: x",
    ]
    assert told([]) == []


def test_what_happened_has_the_room_in_a_narrow_terminal(lines):
    print_history([step(0, "started", line=None, ids=[1, 2]), step(1, "fetch gave [User(1)]", users=["x"] * 5)])
    shown = lines()
    assert all(len(line) <= 80 for line in shown)
    # Nothing short is broken up, and no column is squeezed to a few letters.
    assert shown[0].split() == ["step", "at", "line", "what", "changed"]
    assert any("fetch gave [User(1)]" in line for line in shown)
    assert sum("17:46:4" in line for line in shown) == 2


def test_a_long_run_of_steps_alike_is_folded(lines):
    print_history([step(n, f"add gave {n}", f"calls add({n})", total=n) for n in range(1, 101)])
    text = "\n".join(lines())
    assert "× 98, alike" in text
    assert "add gave 1 " in text
    assert "calls add(100)" in text
    assert "calls add(50)" not in text


def test_an_id_is_never_broken_and_an_empty_column_is_left_out(lines):
    id = "01a1b2c3-0000-7000-8000-000000000000"
    common.show(
        [{"id": id, "workflow": "shop.orders.checkout:Checkout", "status": "done", "due": None, "owner": "w" * 50}],
        as_json=False,
    )
    text = "\n".join(lines())
    assert id in text
    assert "due" not in text
    assert "done" in text


def test_brackets_in_values_are_shown_as_they_are(lines):
    common.show([{"variable": "x", "value": "[red] and [/]"}], as_json=False)
    assert "[red] and [/]" in "\n".join(lines())
