"""Rows that come in batches, thinned evenly while they are too many: memory has a bound, whatever comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

__all__ = ["Thinned"]


class Thinned:
    """Every row of all batches, or every second, fourth, …: so many as fit, one at least, in their order.

    Parameters
    ----------
    max_bytes
        What the rows that are kept may take together.
    max_rows
        How many may be kept; by default any number.
    """

    def __init__(self, max_bytes: int, max_rows: int | None = None) -> None:
        self.batches: list[pa.RecordBatch] = []
        self._max_bytes, self._max_rows = max_bytes, max_rows
        self._step, self._seen = 1, 0
        self._bytes, self._rows = 0, 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next rows."""
        self._keep(_every([batch], self._step, self._seen))
        self._seen += batch.num_rows
        while self._rows > 1 and self._is_too_much():
            self._step *= 2
            kept, self.batches = self.batches, []
            self._bytes, self._rows = 0, 0
            self._keep(_every(kept, 2))

    def _keep(self, batches: Iterable[pa.RecordBatch]) -> None:
        for one in batches:
            self.batches.append(one)
            self._bytes += one.nbytes
            self._rows += one.num_rows

    def _is_too_much(self) -> bool:
        return self._bytes > self._max_bytes or (self._max_rows is not None and self._rows > self._max_rows)


def _every(batches: Sequence[pa.RecordBatch], step: int, first: int = 0) -> Iterator[pa.RecordBatch]:
    """Yield the rows of batches, numbered from ``first`` on, whose number is a multiple of ``step``."""
    for batch in batches:
        rows = range(-first % step, batch.num_rows, step)
        if rows and len(rows) == batch.num_rows:
            yield batch
        elif rows:
            yield batch.take(pa.array(rows, pa.int64()))
        first += batch.num_rows
