"""Earlier rows with the same key: the same flight last week, the same account last month.

A key that holds an instant never comes twice, so instants and dates are left out of the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from flows.errors import InputError, StoreError
from flows.storage import Store
from flows.tables import open_table

__all__ = ["NIGHTS", "Earlier", "earlier", "lasting"]

NIGHTS = 31
"""Nights before that are looked through, at most."""
BYTES = 512 * 1024 * 1024  # of scores that are looked through, at most
MOST = 50


@dataclass(frozen=True)
class Earlier:
    """One earlier row: its night, its key's instants, how it was judged."""

    date: date
    row_id: str
    key: dict[str, Any]
    severity: float
    flagged: bool


def lasting(row_key: str, schema: pa.Schema) -> dict[str, Any]:
    """The parts of a row's key that may come again: no instants, no dates."""
    try:
        parts = json.loads(row_key)
    except (ValueError, TypeError, RecursionError):
        return {}
    return {
        name: value
        for name, value in parts.items()
        if name in schema.names and not pt.is_temporal(schema.field(name).type)
    }


def earlier(
    store: Store, days: Sequence[date], wanted: dict[str, Any], prefix: str = ""
) -> tuple[list[Earlier], int]:
    """Rows of earlier nights with the same lasting key, the newest first, and how many nights were looked at.

    Parameters
    ----------
    days
        Nights to look through, in this order.
    wanted
        See `lasting`; without any part nothing is sought.
    """
    found: list[Earlier] = []
    read = nights = 0
    for day in days[:NIGHTS] if wanted else []:
        if read > BYTES or len(found) >= MOST:
            break
        for path, size in _parts(store, day):
            read += size
            found += _matching(path, day, wanted, prefix)
        nights += 1
    return found[:MOST], nights


def _parts(store: Store, day: date) -> Iterator[tuple[str, int]]:
    """Scores of a night, else its flags."""
    parts = store.list(f"scores/dt={day}", ".parquet") or store.list(f"flags/dt={day}", ".parquet")
    yield from ((one.path, one.size) for one in parts)


def _matching(path: str, day: date, wanted: dict[str, Any], prefix: str) -> list[Earlier]:
    try:
        with open_table(path) as reader:
            if any(name not in reader.schema.names for name in wanted):
                return []
            ours = [prefix + name for name in ("row_id", "severity", "is_anomaly")]
            times = [
                one.name
                for one in reader.schema
                if pt.is_temporal(one.type) and not one.name.endswith("scored_at")
            ]
            return [
                Earlier(
                    day, row[ours[0]], {name: row[name] for name in times}, row[ours[1]], bool(row[ours[2]])
                )
                for batch in reader.batches([*wanted, *times, *ours])
                for row in batch.filter(_same(batch, wanted)).to_pylist()
            ]
    except (InputError, StoreError, KeyError):
        return []


def _same(batch: pa.RecordBatch, wanted: dict[str, Any]) -> pa.Array:
    mask = np.ones(batch.num_rows, dtype=np.bool_)
    for name, value in wanted.items():
        column = batch.column(name)
        kind = column.type.value_type if pt.is_dictionary(column.type) else column.type
        if value is None:
            same = pc.is_null(column)
        else:
            try:
                same = pc.equal(column.cast(kind), _scalar(value, kind))
            except (pa.ArrowException, TypeError, ValueError):
                return pa.array(np.zeros(batch.num_rows, dtype=np.bool_))
        mask &= np.asarray(pc.fill_null(same, False).to_numpy(zero_copy_only=False), dtype=np.bool_)
    return pa.array(mask)


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    """A part of a key in its column's type: what JSON does not know stands there as text."""
    return pa.scalar(value).cast(kind) if isinstance(value, str) else pa.scalar(value, kind)
