"""What the names of files tell: by which key or pattern they are dated, and what a model can be trained on.

Nothing is opened here; names and dates come in, choices and the reasons for them go out.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import PurePosixPath
from urllib.parse import unquote

from flows.dates import compile_date_pattern

__all__ = ["Dating", "TrainingSpan", "infer_dating", "plan_training"]

_FORMS = (
    "%Y-%m-%d",
    "%Y_%m_%d",
    "%Y%m%d",
    "year=%Y/month=%m/day=%d/",
    "%Y/%m/%d/",
    "%Y-%m",
    "%Y_%m",
    "year=%Y/month=%m/",
    "%Y/%m/",
    "%Y%m",
)  # days before months: a day holds a month
_COUNTER = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-f]{16,}|\d+"  # parts of one table

_MONTH = 31
_MAX_MONTHS = 24
_MAX_DAYS = 181
_MAX_CALIBRATION = 28
_MONTHLY_CALIBRATION = (
    21  # less than a month: training then draws this share of all rows, the newest month too
)
_DEFAULT_SPAN = (181, 28)


@dataclass(frozen=True)
class Dating:
    """How files are dated: by a Hive key, by a pattern, or (both None) not at all."""

    partition: str | None
    date_pattern: str | None
    why: str


@dataclass(frozen=True)
class TrainingSpan:
    """What to train on, of the dates there are.

    Attributes
    ----------
    window, calibration
        Days.
    until
        Date that training ends at; None where files have no dates.
    held_back
        Newest date, left to be scored; None when there are too few dates to spare one.
    monthly
        Whether each date is the first of a month, and so stands for the month.
    why_window, why_calibration
        Reasons, for people.
    """

    window: int
    calibration: int
    until: date | None
    held_back: date | None
    monthly: bool
    why_window: str
    why_calibration: str


def infer_dating(keys: Sequence[str]) -> Dating:
    """Find the Hive key whose values are dates, else the dates in the names, in at least half of the files.

    Parameters
    ----------
    keys
        Names below the source, with ``/`` between folders; at least one.
    """
    partition = _hive_date(keys)
    if partition:
        return Dating(partition, None, "the folder key whose values are dates")
    for form in _FORMS:
        matches = _matches(form, keys)
        if 2 * len(matches) >= len(keys):
            return _pattern(form, matches, len(keys))
    return Dating(None, None, "no date in the names of files or folders: all files are one night")


def plan_training(dates: Sequence[date]) -> TrainingSpan:
    """Fit window and calibration to the dates there are, in ascending order.

    The newest of three dates or more is held back, to be scored. The newest quarter of the other days, at
    most four weeks, calibrates; of months a share is drawn from all: the model should know the newest month.
    """
    monthly = len(dates) > 1 and all(day.day == 1 for day in dates)
    if len(dates) < 2:
        why = "the default: the files have less than two dates"
        window, calibration = _DEFAULT_SPAN
        return TrainingSpan(window, calibration, dates[0] if dates else None, None, monthly, why, why)
    held_back = dates[-1] if len(dates) > 2 else None
    trained = _recent(dates[:-1] if held_back else dates, monthly)
    calibration, why = _calibration(trained, monthly)
    return TrainingSpan(
        _days(trained, monthly),
        calibration,
        _month_end(trained[-1]) if monthly else trained[-1],
        held_back,
        monthly,
        f"{_shown(trained, monthly)}, when training ends with {_shown(trained[-1:], monthly)}",
        why,
    )


def _hive_date(keys: Sequence[str]) -> str | None:
    """Return the first Hive key that holds a date in at least half of the files."""
    counts: collections.Counter[str] = collections.Counter()
    for key in keys:
        for folder in PurePosixPath(key).parts[:-1]:
            name, _, value = unquote(folder).partition("=")
            counts[name] += bool(re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII))
    return next((name for name, count in counts.items() if name and 2 * count >= len(keys)), None)


def _matches(form: str, keys: Sequence[str]) -> list[re.Match[str]]:
    """Return where a form of dates stands in the names; digits around it would make it another number."""
    dates = compile_date_pattern(form).pattern.replace("(?P<year>", "(?P<year>(?=19|20)")
    pattern = re.compile(rf"(?<!\d){dates}" + ("" if form.endswith("/") else r"(?!\d)"))
    texts = keys if "/" in form else [PurePosixPath(key).name for key in keys]
    return [match for match in map(pattern.search, texts) if match]


def _pattern(form: str, matches: list[re.Match[str]], files: int) -> Dating:
    """Return the form with what stands before and after it, where all files of the table agree on that."""
    before = collections.Counter(_before(match) for match in matches)
    tables = collections.Counter(re.sub(_COUNTER, "#", text) for text in before.elements())
    table, count = min(tables.items(), key=lambda item: (-item[1], item[0]))
    of_table = [match for match in matches if re.sub(_COUNTER, "#", _before(match)) == table]
    pattern = _agreed({_before(one) for one in of_table}) + form
    if not form.endswith("/"):
        pattern += _agreed({one.string[one.end() :] for one in of_table})
    why = f"the dates in {'the folders' if '/' in form else 'the names'} of {count:,} files"
    others = [f"{text or form}… ({number:,})" for text, number in sorted(tables.items()) if text != table]
    if others:
        why += f"; other names are left out: {', '.join(others[:5])}"
    elif files > count:
        why += f"; {files - count:,} files without a date are left out"
    return Dating(None, pattern, why)


def _before(match: re.Match[str]) -> str:
    return match.string[: match.start()]


def _agreed(texts: set[str]) -> str:
    """Return the text that all share, empty when they differ or when a pattern cannot hold it."""
    text = texts.pop() if len(texts) == 1 else ""
    return "" if "%" in text else text


def _recent(dates: Sequence[date], monthly: bool) -> Sequence[date]:
    """Return the dates that the longest window covers, all of them when that leaves less than four."""
    days = _MAX_MONTHS * _MONTH if monthly else _MAX_DAYS
    end = _month_end(dates[-1]) if monthly else dates[-1]
    recent = [day for day in dates if day > end - timedelta(days=days)]
    return recent if len(recent) >= 4 else dates


def _calibration(trained: Sequence[date], monthly: bool) -> tuple[int, str]:
    """Return the days held out for calibration, and the reason."""
    if monthly:
        return (
            _MONTHLY_CALIBRATION,
            "less than a month: this share of the window's rows is drawn and held out",
        )
    newest = trained[-max(1, len(trained) // 4) :]
    newest = [day for day in newest if day > newest[-1] - timedelta(days=_MAX_CALIBRATION)]
    return _days(newest, monthly), f"{_shown(newest, monthly)} of it, held out for thresholds and p-values"


def _days(dates: Sequence[date], monthly: bool) -> int:
    """Return the days of a window that covers the dates whichever month it ends with."""
    if monthly:
        months = 12 * (dates[-1].year - dates[0].year) + dates[-1].month - dates[0].month + 1
        return _MONTH * months
    return (dates[-1] - dates[0]).days + 1


def _month_end(first: date) -> date:
    return (first + timedelta(days=_MONTH)).replace(day=1) - timedelta(days=1)


def _shown(dates: Sequence[date], monthly: bool) -> str:
    first, last = (f"{day:%Y-%m}" if monthly else f"{day}" for day in (dates[0], dates[-1]))
    return first if first == last else f"{first} to {last}"
