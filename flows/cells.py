"""Arrow rows as plain Python values, whatever strangers have put into them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as pt

__all__ = ["plain_rows"]

_NOT_IN_PYTHON = (OverflowError, ValueError, pa.ArrowException, LookupError)


def plain_rows(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as dictionaries; a value that Python has none for (the year 300,000) comes as text."""
    columns = [_values(column) for column in table.columns]
    return [dict(zip(table.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    try:
        return list(column.to_pylist())
    except _NOT_IN_PYTHON:
        return [_value(one) for one in column]


def _value(one: pa.Scalar) -> Any:
    try:
        return one.as_py()
    except _NOT_IN_PYTHON:
        return _text(one)


def _text(one: pa.Scalar) -> str:
    """Return a moment beyond Python's years, or of an unknown zone, as Arrow writes it, or its ticks."""
    kind = one.type
    if not pt.is_temporal(kind):
        return f"({kind})"
    try:
        plain = one.cast(pa.timestamp(kind.unit)) if pt.is_timestamp(kind) else one
        return str(plain.cast(pa.string()))
    except _NOT_IN_PYTHON:
        return f"{one.value} {kind}"
