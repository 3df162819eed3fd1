"""Which night a moment is about, when a night is due, and which nights were missed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.catchup import missed
from flows.config import Pipeline, Schedule, load_pipeline
from flows.context import logical_date
from flows.due import due_at, due_before, night_at
from flows.errors import TimeLimitError
from flows.manifest import scored_nights
from flows.storage import Store
from flows.timelimit import time_limit

NEW_YORK = "America/New_York"


def schedule(line: str, lag: str = "1d", timezone: str = NEW_YORK) -> Schedule:
    return Schedule.model_validate({"score": line, "lag": lag, "timezone": timezone})


def prefects_times(line: str, timezone: str, start: datetime, days: int) -> list[datetime]:
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule

    found = CronSchedule(cron=line, timezone=timezone).get_dates(
        n=100, start=start, end=start + timedelta(days=days)
    )
    return [datetime.fromtimestamp(one.timestamp(), UTC) for one in asyncio.run(found)]


@pytest.mark.parametrize("line", ["30 23 * * *", "30 2 * * *", "30 3 * * *", "0 0 * * *"])
@pytest.mark.parametrize(
    ("timezone", "start"),
    [
        (NEW_YORK, datetime(2026, 3, 5, 17, tzinfo=UTC)),  # 02:00 of 8 March becomes 03:00
        (NEW_YORK, datetime(2026, 10, 29, 17, tzinfo=UTC)),  # 02:00 of 1 November becomes 01:00
        ("America/Havana", datetime(2026, 3, 5, 17, tzinfo=UTC)),  # 00:00 of 8 March becomes 01:00
        ("America/Havana", datetime(2026, 10, 29, 17, tzinfo=UTC)),  # 01:00 of 1 November becomes 00:00
    ],
)
def test_prefect_s_scheduled_times_are_about_one_night_each(
    line: str, timezone: str, start: datetime
) -> None:
    """No night comes twice, none is left out, whatever Prefect makes of times that do not exist."""
    times = prefects_times(line, timezone, start, days=8)

    nights = [night_at(schedule(line, timezone=timezone), at) for at in times]

    assert len(nights) == 8
    assert nights == [nights[0] + timedelta(days=i) for i in range(8)]


@pytest.mark.parametrize("line", ["0 0 * * *", "30 1 * * *", "30 2 * * *", "30 3 * * *"])
@pytest.mark.parametrize("after", [date(2026, 3, 15), date(2026, 11, 8)])
def test_each_night_is_due_once_when_clocks_change(line: str, after: date) -> None:
    """What is caught up with, and the time of its run, are about the same night."""
    nights = due_before(schedule(line), after, 14)

    assert nights == [after - timedelta(days=i) for i in range(14, 0, -1)]
    assert [night_at(schedule(line), due_at(schedule(line), night)) for night in nights] == nights


def test_a_late_run_is_about_the_night_that_it_was_scheduled_for(tmp_path: Path) -> None:
    """The machine's clock says nothing about it."""
    loaded = pipeline(tmp_path)

    assert logical_date(loaded, None, datetime(2013, 7, 7, 7, 30, tzinfo=UTC)) == date(2013, 7, 6)
    assert logical_date(loaded, "2013-07-01", datetime(2013, 7, 7, tzinfo=UTC)) == date(2013, 7, 1)


def test_a_night_is_due_at_the_first_run_that_is_about_it_or_a_later_one() -> None:
    assert due_at(schedule("30 3 * * *"), date(2013, 7, 6)).isoformat() == "2013-07-07T03:30:00-04:00"
    assert due_at(schedule("30 23 * * *", "0d"), date(2013, 7, 6)).day == 6
    assert due_at(schedule("0 4 * * 1"), date(2013, 7, 6)).isoformat() == "2013-07-08T04:00:00-04:00"


def test_nights_due_before_another_one_follow_the_cron_line() -> None:
    assert due_before(schedule("30 3 * * *"), date(2026, 3, 10), 3) == [
        date(2026, 3, 7),
        date(2026, 3, 8),
        date(2026, 3, 9),
    ]
    assert due_before(schedule("0 4 * * 2-6"), date(2026, 3, 9), 2) == [date(2026, 3, 5), date(2026, 3, 6)]
    assert due_before(schedule("0 4 2 * *"), date(2026, 3, 1), 2) == [date(2026, 1, 1), date(2026, 2, 1)]
    assert due_before(schedule("30 3 * * *"), date(2026, 3, 10), 0) == []


