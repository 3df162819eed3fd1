"""What people have said of flagged rows: ``verdicts/dt=DAY/*.parquet`` under the results."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from flows.errors import StoreError
from flows.results import added_names, row_keys
from flows.storage import Store

__all__ = [
    "CONFIRMED",
    "NORMAL",
    "Said",
    "confirmed_rows",
    "named",
    "said_of",
    "settled_rows",
    "verdict_days",
]

CONFIRMED = frozenset({"anomaly", "data error"})
"""Verdicts that make a row one that must be found again, and not be learned from."""
NORMAL = frozenset({"expected"})
"""Verdicts that make a row a normal one."""
COLUMNS = ["row_id", "row_key", "verdict", "decided_at"]
TYPED = ["row_id", "row_key", "verdict", "verdict_id"]
KEYLESS = (None, "", "{}")  # row keys of a table without key columns, or with sensitive ones only
NUMBER = ["verdict_id"]  # where the database of verdicts has given one


def confirmed_rows(store: Store, day: date) -> dict[str, str]:
    """Id and key of a night's rows whose last verdict confirms them as anomalies.

    Raises
    ------
    StoreError
        A file of verdicts cannot be read, or has not the columns of one.
    """
    last = _last(store, day)
    return {name: row["row_key"] for name, row in last.items() if row["verdict"] in CONFIRMED}


def settled_rows(store: Store, day: date) -> dict[str, str]:
    """Id and last verdict of a night's rows, those left out of which a verdict was withdrawn.

    Raises
    ------
    StoreError
        As `confirmed_rows`.
    """
    return {name: row["verdict"] for name, row in _last(store, day).items() if row["verdict"] is not None}


def verdict_days(store: Store) -> list[date]:
    """Nights of which there are verdicts, oldest first."""
    names = {PurePosixPath(one.key).parts[1] for one in store.list("verdicts", ".parquet")}
    found = []
    for name in names:
        with suppress(ValueError):  # a folder of something else
            found.append(date.fromisoformat(name.removeprefix("dt=")))
    return sorted(found)


@dataclass(frozen=True)
class Said:
    """What people have said of the rows of some nights.

    Attributes
    ----------
    keys
        ``row_key`` texts of the rows that have one.
    rows
        Rows without key columns, as they were flagged, a table a night: their types may differ.
    """

    keys: frozenset[str]
    rows: tuple[pa.Table, ...] = ()

    def among(
        self, table: pa.Table, keys: Sequence[str], sensitive: Collection[str]
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which rows [n] of a table are spoken of: by their keys, else by all that they hold."""
        found = named(table, keys, sensitive, self.keys)
        flagged = {name for one in self.rows for name in one.schema.names}
        shared = pa.schema([field for field in table.schema if field.name in flagged])
        texts = {text for one in self.rows for text in _texts(one, shared)}
        return found | named(table, shared.names, (), texts)


def _texts(rows: pa.Table, schema: pa.Schema) -> list[str]:
    """All that rows hold in a schema's columns and types, as ``row_key`` texts; null where they lack one."""
    own = pa.schema([field for field in schema if field.name in rows.schema.names])
    with suppress(pa.ArrowException):
        few = [schema.empty_table(), rows.select(own.names).cast(own)]
        whole = pa.concat_tables(few, promote_options="default")
        return [text for one in whole.to_batches() for text in row_keys(one, schema.names, ()).to_pylist()]
    return []  # rows of other types are other rows


def said_of(store: Store, first: date, last: date, wanted: Collection[str], prefix: str = "") -> Said:
    """Find the rows of these nights whose last verdict is one of those wanted.

    Parameters
    ----------
    prefix
        Of our columns, as in the pipeline file.

    Raises
    ------
    StoreError
        As `confirmed_rows`.
    """
    keys: set[str] = set()
    rows = []
    for day in [day for day in verdict_days(store) if first <= day <= last]:
        said = {name: row for name, row in _last(store, day).items() if row["verdict"] in wanted}
        keys |= {row["row_key"] for row in said.values() if row["row_key"] not in KEYLESS}
        keyless = [name for name, row in said.items() if row["row_key"] in KEYLESS]
        rows += _flagged(store, day, keyless, prefix)
    return Said(frozenset(keys), tuple(rows))


