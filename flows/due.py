"""When nights are due by a pipeline's schedule, and which night a moment is about."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flows.cron import cron_times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.config import Schedule

__all__ = ["due_at", "due_before", "night_at"]

FARTHEST = timedelta(days=400)
"""How far to look for the times of a cron line; the rarest sensible one fires once a year."""
CLOCK_CHANGE = timedelta(hours=2)
"""More than any clock is put forward or back."""


def night_at(schedule: Schedule, at: datetime) -> date:
    """The logical date of a run that was scheduled for a moment: in the schedule's zone, less the lag."""
    zone = ZoneInfo(schedule.timezone)
    local = _as_meant(schedule, at, zone).astimezone(zone)
    return (local.replace(tzinfo=None) - schedule.lag).date()


def due_at(schedule: Schedule, day: date) -> datetime:
    """When a night is scored: at the first time of the schedule that is about this night or a later one."""
    begin = _begin(schedule, day)
    times = cron_times(schedule.score, ZoneInfo(schedule.timezone), begin, begin + FARTHEST)
    return next(times, begin)


def due_before(schedule: Schedule, day: date, count: int) -> list[date]:
    """The last ``count`` nights that were due before a night, oldest first."""
    earlier = (day - timedelta(days=i) for i in range(1, FARTHEST.days))
    return list(islice(_due(schedule, earlier), count))[::-1]


def _due(schedule: Schedule, days: Iterator[date]) -> Iterator[date]:
    zone = ZoneInfo(schedule.timezone)
    for day in days:
        span = (_begin(schedule, day), _begin(schedule, day + timedelta(days=1)))
        if any(True for _ in cron_times(schedule.score, zone, *span)):
            yield day


def _begin(schedule: Schedule, day: date) -> datetime:
    """The first moment that is about a night."""
    return (datetime.combine(day, time.min) + schedule.lag).replace(tzinfo=ZoneInfo(schedule.timezone))


def _as_meant(schedule: Schedule, at: datetime, zone: ZoneInfo) -> datetime:
    """The time that a schedule meant where clocks change around it.

    00:30 may not exist; Prefect then runs at 01:30, or, on Python 3.11 and 3.12, at 23:30 of the day before.
    """
    around = (at - CLOCK_CHANGE, at + CLOCK_CHANGE)
    before, after = (moment.astimezone(zone).utcoffset() for moment in around)
    if before == after:
        return at
    lines = (schedule.score, schedule.train, schedule.monitor)
    times = [moment for line in lines for moment in cron_times(line, zone, *around)]
    return min(times, key=lambda moment: abs(moment - at), default=at)
