"""The flags of one night: found, filtered and sorted in a small index, and read a page at a time.

Only what is filtered by is held in memory (about 60 bytes a row); rows are read from the file when they are
shown, so that a night of a hundred thousand flags needs no more memory than one of a hundred.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from flows.cells import plain_rows
from flows.errors import InputError
from flows.results import added_names
from flows.storage import Store
from flows.tables import open_table
from review.rows import Rows

__all__ = ["LEARNED", "OPEN", "Flagged", "Query", "flags_key"]

OPEN = "open"
"""Stands for rows that nobody has settled."""
LEARNED = "(learned)"
"""Stands for the order that was learned from verdicts."""
REASONS = (1, 2, 3)
MASKS = 8  # searches that are remembered
OF_NUMBERS = frozenset("0123456789+-.enaif")
"""Signs that a number is written with; a text with others is not sought among numbers."""

Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def flags_key(day: date) -> str:
    """Where a night's flags lie."""
    return f"flags/dt={day}/part-0.parquet"


@dataclass(frozen=True)
class Query:
    """Which flags are shown, and in which order. Empty settings let everything through."""

    text: str = ""
    severity: float = 0.0
    columns: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    hidden: bool = False
    """Show rows that a rule hides, too."""
    sort: str = ""
    """Column to sort by; empty: by rank."""
    descending: bool = True


