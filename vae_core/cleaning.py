"""Self-cleaning: which training rows to set aside, judged by a model that anomalies hardly reached."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

__all__ = ["above_gap"]

Floats = npt.NDArray[np.float64]

BINS = 200  # of the histogram of scores, three interquartile ranges below the median to twelve above
WIDTH = 5.0  # bins; standard deviation of the kernel that smooths the histogram
DEEP = 1.3  # the hump beyond a gap rises at least this many times above the gap
FEWEST = 0.3  # rows a bin that the hump must rise above the gap, whatever the ratio
MOST = 0.5  # share of the rows that may be set aside


def above_gap(scores: Floats) -> npt.NDArray[np.bool_]:
    """Which rows lie beyond a gap in the density of the scores [n], right of the commonest score.

    Anomalies that are many and alike make a hump of their own. Where no hump stands apart, no row does.
    At most half of the rows are set aside, those with the highest scores.
    """
    low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75))
    spread = max(float(high - low), 1e-9)
    within = np.clip(scores, middle - 3 * spread, middle + 12 * spread)
    counts, edges = np.histogram(within, bins=BINS)
    gap = _gap(gaussian_filter1d(counts.astype(np.float64), WIDTH), int(np.searchsorted(edges, middle)))
    if gap is None:
        return np.zeros(scores.size, dtype=np.bool_)
    return np.asarray(scores > max(float(edges[gap]), float(np.quantile(scores, 1 - MOST))))


def _gap(density: Floats, middle: int) -> int | None:
    """The first bin right of the peak where the density has a valley with a hump behind it."""
    start = max(middle, int(density.argmax())) + 1
    for i in range(start, len(density) - 1):
        valley = density[i] <= density[i - 1] and density[i] < density[i + 1]
        if valley and density[i + 1 :].max() > DEEP * density[i] + FEWEST:
            return i
    return None
