"""Schedules: workflows started by the clock. One instance per tick, however many workers are alive."""

from holdfast.schedules.client import ScheduleHandle, make_schedule
from holdfast.schedules.spec import CatchUp, Overlap, Spec
from holdfast.schedules.ticker import Ticker

__all__ = ["CatchUp", "Overlap", "ScheduleHandle", "Spec", "Ticker", "make_schedule"]
