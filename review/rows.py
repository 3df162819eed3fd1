"""Rows of one results file, read a page at a time; memory is that of a batch, whatever the file holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from flows.errors import StoreError
from flows.storage import Store, Stored
from flows.tables import open_table

__all__ = ["Rows"]

BATCH = 16_384

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """A Parquet file as it was when it was opened.

    Attributes
    ----------
    schema
        Its columns and types.
    count
        Its rows.
    """

    store: Store
    stored: Stored
    schema: pa.Schema
    count: int

    @staticmethod
    def open(store: Store, key: str) -> Rows | None:
        """Open a file; None where there is none.

        Raises
        ------
        StoreError, InputError
            It cannot be read.
        """
        stored = store.find(key)
        if stored is None:
            return None
        with open_table(stored.path) as reader:
            return Rows(store, stored, reader.schema, reader.num_rows)

    @property
    def path(self) -> str:
        """Absolute path or URI."""
        return self.stored.path

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows, in order.

        Raises
        ------
        StoreError
            The file was replaced since it was opened, or cannot be read.
        InputError
            It is damaged.
        """
        now = self.store.find(self.stored.key)
        if now is None or (now.size, now.modified) != (self.stored.size, self.stored.modified):
            raise StoreError(
                f"{self.path}: the file as it was opened was required, however the night was scored again"
                " meanwhile; load the page anew"
            )
        with open_table(self.path) as reader:
            yield from reader.batches(list(columns), max_rows=BATCH)

    def take(
        self, places: Places, columns: Sequence[str] | None = None, longest: int | None = None
    ) -> pa.Table:
        """Some rows, in the order of their places.

        Parameters
        ----------
        columns
            Names in the file; None for all.
        longest
            Letters that a text keeps at most, and one more, so that a cut is seen; None for all of it.

        Raises
        ------
        StoreError, InputError
            As `batches`.
        """
        names = list(self.schema.names if columns is None else columns)
        wanted, found, start = np.sort(places), [], 0
        for batch in self.batches(names):
            inside = wanted[(wanted >= start) & (wanted < start + batch.num_rows)] - start
            if inside.size:
                found.append(_shortened(batch.take(pa.array(inside)), longest))
            start += batch.num_rows
            if not wanted.size or start > wanted[-1]:
                break
        schema = pa.schema([self.schema.field(name) for name in names])
        table = pa.Table.from_batches(found) if found else schema.empty_table()
        return table.take(pa.array(np.argsort(np.argsort(places, kind="stable"), kind="stable")))


def _shortened(batch: pa.RecordBatch, longest: int | None) -> pa.RecordBatch:
    """A batch whose texts are cut."""
    if longest is None:
        return batch
    return pa.RecordBatch.from_arrays([_cut(one, longest) for one in batch.columns], schema=batch.schema)


def _cut(column: pa.Array, longest: int) -> Any:
    text = pt.is_string(column.type) or pt.is_large_string(column.type)
    return pc.utf8_slice_codeunits(column, 0, longest + 1) if text else column
