"""What a user could take instead: PCA and Isolation Forest on one-hot rows.

They are there to be compared with, so they are what one gets without effort, given a fair chance:
numbers standardised, categories one-hot, nulls at the mean with an indicator beside them. Fitting is
bounded to :data:`MAX_ROWS` rows and :data:`MAX_CELLS` encoded cells, a few CPU-seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.ensemble import IsolationForest

from vae_core import arrays
from vae_core.schema import ColumnKind, ColumnSpec, TableSchema

__all__ = ["MAX_CELLS", "MAX_ROWS", "REFERENCES", "OneHot", "References"]

Floats = npt.NDArray[np.float64]

REFERENCES = ("PCA", "Isolation Forest")
MAX_ROWS = 20_000
MAX_CELLS = 4_000_000  # rows times encoded columns
MAX_WORDS = 64  # values of a category with an indicator of their own
LARGEST = 1e6  # standard deviations; what lies beyond is moved there
VARIANCE = 0.95  # share that the principal components explain


# -- Rows as plain numbers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measure:
    """A number, truth value or instant: standardised, and whether it is absent."""

    column: ColumnSpec
    center: Floats
    scale: Floats

    @classmethod
    def fit(cls, column: ColumnSpec, table: pa.Table) -> Self:
        values = _measured(column, table)
        finite = np.where(np.isfinite(values), np.clip(values, -1e150, 1e150), np.nan)
        seen = np.isfinite(finite).any()
        center = np.nanmean(finite, axis=0) if seen else np.zeros(values.shape[1])
        scale = np.nanstd(finite, axis=0) if seen else np.ones(values.shape[1])
        return cls(column, center, np.where(scale > 1e-9 * np.abs(center), scale, 1.0))

    def encode(self, table: pa.Table) -> Floats:
        """Rows [n] as [n, parts + 1], the last 1 where the value is absent."""
        values = _measured(self.column, table)
        with np.errstate(over="ignore"):
            standard = np.clip((values - self.center) / self.scale, -LARGEST, LARGEST)
        absent = np.isnan(values[:, :1])
        return np.hstack([np.where(absent, 0.0, standard), absent])


def _measured(column: ColumnSpec, table: pa.Table) -> Floats:
    """Values of a column [n, parts], NaN where absent; an instant is its date and its time of day."""
    values = table[column.name]
    if column.kind is ColumnKind.NUMERIC:
        return arrays.numbers(values, column.name)[:, None]
    if column.kind is ColumnKind.BOOLEAN:
        truth, present = arrays.bits(values, column.name)
        return np.where(present, truth, np.nan)[:, None]
    days, share, present = arrays.instants(values, column.name)
    return np.where(present, (days + share, share), np.nan).T


@dataclass(frozen=True)
class _Choice:
    """A category: an indicator for each of its commonest values, for null and for any other."""

    column: ColumnSpec
    words: pa.Array

    @classmethod
    def fit(cls, column: ColumnSpec, table: pa.Table) -> Self:
        counted = pc.value_counts(arrays.texts(table[column.name], column.name).drop_null())
        order = np.argsort(-counted.field("counts").to_numpy(), kind="stable")[:MAX_WORDS]
        return cls(column, counted.field("values").take(pa.array(order)))

    def encode(self, table: pa.Table) -> Floats:
        """Rows [n] as [n, words + 2]."""
        values = arrays.texts(table[self.column.name], self.column.name).cast(self.words.type)
        places = pc.fill_null(pc.index_in(values, self.words, skip_nulls=True), len(self.words))
        codes = np.where(np.asarray(pc.is_null(values)), len(self.words) + 1, np.asarray(places))
        return np.eye(len(self.words) + 2)[codes]


class OneHot:
    """Rows as plain numbers, as a user would encode them.

    Parameters
    ----------
    schema
        Kinds of the columns; keys and ignored ones are left out.
    sample
        Rows that categories, means and standard deviations are taken from.
    """

    def __init__(self, schema: TableSchema, sample: pa.Table) -> None:
        self._columns = [
            (_Choice if column.kind is ColumnKind.CATEGORICAL else _Measure).fit(column, sample)
            for column in schema.features
        ]

    def encode(self, table: pa.Table) -> Floats:
        """Rows [n] as numbers [n, d], all finite."""
        return np.hstack([column.encode(table) for column in self._columns])


# -- Detectors ----------------------------------------------------------------------------------------------


class References:
    """PCA and Isolation Forest, fitted on the same rows.

    PCA scores by the squared error of rebuilding a row from the components that explain 95 % of the
    variance; Isolation Forest is scikit-learn's with its defaults.

    Parameters
    ----------
    schema
        Kinds of the columns.
    sample
        Rows to fit; more than :data:`MAX_ROWS` are drawn from.
    seed
        Of the draw and of the forest.
    """

    def __init__(self, schema: TableSchema, sample: pa.Table, seed: int = 0) -> None:
        drawn = _drawn(sample, MAX_ROWS, seed)
        self._encoder = OneHot(schema, drawn)
        self._step = max(MAX_CELLS // self._encoder.encode(drawn.slice(0, 1)).shape[1], 1)  # rows at once
        rows = self._encoder.encode(_drawn(drawn, self._step, seed))
        self._mean = rows.mean(axis=0)
        self._components = _components(rows - self._mean)
        self._forest = IsolationForest(random_state=seed).fit(rows)

    def scores(self, table: pa.Table) -> dict[str, Floats]:
        """Anomaly scores of rows [n], at least one, by method: higher is more anomalous."""
        slices = [table.slice(first, self._step) for first in range(0, table.num_rows, self._step)]
        scores = np.hstack([self._scores(self._encoder.encode(rows)) for rows in slices])
        return dict(zip(REFERENCES, scores, strict=True))

    def _scores(self, rows: Floats) -> Floats:
        """Encoded rows [n, d] to scores [methods, n]."""
        centred = rows - self._mean
        rest = centred - centred @ self._components @ self._components.T
        return np.stack([(rest**2).sum(axis=1), -self._forest.score_samples(rows)])


def _drawn(table: pa.Table, rows: int, seed: int) -> pa.Table:
    """At most so many rows, at random, in their order."""
    if table.num_rows <= rows:
        return table
    picked = np.random.default_rng(seed).choice(table.num_rows, rows, replace=False)
    return arrays.pick(table, np.sort(picked))


def _components(centred: Floats) -> Floats:
    """Directions [d, k] that explain VARIANCE of centred rows [n, d], from the smaller of both squares."""
    tall = centred.shape[0] >= centred.shape[1]
    values, vectors = np.linalg.eigh(centred.T @ centred if tall else centred @ centred.T)
    explained = np.cumsum(np.maximum(values, 0.0)[::-1])
    kept = int(np.searchsorted(explained, VARIANCE * explained[-1])) + 1 if explained[-1] > 0 else 0
    values, vectors = values[len(values) - kept :], vectors[:, len(values) - kept :]
    return np.asarray(vectors if tall else centred.T @ vectors / np.sqrt(values))
