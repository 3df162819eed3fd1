"""Tables to slabs: Arrow's own buffers are read once, without a temporary a column.

Numbers, instants and truth values go from their buffers to what the network is shown; of texts each
distinct value is looked up once a batch, and rows follow their dictionary. What has no buffer that can
be read as it is (decimals, times of day, half floats, …) becomes 64-bit numbers first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from vae_core import arrays
from vae_core.categories import CategoryCodec
from vae_core.columns import BooleanCodec, NumberCodec, TimestampCodec
from vae_core.encoding import Measured, TableEncoder
from vae_core.slabs import Slab

__all__ = ["slabs"]

FEWEST_ROWS = 4096  # a chunk; tables of smaller ones are put together first
NOTHING = np.empty(0, dtype=np.uint8)
PLAIN = {
    pa.float64(): np.float64,
    pa.float32(): np.float32,
    pa.int64(): np.int64,
    pa.int32(): np.int32,
    pa.int16(): np.int16,
    pa.int8(): np.int8,
    pa.uint64(): np.uint64,
    pa.uint32(): np.uint32,
    pa.uint16(): np.uint16,
    pa.uint8(): np.uint8,
}
"""Arrow's numbers that NumPy reads in place."""


class Feed(Protocol):
    """Writes rows of one column into slabs."""

    def write(self, slab: Slab, start: int, stop: int) -> None:
        """Rows from ``start`` to ``stop`` of the batch."""


def slabs(encoder: TableEncoder, table: pa.Table | pa.RecordBatch) -> Iterator[tuple[Slab, int]]:
    """Rows of a table a slab at a time, and how many each holds; the next one overwrites it.

    Columns are found by name, others are left alone.

    Raises
    ------
    ColumnError
        A modelled column is missing or of a type that cannot be read as it was learned.
    """
    columns = {codec.name: encoder.column(table, codec.name) for codec in encoder.codecs}
    slab = Slab.empty(encoder.layout, table.num_rows)
    for batch in _batches(columns):
        feeds = list(_feeds(encoder, batch))
        for start in range(0, batch.num_rows, slab.rows):
            rows = min(slab.rows, batch.num_rows - start)
            used = slab.head(rows)
            for feed in feeds:
                feed.write(used, start, start + rows)
            yield used, rows


def _batches(columns: dict[str, pa.Array | pa.ChunkedArray]) -> list[pa.RecordBatch]:
    """Columns as batches that share their buffers; many small chunks are put together."""
    table = pa.table(columns)
    chunks = max((column.num_chunks for column in table.columns), default=0)
    if chunks > 1 and table.num_rows < FEWEST_ROWS * chunks:
        table = pa.table({name: _whole(table.column(name)) for name in columns})
    batches: list[pa.RecordBatch] = table.to_batches()
    return batches


