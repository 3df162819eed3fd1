"""What users hold in their hands, as Arrow tables: pandas, Polars, Arrow, NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from vae_core.exceptions import ColumnError, DataError

__all__ = ["as_frame", "as_table", "from_matrix", "is_frame", "is_table"]


CASTS_FAIL = (ValueError, TypeError, OverflowError, NotImplementedError)
"""What Arrow and pandas raise where a type cannot hold a value; their own errors are of these."""


def is_table(rows: Any) -> bool:
    """Whether ``rows`` carries its own column names and types, be it a single column or a plan of a table."""
    tables = pa.Table | pa.RecordBatch | pd.DataFrame
    return isinstance(rows, tables) or hasattr(rows, "__arrow_c_stream__") or _is_plan(rows)


def _is_plan(rows: Any) -> bool:
    return type(rows).__name__ == "LazyFrame"  # Polars', which need not be installed


def is_frame(rows: Any) -> bool:
    """Whether a table is a data frame, whose names scikit-learn checks, and not one of Arrow."""
    return hasattr(rows, "shape") and not isinstance(rows, pa.Table | pa.RecordBatch)


def as_table(rows: Any) -> pa.Table:
    """A data frame of any make as an Arrow table.

    Raises
    ------
    ColumnError
        A column has no Arrow type, or a name stands twice; a single column came, or only a plan of a table.
    DataError
        A reader has been read before.
    """
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, pd.DataFrame):
        return _from_pandas(rows)
    if _is_plan(rows):
        raise ColumnError(
            "a table is required, however a LazyFrame came, a plan of one; hand over its collect()"
        )
    if isinstance(rows, pa.RecordBatchReader):
        return _read(rows)
    try:
        return pa.table(rows)
    except pa.ArrowInvalid as error:
        raise ColumnError(
            f"a table is required, however a {type(rows).__name__} came: {error}; name a single column, as "
            "pyarrow.table({'x': column}) does"
        ) from None


def _read(reader: pa.RecordBatchReader) -> pa.Table:
    table = reader.read_all()
    if table.num_rows == 0:
        raise DataError(
            "a reader with rows left is required, however this one has none, and it can be read but once; "
            "make a new one, or hand over the table of its read_all()"
        )
    return table


def _from_pandas(frame: pd.DataFrame) -> pa.Table:
    named = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if not named.columns.is_unique:
        raise ColumnError(f"column names must be unique, however they are {list(named.columns)}; rename them")
    sparse = [name for name, dtype in named.dtypes.items() if isinstance(dtype, pd.SparseDtype)]
    if sparse:
        raise ColumnError(
            f"columns that hold all their values are required, however {sparse[:5]} are sparse; "
            "make each one dense by .sparse.to_dense()"
        )
    try:
        return pa.Table.from_pandas(named, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise ColumnError(
            f"every column must hold values of one type, however: {' '.join(map(str, error.args))}; "
            "convert that column first"
        ) from None


def as_frame(table: pa.Table, like: Any = None) -> pd.DataFrame:
    """An Arrow table as a pandas frame; times of day are rounded to what Python's can hold.

    Where ``like`` is a pandas frame of as many rows, its index is taken, and the types of its columns where
    they can hold the values.
    """
    times = [pa.field(f.name, pa.time64("us")) if f.type == pa.time64("ns") else f for f in table.schema]
    held = table.cast(pa.schema(times), safe=False)
    frame: pd.DataFrame
    try:
        frame = held.to_pandas()
    except (ValueError, OverflowError):  # dates that no calendar holds
        frame = held.to_pandas(date_as_object=False)
    return _alike(frame, held, like) if isinstance(like, pd.DataFrame) else frame


def _alike(frame: pd.DataFrame, table: pa.Table, like: pd.DataFrame) -> pd.DataFrame:
    """The frame of a table with the index and the types of another."""
    types = {str(name): dtype for name, dtype in like.dtypes.items()}
    columns = {
        name: _in_type(frame[name], table.column(name), types[name]) if name in types else frame[name]
        for name in table.schema.names
    }
    return pd.DataFrame(columns).set_axis(like.index, axis=0)


def _in_type(values: pd.Series[Any], column: pa.ChunkedArray, wanted: Any) -> pd.Series[Any]:
    """Values, also given as an Arrow column, in the type wanted; as they are where it cannot hold them."""
    if values.dtype == wanted or not _are_among(values, wanted):
        return values
    try:
        if hasattr(wanted, "__from_arrow__"):
            return pd.Series(wanted.__from_arrow__(column))
        with np.errstate(invalid="ignore"):
            cast = values.astype(wanted)
    except CASTS_FAIL:
        return values
    rounds = getattr(wanted, "kind", "O") in "iub" and not (cast == values).all()
    return values if rounds or not cast.isna().equals(values.isna()) else cast


def _are_among(values: pd.Series[Any], wanted: Any) -> bool:
    """Whether values are categories of the type wanted, where that has any."""
    return not isinstance(wanted, pd.CategoricalDtype) or bool(values.dropna().isin(wanted.categories).all())


def from_matrix(matrix: np.ndarray[Any, Any], names: Sequence[str]) -> pa.Table:
    """A matrix [n, d] as a table with columns of these names [d]."""
    return pa.table({name: np.ascontiguousarray(matrix[:, j]) for j, name in enumerate(names)})
