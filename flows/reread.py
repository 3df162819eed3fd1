"""Some rows of a scored file once more: from the row groups that hold them, with what is known of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from flows import results
from flows.reader import decoded
from flows.tables import InputFile, open_table

__all__ = ["rows_again"]

AT_ONCE = 4_096
"""Rows a batch, as many as are worth explaining together."""


def rows_again(file: InputFile, known: pa.Table) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
    """Some rows of a file, read from the row groups that hold them, with what is known of them.

    Parameters
    ----------
    known
        A row for each, in order of ``row_number``.

    Yields
    ------
    schema, rows
        Of the table itself; its columns, then those known under their staged names.
    """
    numbers = known.column("row_number").to_numpy()
    with open_table(file) as reader:
        for group in reader.row_groups:
            start = group.start
            if not ((numbers >= start) & (numbers < start + group.rows)).any():
                continue
            for coded in reader.coded_batches([group]):
                here = np.flatnonzero((numbers >= start) & (numbers < start + coded.num_rows))
                picked = decoded(coded.take(pa.array(numbers[here] - start)), reader.schema)
                start += coded.num_rows
                yield from _side_by_side(reader.schema, picked, known.take(pa.array(here)))


def _side_by_side(
    schema: pa.Schema, own: pa.RecordBatch, known: pa.Table
) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
    names = [*schema.names, *(results.staged_name(name) for name in known.schema.names)]
    columns = [*own.columns, *(column.combine_chunks() for column in known.columns)]
    rows = pa.RecordBatch.from_arrays(columns, names=names)
    for start in range(0, rows.num_rows, AT_ONCE):
        yield schema, rows.slice(start, AT_ONCE)