def _whole(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column in one chunk; one without a dictionary where dictionaries differ."""
    return arrays.flat(column) if pt.is_dictionary(column.type) else column.combine_chunks()


def _feeds(encoder: TableEncoder, batch: pa.RecordBatch) -> Iterator[Feed]:
    layout = encoder.layout
    parts, bits = len(layout.part_columns), len(layout.bit_columns)
    part, sign = 0, parts
    for place, codec in enumerate(encoder.measured, start=parts + bits):
        yield _measured(codec, batch.column(codec.name), sign if codec.n_bits else part, place)
        part, sign = part + codec.n_parts, sign + codec.n_bits
    for column, words in enumerate(encoder.categorical):
        yield _Words.of(words, batch.column(words.name), column)


def _measured(codec: Measured, array: pa.Array, row: int, place: int) -> Feed:
    """A feed into shown features from ``row`` on, and of presence into ``place``."""
    if isinstance(codec, NumberCodec):
        return _Numbers.of(codec, array, row, place)
    if isinstance(codec, TimestampCodec):
        return _Instants.of(codec, array, row, place)
    return _Bits.of(codec, array, row, place)


@dataclass(frozen=True)
class _Buffer:
    """Values [n] in place, and the bitmap of those that are there, from bit ``offset`` on."""

    values: npt.NDArray[Any]
    validity: npt.NDArray[np.uint8]
    offset: int

    @classmethod
    def of(cls, array: pa.Array, dtype: Any) -> Self:
        data = np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]
        return cls(data, _validity(array), array.offset)

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8], int]:
        return self.values[start:stop], self.validity, self.offset + start


def _validity(array: pa.Array) -> npt.NDArray[np.uint8]:
    bitmap = array.buffers()[0] if array.null_count else None
    return NOTHING if bitmap is None else np.frombuffer(bitmap, np.uint8)


@dataclass(frozen=True)
class _Numbers:
    codec: NumberCodec
    buffer: _Buffer
    row: int
    place: int

    @classmethod
    def of(cls, codec: NumberCodec, array: pa.Array, row: int, place: int) -> Self:
        if array.type in PLAIN:
            return cls(codec, _Buffer.of(array, PLAIN[array.type]), row, place)
        return cls(codec, _Buffer(arrays.numbers(array, codec.name), NOTHING, 0), row, place)

    def write(self, slab: Slab, start: int, stop: int) -> None:
        from vae_core.encoding_kernels import show_numbers  # numba's import is not free

        scale = float(self.codec.center), float(self.codec.scale)
        show_numbers(*self.buffer.rows(start, stop), *scale, slab.shown, self.row, self.place)


@dataclass(frozen=True)
class _Instants:
    codec: TimestampCodec
    buffer: _Buffer
    unit: int
    row: int
    place: int

    @classmethod
    def of(cls, codec: TimestampCodec, array: pa.Array, row: int, place: int) -> Self:
        instants = arrays.instant_array(array, codec.name)
        ticks = np.int32 if pt.is_date32(instants.type) else np.int64
        return cls(codec, _Buffer.of(instants, ticks), arrays.units_a_day(instants.type), row, place)

    def write(self, slab: Slab, start: int, stop: int) -> None:
        from vae_core.encoding_kernels import show_instants

        cycles = bool(self.codec.hours), bool(self.codec.weekdays)
        span = float(self.codec.first), float(self.codec.last)
        rows = self.buffer.rows(start, stop)
        show_instants(*rows, self.unit, cycles, span, slab.shown, self.row, self.place)


@dataclass(frozen=True)
class _Bits:
    bitmap: npt.NDArray[np.uint8]
    validity: npt.NDArray[np.uint8]
    offset: int
    row: int
    place: int

    @classmethod
    def of(cls, codec: BooleanCodec, array: pa.Array, row: int, place: int) -> Self:
        truth = arrays.bit_array(array, codec.name)
        bitmap = np.frombuffer(truth.buffers()[1], np.uint8)
        return cls(bitmap, _validity(truth), truth.offset, row, place)

    def write(self, slab: Slab, start: int, stop: int) -> None:
        from vae_core.encoding_kernels import show_bits

        first, rows = self.offset + start, stop - start
        show_bits(self.bitmap, first, self.validity, first, rows, slab.shown, self.row, self.place)


@dataclass(frozen=True)
class _Words:
    """Texts by their dictionary: code and nats of each distinct value."""

    indices: _Buffer
    codes: npt.NDArray[np.int64]
    within: npt.NDArray[np.float32]
    within_null: np.float32
    column: int

    @classmethod
    def of(cls, codec: CategoryCodec, array: pa.Array, column: int) -> Self:
        words = array if pt.is_dictionary(array.type) else arrays.texts(array, codec.name).dictionary_encode()
        codes, within = codec.encode(words.dictionary)
        indices = _Buffer.of(words.indices, PLAIN[words.indices.type])
        return cls(indices, codes, within, np.float32(codec.within_null), column)

    def write(self, slab: Slab, start: int, stop: int) -> None:
        from vae_core.encoding_kernels import show_codes

        rows = self.indices.rows(start, stop)
        costs = self.within, self.within_null
        show_codes(*rows, self.codes, *costs, self.column, slab.codes, slab.within)
