"""Ordinary rows most like a flagged one: of the same night, and not odd themselves.

They are compared in the columns that are not to blame, so that they show what is usual in those that are.
The distance is Gower's: the mean over columns of differences between 0 and 1. Numbers differ by the share
of training rows between them, so that no unit and no outlier counts more than others; instants by the hour
of the day; everything else is equal or not.

References
----------
Gower, A General Coefficient of Similarity and Some of Its Properties, Biometrics 27 (1971), 857–871.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from flows.errors import InputError, StoreError
from flows.manifest import Manifest
from flows.storage import Store
from flows.tables import input_file, open_table
from review.training import Distribution

__all__ = ["ROWS", "Nearest", "nearest"]

ROWS = 300_000
"""Rows that are looked at, at most: those at the beginning of the night's files."""
BATCH = 32_768
DAY = 86_400_000_000
ORDINARY = 10.0
"""Severity below which a row is ordinary: nine of ten are."""
NONE = np.empty(0, dtype=np.int64)

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Nearest:
    """The rows found, the nearest first, each with its distance (0: alike, 1: unlike in every column)."""

    rows: list[dict[str, Any]]
    distances: list[float]
    seen: int
    trouble: str = ""


def nearest(
    store: Store,
    manifest: Manifest,
    row: Mapping[str, Any],
    columns: Sequence[str],
    blamed: Collection[str],
    training: Mapping[str, Distribution],
    prefix: str = "",
    count: int = 5,
) -> Nearest:
    """Find ordinary rows of a night that are like one of its flagged rows.

    Parameters
    ----------
    store
        The results.
    manifest
        Of the night; its input files are read again.
    row
        The flagged row.
    columns
        Columns that the model sees.
    blamed
        Those among them that are not compared, as long as two others are left.
    training
        Distributions of the training rows; a number without one is compared for equality.
    """
    compared = [name for name in columns if name not in blamed]
    compared = compared if len(compared) > 1 else list(columns)
    found: list[tuple[float, dict[str, Any]]] = []
    seen, trouble = 0, ""
    known = _known(store, manifest.date, prefix)
    for one in manifest.inputs:
        if one.status != "scored" or seen >= ROWS:
            continue
        try:
            for batch, numbers in _ordinary(one.path, one.digest, manifest.date, known, ROWS - seen):
                seen += batch.num_rows
                found = _best(found, batch, numbers, row, compared, training, count)
        except (InputError, StoreError) as error:
            trouble = str(error)
    return Nearest([row for _, row in found], [distance for distance, _ in found], seen, trouble)


@dataclass(frozen=True)
class _Known:
    """Numbers of rows by file: those that are ordinary, or, without scores, those that are not."""

    rows: Mapping[str, list[Numbers]]
    ordinary: bool

    def places(self, path: str, first: int, count: int) -> Numbers:
        """Which of so many rows of a file, from the first on, are ordinary."""
        mine = np.concatenate(next((some for key, some in self.rows.items() if path.endswith(key)), [NONE]))
        return np.flatnonzero(np.isin(np.arange(first, first + count), mine) == self.ordinary)


def _known(store: Store, day: date, prefix: str) -> _Known:
    """What the scores of a night say of its rows; where they are not kept, its flags."""
    scores = store.list(f"scores/dt={day}", ".parquet")
    names = [prefix + name for name in ("batch_file", "row_number", "severity")]
    found: dict[str, list[Numbers]] = {}
    seen = 0
    for part in scores or store.list(f"flags/dt={day}", ".parquet"):
        if seen > ROWS:
            break
        with open_table(part.path) as reader:
            for batch in reader.batches(names):
                seen += batch.num_rows
                rows = batch.filter(pc.less(batch.column(names[2]), ORDINARY)) if scores else batch
                for file in pc.unique(rows.column(names[0])).to_pylist():
                    mine = rows.filter(pc.equal(rows.column(names[0]), file)).column(names[1])
                    found.setdefault(file, []).append(mine.to_numpy(zero_copy_only=False))
    return _Known(found, bool(scores))


def _ordinary(
    path: str, digest: str, day: date, known: _Known, most: int
) -> Iterator[tuple[pa.RecordBatch, Numbers]]:
    """Batches of a file's rows, and the places of ordinary ones within each."""
    file = input_file(path, day)
    if file.digest != digest:
        raise InputError(f"{path}: the file that was scored was required, however it has changed since")
    start = 0
    with open_table(file) as reader:
        for batch in reader.batches(max_rows=BATCH):
            yield batch, known.places(path, start, batch.num_rows)
            start += batch.num_rows
            if start >= most:
                return


def _best(
    found: list[tuple[float, dict[str, Any]]],
    batch: pa.RecordBatch,
    numbers: Numbers,
    row: Mapping[str, Any],
    columns: Sequence[str],
    training: Mapping[str, Distribution],
    count: int,
) -> list[tuple[float, dict[str, Any]]]:
    """The nearest rows so far, together with those of a batch."""
    compared = [name for name in columns if name in batch.schema.names and name in row]
    if not (compared and numbers.size):
        return found
    distances = np.mean(
        [_differences(batch.column(name), row[name], training.get(name)) for name in compared], axis=0
    )[numbers]
    first = np.argsort(distances, kind="stable")[:count]
    rows = batch.take(pa.array(numbers[first])).to_pylist()
    joined = [*found, *zip(distances[first].tolist(), rows, strict=True)]
    return sorted(joined, key=lambda pair: pair[0])[:count]


def _differences(values: pa.Array, value: Any, known: Distribution | None) -> Floats:
    """Difference [n] of a column's cells from one value, each from 0 to 1."""
    empty = np.asarray(pc.is_null(values).to_numpy(zero_copy_only=False), dtype=np.bool_)
    if value is None:
        return np.where(empty, 0.0, 1.0)
    with np.errstate(invalid="ignore"):
        return np.where(empty, 1.0, _of_present(values, value, known))


def _of_present(values: pa.Array, value: Any, known: Distribution | None) -> Floats:
    kind = values.type
    if pt.is_timestamp(kind):
        ticks = pc.fill_null(values.cast(pa.timestamp("us", kind.tz), safe=False).view(pa.int64()), 0)
        own = pa.scalar(value, pa.timestamp("us", kind.tz)).value
        apart = np.abs(ticks.to_numpy() % DAY - own % DAY) / DAY
        return np.asarray(2 * np.minimum(apart, 1 - apart))
    if (
        known is not None
        and known.kind == "numeric"
        and known.counts
        and (pt.is_integer(kind) or pt.is_floating(kind))
    ):
        numbers = pc.fill_null(values.cast(pa.float64(), safe=False), 0.0).to_numpy()
        return np.asarray(np.abs(known.ranks(np.nan_to_num(numbers)) - known.rank(value)))
    return _unequal(values, value)


def _unequal(values: pa.Array, value: Any) -> Floats:
    kind = values.type.value_type if pt.is_dictionary(values.type) else values.type
    try:
        same = pc.fill_null(pc.equal(values.cast(kind), pa.scalar(value, kind)), False)
    except (pa.ArrowException, TypeError, ValueError):  # lists and the like: nothing to compare
        return np.zeros(len(values))
    return 1.0 - np.asarray(same.to_numpy(zero_copy_only=False), dtype=np.float64)
