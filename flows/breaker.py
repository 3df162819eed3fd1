"""When most of a night is odd: one incident in place of a flood of flags.

A unit that changed or a column that went missing makes every row of a night anomalous. Nobody reads 400,000
flags that say one thing. The breaker trips when the share of rows beyond the level that few of the
calibration rows exceed is over ``alerts.breaker_share``; then the most anomalous rows alone are flagged and
explained. Nothing is lost: ``scores/`` holds every row, and the flags can be written later from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.config import Pipeline
    from vae_core import Calibration

__all__ = ["KEPT", "SHIFTED", "incident_of", "odd_level"]

KEPT = 1_000
"""Rows flagged at most in a night that tripped the breaker."""
ODD = 0.01
"""Share of calibration rows beyond the level of odd rows, where ``decision.contamination`` gives none."""
FACTOR = 2.0
"""The limit is at least so many times ``decision.contamination``: what was asked for is no incident."""
SHIFTED = "most of the night is odd: its ordinary rows are not like the calibration rows"
"""Why such a night is not certified."""


def odd_level(calibration: Calibration, contamination: float | None) -> float:
    """The anomaly score beyond which a row is odd."""
    return float(calibration.threshold(ODD if contamination is None else contamination))


def incident_of(pipeline: Pipeline, odd: int, rows: int) -> dict[str, Any] | None:
    """What a manifest says of a night whose odd rows tripped the breaker; None of any other night.

    Parameters
    ----------
    odd
        Rows beyond `odd_level`.
    rows
        Rows scored.
    """
    usual = pipeline.decision.contamination or ODD
    limit = min(max(pipeline.alerts.breaker_share, FACTOR * usual), 1.0)
    share = odd / rows if rows else 0.0
    if share <= limit:
        return None
    return {
        "kind": "batch_shift",
        "odd_rows": odd,
        "odd_share": round(share, 6),
        "limit": limit,
        "kept": KEPT,
        "sentence": (
            f"{odd:,} of {rows:,} rows ({share:.0%}) are odd, where {usual:.1%} are usual: the night as a "
            f"whole has shifted, or the model is out of date; {KEPT:,} rows at most are flagged, and "
            "`scores` holds all"
        ),
    }
