"""Draw rows evenly from many files in one pass: training data, and what Great Expectations looks at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from flows.casts import common_schema, plan_casts
from flows.errors import NoDataError, SchemaError
from flows.reader import is_repeated_text
from flows.tables import InputFile, open_table
from flows.thinning import Thinned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["sample"]

PART_BYTES = 8 * 1024 * 1024  # of rows that are picked and cast at once


def sample(
    files: Sequence[InputFile | str | Path],
    rows: int,
    *,
    seed: int,
    schema: pa.Schema | None = None,
    fitting: bool = False,
    max_bytes: int | None = None,
) -> pa.Table:
    """Draw rows without replacement, each with the same chance wherever it lies, in their order in the files.

    Parameters
    ----------
    files
        Files to draw from; all of them together are the population.
    rows
        Rows to draw; all rows when there are fewer.
    seed
        The same seed draws the same rows of the same files.
    schema
        Columns and types to return; default: those of all files, in types common to them. A column that a
        file does not have is null there.
    fitting
        Leave out rows that hold a value which does not fit its wanted type, in place of an error.
    max_bytes
        Thin the rows evenly until they take no more than this; one row is left in any case.

    Returns
    -------
    pa.Table
        ``min(rows, rows in all files)`` rows, less those left out. Memory is that of the result and of one
        batch.

    Raises
    ------
    NoDataError
        When there is no file.
    InputError
        When a file cannot be read.
    SchemaError
        When types differ beyond what a lossless cast mends.
    """
    if not files:
        raise NoDataError("files to draw rows from were required, however none came; widen the dates")
    sizes, schemas = zip(*(_shape(file) for file in files), strict=True)
    wanted = common_schema(schemas) if schema is None else schema
    picked = _draw(sum(sizes), rows, seed)
    firsts = itertools.accumulate(sizes, initial=0)
    taken = (
        batch
        for file, first, size in zip(files, firsts, sizes, strict=False)
        for batch in _taken(file, _within(picked, first, size), wanted, fitting)
    )
    return pa.Table.from_batches(taken if max_bytes is None else _thinned(taken, max_bytes), wanted)


def _thinned(batches: Iterator[pa.RecordBatch], max_bytes: int) -> list[pa.RecordBatch]:
    """Keep every row, or every second, fourth, … of all batches, so many as fit; one row at least."""
    kept = Thinned(max_bytes)
    for batch in batches:
        kept.add(batch)
    return kept.batches


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Slices of a batch of about `PART_BYTES`: picking and casting copies them, one at a time."""
    size = max(1, PART_BYTES * batch.num_rows // max(_full_size(batch), 1))
    return (batch.slice(first, size) for first in range(0, batch.num_rows, size))


def _full_size(batch: pa.RecordBatch) -> int:
    """Bytes of a batch with the texts of dictionaries written out in each row."""
    texts = [column for column in batch.columns if is_repeated_text(column.type)]
    lengths = (pc.binary_length(column.dictionary).take(column.indices) for column in texts)
    return int(batch.nbytes) + sum(int(pc.sum(one).as_py() or 0) for one in lengths)


def _shape(file: InputFile | str | Path) -> tuple[int, pa.Schema]:
    with open_table(file) as reader:
        return reader.num_rows, reader.schema


def _draw(total: int, rows: int, seed: int) -> NDArray[np.int64]:
    """Return sorted row numbers, ``min(rows, total)`` of them, each set of that size equally likely."""
    import numpy as np

    if rows >= total:
        return np.arange(total)
    if rows > total // 2:  # rather draw those to leave out
        return np.setdiff1d(np.arange(total), _draw(total, total - rows, seed), assume_unique=True)
    random = np.random.default_rng(seed)
    picked = np.empty(0, np.int64)
    while picked.size < rows:  # what came twice is drawn again
        drawn = np.sort(np.concatenate([picked, random.integers(total, size=rows - picked.size)]))
        picked = drawn[np.diff(drawn, prepend=-1) > 0]  # sorting is 20 times as fast as np.unique
    return picked


def _within(picked: NDArray[np.int64], first: int, size: int) -> NDArray[np.int64]:
    """Return the picked rows of ``[first, first + size)``, counted from ``first``."""
    start, stop = picked.searchsorted([first, first + size])
    return picked[start:stop] - first


def _taken(
    file: InputFile | str | Path, picked: NDArray[np.int64], wanted: pa.Schema, fitting: bool
) -> Iterator[pa.RecordBatch]:
    """Yield the picked rows of a file, batch by batch, in the wanted columns and types."""
    if not picked.size:
        return
    with open_table(file) as reader:
        try:
            plan = plan_casts(wanted, reader.schema, optional=wanted.names)
            present = [name for name in wanted.names if name not in plan.missing]
            first = 0
            for batch in (part for whole in reader.batches(present) for part in _parts(whole)):
                rows = batch.take(pa.array(_within(picked, first, batch.num_rows)))
                yield plan.apply(rows.filter(pc.invert(plan.misfits(rows))) if fitting else rows)
                first += batch.num_rows
        except SchemaError as error:
            raise SchemaError(f"{reader.path}: {error}") from error
