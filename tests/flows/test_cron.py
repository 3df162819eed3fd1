"""Cron lines are checked, and fire when Prefect's scheduler fires them, also when clocks change."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from flows.cron import check_cron, cron_times

NEW_YORK = ZoneInfo("America/New_York")
SPRING, AUTUMN = datetime(2026, 3, 4, tzinfo=UTC), datetime(2026, 10, 28, tzinfo=UTC)
"""A few days before New York's clocks change, on 8 March and 1 November."""


@pytest.mark.parametrize(
    "line", ["30 3 * * *", "0 2 * * 0", "*/15 0-6,22 1,15 jan-mar MON-FRI", "0 0 31 12 7", "5/10 * * * *"]
)
def test_cron_lines_of_five_fields_pass(line: str) -> None:
    """Numbers, ranges, steps, lists and English names are known."""
    assert check_cron(line) is None


@pytest.mark.parametrize(
    "line", ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8"]
)
def test_a_cron_line_out_of_range_is_refused(line: str) -> None:
    """Too few or many fields, and numbers outside of their field's range, raise."""
    with pytest.raises(ValueError, match="a cron line"):
        check_cron(line)


@pytest.mark.parametrize(
    "line", ["5-1 * * * *", "*/0 * * * *", "a * * * *", "1,,2 * * * *", "@daily * * * *"]
)
def test_a_malformed_cron_field_is_refused(line: str) -> None:
    """The sentence names the field."""
    with pytest.raises(ValueError, match="minute lies within 0-59"):
        check_cron(line)


def times(line: str, start: datetime, days: int = 8) -> list[datetime]:
    return list(cron_times(line, NEW_YORK, start, start + timedelta(days=days)))


@pytest.mark.parametrize("start", [SPRING, AUTUMN])
@pytest.mark.parametrize("line", ["30 3 * * *", "30 23 * * *", "30 1 * * *", "15 */6 * * *"])
def test_lines_fire_when_prefect_fires_them_across_clock_changes(line: str, start: datetime) -> None:
    assert [one.astimezone(UTC) for one in times(line, start)] == prefects_times(line, start)


def test_a_time_that_is_skipped_differs_from_prefect_s_by_the_change() -> None:
    """02:30 of 8 March is 03:30 to us on any Python; to Prefect on Python 3.11 it is 01:30."""
    apart = [
        abs(ours.timestamp() - theirs.timestamp())
        for ours, theirs in zip(
            times("30 2 * * *", SPRING), prefects_times("30 2 * * *", SPRING), strict=True
        )
    ]

    assert set(apart) <= {0.0, 3600.0}


def prefects_times(line: str, start: datetime, days: int = 8) -> list[datetime]:
    from prefect.server.schemas.schedules import CronSchedule

    schedule = CronSchedule(cron=line, timezone=str(NEW_YORK))
    found = asyncio.run(schedule.get_dates(n=100, start=start, end=start + timedelta(days=days)))
    return [datetime.fromtimestamp(one.timestamp(), UTC) for one in found]


@pytest.mark.parametrize(
    "line",
    [
        "0 0 13 * 5",
        "0 0 * * 1-5",
        "5/20 0 1,15 * *",
        "0 0 * jan-mar 7",
        "0 0 * * */2",
        "0 0 * * 1/3",
        "7 7 * 2 *",
    ],
)
def test_days_of_the_month_and_of_the_week_are_read_as_prefect_reads_them(line: str) -> None:
    """Where both are given, either will do."""
    from prefect._vendor.croniter import croniter

    start = datetime(2025, 12, 31, 23, 59)
    theirs = croniter(line, start)

    ours = [one.replace(tzinfo=None) for one in cron_times(line, ZoneInfo("UTC"), *_year(start))]

    assert ours
    assert ours == [theirs.get_next(datetime) for _ in ours]


def _year(start: datetime) -> tuple[datetime, datetime]:
    return start.replace(tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize("start", [SPRING, AUTUMN])
@pytest.mark.parametrize("line", ["30 23 * * *", "30 2 * * *"])
def test_each_day_has_one_time_when_clocks_change(line: str, start: datetime) -> None:
    """02:30 does not exist on 8 March: it is 03:30 then."""
    days = [one.date() for one in times(line, start)]

    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))
    assert len(days) == 8


def test_a_time_that_is_skipped_fires_an_hour_later() -> None:
    (skipped,) = [one for one in times("30 2 * * *", SPRING) if one.date() == date(2026, 3, 8)]

    assert skipped.isoformat() == "2026-03-08T03:30:00-04:00"


def test_the_start_counts_and_the_end_does_not() -> None:
    start = datetime(2026, 5, 1, 3, 30, tzinfo=NEW_YORK)

    assert times("30 3 * * *", start, days=1) == [start]
