"""What a detector sees and what it is blind to: the share of planted errors found, column by column.

Errors of every kind of `canaries` are planted in a copy of ordinary rows; a row counts as found when it
scores beyond a cut. For numbers, a ladder of relative errors says from which size on half of them are found.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from vae_core import arrays
from vae_core.canaries import Planted, plant_each
from vae_core.schema import ColumnKind, ColumnSpec

if TYPE_CHECKING:
    from vae_core.detector import VAEDetector

__all__ = ["GROSS", "LADDER", "Detection", "Sight", "detections", "ordinary", "sights"]

GROSS = ("unit_slip_1000", "null", "unseen_category", "far_timestamp")
"""Kinds of errors so plain that a detector that misses half of them is blind in that column."""
LADDER = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Relative errors that numbers are tried with: 0.3 is 30 % too much, or too little by the same factor."""
HALF = 0.5

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Detection:
    """How many errors of a kind, planted in a column, are found."""

    kind: str
    column: str
    planted: int
    found: int

    @property
    def power(self) -> float:
        """Share found, 0 to 1."""
        return self.found / self.planted

    @property
    def blind(self) -> bool:
        """Whether fewer than half of errors that are plain to see are found, by two standard errors."""
        return self.kind in GROSS and self.found < HALF * self.planted - math.sqrt(self.planted)


@dataclass(frozen=True)
class Sight:
    """Which relative errors of a number are found: the share for each step of `LADDER`."""

    column: str
    found: tuple[float, ...]

    @property
    def blind_below(self) -> float | None:
        """The relative error from which on at least half are found; None where no step suffices."""
        steps = zip(LADDER, self.found, strict=True)
        return next((error for error, share in steps if share >= HALF), None)

    def __str__(self) -> str:
        limit = self.blind_below
        if limit is None:
            return f"blind to `{self.column}` errors of any size up to {LADDER[-1]:.0%}"
        return f"blind to `{self.column}` errors below {limit:.0%}"


def ordinary(detector: VAEDetector, table: pa.Table, cut: float) -> pa.Table:
    """The rows that score below a cut, an anomaly score: those in which planted errors can be told."""
    return table.filter(pa.array(-detector.score_samples(table) < cut))


def detections(
    detector: VAEDetector, table: pa.Table, cut: float, *, rows: int = 1000, seed: int = 0
) -> list[Detection]:
    """Plant ``rows`` errors of each kind in ordinary rows, and count those found in each column.

    Parameters
    ----------
    detector
        Fitted.
    table
        Ordinary rows; they are not changed.
    cut
        Anomaly score from which on a row is found.
    rows
        Errors a kind, spread over the columns that take them.
    seed
        Same seed, same errors.
    """
    planted = plant_each(table, detector.schema_, rows=rows, seed=seed)
    return [one for each in planted.values() if len(each) for one in _counted(detector, each, cut)]


def _counted(detector: VAEDetector, planted: Planted, cut: float) -> list[Detection]:
    found = -detector.score_samples(planted.table) >= cut
    names = [columns[0] for columns in planted.columns]
    tried, hits = Counter(names), Counter(name for name, hit in zip(names, found, strict=True) if hit)
    return [Detection(planted.kind, name, tried[name], hits[name]) for name in sorted(tried)]


def sights(
    detector: VAEDetector, table: pa.Table, cut: float, *, rows: int = 200, seed: int = 0
) -> list[Sight]:
    """Try relative errors of growing size in every number, each in up to ``rows`` ordinary rows.

    Half of them are too large by the factor 1 + error, half too small by it. Values that an error would
    not change (zeros, counts that round back) are left out.
    """
    numbers = [column for column in detector.schema_.features if _scales(column)]
    return [_sight(detector, table, column, cut, rows, seed + i) for i, column in enumerate(numbers)]


def _scales(column: ColumnSpec) -> bool:
    kind = column.arrow_type
    return column.kind is ColumnKind.NUMERIC and bool(pt.is_integer(kind) or pt.is_floating(kind))


def _sight(
    detector: VAEDetector, table: pa.Table, column: ColumnSpec, cut: float, rows: int, seed: int
) -> Sight:
    random = np.random.default_rng(seed)
    values = arrays.numbers(table[column.name], column.name)
    usable = np.flatnonzero(np.isfinite(values) & (values != 0))
    drawn = np.sort(random.choice(usable, min(rows, usable.size), replace=False))
    upward = np.where(random.random(drawn.size) < HALF, 1.0, -1.0)
    base = arrays.pick(table, drawn)
    shares = [_found(detector, base, column, values[drawn] * (1 + e) ** upward, cut) for e in LADDER]
    return Sight(column.name, tuple(shares))


def _found(detector: VAEDetector, base: pa.Table, column: ColumnSpec, wrong: Floats, cut: float) -> float:
    """Share of rows beyond the cut when a column's values [n] are wrong; 0 where none can be."""
    changed, spoilt = _written(wrong, column.arrow_type, arrays.numbers(base[column.name], column.name))
    if not spoilt.any():
        return 0.0
    place = base.schema.get_field_index(column.name)
    table = base.set_column(place, base.schema.field(place), changed)
    scores: Floats = -detector.score_samples(arrays.pick(table, np.flatnonzero(spoilt)))
    return float((scores >= cut).mean())


def _written(wrong: Floats, arrow_type: pa.DataType, right: Floats) -> tuple[pa.Array, Bools]:
    """Values [n] in their column's type, and where that changed something."""
    if pt.is_floating(arrow_type):
        return pa.array(wrong).cast(arrow_type, safe=False), wrong != right
    span = np.iinfo(arrow_type.to_pandas_dtype())
    whole = np.rint(wrong)
    fits = (np.abs(whole) < 2**53) & (whole >= span.min) & (whole <= span.max)
    array = pa.array(np.where(fits, whole, 0).astype(np.int64)).cast(arrow_type)
    return array, fits & (whole != right)
