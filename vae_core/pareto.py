"""Generalised-Pareto tails by maximum likelihood, along a grid: fast, and it cannot fail to converge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Tail", "fit_tail"]

Floats = npt.NDArray[np.float64]

POINTS = 300  # quantiles of the excesses that stand for all of them
TILTS = np.expm1(np.linspace(-6.9, 9.0, 400))  # shape / scale of the tails tried, in lengths of the excesses


@dataclass(frozen=True)
class Tail:
    """Survival (1 + shape y / scale) ** (-1 / shape) of the excess y over a threshold, in scores."""

    shape: float
    scale: float

    def beyond(self, excess: Floats) -> Floats:
        """Share of the tail beyond each excess, in [0, 1]."""
        return np.asarray(
            np.maximum(1 + self.shape / self.scale * excess, 0.0) ** (-1 / (self.shape or 1e-12))
        )


def fit_tail(excess: Floats, censored: int = 0, slack: float = 0.0) -> Tail:
    """Fit the tail of ascending excesses [n], which are above 0 at their end.

    With t = shape / scale and ``censored`` rows beyond the last excess, the likeliest shape for a given
    t is S(t) / n, S(t) the sum of log(1 + t y) over all of them (Grimshaw, Technometrics 35, 1993).

    Parameters
    ----------
    excess
        Scores less the threshold.
    censored
        Rows of which only is known that they lie beyond the last excess.
    slack
        Nats that the fit may stay below the likeliest in order to be heavier.
    """
    length, n = float(excess[-1]), excess.size
    points = excess[((np.arange(POINTS) + 0.5) / POINTS * n).astype(np.int64)] / length
    inside = n * np.log1p(np.outer(TILTS, points)).mean(axis=1)
    shapes = (inside + censored * np.log1p(TILTS)) / n
    fit = -n * (np.log(shapes / TILTS) + 1) - inside
    chosen = np.flatnonzero(fit >= fit.max() - slack)[-1]
    shape = float(shapes[chosen])
    return Tail(shape, shape / float(TILTS[chosen]) * length)
