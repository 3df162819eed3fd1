"""What parameters may be: each check ends well or in a ParameterError that names what to give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np

from vae_core.exceptions import ParameterError

__all__ = ["refuse", "refuse_other", "require_number", "require_seed", "require_whole", "require_widths"]


def refuse(name: str, value: object, wanted: str, remedy: str) -> NoReturn:
    """Raise ParameterError: what a parameter must be, what it is, what to do."""
    raise ParameterError(f"{name} must be {wanted}, however it is {value!r}; {remedy}")


def refuse_other(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    """Raise ParameterError unless a parameter is one of a few texts."""
    if not isinstance(value, str | None) or value not in allowed:
        refuse(name, value, f"one of {', '.join(map(repr, allowed))}", "give one of these")


def require_number(
    name: str, value: object, wanted: str, fits: Callable[[float], bool], *, optional: bool = False
) -> None:
    """Raise ParameterError unless a parameter is a finite number that fits, or None where it is optional."""
    given = float(value) if not isinstance(value, bool) and isinstance(value, Real) else np.nan
    if not (np.isfinite(given) and fits(given)) and not (value is None and optional):
        refuse(name, value, f"{wanted}, a finite number", _remedy(optional))


def require_whole(name: str, value: object, least: int = 1, *, optional: bool = False) -> None:
    """Raise ParameterError unless a parameter is whole and at least ``least``, or None where that may be."""
    if not _is_whole(value, least) and not (value is None and optional):
        refuse(name, value, f"at least {least}, a whole number", _remedy(optional))


def _remedy(optional: bool) -> str:
    return "give such a number, or None to leave it open" if optional else "give such a number"


def _is_whole(value: object, least: int) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def require_widths(value: Any) -> None:
    """Raise ParameterError unless ``hidden_dims`` are whole numbers from 1 on; none at all is fine."""
    is_row = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not (is_row or np.ndim(value) == 1) or not all(_is_whole(width, 1) for width in value):
        refuse("hidden_dims", value, "a sequence of whole numbers from 1 on", "give one such as (64, 64)")


def require_seed(random_state: object) -> None:
    """Raise ParameterError unless ``random_state`` is one of scikit-learn's; seeds below 0 are not."""
    if not (isinstance(random_state, np.random.RandomState | None) or _is_whole(random_state, 0)):
        wanted = "a whole number of at least 0, a RandomState or None"
        refuse("random_state", random_state, wanted, "give one such as 0")
