"""Spans, and dates in file names, as people write them."""

from datetime import date, timedelta

import pytest

from flows.dates import compile_date_pattern, find_date, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("181d", timedelta(days=181)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("0d", timedelta()),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, span: timedelta) -> None:
    """Days, hours and minutes are read, and written back as they came."""
    assert parse_duration(text) == span
    assert format_duration(span) == text


@pytest.mark.parametrize("text", ["", "d", "1", "1w", "1.5d", "-1d", "1d ", "1D", "9999999d", "١d"])
def test_any_other_text_is_no_duration(text: str) -> None:
    """The error shows what came and what would do."""
    with pytest.raises(ValueError, match="such as 181d, 12h or 90m, however"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("green_tripdata_%Y-%m.parquet", "green_tripdata_2022-01.parquet", date(2022, 1, 1)),
        ("%Y-%m", "green_tripdata_2022-01.parquet", date(2022, 1, 1)),
        ("%Y%m%d", "export_20130706_v2.parquet", date(2013, 7, 6)),
        ("%d.%m.%Y", "06.07.2013.parquet", date(2013, 7, 6)),
        ("year=%Y/month=%m/day=%d", "year=2013/month=07/day=06/part-0.parquet", date(2013, 7, 6)),
        ("green_tripdata_%Y-%m.parquet", "yellow_tripdata_2022-01.parquet", None),
        ("%Y-%m", "2022-13.parquet", None),
        ("a+b_%Y-%m", "aab_2022-01.parquet", None),
    ],
)
def test_a_pattern_finds_the_date_in_a_name(pattern: str, name: str, found: date | None) -> None:
    """Directives match digits, other characters match themselves, a month is its first day."""
    assert find_date(compile_date_pattern(pattern), name) == found


def test_a_day_that_does_not_exist_is_an_error() -> None:
    """30 February is digits like any other, and no date."""
    with pytest.raises(ValueError, match="day is out of range"):
        find_date(compile_date_pattern("%Y-%m-%d"), "2022-02-30.parquet")


@pytest.mark.parametrize("pattern", ["", "data.parquet", "%Y", "%Y-%m-%d-%H", "%Y-%Y-%m", "%m-%d", "%Y-%m-%"])
def test_a_pattern_needs_year_and_month_once(pattern: str) -> None:
    """Unknown, repeated and missing directives raise."""
    with pytest.raises(ValueError, match="%Y and %m, and %d for daily files"):
        compile_date_pattern(pattern)
