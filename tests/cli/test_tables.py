"""Tables in a terminal of eighty columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from holdfast.cli import tables
from holdfast.cli.workflows import print_history
from holdfast.observe.folding import told
from holdfast.observe.history import StepView


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    monkeypatch.setattr(tables, "console", console)
    monkeypatch.setenv("COLUMNS", "80")
    yield lambda: console.export_text().splitlines()
    console.file.close()


def step(seq: int, *events: str, line: int | None = 7, **changed: object) -> StepView:
    return StepView(seq=seq, at=1.9e9 + seq, events=events, changed=changed, line=line)


def test_events_that_are_the_same_are_told_once_with_their_number():
    assert told(["pid gave 3"] * 4) == ["pid gave 3 × 4"]
    assert told(["Child gave 26", "Child gave 15"]) == ["Child gave 26 … and 1 more"]


def test_of_events_of_one_kind_the_first_is_told_with_the_number_of_the_others():
    sent = [f"calls send(to='user-{n}')" for n in range(9)]
    assert told(["fetch gave 9", *sent, "fetch failed: x"]) == [
        "fetch gave 9",
        "calls send(to='user-0') … and 8 more",
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
    tables.show(
        [{"id": id, "workflow": "shop.orders.checkout:Checkout", "status": "done", "due": None, "owner": "w" * 50}],
    )
    text = "\n".join(lines())
    assert id in text
    assert "due" not in text
    assert "done" in text


def test_brackets_in_values_are_shown_as_they_are(lines):
    tables.show([{"variable": "x", "value": "[red] and [/]"}])
    assert "[red] and [/]" in "\n".join(lines())


def test_in_a_narrow_terminal_what_changed_stands_below_what_happened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with (tmp_path / "out").open("w") as file:
        console = Console(width=60, record=True, file=file)
        monkeypatch.setattr(tables, "console", console)
        monkeypatch.setenv("COLUMNS", "60")
        print_history([step(1, "fetch gave [User(1)]", users=["x"] * 5)])
        shown = console.export_text().splitlines()
    assert all(len(line) <= 60 for line in shown)
    assert shown[0].split() == ["step", "at", "line", "what"]
    assert [line.strip() for line in shown if "users = ['x'" in line]


# --- listings

UUID = "01a1b2c3-0000-7000-8000-00000000000"
ROWS = [
    {
        "id": f"{UUID}1",
        "workflow": "CheckoutOfManyMoreThingsThanThat",
        "status": "pending",
        "created": "59m ago",
        "why": "x " * 60,
    },
    {"id": f"{UUID}2", "workflow": "Short", "status": "cancelled", "created": "2d ago", "ended": "59m ago"},
]
COLUMNS = ["id", "workflow", "status", "created", "ended", "owner"]


def list_rows(rows: list[dict[str, Any]]) -> None:
    tables.listing(rows, columns=COLUMNS, cut=["workflow"], spare=["ended", "owner"], note="why")


def test_a_listing_fits_eighty_columns_with_its_ids_whole_and_notes_beneath(lines):
    list_rows(ROWS)
    shown = lines()
    assert all(len(line) <= 80 for line in shown)
    assert shown[0].split() == ["id", "workflow", "status", "created"]
    assert shown[1].startswith(f"{UUID}1  CheckoutOf")
    assert "…  pending" in shown[1]
    assert [line[:5] for line in shown[2:4]] == ["    x", "    x"]
    assert shown[4].startswith(f"{UUID}2  Short")


def test_a_long_id_has_a_line_of_its_own_and_is_never_cut(lines):
    id = "order-" + "1234567890" * 9
    list_rows([{**ROWS[1], "id": id}, ROWS[0]])
    shown = lines()
    assert id in "".join(shown)
    assert any(line.startswith(" " * 42 + "Short") for line in shown)


def test_where_there_is_room_notes_stand_beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with (tmp_path / "out").open("w") as file:
        console = Console(width=160, record=True, file=file)
        monkeypatch.setattr(tables, "console", console)
        monkeypatch.setenv("COLUMNS", "160")
        list_rows(ROWS)
        shown = console.export_text().splitlines()
    assert shown[0].split() == ["id", "workflow", "status", "created", "ended", "why"]
    begin = shown[0].index("why")
    assert shown[1][begin:].startswith("x x x")
    assert shown[2].strip().startswith("x x")
    assert shown[2].index("x") == begin


def test_without_a_terminal_every_row_is_one_whole_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("COLUMNS", raising=False)
    list_rows([{**ROWS[0], "id": "x" * 90}, ROWS[1]])
    tables.show([{"variable": "x", "value": "long " * 60}])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 5
    assert shown[1].split()[:3] == ["x" * 90, "CheckoutOfManyMoreThingsThanThat", "pending"]
    assert shown[1].endswith("x x")
    assert shown[4] == "x         " + ("long " * 60).rstrip()


def test_a_listing_of_nothing_says_so(capsys: pytest.CaptureFixture[str]):
    list_rows([])
    assert capsys.readouterr().out == "nothing found\n"
