"""Which rows of a night are flagged: by contamination, by false-discovery rate, within a budget.

And whether the night may be called certified: its false-discovery rate is what was asked for, as far
as the night's ordinary rows look like the calibration rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from vae_core import Calibration

__all__ = ["Decider", "calibration_facts", "calibration_sentence"]

Floats = npt.NDArray[np.float64]

TOLERATED = 0.001
"""Share of anomalies among the calibration rows that a certified night puts up with: with 1 % the power is
gone (`make bench-calibration`). Anomalies as rare as this must be findable, too."""


@dataclass
class Decider:
    """Takes scores batch by batch, keeps what may still be flagged, and draws the line at the end.

    Parameters
    ----------
    calibration
        The detector's calibration, whose rows a night is compared with.
    contamination
        Share of ordinary rows to flag; None where it does not rule.
    fdr
        Wanted share of false discoveries among the flags; None where it does not rule.
    budget
        Most rows flagged a night; None for any number.
    """

    calibration: Calibration
    contamination: float | None = None
    fdr: float | None = None
    budget: int | None = None
    rows: int = 0
    _scores: list[Floats] = field(default_factory=list)

    @classmethod
    def of(cls, decision: Mapping[str, Any], calibration: Calibration) -> Decider:
        """The decider of a pipeline's ``decision`` and a detector's calibration."""
        return cls(calibration, decision.get("contamination"), decision.get("fdr"), decision.get("budget"))

    def __post_init__(self) -> None:
        share = self.contamination
        self._above = None if share is None else self.calibration.threshold(share)

    def candidates(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """Rows [n] of a batch that may be flagged in the end."""
        self.rows += scores.size
        ruled = self._ruled(scores)
        may = ruled if self.budget is None else ruled & (scores >= self._budget_line(scores[ruled]))
        self._scores.append(scores[may] if self.fdr is None else scores[ruled])
        return may

    def _ruled(self, scores: Floats) -> npt.NDArray[np.bool_]:
        if self._above is not None:
            return scores > self._above
        if self.fdr is not None:
            return self.calibration.rank_p_values(scores) <= self.fdr
        return np.ones(scores.size, dtype=np.bool_)

    def mark(self) -> tuple[int, int]:
        """Where `back_to` returns to."""
        return self.rows, len(self._scores)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forget all batches since a mark: those of a file that is rejected."""
        self.rows, batches = mark
        del self._scores[batches:]

    def _budget_line(self, new: Floats) -> float:
        """The lowest score that can still be among the best of all so far."""
        together = np.concatenate([*self._scores, new])
        budget = self.budget or 0
        return float(np.partition(together, -budget)[-budget]) if together.size > budget else -np.inf

    def _selected(self) -> Floats:
        """Scores that the rule flags, whatever the budget."""
        scores = np.concatenate([*self._scores, np.empty(0)])
        if self.fdr is None:
            return scores
        from vae_core import benjamini_hochberg

        p_values = self.calibration.rank_p_values(scores)
        return scores[p_values <= benjamini_hochberg(p_values, self.fdr, self.rows)]

    def threshold(self) -> float:
        """The score at the cut: rows at or above it are flagged; infinity when none is."""
        scores = self._selected()
        if self.budget is not None and scores.size > self.budget:
            return self._above_ties(np.sort(scores)[::-1])
        if self._above is not None:
            return float(np.nextafter(self._above, np.inf))
        return float(scores.min()) if scores.size else float("inf")

    def _above_ties(self, descending: Floats) -> float:
        """The cut that keeps to the budget when equal scores stand on both sides of it."""
        budget = self.budget or 0
        last, next_one = descending[budget - 1], descending[budget]
        return float(last if last > next_one else np.nextafter(last, np.inf))

    def doubt(self) -> str | None:
        """Why no false-discovery rate is certified for the night; None where it is."""
        if self.fdr is None:
            rule = "a budget" if self.contamination is None else "a quantile"
            return f"the decision is {rule}: no false-discovery claim"
        return self._doubt_about_rows(self.fdr) or self._doubt_about_budget()

    def _doubt_about_rows(self, q: float) -> str | None:
        known, needed = self.calibration, int(np.ceil(min(self.rows, 1 / TOLERATED) / q))
        if not known.held_out:
            return "no rows were held out: the p-values are those of the rows that the model was fitted on"
        if known.contamination_limit > TOLERATED:
            return (
                f"of the calibration rows {_percent(known.contamination)} are estimated to be anomalies, "
                f"and up to {_percent(known.contamination_limit)} may be: "
                f"at most {_percent(TOLERATED)} was required"
            )
        if known.rows + 1 < needed:
            return (
                f"{needed - 1:,} calibration rows were required to find one anomaly in "
                f"{min(self.rows, round(1 / TOLERATED)):,} rows at fdr {q:g}, however {known.rows:,} came"
            )
        return None

    def _doubt_about_budget(self) -> str | None:
        if self.budget is None or self._selected().size <= self.budget:
            return None
        return f"the budget of {self.budget:,} cut the selection"


def calibration_facts(calibration: Calibration) -> dict[str, Any]:
    """What reports say of a calibration: its rows, and how many of them may be anomalies."""
    return {
        "rows": calibration.rows,
        "contamination": round(calibration.contamination, 6),
        "contamination_limit": round(calibration.contamination_limit, 6),
        "confirmed_left_out": calibration.confirmed,
    }


def calibration_sentence(facts: Mapping[str, Any]) -> str:
    """`calibration_facts` in words."""
    left_out = facts["confirmed_left_out"]
    return (
        f"{facts['rows']:,} calibration rows, of which {_percent(facts['contamination'])} are estimated "
        f"to be anomalies (95 % limit {_percent(facts['contamination_limit'])})"
        + (f"; {left_out:,} confirmed anomalies left out" if left_out else "")
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
