"""Tables as the matrices that PyOD wants: standardised numbers, one-hot strings, no holes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

__all__ = ["MAX_VALUES", "Matrices"]

MAX_VALUES = 64  # of a string column that get a column of their own, the most frequent ones
TEXTS = (pt.is_string, pt.is_large_string, pt.is_string_view, pt.is_binary, pt.is_large_binary)
LARGEST = 1e100  # its square is finite
LARGEST_STANDARDISED = 1e9  # its square is finite in single precision

Floats = npt.NDArray[np.float64]
Coder = Callable[[pa.ChunkedArray], Floats]


class Matrices:
    """Turns tables like ``train`` into matrices [n, d]; all it knows comes from the rows of ``train``.

    Numbers, truth values and times: nulls become the mean, infinities the largest finite number, then all
    is standardised. Strings: one 0/1 column for each of the 64 most frequent values.
    """

    def __init__(self, train: pa.Table, without: Collection[str] = ()) -> None:
        names = [name for name in train.column_names if name not in without]
        self.coders = {name: _coder(train.column(name)) for name in names}

    def of(self, table: pa.Table) -> Floats:
        """The matrix of a table's rows, [n, d]."""
        return np.hstack([coder(table.column(name)) for name, coder in self.coders.items()])


def _coder(column: pa.ChunkedArray) -> Coder:
    kind = _plain(column.type)
    if any(is_text(kind) for is_text in TEXTS):
        return _one_hot(column)
    return _standardised(_numbers(column))


def _one_hot(column: pa.ChunkedArray) -> Coder:
    counts = pc.value_counts(column.cast(_plain(column.type)).drop_null()).to_pylist()
    frequent = sorted(counts, key=lambda entry: (-entry["counts"], entry["values"]))[:MAX_VALUES]
    known = pa.array([entry["values"] for entry in frequent], _plain(column.type))

    def code(column: pa.ChunkedArray) -> Floats:
        places = pc.index_in(column.cast(known.type), known).fill_null(-1).to_numpy()
        return np.asarray(places[:, None] == np.arange(len(known)), dtype=np.float64)

    return code


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pt.is_dictionary(kind) else kind


def _standardised(train: Floats) -> Coder:
    finite = train[np.isfinite(train)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    mean = finite.mean() if finite.size else 0.0
    filled = np.clip(np.where(np.isnan(train), mean, train), low, high)
    scale = filled.std() if high > low else 1.0

    def code(column: pa.ChunkedArray) -> Floats:
        numbers = _numbers(column)
        numbers = np.where(np.isinf(numbers), np.clip(numbers, low, high), numbers)
        standardised = (np.where(np.isnan(numbers), mean, numbers) - mean) / scale
        return np.clip(standardised, -LARGEST_STANDARDISED, LARGEST_STANDARDISED)[:, None]

    return code


def _numbers(column: pa.ChunkedArray) -> Floats:
    """Numbers as they are, truth values as 0 and 1, times as counts; NaN for nulls; infinities stay."""
    kind = _plain(column.type)
    plain = column.cast(kind)
    if pt.is_null(kind):
        return np.full(len(plain), np.nan)
    if pt.is_temporal(kind):
        plain = plain.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    numbers: np.ndarray[Any, Any] = plain.cast(pa.float64(), safe=False).to_numpy()
    return np.where(np.isinf(numbers), numbers, np.clip(numbers, -LARGEST, LARGEST))
