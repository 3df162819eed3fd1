"""What a budget picks where rows have a value at stake: odder rows first, of equally odd ones the dearer.

P-values of one power of ten are taken for equal: beyond the calibration rows they are estimates, and a
factor of two says little. Within such a step the value decides, and among equal values the p-value.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows.errors import SchemaError

__all__ = ["RANK", "ranks", "require_numbers", "values_at_stake"]

Floats = npt.NDArray[np.float64]

RANK = "rank"
"""The column of `ranks` in ``scores``."""
LARGEST_LOG = 800.0  # log1p of any double is below: a value never outweighs a power of ten
P_VALUE_WEIGHT = 1e-10


def ranks(p_values: Floats, values: Floats) -> Floats:
    """The higher of two rows [n] is picked first.

    Parameters
    ----------
    p_values
        In (0, 1].
    values
        At stake, from 0 up.
    """
    oddness = -np.log10(np.maximum(p_values, 1e-300))
    step = np.floor(oddness)
    return np.asarray(step + np.log1p(values) / LARGEST_LOG + P_VALUE_WEIGHT * (oddness - step))


def values_at_stake(batch: pa.RecordBatch, name: str) -> Floats:
    """Magnitudes of a column of numbers [n], 0 where there is none.

    Raises
    ------
    SchemaError
        The column is missing, or holds no numbers.
    """
    require_numbers(batch.schema, name)
    values = pc.fill_null(batch.column(name).cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    return np.asarray(np.nan_to_num(np.abs(values), nan=0.0, posinf=np.finfo(np.float64).max))


def require_numbers(schema: pa.Schema, name: str) -> None:
    """Refuse a table whose column at stake is missing, or holds no numbers.

    Raises
    ------
    SchemaError
        The sentence names the column and what it holds.
    """
    kind = schema.field(name).type if name in schema.names else None
    numeric = kind is not None and (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
    if not numeric:
        came = "it is missing" if kind is None else f"it holds {kind}"
        raise SchemaError(
            f"`columns.value_at_stake`: a column {name} of numbers was required, however {came}"
        )
