"""Sentences and names that several pages use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date

from review.text import shown

__all__ = ["VERDICTS", "columns_text", "day_text", "files_text", "key_text", "rows_text", "verdict_text"]

SIGNS = {"anomaly": "▲", "expected": "✓", "data error": "✗", "investigating": "…"}
"""A sign beside each verdict, so that colour is never all there is."""

VERDICTS = tuple(SIGNS)


def verdict_text(verdict: str | None) -> str:
    """A verdict with its sign; nothing for none."""
    return f"{SIGNS.get(verdict, '·')} {verdict}" if verdict else ""


def columns_text(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more; an empty name is the night as a whole."""
    named = [name or "the night as a whole" for name in names[:most]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(named) + more


def day_text(day: date) -> str:
    """``Saturday, 6 July 2013``."""
    return f"{day:%A}, {day.day} {day:%B %Y}"


def key_text(row_key: str | None) -> str:
    """A row's key in words: ``carrier VX · flight 23``."""
    try:
        parts = json.loads(row_key or "")
        return " · ".join(f"{name} {shown(value, 40)}" for name, value in parts.items())
    except (ValueError, AttributeError, RecursionError):
        return shown(row_key, 120)


def rows_text(count: int) -> str:
    """``1 row``, ``8 rows``."""
    return f"{count:,} row" + ("" if count == 1 else "s")


def files_text(count: int) -> str:
    """``1 file``, ``2 files``."""
    return f"{count:,} file" + ("" if count == 1 else "s")