def _flagged(store: Store, day: date, ids: list[str], prefix: str) -> list[pa.Table]:
    """The columns of a night's flags that are the table's own, of some rows."""
    key = f"flags/dt={day}/part-0.parquet"
    if not (ids and store.exists(key)):
        return []
    ours = set(added_names(prefix))
    with store.open_input(key) as source:
        table = pq.ParquetFile(source).read()
    few = table.filter(pc.is_in(table[f"{prefix}row_id"], pa.array(ids)))
    return [few.select([name for name in few.schema.names if name not in ours])] if few.num_rows else []


def _last(store: Store, day: date) -> dict[str, dict[str, Any]]:
    """The last verdict on each row of a night, by row id."""
    verdicts = [row for one in store.list(f"verdicts/dt={day}", ".parquet") for row in _rows(store, one.key)]
    numbered = all("verdict_id" in row for row in verdicts)  # clocks may differ, numbers do not
    verdicts.sort(key=lambda row: row["verdict_id"] if numbered else str(row["decided_at"]))
    return {row["row_id"]: row for row in verdicts}


def _rows(store: Store, key: str) -> list[dict[str, Any]]:
    try:
        file = pq.ParquetFile(store.open_input(key))
        names = [*COLUMNS, *(name for name in NUMBER if name in file.schema_arrow.names)]
        wanted = [(name, pa.int64() if name in NUMBER else pa.string()) for name in names if name in TYPED]
        table = file.read(names).select(names)
        for name, kind in wanted:
            table = table.set_column(names.index(name), name, table[name].cast(kind))
        return [_checked(row) for row in table.to_pylist()]
    except (pa.ArrowException, OSError, KeyError, ValueError, OverflowError) as error:
        raise StoreError(
            f"{store.uri(key)}: verdicts with {', '.join(COLUMNS)} were required, however "
            f"{' '.join(str(error).split())[:200]}; mend or remove the file"
        ) from error


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """A verdict that says of which row it is."""
    if row["row_id"] is None or row.get("verdict_id", 0) is None:
        raise ValueError("one is of no row, or has no number")
    return row


def named(
    table: pa.Table, keys: Sequence[str], sensitive: Collection[str], wanted: Collection[str]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows [n] have one of the wanted ``row_key`` texts; none where the table has no key columns."""
    found = np.zeros(table.num_rows, dtype=np.bool_)
    shown = [name for name in keys if name in table.schema.names and name not in sensitive]
    if not (shown and wanted):
        return found
    few = np.flatnonzero(_may_be(table, shown, _objects(wanted)))
    for batch in table.select(shown).take(pa.array(few)).combine_chunks().to_batches():
        texts = row_keys(batch, shown, sensitive)
        hits = pc.is_in(texts, value_set=pa.array(sorted(wanted), pa.string()))
        found[few[: batch.num_rows]] = hits.to_numpy(zero_copy_only=False)
        few = few[batch.num_rows :]
    return found


def _objects(texts: Collection[str]) -> list[dict[str, Any]]:
    """Those of the texts that are JSON objects; others are the key of no row."""
    found = []
    for text in texts:
        with suppress(ValueError, RecursionError):
            found.append(json.loads(text))
    return [one for one in found if isinstance(one, dict)]


def _may_be(table: pa.Table, names: Sequence[str], keys: Sequence[dict[str, Any]]) -> Any:
    """Rows [n] whose texts and whole numbers each occur in some key: quick, and never too few."""
    mask = np.ones(table.num_rows, dtype=np.bool_)
    for name in names:
        kind = table.schema.field(name).type
        kind = kind.value_type if pt.is_dictionary(kind) else kind
        if not (pt.is_integer(kind) or pt.is_string(kind) or pt.is_large_string(kind)):
            continue
        values = _held([key.get(name) for key in keys], kind)
        mask &= pc.is_in(table[name].cast(kind), value_set=values).to_numpy()
    return mask


def _held(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Those of the values that a column of this type can hold: no row of it has another."""
    held = []
    for value in values:
        with suppress(pa.ArrowException, OverflowError, TypeError, ValueError):
            held.append(pa.scalar(value, kind).as_py())
    return pa.array(held, kind)
