"""What users hold in their hands, as Arrow tables: pandas, Polars, Arrow, NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from vae_core.exceptions import ColumnError

__all__ = ["as_frame", "as_table", "from_matrix", "is_table"]


def is_table(rows: Any) -> bool:
    """Whether ``rows`` carries its own column names and types."""
    return isinstance(rows, pa.Table | pa.RecordBatch | pd.DataFrame) or hasattr(rows, "__arrow_c_stream__")


def as_table(rows: Any) -> pa.Table:
    """A data frame of any make as an Arrow table.

    Raises
    ------
    ColumnError
        A column has no Arrow type, or a name stands twice.
    """
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, pd.DataFrame):
        return _from_pandas(rows)
    return pa.table(rows)


def _from_pandas(frame: pd.DataFrame) -> pa.Table:
    named = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if not named.columns.is_unique:
        raise ColumnError(f"column names must be unique, however they are {list(named.columns)}; rename them")
    try:
        return pa.Table.from_pandas(named, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise ColumnError(
            f"every column must hold values of one type, however: {' '.join(map(str, error.args))}; "
            "convert that column first"
        ) from None


def as_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table as a pandas frame; times of day are rounded to what Python's can hold."""
    times = [pa.field(f.name, pa.time64("us")) if f.type == pa.time64("ns") else f for f in table.schema]
    held = table.cast(pa.schema(times), safe=False)
    frame: pd.DataFrame
    try:
        frame = held.to_pandas()
    except (ValueError, OverflowError):  # dates that no calendar holds
        frame = held.to_pandas(date_as_object=False)
    return frame


def from_matrix(matrix: np.ndarray[Any, Any], names: Sequence[str]) -> pa.Table:
    """A matrix [n, d] as a table with columns of these names [d]."""
    return pa.table({name: np.ascontiguousarray(matrix[:, j]) for j, name in enumerate(names)})