@dataclass
class Flagged:
    """The flags of one night as they were when they were opened.

    Attributes
    ----------
    index
        One line a flag, in the file's order: ``row_id``, ``row_key``, ``score``, ``severity``,
        ``column_1`` … ``kind_3``, and of a night with families ``family``, ``name``, ``rank``,
        ``learned``, ``hidden``.
    own
        Names of the table's own columns.
    """

    store: Store
    day: date
    prefix: str
    file: Rows
    index: pa.Table
    _masks: OrderedDict[tuple[Any, ...], Mask] = field(default_factory=OrderedDict)

    @staticmethod
    def open(store: Store, day: date, prefix: str = "") -> Flagged | None:
        """Read the index of a night; None where the night has no flags.

        Raises
        ------
        StoreError, InputError
            The file cannot be read, or is no file of flags.
        """
        file = Rows.open(store, flags_key(day))
        if file is None:
            return None
        missing = [name for name in _indexed(prefix) if name not in file.schema.names]
        if missing:
            raise InputError(
                f"{file.path}: flags were required, however {missing[0]} is missing; score the night again"
            )
        batches = [_coded(batch) for batch in file.batches(list(_indexed(prefix)))]
        names = list(_indexed(prefix).values())
        empty = pa.schema([(name, _index_type(name)) for name in names])
        found = pa.Table.from_batches(batches) if batches else empty.empty_table()
        index = found.rename_columns(names).unify_dictionaries().combine_chunks()
        return Flagged(store, day, prefix, file, _with_families(store, day, index))

    @property
    def schema(self) -> pa.Schema:
        """Columns and types of the file."""
        return self.file.schema

    @property
    def own(self) -> list[str]:
        """Names of the table's own columns."""
        ours = set(added_names(self.prefix))
        return [name for name in self.schema.names if name not in ours]

    @property
    def has_families(self) -> bool:
        """Whether families were found."""
        return "family" in self.index.schema.names

    @property
    def is_relearned(self) -> bool:
        """Whether verdicts have put the flags into another order than that of their scores."""
        return self.has_families and not self.index["rank"].equals(self.index["learned"])

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def ids(self, places: Places) -> list[str]:
        """Row ids of some places."""
        return list(self.index["row_id"].take(pa.array(places)).to_pylist())

    def place(self, row_id: str) -> int | None:
        """The place of a row, None where it is not flagged (any more)."""
        found = pc.index(self.index["row_id"], row_id).as_py()
        return None if found < 0 else int(found)

    # -- Which rows, in which order -------------------------------------------------------------------------

    def choices(self, part: str) -> list[str]:
        """Values that occur among reasons (``column`` or ``kind``), the most frequent first."""
        counts: dict[str, int] = {}
        for i in REASONS:
            for one in pc.value_counts(self.index[f"{part}_{i}"]).to_pylist():
                if one["values"] is not None:
                    counts[one["values"]] = counts.get(one["values"], 0) + one["counts"]
        return sorted(counts, key=lambda value: -counts[value])

    def select(
        self, query: Query, settled: Mapping[str, str], searched: Collection[str] | None = None
    ) -> Places:
        """Places of the rows that a query lets through, in its order.

        Parameters
        ----------
        settled
            Verdict of each row id that has one.
        searched
            Own columns that free text is sought in; None: all.
        """
        masks = list(self._filters(query, settled, searched))
        mask = reduce(np.logical_and, masks, np.ones(len(self), dtype=np.bool_))
        places = np.flatnonzero(mask)
        return places[self._order(query, places)]

    def _filters(
        self, query: Query, settled: Mapping[str, str], searched: Collection[str] | None
    ) -> Iterator[Mask]:
        if query.severity > 0:
            yield _bool(pc.greater_equal(self.index["severity"], query.severity))
        if query.columns or query.kinds:
            yield self._reasoned(query)
        if query.families and self.has_families:
            yield _bool(_among(self.index["family"], query.families))
        if query.verdicts:
            yield self._judged(query.verdicts, settled)
        if not query.hidden and self.has_families:
            yield _bool(pc.is_null(self.index["hidden"]))
        if query.text:
            yield self._found(query.text, searched)

    def _reasoned(self, query: Query) -> Mask:
        """Rows of which one reason has a column and a kind among those asked for."""
        mask = np.zeros(len(self), dtype=np.bool_)
        for i in REASONS:
            one = np.ones(len(self), dtype=np.bool_)
            for part, wanted in (("column", query.columns), ("kind", query.kinds)):
                if wanted:
                    one &= _bool(_among(self.index[f"{part}_{i}"], wanted))
            mask |= one
        return mask

    def _judged(self, wanted: Collection[str], settled: Mapping[str, str]) -> Mask:
        ids = self.index["row_id"]
        mask = np.zeros(len(self), dtype=np.bool_)
        if OPEN in wanted:
            mask |= ~_bool(pc.is_in(ids, value_set=pa.array(list(settled), pa.string())))
        chosen = [row_id for row_id, verdict in settled.items() if verdict in wanted]
        return mask | _bool(pc.is_in(ids, value_set=pa.array(chosen, pa.string())))

    def _found(self, text: str, searched: Collection[str] | None) -> Mask:
        """Rows that hold a text in one of their own columns, or in a reason; remembered."""
        own = [name for name in self.own if searched is None or name in searched]
        key = (text.casefold(), tuple(own))
        if key not in self._masks:
            self._masks[key] = self._searched(text, own)
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return self._masks[key]

    def _searched(self, text: str, own: Sequence[str]) -> Mask:
        if not set(text.casefold()) <= OF_NUMBERS:
            own = [name for name in own if not _is_number(self.schema.field(name).type)]
        said = [f"{self.prefix}reason_{i}_{part}" for i in REASONS for part in ("value", "expected")]
        parts = [
            _bool(_contains(batch, text))
            for batch in self.file.batches([*own, *said, f"{self.prefix}row_key"])
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)

    def _order(self, query: Query, places: Places) -> Places:
        """How to take the places to have them sorted; equal ones stay in the order of the file."""
        if query.sort and query.sort in self.schema.names:
            values = pa.chunked_array(
                [batch.column(0) for batch in self.file.batches([query.sort])],
                self.schema.field(query.sort).type,
            )
        elif query.sort == LEARNED and self.has_families:
            values = self.index["learned"]
        else:
            return np.argsort(-_numbers(self.index["score"])[places], kind="stable")
        order = "descending" if query.descending else "ascending"
        keys = pa.table({"value": _sortable(values.take(pa.array(places)))})
        return np.asarray(pc.sort_indices(keys, sort_keys=[("value", order)]), dtype=np.int64)

    # -- Rows -----------------------------------------------------------------------------------------------

    def rows(
        self, places: Places, columns: Sequence[str] | None = None, longest: int | None = None
    ) -> pa.Table:
        """Some rows whole, in the order of their places; see `Rows.take`."""
        return self.file.take(places, columns, longest)

    def row(self, place: int) -> dict[str, Any]:
        """One row whole."""
        return dict(plain_rows(self.rows(np.array([place])))[0])


