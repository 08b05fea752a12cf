"""Settings: from arguments, `HOLDFAST_*` environment variables and a `.env` file, in this order. Reads; decides nothing."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from holdfast.errors import ConfigurationError

_PREFIX = "HOLDFAST_"
_OTHERS = ("TEST_", "DEMO_", "SUPERVISOR_")
"""How variables go on after the prefix that are no settings, but Holdfast's own."""


class Settings(BaseSettings):
    """What can be set. Each field is read from `HOLDFAST_<FIELD>` in the environment, then from `.env`.

    Durations are in the unit that their name says, else in seconds.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    database_url: str = "sqlite:///holdfast.db"
    """Where instances live: `sqlite:///file.db`, `sqlite://:memory:`, `postgresql://user@host/database`."""
    tasks_url: str | None = None
    """Where jobs lie, if not in the database of the instances: `redis://…`, `servicebus://…`, or the URL of another database."""
    worker_count: int | str = Field(default_factory=lambda: os.cpu_count() or 1)
    """Worker processes of `holdfast worker`; by default one for each processor. `1..8`: as many as there is work for."""
    scale_down_seconds: float = Field(60.0, gt=0)
    """For how long fewer worker processes must have been enough before one is ended, where their number may vary."""
    concurrent_per_worker: int = Field(10, ge=1)
    """How many actions a worker process runs at once."""
    user_module: str | None = None
    """A module that each worker imports before it takes work; several are separated by commas."""
    poll_interval_ms: float = Field(100, gt=0)
    """How often a worker looks for work where the store cannot push, in milliseconds."""
    max_action_lifecycle: int | None = Field(None, ge=1)
    """After how many actions a worker process is replaced by a fresh one; by default never."""
    batch_size: int | None = Field(None, ge=1)
    """How many calls a worker takes over from others at once; by default as many as it has room for."""
    prefetch: int | None = Field(None, ge=0)
    """How many jobs a worker process takes beyond those it can run at once; by default what it does in a tenth of a second."""
    max_instances: int = Field(2000, ge=1)
    """How many instances a worker process holds in memory at once; those that only wait do not count."""
    queues: str = "*"
    """The queues to work on, separated by commas; `*` means all. With weights (`critical:3,default:1`) they share the room for
    jobs."""
    default_retries: int = Field(10, ge=0)
    """How often a task that was defined without a policy is retried."""
    unknown_task_seconds: float = Field(300.0, ge=0)
    """For how long a worker leaves jobs of tasks that are not defined on it to others, before they become dead letters."""
    results_ttl: float = Field(3600, ge=0)
    """For how many seconds results of tasks are kept, unless the task says otherwise; 0: not at all."""
    embedded_worker: bool = True
    """Whether a process that starts workflows on SQLite works on them itself while no worker is alive."""
    lease_seconds: float = Field(15.0, gt=0)
    """After how many seconds without a sign of life a worker's instances go to others."""
    drain_seconds: float = Field(30.0, ge=0)
    """How long a worker that is asked to stop lets running actions go on."""
    metrics_port: int | None = Field(None, ge=0, le=65535)
    """The port of `holdfast worker` for `/metrics`, `/livez` and `/readyz`; 0 for any that is free; by default none."""
    metrics_host: str = "127.0.0.1"
    """The address at which it listens; `0.0.0.0` or `::` for all of the machine's."""
    web_token: str | None = None
    """What the dashboard asks for before it shows anything; needed where others than this machine reach it."""
    gc_interval_ms: float | None = Field(None, gt=0)
    """How often finished instances are cleaned up, in milliseconds; by default never."""
    gc_retention_seconds: float = Field(86400, ge=0)
    """How long finished instances are kept at least."""
    gc_batch_size: int = Field(100, ge=1)
    """How many instances are cleaned up at once."""
    history_retention_seconds: float = Field(7 * 86400, ge=0)
    """How long history is kept at least; living instances keep what they need to go on, however old."""
    history_steps: int = Field(1000, ge=1)
    """How many steps of a living instance's history are kept, beyond what it needs to go on."""
    signing_key: str | None = None
    """Where set, stored programs are signed with it, and others are refused."""
    log_format: Literal["auto", "human", "json"] = "auto"
    """How logs look: for people, or one JSON object a line; by default for people on a terminal."""
    log_level: str = "info"

    @property
    def process_bounds(self) -> tuple[int, int]:
        """How many worker processes there are at least and at most."""
        return _bounds(self.worker_count)

    @property
    def queue_names(self) -> list[str]:
        """The queues to work on, one by one."""
        return list(dict.fromkeys(name for name, _ in _queues(self.queues)))

    @property
    def queue_weights(self) -> dict[str, int]:
        """The shares of queues in a worker's room for jobs, where any was given; queues without one have 1."""
        found = _queues(self.queues)
        return {name: weight or 1 for name, weight in found} if any(weight for _, weight in found) else {}

    @field_validator("worker_count", mode="before")
    @classmethod
    def _processes(cls, value: object) -> int | str:
        least, most = _bounds(value)
        return least if isinstance(value, int) or ".." not in str(value) else f"{least}..{most}"

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error", "critical"):
            raise ValueError("one of debug, info, warning, error, critical")
        return value.lower()

    @field_validator("queues")
    @classmethod
    def _some_queue(cls, value: str) -> str:
        if not value.replace(",", "").strip():
            raise ValueError(f"{value!r} names no queue; give names separated by commas, or * for all")
        found = _queues(value)
        names = [name for name, _ in found]
        if any(weight is not None for _, weight in found):
            if "*" in names:
                raise ValueError("* stands for all queues, and has no share among them; name each queue that has one")
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{twice[0]!r} is named twice")
        return value

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """The settings, with those given here going first. Raises ConfigurationError that names what is wrong."""
        unknown = sorted(given.keys() - cls.model_fields.keys())
        if unknown:
            raise ConfigurationError(
                f"there is no setting {', '.join(map(repr, unknown))}; docs/reference/settings.md lists all"
            )
        try:
            return cls(**{key: value for key, value in given.items() if value is not None})
        except ValidationError as error:
            lines = [
                f"  {'HOLDFAST_' + str(item['loc'][0]).upper() if item['loc'] else 'settings'}: {_words(item)}"
                for item in error.errors()
            ]
            raise ConfigurationError("these settings cannot be used:\n" + "\n".join(lines)) from error


