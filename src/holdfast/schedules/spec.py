"""What a schedule says, and when it ticks. Pure data and arithmetic; starts nothing."""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from holdfast.codec import dumps, loads
from holdfast.errors import ConfigurationError, DecodeError


class Overlap(enum.StrEnum):
    """What a tick does while the instance of the tick before still runs. One that is parked does not run."""

    SKIP = "skip"
    """Nothing: this tick is left out, and counted."""
    ALLOW = "allow"
    """Start beside it."""
    CANCEL = "cancel"
    """Ask the running one to cancel, and start."""


class CatchUp(enum.StrEnum):
    """What becomes of ticks that passed while no worker was alive."""

    LATEST = "latest"
    """The last one missed is made up for, the others are left out."""
    ALL = "all"
    """Each of them is made up for: under SKIP one after the other, each when the one before has ended."""
    NONE = "none"
    """All are left out."""


CATCH_UP_LIMIT = 1000
"""Ticks fired in one go; those beyond come in the next."""
LATE_AFTER = 60.0
"""A tick that is fired so many seconds late counts as missed."""


@dataclass(frozen=True, slots=True)
class Firing:
    """What becomes of ticks that are due."""

    ticks: Sequence[float]
    """Those that start an instance."""
    skipped: int
    """How many are left out because of an instance that runs, or would at once be cancelled."""
    next_at: float | None
    """The first tick not fired yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A schedule: what to start, when, and with what. Either `cron` or `every` (seconds) is given."""

    workflow: str
    cron: str | None = None
    every: float | None = None
    timezone: str = "UTC"
    jitter: float = 0.0
    """Each tick starts up to so many seconds later; by how much follows from the tick."""
    inputs: Any = field(default_factory=dict[str, Any])
    """Encoded: `[attributes, arguments]`."""
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LATEST
    queue: str = "default"
    anchor: float = 0.0
    """From where `every` counts (Unix seconds)."""

    def check(self) -> None:
        """Raise ConfigurationError, in words, for a schedule that cannot tick."""
        if (self.cron is None) == (self.every is None):
            raise ConfigurationError("a schedule needs either cron= or every=, and not both")
        if self.every is not None and not (self.every > 0 and math.isfinite(self.every)):
            raise ConfigurationError(f"every= must be more than 0 seconds, not {self.every!r}")
        if self.jitter < 0:
            raise ConfigurationError(f"jitter= must not be negative, but is {self.jitter!r}")
        try:
            zone = ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigurationError(f"there is no timezone {self.timezone!r}; write one like Europe/Berlin") from error
        if self.cron is not None:
            try:
                CronSim(self.cron, datetime.now(zone))
            except CronSimError as error:
                raise ConfigurationError(f"cron= is not a cron expression: {self.cron!r} ({error})") from error

    def next_after(self, moment: float) -> float | None:
        """The first tick after `moment` (both in Unix seconds); None if there is none within fifty years."""
        if self.every is not None:
            return self.anchor + (math.floor((moment - self.anchor) / self.every) + 1) * self.every
        assert self.cron is not None
        begin = datetime.fromtimestamp(moment, UTC).astimezone(ZoneInfo(self.timezone))
        try:
            return next(CronSim(self.cron, begin)).timestamp()
        except StopIteration:
            return None

    def due(self, first: float, now: float) -> tuple[list[float], float | None]:
        """The ticks to fire out of those from `first` to `now`, and the one after, which may have passed as well."""
        ticks: list[float] = []
        tick: float | None = first
        while tick is not None and tick <= now:
            ticks.append(tick)
            if len(ticks) > CATCH_UP_LIMIT and self.catch_up is not CatchUp.ALL:
                # A long outage of a frequent schedule: go straight to the end of it.
                before = self.next_after(now - (self.every or 86_400.0) - 1.0)
                ticks = ticks[:1] if before is None or before > now else [before]
                tick = self.next_after(now)
                break
            tick = self.next_after(tick)
            if len(ticks) == CATCH_UP_LIMIT and self.catch_up is CatchUp.ALL:
                break
        match self.catch_up:
            case CatchUp.ALL:
                pass
            case CatchUp.LATEST:
                ticks = ticks[-1:]
            case CatchUp.NONE:
                ticks = [tick for tick in ticks[-1:] if now - tick <= LATE_AFTER]
        return ticks, tick

    def firing(self, first: float, now: float, *, running: bool) -> Firing:
        """What to do at `now`, the first tick not fired yet being `first`; `running` is whether an instance runs."""
        ticks, after = self.due(first, now)
        if self.overlap is Overlap.ALLOW:
            return Firing(ticks, 0, after)
        if self.overlap is Overlap.CANCEL:
            # Of several at once, each would be cancelled by the next.
            return Firing(ticks[-1:], max(0, len(ticks) - 1), after)
        if running and self.catch_up is CatchUp.ALL and now - first > LATE_AFTER:
            # A missed tick is not left out: it waits for its turn.
            return Firing([], 0, first)
        if running:
            return Firing([], len(ticks), after)
        # The next one has its turn when this one's instance has ended.
        return Firing(ticks[:1], 0, ticks[1] if len(ticks) > 1 else after)

    def delay(self, schedule: str, tick: float) -> float:
        """The jitter of a tick in seconds, the same wherever it is computed."""
        if not self.jitter:
            return 0.0
        digest = hashlib.sha256(f"{schedule}@{tick}".encode()).digest()
        return self.jitter * int.from_bytes(digest[:8], "big") / 2**64

    def dump(self) -> bytes:
        """As it is stored."""
        return dumps(
            {
                "workflow": self.workflow,
                "cron": self.cron,
                "every": self.every,
                "timezone": self.timezone,
                "jitter": self.jitter,
                "inputs": self.inputs,
                "overlap": self.overlap.value,
                "catch_up": self.catch_up.value,
                "queue": self.queue,
                "anchor": self.anchor,
            }
        )

    @classmethod
    def load(cls, data: bytes) -> Spec:
        """From what is stored. Raises DecodeError."""
        try:
            tree = cast("Mapping[str, Any]", loads(data))
            fields: dict[str, Any] = {
                **tree,
                "overlap": Overlap(tree["overlap"]),
                "catch_up": CatchUp(tree["catch_up"]),
            }
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"a stored schedule cannot be read: {error}") from error

    @property
    def rhythm(self) -> str:
        """When it ticks, in words."""
        if self.cron is not None:
            return f"{self.cron} ({self.timezone})"
        return f"every {timedelta(seconds=self.every or 0)}"


def instance_id(schedule: str, tick: float) -> str:
    """The id of the instance of a tick, the same on every worker."""
    return f"{schedule}@{datetime.fromtimestamp(tick, UTC).isoformat().replace('+00:00', 'Z')}"
