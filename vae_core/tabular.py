"""What users hold in their hands, as Arrow tables: pandas, Polars, Arrow, NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from vae_core.exceptions import ColumnError

__all__ = ["as_table", "is_table"]


def is_table(rows: Any) -> bool:
    """Whether ``rows`` carries its own column names and types."""
    return isinstance(rows, pa.Table | pa.RecordBatch | pd.DataFrame) or hasattr(rows, "__arrow_c_stream__")


def as_table(rows: Any) -> pa.Table:
    """A data frame of any make as an Arrow table.

    Raises
    ------
    ColumnError
        A column has no Arrow type.
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
    try:
        return pa.Table.from_pandas(named, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise ColumnError(
            f"every column must hold values of one type, however: {' '.join(map(str, error.args))}; convert that column first"
        ) from None


def from_matrix(matrix: np.ndarray[Any, Any]) -> pa.Table:
    """A matrix [n, d] as a table with columns x0 … x(d-1)."""
    return pa.table({f"x{j}": np.ascontiguousarray(matrix[:, j]) for j in range(matrix.shape[1])})
