"""Settings that are misspelled are told, in the environment and in `.env`."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from holdfast import App, Settings, app
from holdfast.errors import ConfigurationError
from holdfast.settings import unknown_variables


@pytest.fixture(autouse=True)
def _nothing_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "_WARNED", set())


def test_an_unknown_variable_is_told_once_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOLDFAST_LOGLEVEL", "debug")
    monkeypatch.setenv("HOLDFAST_COFFEE", "black")
    with caplog.at_level(logging.WARNING, "holdfast"):
        App(url="sqlite://:memory:")
        App(url="sqlite://:memory:", settings=Settings.load(log_level="info"))
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(" hint=")[0] for text in told] == [
        "unknown setting variable='HOLDFAST_COFFEE'",
        "unknown setting variable='HOLDFAST_LOGLEVEL'",
    ]
    assert "settings.md" in told[0]
    assert "did you mean HOLDFAST_LOG_LEVEL?" in told[1]


def test_a_line_of_the_env_file_is_told_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HOLDFAST_LEASE_SECOND=5\nDATABASE=other\nHOLDFAST_QUEUES=a\n")
    assert unknown_variables() == {"HOLDFAST_LEASE_SECOND": "HOLDFAST_LEASE_SECONDS"}


def test_settings_and_what_tests_and_commands_use_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOLDFAST_LOG_LEVEL", "holdfast_queues", "HOLDFAST_TEST_X", "HOLDFAST_SUPERVISOR_FD", "HOLD_ON"):
        monkeypatch.setenv(name, "1")
    assert unknown_variables() == {}


@pytest.mark.parametrize("queues", ["", " ", ",", " , "])
def test_queues_that_name_none_are_refused(queues: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"HOLDFAST_QUEUES: '.*' names no queue; give names separated by commas"
    ):
        Settings.load(queues=queues)
    with pytest.raises(ConfigurationError, match="names no queue"):
        App(url="sqlite://:memory:").reconfigure(queues=queues)
