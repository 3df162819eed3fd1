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

from flows.breaker import odd_level
from flows.spread import Spread

if TYPE_CHECKING:
    from vae_core import Calibration

__all__ = ["Decider", "Tally", "calibration_facts", "calibration_sentence"]

Floats = npt.NDArray[np.float64]

TOLERATED = 0.001
"""Share of anomalies among the calibration rows that a certified night puts up with: with 1 % the power is
gone (`make bench-calibration`). Anomalies as rare as this must be findable, too."""


@dataclass(frozen=True)
class Tally:
    """What a decider has seen of a part of the night.

    Its rows, scores that may be flagged, its odd rows, how many rows the rule takes, how its rows spread over
    the calibration rows.
    """

    rows: int = 0
    scores: Floats = field(default_factory=lambda: np.empty(0))
    odd: int = 0
    ruled: int = 0
    spread: Spread = field(default_factory=Spread)
    ranks: Floats = field(default_factory=lambda: np.empty(0))


@dataclass
class Decider:
    """Takes scores batch by batch, keeps what may still be flagged, and draws the line at the end.

    A night in parts has a decider for each, whose `tally` the night's own decider takes.

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
    odd: int = 0
    ruled: int = 0
    spread: Spread = field(default_factory=Spread)
    _scores: list[Floats] = field(default_factory=list)
    _ranks: list[Floats] = field(default_factory=list)

    @classmethod
    def of(cls, decision: Mapping[str, Any], calibration: Calibration) -> Decider:
        """The decider of a pipeline's ``decision`` and a detector's calibration."""
        return cls(calibration, decision.get("contamination"), decision.get("fdr"), decision.get("budget"))

    def __post_init__(self) -> None:
        share = self.contamination
        self._above = None if share is None else self.calibration.threshold(share)
        self._odd_level = odd_level(self.calibration, share)

    def candidates(
        self, scores: Floats, floor: float = -np.inf, ranks: Floats | None = None
    ) -> npt.NDArray[np.bool_]:
        """Rows [n] of a batch that may be flagged in the end.

        Parameters
        ----------
        scores
            Anomaly scores [n].
        floor
            Rows that rank below are known not to be flagged.
        ranks
            What a budget goes by [n], see `flows.stake`; by default the scores.
        """
        by = scores if ranks is None else ranks
        self.rows += scores.size
        self.odd += int(np.count_nonzero(scores > self._odd_level))
        ruled = self._ruled(scores)
        self.ruled += int(np.count_nonzero(ruled))
        may = ruled if self.budget is None else ruled & (by >= max(floor, self._line(by[ruled])))
        kept = may if self.fdr is None else ruled
        self._scores.append(scores[kept])
        self._ranks.append(by[kept])
        return may

    def fixed(self) -> float | None:
        """The threshold where it is known beforehand, whatever the night brings."""
        return self.threshold() if self._above is not None and self.budget is None else None

    def tally(self) -> Tally:
        """What this decider has seen."""
        scores, ranks = self._kept()
        return Tally(self.rows, scores, self.odd, self.ruled, self.spread, ranks)

    def take(self, tally: Tally) -> None:
        """Count what the decider of a part of the night has seen."""
        self.rows += tally.rows
        self.odd += tally.odd
        self.ruled += tally.ruled
        self.spread += tally.spread
        self._scores.append(tally.scores)
        self._ranks.append(tally.ranks)

    def floor(self) -> float:
        """The rank below which no row can be flagged any more, by the budget and what was seen so far."""
        return -np.inf if self.budget is None else self._line(np.empty(0))

    def _ruled(self, scores: Floats) -> npt.NDArray[np.bool_]:
        if self._above is not None:
            return scores > self._above
        if self.fdr is not None:
            p_values = self.calibration.rank_p_values(scores)
            self.spread += Spread.of(p_values)
            return p_values <= self.fdr
        return np.ones(scores.size, dtype=np.bool_)

    def _line(self, new: Floats) -> float:
        """The lowest rank that can still be among the best of all so far, or the first beyond them."""
        together = np.concatenate([*self._ranks, new])
        kept = (self.budget or 0) + 1
        return float(np.partition(together, -kept)[-kept]) if together.size > kept else -np.inf

    def _kept(self) -> tuple[Floats, Floats]:
        """Scores and ranks of the rows seen that may be flagged."""
        empty = np.empty(0)
        return np.concatenate([*self._scores, empty]), np.concatenate([*self._ranks, empty])

    def _taken(self) -> tuple[Floats, Floats]:
        """Scores and ranks of the rows that the rule flags, whatever the budget."""
        scores, ranks = self._kept()
        if self.fdr is None:
            return scores, ranks
        from vae_core import benjamini_hochberg

        p_values = self.calibration.rank_p_values(scores)
        taken = p_values <= benjamini_hochberg(p_values, self.fdr, self.rows)
        return scores[taken], ranks[taken]

    def _selected(self) -> Floats:
        return self._taken()[0]

    def line(self) -> float:
        """The rank that a flagged row has at least; minus infinity where the budget leaves nothing out."""
        _, ranks = self._taken()
        return _above_ties(ranks, self.budget) if self.budget and ranks.size > self.budget else -np.inf

    def threshold(self) -> float:
        """The score at the cut; infinity when no row is flagged.

        Flagged are the rows at or above it whose rank is not below `line`; where rows are ranked by their
        scores, these are all at or above it.
        """
        scores, ranks = self._taken()
        if self.budget is not None and scores.size > self.budget:
            line = self.line()
            if np.array_equal(scores, ranks):
                return line
            return float(scores[ranks >= line].min(initial=np.inf))
        if self._above is not None:
            return float(np.nextafter(self._above, np.inf))
        return float(scores.min()) if scores.size else float("inf")

    def level_of(self, most: int) -> float:
        """The score from which on at most so many of the rows lie that the rule flags."""
        scores = self._selected()
        return _above_ties(scores, most) if scores.size > most else -np.inf

    def selection(self) -> dict[str, Any]:
        """How the flags came about, as the manifest keeps it.

        ``selected``: rows that the rule takes, all of them where a budget rules alone; ``left_out``: how many
        of these the budget leaves out; ``noise_expected``: how many rows like the calibration rows are
        expected at or above the cut, among as many rows as the night has.
        """
        cut, selected = self.threshold(), self.ruled if self.fdr is None else self._selected().size
        scores, ranks = self._taken()
        flagged = int(np.count_nonzero((scores >= cut) & (ranks >= self.line())))
        chance = float(self.calibration.rank_p_values(np.array([cut]))[0]) if np.isfinite(cut) else 0.0
        noise = min(self.rows * chance, float(flagged))
        return {"selected": selected, "left_out": selected - flagged, "noise_expected": round(noise, 2)}

    def doubt(self) -> str | None:
        """Why no false-discovery rate is certified for the night; None where it is."""
        if self.fdr is None:
            rule = "a budget" if self.contamination is None else "a quantile"
            return f"the decision is {rule}: no false-discovery claim"
        return (
            self._doubt_about_rows(self.fdr)
            or self.spread.doubt(self.calibration.rows)
            or self._doubt_about_budget()
        )

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


def _above_ties(scores: Floats, most: int) -> float:
    """The cut that keeps to so many rows when equal scores stand on both sides of it."""
    next_one, last = np.partition(scores, (-most - 1, -most))[[-most - 1, -most]]
    return float(last if last > next_one else np.nextafter(last, np.inf))


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
