"""How long a scheduled night may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from flows.dates import format_duration
from flows.errors import TimeLimitError

__all__ = ["time_limit"]


@contextmanager
def time_limit(limit: timedelta, what: str) -> Iterator[None]:
    """End the block with an error when it takes longer than ``limit``.

    In the main thread a call that hangs is cut off; in another one, the step after it.

    Raises
    ------
    TimeLimitError
        ``what`` took longer.
    """
    from prefect.utilities.timeout import timeout

    try:
        with timeout(limit.total_seconds(), _OverError):
            yield
    except _OverError:
        raise TimeLimitError(
            f"{what} within {format_duration(limit)} was required, however it took longer and was stopped;"
            " look into its log, or raise `schedule.time_limit`"
        ) from None


class _OverError(TimeoutError):
    """The time is over: of this limit, not of anything inside."""
