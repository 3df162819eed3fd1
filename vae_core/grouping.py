"""Groups of rare values: those that come in like rows share a code.

Of a column with thousands of values (tail numbers, part numbers, customers) each one has too few rows to be
learned alone, and one code for all of them says nothing: any of them could stand for any other. But values
are known by the company they keep: the tail numbers of one airline come with that airline. So values that
are seen a few times at least are put together by the means of the other columns in their rows, each mean
drawn towards that of all rows as far as so few rows can mislead (James & Stein, 1961), and only of columns
that differ between values more than within them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from vae_core.encoding import EncodedBatch

__all__ = ["grouped"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEAST_ROWS = 4  # of a value, that its company be known
MOST_CELLS = 4_000_000  # values by what they are known by; of more the commonest are put into groups
MOST_GROUPS, FEWEST_VALUES = 32, 4  # of a column; values a group, on average
WIDEST = 256  # codes of another column that are told apart: those of its commonest values
LEAST_APART = 0.05  # share of a variance that lies between values, from which on it tells them apart


def grouped(places: Ints, counts: Ints, rows: EncodedBatch, column: int) -> Ints:
    """The group of each rare value of a column [r], from 1 on; 0 where it has none.

    Parameters
    ----------
    places
        Which rare value each row holds [n]; -1 for none of them.
    counts
        Rows with each value [r], the commonest first.
    rows
        All rows [n], encoded.
    column
        Number of the column among the categorical ones: it is no company of its own.
    """
    known = min(int((counts >= LEAST_ROWS).sum()), MOST_CELLS // _width(rows))
    groups = np.zeros(counts.size, dtype=np.int64)
    if known > 1:
        holders = np.flatnonzero((places >= 0) & (places < known))
        company = _company(_Held(holders, places[holders], known), rows, column)
        groups[:known] = _clusters(company, counts[:known])
    return groups


@dataclass(frozen=True)
class _Held:
    """Numbers of the rows with a value [h], which value each holds [h], and how many values there are."""

    rows: Ints
    places: Ints
    many: int

    def sums(self, cells: npt.NDArray[Any]) -> Floats:
        """Sums of cells [n] by value [many]."""
        return np.bincount(self.places, cells[self.rows], self.many).astype(np.float64)

    def counts(self, codes: Ints) -> Floats:
        """Rows with each value and code, of codes [n] below WIDEST, [many, WIDEST]."""
        pairs = self.places * WIDEST + np.minimum(codes[self.rows], WIDEST - 1)
        return np.bincount(pairs, minlength=self.many * WIDEST).reshape(-1, WIDEST).astype(np.float64)


def _width(rows: EncodedBatch) -> int:
    """Cells that the company of one value may have."""
    codes = rows.codes.amax(dim=0).clamp(max=WIDEST - 1) + 1
    return int(codes.sum()) + sum(part.shape[1] for part in (rows.numbers, rows.bits, rows.present))


def _clusters(company: Floats, counts: Ints) -> Ints:
    """Clusters of values by their company [r, d], numbered from 1; 0 where nothing tells them apart."""
    from sklearn.cluster import KMeans

    many = min(MOST_GROUPS, len(counts) // FEWEST_VALUES, len(np.unique(company, axis=0)))
    if many < 2:
        return np.zeros(len(counts), dtype=np.int64)
    with threadpool_limits(1):  # sums of several threads differ from run to run
        labels = KMeans(many, n_init=1, random_state=0).fit(company, sample_weight=counts).labels_
    return np.unique(labels, return_inverse=True)[1].astype(np.int64) + 1


def _company(held: _Held, rows: EncodedBatch, column: int) -> Floats:
    """What each value is known by [many, d]: how far its rows lie from all, in standard deviations."""
    sizes = np.bincount(held.places, minlength=held.many).astype(np.float64)
    blocks = [_shrunk(sums, squares, sizes) for sums, squares in _sums(held, rows, column)]
    found = np.concatenate([np.zeros((held.many, 1)), *blocks], axis=1)
    return found.round(6)  # what differs less is the same


def _sums(held: _Held, rows: EncodedBatch, column: int) -> Iterator[tuple[Floats, Floats]]:
    """Sums by value [many, d], and sums of squares [d], of each other column, one at a time."""
    for part in (rows.numbers, rows.bits, rows.present):
        for cells in part.numpy().T:
            yield held.sums(cells)[:, None], held.sums(cells**2).sum(keepdims=True)
    for j, codes in enumerate(rows.codes.numpy().T):
        if j != column:
            counts = held.counts(codes)
            yield counts, counts.sum(axis=0)


def _shrunk(sums: Floats, squares: Floats, counts: Floats) -> Floats:
    """Means by value less the mean of all, shrunk by what so few rows leave open [many, d].

    Variance components by the analysis of variance with unequal groups. All codes of one column count
    together as much as one number.
    """
    whole, many = counts.sum(), counts.size
    mean = sums.sum(axis=0) / whole
    off = sums / counts[:, None] - mean
    between = (counts[:, None] * off**2).sum(axis=0)
    total = squares - whole * mean**2
    within = np.maximum(total - between, 0) / max(whole - many, 1)
    size = (whole - (counts**2).sum() / whole) / (many - 1)
    apart = np.maximum(between / (many - 1) - within, 0) / size
    telling = apart > LEAST_APART * (apart + within) + 1e-12
    apart, within, off = apart[telling], within[telling], off[:, telling]
    shrunk = off * apart / (apart + within / counts[:, None])
    width = max(np.count_nonzero(squares) - 1, 1)
    return np.asarray(shrunk / np.sqrt((apart + within) * width))
