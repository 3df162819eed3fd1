"""What people have said of flagged rows: ``verdicts/dt=DAY/*.parquet`` under the results."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from flows.errors import StoreError
from flows.results import row_keys
from flows.storage import Store

__all__ = ["CONFIRMED", "confirmed_keys", "confirmed_rows", "named"]

CONFIRMED = frozenset({"anomaly", "data error"})
"""Verdicts that make a row one that must be found again, and not be learned from."""
COLUMNS = ["row_id", "row_key", "verdict", "decided_at"]


def confirmed_rows(store: Store, day: date) -> dict[str, str]:
    """Id and key of a night's rows whose last verdict confirms them as anomalies.

    Raises
    ------
    StoreError
        A file of verdicts cannot be read, or has not the columns of one.
    """
    return _confirmed(
        [row for one in store.list(f"verdicts/dt={day}", ".parquet") for row in _rows(store, one.key)]
    )


def confirmed_keys(store: Store, first: date, last: date) -> frozenset[str]:
    """Keys of the rows of these nights that are confirmed as anomalies; see `confirmed_rows`."""
    names = {PurePosixPath(one.key).parts[1] for one in store.list("verdicts", ".parquet")}
    days = [name.removeprefix("dt=") for name in sorted(names) if f"dt={first}" <= name <= f"dt={last}"]
    return frozenset(key for day in days for key in confirmed_rows(store, date.fromisoformat(day)).values())


def _confirmed(verdicts: list[dict[str, Any]]) -> dict[str, str]:
    verdicts.sort(key=lambda row: str(row["decided_at"]))
    last = {row["row_id"]: row for row in verdicts}
    return {name: row["row_key"] for name, row in last.items() if row["verdict"] in CONFIRMED}


def _rows(store: Store, key: str) -> list[dict[str, Any]]:
    try:
        return list(pq.ParquetFile(store.open_input(key)).read(COLUMNS).select(COLUMNS).to_pylist())
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreError(
            f"{store.uri(key)}: verdicts with {', '.join(COLUMNS)} were required, however "
            f"{' '.join(str(error).split())[:200]}; mend or remove the file"
        ) from error


def named(
    table: pa.Table, keys: Sequence[str], sensitive: Collection[str], wanted: Collection[str]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows [n] have one of the wanted ``row_key`` texts; none where the table has no key columns."""
    found = np.zeros(table.num_rows, dtype=np.bool_)
    shown = [name for name in keys if name in table.schema.names and name not in sensitive]
    if not (shown and wanted):
        return found
    few = np.flatnonzero(_may_be(table, shown, [json.loads(one) for one in wanted]))
    for batch in table.select(shown).take(pa.array(few)).combine_chunks().to_batches():
        texts = row_keys(batch, shown, sensitive)
        hits = pc.is_in(texts, value_set=pa.array(sorted(wanted), pa.string()))
        found[few[: batch.num_rows]] = hits.to_numpy(zero_copy_only=False)
        few = few[batch.num_rows :]
    return found


def _may_be(table: pa.Table, names: Sequence[str], keys: Sequence[dict[str, Any]]) -> Any:
    """Rows [n] whose texts and whole numbers each occur in some key: quick, and never too few."""
    mask = np.ones(table.num_rows, dtype=np.bool_)
    for name in names:
        kind = table.schema.field(name).type
        kind = kind.value_type if pt.is_dictionary(kind) else kind
        if not (pt.is_integer(kind) or pt.is_string(kind) or pt.is_large_string(kind)):
            continue
        with suppress(pa.ArrowException):  # keys from when the column had another type tell nothing
            values = pa.array([key.get(name) for key in keys]).cast(kind)
            mask &= pc.is_in(table[name].cast(kind), value_set=values).to_numpy()
    return mask
