"""What a saved model says of itself is checked before it is believed: types, ranges, and that parts fit.

JSON has no types of its own, so a file that parses may still put a list where a number belongs; that must
show when the model is loaded, not in the middle of a night.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

__all__ = ["checked", "number", "require_fit", "require_numbers", "require_size"]

_T = TypeVar("_T")

SHARES = frozenset({"nulls", "share", "rare", "unseen", "shares", "tail_share", "contamination"})
"""Fields that lie from 0 to 1."""
COUNTS = frozenset(
    {"rows", "n_top", "once", "counts", "confirmed", "null_evidence", "new_evidence", "groups"}
)
"""Fields that are not negative."""
LEAST_SHARE = 1e-30
"""A probability below it has no logarithm in single precision."""
MOST = 2**53
"""Whole numbers beyond it are no counts."""


def checked(kind: Callable[..., _T], values: Mapping[str, Any]) -> _T:
    """Make a dataclass from JSON values of the types of its fields, lists for tuples.

    Raises
    ------
    TypeError, ValueError
        A field is missing, unknown, of another type, or out of its range; the message names it.
    """
    hints = get_type_hints(kind)
    return kind(**{name: _checked(name, hints.get(name), value) for name, value in values.items()})


def number(name: str, value: Any) -> float:
    """A finite number from JSON, where 1e999 is read as infinity.

    Raises
    ------
    TypeError, ValueError
        It is none; the message names it.
    """
    return float(_checked(name, float, value))


def _checked(name: str, wanted: Any, value: Any) -> Any:
    if get_origin(wanted) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{name} must be a list, however {str(value)[:60]!r} came")
        return tuple(_checked(name, get_args(wanted)[0], one) for one in value)
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted in (float, int, bool, str) and type(value) is not wanted:
        raise TypeError(f"{name} must be {wanted.__name__}, however {str(value)[:60]!r} came")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, float | int):
        _require_range(name, value)
    return value


def _require_range(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, however it is {value}")
    if name in SHARES and not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], however it is {value}")
    if name in COUNTS and not 0 <= value <= MOST:
        raise ValueError(f"{name} must be a count, however it is {value}")


def require_numbers(name: str, array: np.ndarray[Any, Any], rows: int | None = None) -> None:
    """Raise ValueError unless an array is one of ``rows`` finite float64 (None: of at least one)."""
    fits = array.ndim == 1 and (array.size > 0 if rows is None else array.size == rows)
    if array.dtype != np.float64 or not fits or not np.isfinite(array).all():
        wanted = "some" if rows is None else rows
        raise ValueError(f"{name} must be {wanted} finite numbers, however it is {array.dtype} {array.shape}")


def require_fit(codecs: Sequence[Any], columns: Sequence[Any]) -> None:
    """Raise ValueError unless there is a codec for each column, of its name and kind, in their order."""
    coded, wanted = [(one.name, one.kind) for one in codecs], [(one.name, str(one.kind)) for one in columns]
    if coded != wanted:
        raise ValueError(f"codecs must be those of the columns {wanted[:5]}, however they are {coded[:5]}")
    for codec in codecs:
        _require_words(codec)


def _require_words(codec: Any) -> None:
    """A category codec's lists are as long as they say, and a value never seen has a probability."""
    if codec.kind != "categorical":
        return
    words, top, beyond = len(codec.vocabulary), len(codec.shares), len(codec.counts)
    if (top, words) != (codec.n_top, codec.n_top + beyond) or len(set(codec.vocabulary)) != words:
        raise ValueError(f"{codec.name} must have {codec.n_top} + {beyond} words, however it has {words}")
    if 0 in codec.counts:
        raise ValueError(f"{codec.name} must have seen each of its words, however counts has a 0")
    groups = {*codec.groups} - {0}
    if len(codec.groups) not in (0, beyond) or max(groups, default=0) != len(groups):
        raise ValueError(
            f"{codec.name} must have groups 1, 2, … of {beyond} words, however they are {sorted(groups)[:5]}"
        )
    if not LEAST_SHARE <= codec.unseen <= 0.5:
        raise ValueError(f"{codec.name} must expect values never seen, however unseen is {codec.unseen}")


def require_size(widths: Sequence[Any], weights: int) -> None:
    """Raise ValueError unless layers of these widths need no more weights than there are."""
    whole = all(type(width) is int and 0 < width <= MOST for width in widths)
    if not whole or sum(a * b for a, b in pairwise(widths)) > weights:
        raise ValueError(f"layers must fit {weights} weights, however they are {str(list(widths))[:60]} wide")
