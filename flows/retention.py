"""Which of many are beyond what `retention` keeps: by age, or all but the newest so many. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import TypeVar

__all__ = ["Policy", "beyond"]

Policy = timedelta | int | str
"""A span, a count, ``forever``, or ``none``."""
_Time = TypeVar("_Time", date, datetime)


def beyond(policy: Policy, times: Iterable[_Time]) -> list[_Time]:
    """The times that a policy lets go, oldest first.

    Age is counted from the newest of them, not from today: a clock that jumps, or a pipeline that has
    stopped, or one over nights of long ago, loses nothing.
    """
    known = sorted(set(times))
    if policy == "forever" or not known:
        return []
    if isinstance(policy, timedelta):
        return [one for one in known if known[-1] - one >= policy]
    return known if policy == "none" else known[: -int(policy)]
