"""How far long work has come: flows report, the command line shows, a scheduled run stays silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Sink", "advance", "shown_by"]

Sink = Callable[[str, int, int], None]

_SINK: ContextVar[Sink | None] = ContextVar("progress", default=None)


def advance(stage: str, done: int, total: int) -> None:
    """Report that ``done`` of ``total`` units of a stage are finished."""
    sink = _SINK.get()
    if sink:
        sink(stage, done, total)


@contextmanager
def shown_by(sink: Sink) -> Iterator[None]:
    """Send reports to ``sink`` during the block."""
    token = _SINK.set(sink)
    try:
        yield
    finally:
        _SINK.reset(token)