def _words(item: ErrorDetails) -> str:
    """What is wrong with a setting: our own words where it was one of our checks that found it."""
    own = item.get("ctx", {}).get("error")
    return str(own) if isinstance(own, ValueError) else item["msg"]


def _bounds(given: object) -> tuple[int, int]:
    """A number of processes, or two with dots between. Raises ValueError where it is neither."""
    match = re.fullmatch(r"\s*([0-9]+)\s*(?:\.\.\s*([0-9]+)\s*)?", str(given))
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if least < 1:
        raise ValueError(f"{given!r} is no number of processes from 1 on, such as 4, and no two bounds, such as 1..8")
    if most < least:
        raise ValueError(f"{given!r} has the higher bound first; {most}..{least} would do")
    return least, most


_WEIGHT = re.compile(r"(?P<name>.+):(?P<weight>[-+]?[0-9][0-9.]*)")


def _queues(text: str) -> list[tuple[str, int | None]]:
    """Names of queues with their weights, if they have any. Raises ValueError for weights that are none."""
    found: list[tuple[str, int | None]] = []
    for each in filter(None, map(str.strip, text.split(","))):
        match = _WEIGHT.fullmatch(each)
        if match is None:
            found.append((each, None))
        elif match["weight"].isdigit() and int(match["weight"]) >= 1:
            found.append((match["name"].strip(), int(match["weight"])))
        else:
            raise ValueError(f"{each!r}: a weight is a whole number from 1 on")
    return found


def unknown_variables() -> dict[str, str | None]:
    """The variables in the environment and in `.env` that are named like settings and are none, each with the one meant."""
    known = [name.upper() for name in Settings.model_fields]
    found = {name.upper() for name in (*os.environ, *DotEnvSettingsSource(Settings).env_vars)}
    named = sorted(name.removeprefix(_PREFIX) for name in found if name.startswith(_PREFIX))
    unknown = [name for name in named if name not in known and not name.startswith(_OTHERS)]
    meant = {name: get_close_matches(name, known, n=1) for name in unknown}
    return {f"{_PREFIX}{name}": f"{_PREFIX}{near[0]}" if near else None for name, near in meant.items()}
