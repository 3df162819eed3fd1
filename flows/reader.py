"""Read one Parquet file from outside: checked first, then streamed in record batches of bounded size.

A row group is read whole where it is small enough: that takes two thirds of the time of reading it in
batches. A larger one is read batch by batch, so that memory is bounded whatever its writer did.

Facts about pyarrow 25 that shape this module:

- ``metadata.row_group(i).column(j)`` of a corrupt or encrypted chunk ends the process (``terminate called``),
  where reading the chunk raises; so a chunk is read before its metadata is asked for.
- Page checksums are verified only on request, and UTF-8 never.
- A text cell that repeats costs nothing on disk and everything once decoded: a file of 6 kB may hold 0.8 GB.
  Columns of repeated text are therefore read as dictionaries and decoded piece by piece, which is also twice
  as fast (2M rows of 4,000 texts: 31 ms against 69 ms; of distinct texts: eight times slower).
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from flows.decryption import KEY, decryption
from flows.errors import InputError, SchemaError
from flows.sniff import OPEN_IT, check_magic, check_single, is_encrypted
from flows.storage import raise_if_away

__all__ = ["BATCH_ROWS", "RowGroup", "TableReader", "decoded", "is_repeated_text"]

BATCH_ROWS = 131_072
_BATCH_BYTES = 64 * 1024 * 1024  # decoded size of a batch, give or take one row
_BUFFER_BYTES = 1024 * 1024  # read ahead in a column, instead of its whole row group
_PAGE_BYTES = 1024 * 1024  # size at which most writers give up a column's dictionary
_PEEK_ROWS = 1024
_PREFIX_ROWS = 1024  # rows a batch of texts whose decoded size nothing tells beforehand
_TEXT = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError)


@dataclass(frozen=True)
class RowGroup:
    """One row group of a file: its number, the number of its first row, and how many rows it has."""

    number: int
    start: int
    rows: int


class TableReader:
    """An open Parquet file; close it, or use it in a ``with`` statement.

    Parameters
    ----------
    path
        What errors call the file.
    source
        The open file.
    constants
        Columns that the file's folders hold (``region=eu/``), appended to each batch as text unless the file
        has a column of that name.
    left_out
        Columns of the file that are passed over.

    Attributes
    ----------
    schema
        Columns and types as the file's writer meant them, without the writer's own metadata.
    num_rows
        Rows in the file, by its footer.
    row_groups
        Those that have rows, in order.

    Raises
    ------
    InputError
        When this is no readable Parquet file.
    SchemaError
        When there are no columns, or two of one name.
    """

    def __init__(
        self,
        path: str,
        source: pa.NativeFile,
        constants: Mapping[str, str | None] = MappingProxyType({}),
        left_out: Collection[str] = (),
    ) -> None:
        self.path = path
        self._source = source
        with _refusals(path):
            check_magic(path, source, with_key=decryption() is not None)
            self._metadata = pq.read_metadata(source, decryption_properties=decryption())
            stored = self._open().schema_arrow.remove_metadata()
        _check_names(path, stored.names)
        own = pa.schema([one.with_type(_workable(one.type)) for one in stored if one.name not in left_out])
        self._own_names = own.names
        self._unworkable = {one.name: one.type for one in own if one.type != stored.field(one.name).type}
        self._constants = {name: value for name, value in constants.items() if name not in own.names}
        self.schema: pa.Schema = pa.schema([*own, *((name, pa.string()) for name in self._constants)])
        self.num_rows: int = self._metadata.num_rows
        self.row_groups = tuple(self._row_groups())
        self._check_readable()

    def batches(
        self, columns: Sequence[str] | None = None, max_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``max_rows`` rows and about 64 MiB.

        Parameters
        ----------
        columns
            Columns to read, in this order; None for all.
        max_rows
            Rows a batch holds at most.

        Raises
        ------
        InputError
            When a page is corrupt or a text is no UTF-8; what was yielded before should be discarded.
        """
        wanted = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        for batch in self._coded(wanted, max_rows, self.row_groups):
            yield decoded(batch, wanted)

    def coded_batches(self, groups: Sequence[RowGroup]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some row groups in order, text that repeats still as dictionaries.

        Several threads may do so at once. `decoded` gives a batch the file's own types.

        Raises
        ------
        InputError
            As `batches`.
        """
        return self._coded(self.schema, BATCH_ROWS, groups)

    def _coded(
        self, wanted: pa.Schema, max_rows: int, groups: Sequence[RowGroup]
    ) -> Iterator[pa.RecordBatch]:
        known = set(self._own_names)
        own = [name for name in wanted.names if name in known] or self._own_names[:1]
        for batch in self._stored(own, max_rows, groups):
            for piece in _pieces(batch):
                yield _with_constants(piece, wanted, self._constants)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, dictionaries: Sequence[str] = (), buffer_size: int = _BUFFER_BYTES) -> pq.ParquetFile:
        return pq.ParquetFile(
            self._source,
            metadata=self._metadata,
            read_dictionary=list(dictionaries),
            buffer_size=buffer_size,
            pre_buffer=False,
            page_checksum_verification=True,
            decryption_properties=decryption(),  # anew for each: one set of them opens one file
        )

    def _check_readable(self) -> None:
        with _refusals(self.path):
            encrypted = is_encrypted(self._source, self._metadata)
        if encrypted and decryption() is None:
            columns = _listed(self._broken(self._own_names)) or "some"
            raise InputError(
                f"{self.path}: readable columns were required, however {columns} came encrypted; {OPEN_IT}"
            )
        try:
            check_single(self.path, self._source, self._end_of_data())
        except _ARROW_ERRORS as error:
            raise self._unreadable(0, self._own_names, error) from error

    def _end_of_data(self) -> int:
        """Return the offset behind the last column of the last row group that has rows."""
        if not self.row_groups:
            return int(self._source.size())
        number = self.row_groups[-1].number
        group = self._metadata.row_group(number)
        self._peek(number, self._own_names[-1:])
        chunk = group.column(group.num_columns - 1)
        offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
        return min(int(offset) for offset in offsets if offset) + int(chunk.total_compressed_size)

    def _stored(
        self, columns: list[str], max_rows: int, groups: Sequence[RowGroup]
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches whose repeated text is still a dictionary."""
        rows, expected = 0, sum(group.rows for group in groups)
        first = groups[0].start if groups else 0
        try:
            plan = self._plan(columns, max_rows)
            for run in self._runs(plan, groups):
                for batch in self._read(columns, plan, run):
                    batch = self._worked(batch)
                    _check_values(self.path, batch)
                    yield batch
                    rows += batch.num_rows
        except _ARROW_ERRORS as error:
            raise self._unreadable(first + rows, columns, error) from error
        if rows != expected:
            raise InputError(
                f"{self.path}: the {expected:,} rows of its footer were required, however {rows:,} came;"
                " write the file again"
            )

    def _read(self, columns: list[str], plan: _Plan, run: list[RowGroup]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a run of row groups: read at once, or in batches where it is a large one."""
        numbers = [group.number for group in run]
        if len(run) == 1 and not self._is_small(run[0], plan):
            file = self._open(plan.repeated)
            yield from file.iter_batches(plan.size, numbers, columns, use_threads=False)
            return
        file = self._open(plan.repeated, buffer_size=0)
        table = file.read_row_groups(numbers, columns, use_threads=False)
        yield from table.unify_dictionaries().combine_chunks().to_batches(plan.size)

    def _unreadable(self, row: int, columns: list[str], error: Exception) -> InputError:
        """Return the sentence about unreadable pages, its columns named; or raise that the store is away."""
        raise_if_away(self.path, error)
        broken = _listed(self._broken(columns)) or "unknown"
        return InputError(
            f"{self.path}: readable pages were required, however reading failed after row {row:,}, column"
            f" {broken} ({_reason(error)}); write the file again"
        )

    def _worked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch whose columns are of types that Arrow can pick rows of, and write."""
        if self._unworkable.keys().isdisjoint(batch.schema.names):
            return batch
        pairs = zip(batch.schema.names, batch.columns, strict=True)
        columns = [
            _as_workable(one, self._unworkable[n]) if n in self._unworkable else one for n, one in pairs
        ]
        return pa.RecordBatch.from_arrays(columns, batch.schema.names)

    def _runs(self, plan: _Plan, groups: Sequence[RowGroup]) -> Iterator[list[RowGroup]]:
        """Yield neighbouring row groups that are read at once."""
        run: list[RowGroup] = []
        for group in groups:
            if run and sum(one.rows for one in run) + group.rows > plan.size:
                yield run
                run = []
            run.append(group)
        if run:
            yield run

    def _is_small(self, group: RowGroup, plan: _Plan) -> bool:
        return not plan.careful and group.rows <= 2 * plan.size

    def _plan(self, columns: Sequence[str], max_rows: int) -> _Plan:
        """Return how columns are read: as for text, judged by a first look at the largest row group."""
        size = self._rows_within_budget(columns, max_rows)
        texts = [name for name in columns if self.schema.field(name).type in _TEXT]
        nested = any(pa.types.is_nested(self.schema.field(name).type) for name in columns)
        if not self.row_groups or not texts:
            return _Plan([], size, nested)
        largest = max(self.row_groups, key=lambda group: group.rows)
        try:
            first = self._peek(largest.number, texts)
        except _ARROW_ERRORS:  # texts stored as differences have no dictionaries
            return _Plan([], min(size, _PREFIX_ROWS), careful=True)
        return _Plan([name for name in texts if _repeats(first.column(name), max_rows)], size, nested)

    def _rows_within_budget(self, columns: Sequence[str], max_rows: int) -> int:
        """Return how many rows are within the budget of a batch, by their size on disk and in memory."""
        groups = (self._metadata.row_group(group.number) for group in self.row_groups)
        stored = max((group.total_byte_size / group.num_rows for group in groups), default=1.0)
        plain = sum(_width(self.schema.field(name).type) for name in columns)
        return min(max_rows, max(1, int(_BATCH_BYTES / max(stored, plain, 1.0))))

    def _peek(self, group: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Return the first rows of a row group, text as dictionaries."""
        texts = [name for name in columns if self.schema.field(name).type in _TEXT]
        for batch in self._open(texts).iter_batches(_PEEK_ROWS, row_groups=[group], columns=list(columns)):
            return batch
        raise ValueError(f"row group {group} holds no rows")

    def _broken(self, columns: list[str]) -> Iterator[str]:
        """Yield the columns that cannot be read to their end, found by halving."""
        if _drains(self._open().iter_batches(columns=columns)):
            return
        if len(columns) == 1:
            yield columns[0]
            return
        half = len(columns) // 2
        yield from self._broken(columns[:half])
        yield from self._broken(columns[half:])

    def _row_groups(self) -> Iterator[RowGroup]:
        start = 0
        for number in range(self._metadata.num_row_groups):
            rows = self._metadata.row_group(number).num_rows
            if rows:
                yield RowGroup(number, start, rows)
            start += rows


@dataclass(frozen=True)
class _Plan:
    """How columns are read: text as dictionaries, rows a batch, and whether to avoid whole row groups."""

    repeated: list[str]
    size: int
    careful: bool


def _workable(kind: pa.DataType) -> pa.DataType:
    """Return a type of the same values that everything works with.

    pyarrow 25 cannot pick rows of views, tells no distinct values of decimals of 32 and 64 bits, and writes
    nulls among lists of a fixed size as a file that it then refuses to read.
    """
    if isinstance(kind, pa.BaseExtensionType):
        storage = _workable(kind.storage_type)
        return kind if storage == kind.storage_type else storage
    if pt.is_string_view(kind) or pt.is_binary_view(kind):
        return pa.large_string() if pt.is_string_view(kind) else pa.large_binary()
    if pt.is_decimal32(kind) or pt.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if pt.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _workable(kind.value_type), kind.ordered)
    if pt.is_struct(kind):
        return pa.struct([field.with_type(_workable(field.type)) for field in kind])
    if pt.is_map(kind):
        return pa.map_(_workable(kind.key_type), kind.item_field.with_type(_workable(kind.item_type)))
    if pt.is_list(kind) or pt.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_workable(kind.value_type)))
    if pt.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_workable(kind.value_type)))
    return kind


def _as_workable(column: pa.Array, kind: pa.DataType) -> pa.Array:
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    if pt.is_dictionary(kind) and pt.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(kind.value_type))
    return column.cast(kind)


def _width(kind: pa.DataType) -> int:
    """Return the bytes of a value in memory, for text those of its code."""
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:  # of no fixed width
        return 4


def _repeats(first: pa.DictionaryArray, max_rows: int) -> bool:
    """Return whether a text column is better read as a dictionary, judged by its first values.

    A dictionary page comes whole, with more texts than the first rows use. A small one repeats; a large one
    is the start of a column of distinct texts, unless its cells are long.
    """
    texts = len(first.dictionary)
    if texts == pc.count_distinct(first.indices).as_py() and texts > len(first) / 2:
        return False
    return first.dictionary.nbytes < _PAGE_BYTES / 2 or _longest(first) * max_rows > 4 * _BATCH_BYTES


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch so that the text of each piece, decoded, stays near the budget."""
    texts = [column for column in batch.columns if is_repeated_text(column.type)]
    if sum(map(_longest, texts)) * batch.num_rows <= _BATCH_BYTES:
        yield batch
        return
    lengths = [pc.fill_null(pc.binary_length(column.dictionary).take(column.indices), 0) for column in texts]
    sizes = np.sum([length.to_numpy() for length in lengths], axis=0, dtype=np.int64)  # [n], bytes
    cuts = np.flatnonzero(np.diff(sizes.cumsum() // _BATCH_BYTES)) + 1
    for start, stop in itertools.pairwise([0, *cuts.tolist(), batch.num_rows]):
        yield batch.slice(start, stop - start)


def _longest(column: pa.DictionaryArray) -> int:
    """Return the length in bytes of the longest text of a dictionary."""
    return int(pc.max(pc.binary_length(column.dictionary)).as_py() or 0)


def is_repeated_text(kind: pa.DataType) -> bool:
    """Tell whether a column is of texts, each stored once."""
    return bool(pa.types.is_dictionary(kind) and kind.value_type in _TEXT)


def decoded(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of `TableReader.coded_batches` in the types of the file's schema."""
    if batch.schema.equals(schema):
        return batch
    columns = [batch.column(field.name).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _with_constants(
    batch: pa.RecordBatch, wanted: pa.Schema, constants: Mapping[str, str | None]
) -> pa.RecordBatch:
    """Return the wanted columns, those that the folders hold included."""
    if batch.schema.names == wanted.names:
        return batch
    columns = [
        pa.repeat(pa.scalar(constants[field.name], field.type), batch.num_rows)
        if field.name in constants
        else batch.column(field.name)
        for field in wanted
    ]
    return pa.RecordBatch.from_arrays(columns, names=wanted.names)


def _check_values(path: str, batch: pa.RecordBatch) -> None:
    """Raise when a value breaks its type, such as a text that is no UTF-8; Arrow would hand it on."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_primitive(column.type):
            continue
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{path}: values that fit their type (text in UTF-8) were required, however column {name}"
                f" holds others ({_reason(error)}); write the file again"
            ) from error


def _check_names(path: str, names: Sequence[str]) -> None:
    if not names:
        raise SchemaError(f"{path}: at least one column was required, however none came; write it again")
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        shown = ", ".join(twice[:5])
        raise SchemaError(f"{path}: each column once was required, however {shown} came twice; rename one")


def _listed(columns: Iterator[str]) -> str:
    return ", ".join(itertools.islice(columns, 5))


def _drains(batches: Iterator[pa.RecordBatch]) -> bool:
    """Return whether all batches can be read."""
    try:
        collections.deque(batches, maxlen=0)
    except _ARROW_ERRORS:
        return False
    return True


@contextmanager
def _refusals(path: str) -> Iterator[None]:
    """Turn an error of Arrow into a sentence."""
    try:
        yield
    except _ARROW_ERRORS as error:
        raise_if_away(path, error)
        reason = _reason(error)
        remedy = f"check {KEY}" if "crypt" in reason and decryption() else "write it again"
        raise InputError(f"{path}: valid Parquet was required, however: {reason}; {remedy}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200]
