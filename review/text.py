"""Cells and sentences as text for people, whatever stands in them."""

from __future__ import annotations

import math
import re
from typing import Any

__all__ = ["LONG", "cut", "escaped", "number", "share", "shown"]

LONG = 200
"""Characters of a cell that a table shows."""
TOLD = 1_000
"""Length from which on people are told how long a text is that was cut."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&^=\"'@/])")


def shown(value: Any, longest: int = LONG) -> str:
    """A cell as text: null as ``null``, whole floats without a fraction, long texts cut, controls visible."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, bytes):
        return cut(value[:longest].hex(" "), longest)
    return cut(str(value), longest)


def cut(text: str, longest: int = LONG) -> str:
    """Text without letters that cannot be seen, at most so long; of a very long one, the length is told."""
    clean = "".join(letter if letter.isprintable() else "�" for letter in text[:longest])
    if len(text) <= longest:
        return clean
    return f"{clean}… ({len(text):,} characters)" if len(text) > TOLD else f"{clean}…"


def number(value: float) -> str:
    """Six significant digits, no exponent up to a quadrillion."""
    if math.isnan(value) or math.isinf(value):
        return str(value)
    return str(round(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def share(value: float) -> str:
    """A share in per cent, with as many digits as tell it from nothing."""
    return f"{100 * value:.0f} %" if value >= 0.0995 or value == 0 else f"{100 * value:.2g} %"


def escaped(text: Any) -> str:
    """Text that Markdown shows letter by letter."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))
