"""Commands that look at a database make none where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast.cli import main

LOOKING = [
    ["workflows", "list"],
    ["workflows", "show", "x"],
    ["workflows", "history", "x"],
    ["workflows", "cancel", "x"],
    ["workflows", "retry", "x"],
    ["workflows", "wait", "x"],
    ["workflows", "fork", "x"],
    ["schedules", "list"],
    ["schedules", "pause", "x"],
    ["workers"],
    ["doctor"],
]


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_a_command_that_looks_makes_no_database(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    result = CliRunner().invoke(main, [*command, "--url", f"sqlite:///{tmp_path}/mistyped.db"])
    assert result.exit_code == 1
    assert "there is no database at" in result.output
    assert not list(tmp_path.iterdir())
