"""Eight people settle the same rows at once, in processes of their own, and some more are killed at it."""

from __future__ import annotations

from benchmarks.writers import trial


def test_nothing_is_lost_and_nothing_doubled(url: str) -> None:
    """What each was told is written is there, once, in one line of verdicts a row."""
    figures = trial(url, writers=8, decisions=4, rows=12, kills=2)

    assert (figures.lost, figures.doubled, figures.forked, figures.torn) == (0, 0, 0, 0)
    assert figures.settlements >= 32
    assert figures.conflicts > 0, "they were in each other's way"
