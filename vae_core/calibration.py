"""From scores to decisions: p-values from held-out rows, a tail beyond them, and what to flag.

A p-value is the share of calibration rows at least as anomalous (conformal; Vovk et al. 2005), with
a generalised-Pareto tail fitted to the peaks over a high threshold (Siffer et al., SPOT, KDD 2017)
where those rows run out, so that one row in a million can be told from one in a thousand. The tail is
for ranking and for people: it is a fit, and false discoveries are kept to a rate by ranks alone. Scores that
come more than once, as those of categories do, lie on no smooth curve: there the fit gives way to counting.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.stats import genpareto

from vae_core.contamination import estimate_contamination, upper_limit
from vae_core.exceptions import DataError
from vae_core.pareto import fit_tail

__all__ = ["Calibration", "benjamini_hochberg", "severity"]

Floats = npt.NDArray[np.float64]

TAIL_SHARE = 0.02  # of the calibration rows; the peaks that the tail is fitted to
FEWEST_PEAKS = 20  # below this many different peaks no tail is fitted: the largest score ends the scale
KEPT = 50_000  # calibration scores stored with a model
MANY = 4096  # scores from which on a grid over the calibration scores pays
CELLS = 65_536  # of that grid


@dataclass(frozen=True)
class Calibration:
    """Reference scores, ascending, and the tail beyond ``tail_start``.

    ``tail_shape`` and ``tail_scale`` are those of a generalised-Pareto distribution, ``tail_share``
    the share of reference scores above its start; no tail has a share of 0. ``rows`` counts the rows
    that were scored; at most 50,000 evenly spaced ones of their ranks are kept.

    ``contamination`` is the estimated share of anomalies among the rows, in [0, 1); ``held_out`` whether
    the model was not fitted on them; ``confirmed`` counts rows left out as confirmed anomalies.
    """

    scores: Floats
    rows: int
    tail_start: float
    tail_share: float
    tail_shape: float
    tail_scale: float
    contamination: float
    held_out: bool
    confirmed: int

    @classmethod
    def of(cls, scores: Floats, *, held_out: bool = True, confirmed: int = 0) -> Calibration:
        """Calibrate on anomaly scores [n].

        Parameters
        ----------
        scores
            Of rows that the model was not fitted on, unless ``held_out`` says otherwise.
        confirmed
            Rows left out of ``scores`` because they are confirmed anomalies.

        Raises
        ------
        DataError
            There are no scores.
        """
        if scores.size == 0:
            raise DataError(
                "at least one calibration row is required, however there are 0; widen the calibration window"
            )
        ordered = np.sort(scores)
        start, share, shape, scale = _tail(ordered)
        kept = ordered[_ranks(ordered.size, min(ordered.size, KEPT))]
        tail = (start, share, shape, scale)
        return cls(kept, ordered.size, *tail, estimate_contamination(ordered), held_out, confirmed)

    @property
    def contamination_limit(self) -> float:
        """Share of anomalies that the rows stay below with 95 % confidence; few rows cannot promise much."""
        return upper_limit(self.contamination, self.rows)

    def rank_p_values(self, scores: Floats) -> Floats:
        """Conformal p-values of scores [n], in (0, 1]: by rank among the calibration rows, without the tail.

        (k + 1) / (rows + 1) with k rows at least as anomalous; of thinned scores the largest such k.
        """
        ranks = np.concatenate([[-1], _ranks(self.rows, self.scores.size)])
        below = ranks[self._count_below(scores)] + 1
        return np.asarray((self.rows - below + 1) / (self.rows + 1))

    def _count_below(self, scores: Floats) -> npt.NDArray[np.int64]:
        """How many calibration scores kept lie below each score [n]; of many in a fifth of the time."""
        if scores.size < MANY or self.scores.size < MANY:
            return np.searchsorted(self.scores, scores, side="left")
        from vae_core.rank_kernels import count_below  # numba's import is not free

        below = np.empty(scores.size, dtype=np.int64)
        count_below(self.scores, self._edges, np.ascontiguousarray(scores), below)
        return below

    @cached_property
    def _edges(self) -> npt.NDArray[np.int64]:
        """How many scores lie below each edge of a grid over all of them [CELLS + 1]."""
        edges = np.linspace(self.scores[0], self.scores[-1], CELLS + 1)
        return np.searchsorted(self.scores, edges).astype(np.int64)

    @cached_property
    def _ties(self) -> Floats:
        """Calibration scores in the tail that come more than once, ascending, each as often as it comes."""
        values, counts = np.unique(self.scores[self.scores > self.tail_start], return_counts=True)
        return np.repeat(values, np.where(counts > 1, counts, 0))

    def p_values(self, scores: Floats) -> Floats:
        """Share of calibration rows at least as anomalous as each score [n], in (0, 1].

        In the tail the fit's, though never below the share of calibration rows at least as anomalous whose
        scores are tied: a fit passes between the steps that these make.
        """
        p = self.rank_p_values(scores)
        if self.tail_share == 0:
            return p
        peaks = np.flatnonzero(scores > self.tail_start)
        beyond = genpareto.sf(scores[peaks] - self.tail_start, self.tail_shape, scale=self.tail_scale)
        tied = (self._ties.size - np.searchsorted(self._ties, scores[peaks])) / self.scores.size
        p[peaks] = np.maximum(np.maximum(self.tail_share * beyond, 1e-300), tied)
        return p

    def threshold(self, contamination: float) -> float:
        """The score that a share ``contamination`` of ordinary rows exceeds; of tied scores a smaller one."""
        if self.tail_share and contamination < self.tail_share:
            quantile = genpareto.isf(contamination / self.tail_share, self.tail_shape, scale=self.tail_scale)
            too_many = max(self._ties.size - int(contamination * self.scores.size), 0)
            return float(self._ties[:too_many].max(initial=self.tail_start + quantile))
        return float(np.quantile(self.scores, 1.0 - contamination))


def _tail(ordered: Floats) -> tuple[float, float, float, float]:
    """Start, share, shape and scale of the tail; a shape below 0 is fitted again as exponential.

    A negative shape would declare every score beyond some end impossible on the word of a few peaks. Peaks
    tied with the start belong to the body, and a few different ones, however often they come, have no shape.
    """
    peaks = int(ordered.size * TAIL_SHARE)
    if peaks < FEWEST_PEAKS:
        return float(ordered[-1]), 0.0, 0.0, 1.0
    start = float(ordered[-peaks - 1])
    excess = ordered[ordered > start] - start
    if np.unique(excess).size < FEWEST_PEAKS:
        return start, 0.0, 0.0, 1.0
    tail = fit_tail(excess)
    shape, scale = tail.shape, tail.scale
    if shape < 0:
        shape, scale = 0.0, float(excess.mean())
    return start, excess.size / ordered.size, float(min(shape, 1.0)), float(max(scale, 1e-12))


def _ranks(rows: int, kept: int) -> npt.NDArray[np.int64]:
    """Ranks, from 0, of the scores that are kept: evenly spaced, the lowest and the highest among them."""
    return np.linspace(0, rows - 1, kept).round().astype(np.int64)


def severity(p_values: Floats) -> Floats:
    """min(100, -10 log10 p) of each p-value [n]: 20 is one row in a hundred, 30 one in a thousand."""
    return np.minimum(100.0, -10.0 * np.log10(np.maximum(p_values, 1e-300)))


def benjamini_hochberg(p_values: Floats, q: float, total: int | None = None) -> float:
    """Largest p-value to select so that the expected share of false discoveries is at most ``q``.

    Benjamini & Hochberg (1995); valid for conformal p-values of one calibration sample (Bates et al.,
    Annals of Statistics 51, 2023). ``total`` counts all rows tested when ``p_values`` [m] holds only the
    small ones. Returns 0 when nothing can be selected.
    """
    tested = p_values.size if total is None else total
    ordered = np.sort(p_values)
    allowed = ordered <= q * np.arange(1, ordered.size + 1) / max(tested, 1)
    return float(ordered[np.flatnonzero(allowed)[-1]]) if allowed.any() else 0.0
