"""Whether a night's ordinary rows are like the calibration rows: an exchangeability test.

Conformal p-values keep their promise where ordinary rows of the night and of the calibration could be
exchanged for one another; their p-values are then uniform. Rows that matter, the anomalies, lie at small
p-values: the test looks at the others, the body. Only a body that has become *more* anomalous breaks the
promise, so that side is tested (Kolmogorov and Smirnov, two samples, one-sided), on counts, whatever the
size of the night.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Spread"]

BINS = 200
BODY = 0.1
"""Where the body of p-values begins: beyond the 10 % most anomalous of the calibration rows."""
LEVEL = 0.001
"""Chance that a night which is exchangeable is doubted."""
HARMLESS = 0.01
"""A shift of the body that changes no rate worth speaking of: one row in a hundred."""


@dataclass(frozen=True)
class Spread:
    """Counts [BINS] of p-values in even steps from `BODY` to 1."""

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))

    @classmethod
    def of(cls, p_values: npt.NDArray[np.float64]) -> Spread:
        """Count p-values [n]; those below `BODY` are passed over."""
        counted, _ = np.histogram(p_values, bins=BINS, range=(BODY, 1.0))
        return cls(counted.astype(np.int64))

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.counts + other.counts)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Spread) and bool((self.counts == other.counts).all())

    def doubt(self, calibration_rows: int) -> str | None:
        """Why the night's rows cannot stand for the calibration rows; None where they can, or are too few.

        Parameters
        ----------
        calibration_rows
            How many rows the p-values are ranks among.
        """
        rows, others = int(self.counts.sum()), (1.0 - BODY) * calibration_rows
        if rows == 0:
            return None
        expected = np.arange(1, BINS + 1) / BINS
        above = np.cumsum(self.counts) / rows - expected
        worst = int(np.argmax(above))
        allowed = HARMLESS + float(np.sqrt(-np.log(LEVEL) / 2.0 * (1.0 / rows + 1.0 / others)))
        if above[worst] <= allowed:
            return None
        share, usual = above[worst] + expected[worst], expected[worst]
        return (
            f"the night's ordinary rows are more anomalous than the calibration rows: {share:.1%} of them lie"
            f" where {usual:.1%} were expected, and at most {usual + allowed:.1%} by chance"
        )
