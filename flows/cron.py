"""Cron lines: whether one is right, and when it fires, also when clocks change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

__all__ = ["check_cron", "cron_times"]


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    last: int
    """What an open end means: Sunday is 0 and 7, and comes once."""
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59, 59),
    _Field("hour", 0, 23, 23),
    _Field("day of the month", 1, 31, 31),
    _Field(
        "month",
        1,
        12,
        12,
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ),
    _Field("day of the week", 0, 7, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_ITEM = re.compile(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?", flags=re.ASCII)


def check_cron(line: str) -> None:
    """Raise unless ``line`` is a cron line: minute, hour, day of the month, month, day of the week.

    Raises
    ------
    ValueError
        When there are not five fields, or when one lies outside of its range.
    """
    texts = line.split()
    if len(texts) != len(_FIELDS):
        raise ValueError(f'a cron line of five fields such as "30 3 * * *", however {line!r} came')
    for text, field in zip(texts, _FIELDS, strict=True):
        if not all(_is_item(item, field) for item in _items(text, field)):
            raise ValueError(
                f"a cron line whose {field.name} lies within {field.low}-{field.high}, however {text!r} came"
            )


def cron_times(line: str, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the times at which a cron line fires, oldest first.

    A time that a clock change skips fires as much later as the clock was put forward, and one that comes
    twice fires the first time only.

    Parameters
    ----------
    line
        Five fields that `check_cron` passes.
    zone
        Where the line's hours are meant.
    start, end
        The first moment that counts, and the first one that does not; with a time zone.

    Yields
    ------
    datetime
        In ``zone``.
    """
    minutes, hours, *_ = fields = [
        _values(text, field) for text, field in zip(line.split(), _FIELDS, strict=True)
    ]
    clock = [time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes)]
    last = None
    for day in _days(start.astimezone(zone).date(), end.astimezone(zone).date()):
        if not _falls_on(day, line, fields):
            continue
        for at in sorted(_moment(day, wall, zone) for wall in clock):
            if start <= at < end and (last is None or at > last):
                last = at
                yield at.astimezone(zone)


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=i) for i in range((last - first).days + 1))


def _moment(day: date, wall: time, zone: ZoneInfo) -> datetime:
    """The moment, in UTC, at which a wall clock shows a time; the first of two."""
    return datetime.combine(day, wall, zone).astimezone(UTC)


def _falls_on(day: date, line: str, fields: list[set[int]]) -> bool:
    """Where both the day of the month and that of the week are given, either will do."""
    _, _, days, months, weekdays = fields
    either = line.split()[2] != "*" and line.split()[4] != "*"
    in_month, in_week = day.day in days, day.isoweekday() % 7 in {one % 7 for one in weekdays}
    return day.month in months and ((in_month or in_week) if either else (in_month and in_week))


def _values(text: str, field: _Field) -> set[int]:
    """The numbers that a field allows."""
    allowed: set[int] = set()
    for item in _items(text, field):
        first, last, step = _numbers(item)
        low = field.low if first is None else first
        open_end = first is None or (last is None and step is not None)
        high = field.last if open_end else low if last is None else last
        allowed.update(range(low, high + 1, step or 1))
    return allowed


def _items(text: str, field: _Field) -> list[str]:
    """The parts of a field, names of months and weekdays replaced by their numbers."""
    for number, name in enumerate(field.names, start=field.low):
        text = re.sub(rf"\b{name}\b", str(number), text, flags=re.IGNORECASE)
    return text.split(",")


def _numbers(item: str) -> tuple[int | None, int | None, int | None]:
    """First, last and step of an item such as ``1-5/2``, None where it names none."""
    match = _ITEM.fullmatch(item)
    first, last, step = match.groups() if match else (None, None, None)
    return (
        None if first is None else int(first),
        None if last is None else int(last),
        None if step is None else int(step),
    )


def _is_item(item: str, field: _Field) -> bool:
    if not _ITEM.fullmatch(item):
        return False
    first, last, step = _numbers(item)
    ends = [number for number in (first, last) if number is not None]
    return all(field.low <= one <= field.high for one in ends) and ends == sorted(ends) and step != 0