def _indexed(prefix: str) -> dict[str, str]:
    """Columns of the file that are held in memory, and what the index calls them."""
    names = {"row_id": "row_id", "row_key": "row_key", "anomaly_score": "score", "severity": "severity"}
    names |= {f"reason_{i}_{part}": f"{part}_{i}" for i in REASONS for part in ("column", "kind")}
    return {prefix + name: called for name, called in names.items()}


def _index_type(name: str) -> pa.DataType:
    if name in {"score", "severity"}:
        return pa.float64()
    return pa.string() if name.startswith("row_") else pa.dictionary(pa.int32(), pa.string())


def _coded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with the names of columns and kinds as numbers."""
    columns = [
        column.dictionary_encode() if "reason_" in name else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


# -- Families -----------------------------------------------------------------------------------------------

TRIAGE = {
    "family_id": ("family", pa.string()),
    "family_name": ("name", pa.string()),
    "raw_rank": ("rank", pa.int64()),
    "learned_rank": ("learned", pa.int64()),
    "hidden_by": ("hidden", pa.string()),
}


def _with_families(store: Store, day: date, index: pa.Table) -> pa.Table:
    """The index with what triage says of each row, where there is such a table."""
    stored = store.find(f"triage/dt={day}/part-0.parquet")
    if stored is None:
        return index
    with open_table(stored.path) as reader:
        names = [name for name in TRIAGE if name in reader.schema.names]
        batches = list(reader.batches(["row_id", *names]))
        said = pa.Table.from_batches(batches) if batches else reader.schema.empty_table()
    places = pc.index_in(index["row_id"].combine_chunks(), said["row_id"].combine_chunks())
    for name, (called, kind) in TRIAGE.items():
        values = said[name].take(places).cast(kind) if name in names else pa.nulls(index.num_rows, kind)
        index = index.append_column(called, values)
    return index


# -- Arrow --------------------------------------------------------------------------------------------------


def _bool(values: Any) -> Mask:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _numbers(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(values.to_numpy(), dtype=np.float64)


def _among(values: pa.ChunkedArray, wanted: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(values.cast(pa.string()), value_set=pa.array(list(wanted), pa.string()))


def _contains(batch: pa.RecordBatch, text: str) -> pa.Array:
    found = [
        pc.fill_null(pc.match_substring(column, text, ignore_case=True), False)
        for column in (as_text(one) for one in batch.columns)
        if column is not None
    ]
    return reduce(pc.or_, found, pa.repeat(pa.scalar(False), batch.num_rows))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind))


def as_text(column: pa.Array) -> pa.Array | None:
    """A column as text, None where its type has none (lists, structs, bytes)."""
    kind = column.type.value_type if pt.is_dictionary(column.type) else column.type
    if pt.is_nested(kind) or pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind):
        return None
    return column if pt.is_string(kind) and kind == column.type else column.cast(pa.large_string())


def _sortable(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values that Arrow can sort."""
    kind = values.type
    if pt.is_dictionary(kind):
        return values.cast(kind.value_type)
    if pt.is_nested(kind):
        return pa.chunked_array([pa.nulls(len(values), pa.int8())])
    return values
