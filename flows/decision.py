"""Which rows of a night are flagged: by contamination, by false-discovery rate, within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Decider"]

Floats = npt.NDArray[np.float64]


@dataclass
class Decider:
    """Takes scores batch by batch, keeps what may still be flagged, and draws the line at the end.

    Parameters
    ----------
    contamination_threshold
        Anomaly score above which a row is flagged; None where contamination does not rule.
    fdr
        Wanted share of false discoveries among the flags; None where it does not rule.
    budget
        Most rows flagged a night; None for any number.
    """

    contamination_threshold: float | None
    fdr: float | None
    budget: int | None
    rows: int = 0
    _scores: list[Floats] = field(default_factory=list)
    _p_values: list[Floats] = field(default_factory=list)

    @classmethod
    def of(cls, decision: Mapping[str, Any], calibration: Any) -> Decider:
        """The decider of a pipeline's ``decision`` and a detector's calibration."""
        share = decision.get("contamination")
        threshold = None if share is None else calibration.threshold(share)
        return cls(threshold, decision.get("fdr"), decision.get("budget"))

    def candidates(self, scores: Floats, p_values: Floats) -> npt.NDArray[np.bool_]:
        """Rows [n] of a batch that may be flagged in the end."""
        self.rows += scores.size
        may = np.ones(scores.size, dtype=np.bool_)
        if self.contamination_threshold is not None:
            may = scores > self.contamination_threshold
        elif self.fdr is not None:
            may = p_values <= self.fdr
        if self.budget is not None:
            may &= scores >= self._budget_line(scores[may])
        self._scores.append(scores[may])
        self._p_values.append(p_values[may])
        return may

    def mark(self) -> tuple[int, int]:
        """Where `back_to` returns to."""
        return self.rows, len(self._scores)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forget all batches since a mark: those of a file that is rejected."""
        self.rows, batches = mark
        del self._scores[batches:], self._p_values[batches:]

    def _budget_line(self, new: Floats) -> float:
        """The lowest score that can still be among the best of all so far."""
        together = np.concatenate([*self._scores, new])
        budget = self.budget or 0
        return float(np.partition(together, -budget)[-budget]) if together.size > budget else -np.inf

    def threshold(self) -> float:
        """The score at the cut: rows at or above it are flagged; infinity when none is."""
        scores = np.concatenate([*self._scores, np.empty(0)])
        p_values = np.concatenate([*self._p_values, np.empty(0)])
        if self.fdr is not None:
            from vae_core import benjamini_hochberg

            scores = scores[p_values <= benjamini_hochberg(p_values, self.fdr, self.rows)]
        if self.budget is not None and scores.size > self.budget:
            return self._above_ties(np.sort(scores)[::-1])
        if self.contamination_threshold is not None:
            return float(np.nextafter(self.contamination_threshold, np.inf))
        return float(scores.min()) if scores.size else float("inf")

    def _above_ties(self, descending: Floats) -> float:
        """The cut that keeps to the budget when equal scores stand on both sides of it."""
        budget = self.budget or 0
        last, next_one = descending[budget - 1], descending[budget]
        return float(last if last > next_one else np.nextafter(last, np.inf))
