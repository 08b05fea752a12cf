"""Schedules: workflows started by the clock. One instance per tick, however many workers are alive."""

from holdfast.schedules.client import ScheduleHandle, make_schedule
from holdfast.schedules.spec import CatchUp, Overlap, Spec
from holdfast.schedules.ticker import Ticker
from holdfast.schedules.timers import KEPT, Timer, Timers

__all__ = ["KEPT", "CatchUp", "Overlap", "ScheduleHandle", "Spec", "Ticker", "Timer", "Timers", "make_schedule"]