PIPELINE = """
version: 1
name: orders
source: {{path: landing, partition: dt}}
output: results
schedule: {{score: "30 3 * * *", timezone: America/New_York, catch_up: {catch_up}}}
"""


def pipeline(folder: Path, catch_up: int = 5) -> Pipeline:
    (folder / "mlflow.yml").touch()
    (folder / "orders.yml").write_text(PIPELINE.format(catch_up=catch_up))
    return load_pipeline(folder / "orders.yml")


def finish(folder: Path, *days: int) -> None:
    """Leave manifests of days of July."""
    for day in days:
        manifest = folder / "results" / "manifests" / f"dt=2013-07-{day:02}.json"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.touch()


def land(folder: Path, *days: int) -> None:
    """Let the files of days of July arrive."""
    for day in days:
        file = folder / "landing" / f"dt=2013-07-{day:02}" / "a.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(pa.table({"x": [1.0]}), file)


def days_of(nights: list[date]) -> list[int]:
    return [night.day for night in nights]


def test_missed_nights_are_those_due_without_results_oldest_first(tmp_path: Path) -> None:
    finish(tmp_path, 1, 2, 5)
    land(tmp_path, *range(1, 9))

    assert days_of(missed(pipeline(tmp_path), date(2013, 7, 8))) == [3, 4, 6, 7]


def test_only_so_many_nights_are_looked_back_upon(tmp_path: Path) -> None:
    finish(tmp_path, 1)
    land(tmp_path, *range(1, 9))

    assert days_of(missed(pipeline(tmp_path, catch_up=3), date(2013, 7, 8))) == [5, 6, 7]
    assert missed(pipeline(tmp_path, catch_up=0), date(2013, 7, 8)) == []


def test_a_night_whose_files_never_came_was_not_missed(tmp_path: Path) -> None:
    finish(tmp_path, 1)
    land(tmp_path, 1, 2, 4)

    assert days_of(missed(pipeline(tmp_path), date(2013, 7, 5))) == [2, 4]


def test_before_the_first_results_nothing_was_missed(tmp_path: Path) -> None:
    """A new pipeline does not begin with its whole past."""
    land(tmp_path, *range(1, 9))
    assert missed(pipeline(tmp_path), date(2013, 7, 8)) == []

    finish(tmp_path, 6)
    assert days_of(missed(pipeline(tmp_path), date(2013, 7, 8))) == [7]


def test_scored_nights_are_read_from_the_names_of_manifests(tmp_path: Path) -> None:
    finish(tmp_path, 3, 9)

    assert scored_nights(Store.of(tmp_path / "results")) == {date(2013, 7, 3), date(2013, 7, 9)}


def test_what_is_no_manifest_of_a_night_is_passed_over(tmp_path: Path) -> None:
    """A copy that a synchroniser has left, notes, another spelling of a date: the schedule goes on."""
    finish(tmp_path, 3, 9)
    for stray in (
        "dt=2013-07-04 (conflicted copy)",
        "notes",
        "dt=20130705",
        "2013-07-06",
        "old/dt=2013-07-01",
    ):
        file = tmp_path / "results" / "manifests" / f"{stray}.json"
        file.parent.mkdir(exist_ok=True)
        file.touch()
    land(tmp_path, *range(1, 11))

    assert scored_nights(Store.of(tmp_path / "results")) == {date(2013, 7, 3), date(2013, 7, 9)}
    assert days_of(missed(pipeline(tmp_path, catch_up=3), date(2013, 7, 11))) == [8, 10]


def test_a_block_that_takes_too_long_is_stopped_with_the_setting_that_says_so() -> None:
    from time import sleep

    with (
        pytest.raises(TimeLimitError, match=r"scoring night 1 within 0d was required.+schedule.time_limit"),
        time_limit(timedelta(seconds=0.2), "scoring night 1"),
    ):
        sleep(30)


def test_an_error_within_the_time_is_that_error() -> None:
    with pytest.raises(TimeoutError, match="the store's own"), time_limit(timedelta(seconds=9), "scoring"):
        raise TimeoutError("the store's own")
