"""How spans and dates are written in text: ``181d``, ``2013-07-06``, ``green_tripdata_%Y-%m.parquet``."""

from __future__ import annotations

import re
from datetime import date, timedelta

__all__ = ["compile_date_pattern", "find_date", "format_duration", "parse_duration"]

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_DIRECTIVES = {
    "%Y": r"(?P<year>[0-9]{4})",
    "%m": r"(?P<month>0[1-9]|1[0-2])",
    "%d": r"(?P<day>0[1-9]|[12][0-9]|3[01])",
}


def parse_duration(text: str) -> timedelta:
    """Return the span that a text such as ``181d``, ``12h`` or ``90m`` names.

    Raises
    ------
    ValueError
        When the text is anything but a whole number followed by ``d``, ``h`` or ``m``.
    """
    match = re.fullmatch(r"([0-9]{1,6})([dhm])", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"a whole number of days, hours or minutes such as 181d, 12h or 90m, however {text!r} came"
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def format_duration(span: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back as ``span``."""
    minutes = int(span.total_seconds()) // 60
    if minutes % 1440 == 0:
        return f"{minutes // 1440}d"
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def compile_date_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression that finds the date which ``pattern`` describes.

    Parameters
    ----------
    pattern
        Plain text with ``%Y``, ``%m`` and, for daily files, ``%d``, each once.

    Raises
    ------
    ValueError
        When a directive is unknown, repeated, or when year or month are missing.
    """
    found = re.findall("%.?", pattern)
    if sorted(found) not in (["%Y", "%m"], ["%Y", "%d", "%m"]):
        came = " ".join(found) or "none of them"
        raise ValueError(f"%Y and %m, and %d for daily files, each once, however {came} came in {pattern!r}")
    parts = re.split("(%.)", pattern)
    return re.compile("".join(_DIRECTIVES.get(part, re.escape(part)) for part in parts))


def find_date(pattern: re.Pattern[str], text: str) -> date | None:
    """Return the date that ``pattern`` finds in ``text``, a month as its first day, or None.

    Raises
    ------
    ValueError
        When the digits name a day that does not exist, such as 30 February.
    """
    match = pattern.search(text)
    if match is None:
        return None
    parts = {name: int(digits) for name, digits in match.groupdict().items()}
    return date(parts["year"], parts["month"], parts.get("day", 1))
