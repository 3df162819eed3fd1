"""Compiled loops that rank many scores among few."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vae_core.compiling import compiled

__all__ = ["count_below"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@compiled
def count_below(ordered: Floats, edges: Ints, scores: Floats, out: Ints) -> None:
    """How many of ``ordered`` [m] lie below each of ``scores`` [n], written to ``out`` [n].

    ``edges`` [cells + 1] counts those below each edge of a grid of equal cells from the first to the last,
    so that the search begins with a handful instead of all; outside of the cell's edges, where rounding
    may put a score, it begins again with all.
    """
    cells = edges.size - 1
    low, width = ordered[0], (ordered[-1] - ordered[0]) / cells
    for i in range(scores.size):
        score = scores[i]
        cell = min(max((score - low) / width, 0.0), cells - 1.0) if width > 0 else 0.0
        first, last = edges[np.int64(cell)], edges[np.int64(cell) + 1]
        if (first > 0 and ordered[first - 1] >= score) or (last < ordered.size and ordered[last] < score):
            first, last = 0, ordered.size
        while first < last:
            middle = (first + last) >> 1
            if ordered[middle] < score:
                first = middle + 1
            else:
                last = middle
        out[i] = first
