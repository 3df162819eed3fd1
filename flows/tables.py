"""Parquet tables: find the files of a night, stream them, write the results.

A night's files are known by a Hive folder (``dt=2013-07-06/``) or by a date in their names. Files are listed
one by one: Arrow's own discovery follows links in a loop and joins differing schemas without a word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from flows.dates import compile_date_pattern, find_date
from flows.decryption import key_mark
from flows.errors import InputError, NoDataError, StoreError, UnreadableError, legible
from flows.reader import BATCH_ROWS, TableReader
from flows.sniff import SEALED, is_encrypted, read_footer
from flows.storage import Store, Stored, refusals

__all__ = [
    "BATCH_ROWS",
    "InputFile",
    "PartWriter",
    "TableReader",
    "discover",
    "file_digest",
    "input_file",
    "night",
    "open_table",
    "undated",
    "window",
]

_SUFFIX = ".parquet"
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
_GROUP_ROWS = 131_072
_GROUP_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class InputFile:
    """One file of a night, as it was found.

    Attributes
    ----------
    path
        Absolute path or URI.
    key
        Name below the source, with ``/`` between folders.
    size
        Bytes.
    digest
        ``blake2b:…`` over size and Parquet footer; it changes whenever the content does.
    date
        The night it belongs to.
    modified
        Seconds since 1970.
    constants
        What the folders say of all its rows: ``{"region": "eu"}`` for ``region=eu/``, None for Hive's null.
    left_out
        Columns of the file that nobody wants to see.
    """

    path: str
    key: str
    size: int
    digest: str
    date: date
    modified: float
    constants: Mapping[str, str | None] = field(default_factory=dict)
    left_out: Sequence[str] = ()


def discover(
    path: str, *, partition: str | None = None, date_pattern: str | None = None
) -> dict[date | None, list[Stored]]:
    """List the nights of a source, oldest first, without opening a file.

    Files that belong to no night are left out; see `undated`.

    Parameters
    ----------
    path
        Folder or URI.
    partition
        Hive key whose value is the date.
    date_pattern
        ``%Y``, ``%m`` and ``%d`` within the file name, or within the key below ``path`` when the pattern has
        a ``/``; files that do not match are not of this source. A month is dated by its first day.

    Returns
    -------
    dict
        Files of each date; without ``partition`` and ``date_pattern`` all files under None, the folder being
        one night of any date.

    Raises
    ------
    InputError
        When the folder is missing, holds no Parquet file, or none that names a date.
    """
    stored = _parquet_files(path)
    if partition is None and date_pattern is None:
        return {None: stored}
    nights, strays = _by_night(stored, partition, date_pattern)
    if not nights:
        wanted = f"{partition}=YYYY-MM-DD" if partition else date_pattern
        came = f"{stored[0].key} came; see `source`"
        raise InputError(
            strays[0] if strays else f"{path}: files dated by {wanted} were required, however {came}"
        )
    return dict(sorted(nights.items(), key=_by_date))


def undated(path: str, *, partition: str | None = None, date_pattern: str | None = None) -> list[str]:
    """Files of a source that belong to no night, so that nobody scores them: which, and why, a sentence each.

    With ``partition`` these are files below what is no date or below no such folder, with ``date_pattern``
    files whose digits name no day.

    Raises
    ------
    InputError
        As `discover`.
    """
    if partition is None and date_pattern is None:
        return []
    return [legible(said) for said in _by_night(_parquet_files(path), partition, date_pattern)[1]]


def window(
    path: str, first: date, last: date, *, partition: str | None = None, date_pattern: str | None = None
) -> list[InputFile]:
    """Describe the files dated ``first`` to ``last``, both included, in order of date and name.

    A source without dates is one night, dated ``last``.

    Raises
    ------
    NoDataError
        When nothing has arrived for these dates.
    InputError
        As `discover`.
    """
    nights = discover(path, partition=partition, date_pattern=date_pattern)
    hidden = _date_keys(partition, date_pattern)
    store = Store.of(path)
    found = [
        _described(store, one, day or last, hidden)
        for day, files in nights.items()
        if day is None or first <= day <= last
        for one in files
    ]
    if not found:
        asked = f"{first}" if first == last else f"{first} to {last}"
        dates = [day for day in nights if day is not None]
        raise NoDataError(
            f"{path}: files of {asked} were required, however there are those of {dates[0]} to {dates[-1]};"
            " choose among these dates, or wait for the files"
        )
    return found


def night(
    path: str, day: date, *, partition: str | None = None, date_pattern: str | None = None
) -> list[InputFile]:
    """Describe the files of one night; see `window`."""
    return window(path, day, day, partition=partition, date_pattern=date_pattern)


def input_file(path: str, day: date) -> InputFile:
    """Describe a single file, whatever it is called.

    Raises
    ------
    InputError
        When nothing has this path.
    """
    store, name = _place(path)
    stored = store.find(name)
    if stored is None:
        raise InputError(f"{path}: a Parquet file was required, however nothing is there; correct the path")
    return _described(store, stored, day, set())


def open_table(file: InputFile | str | Path) -> TableReader:
    """Open a Parquet file; see `TableReader`.

    Raises
    ------
    InputError
        When it cannot be opened, is no Parquet file, or is another than when it was described.
    SchemaError
        When two columns have one name.
    StoreError
        When the place where it lies cannot be read: no word about the file, and worth another try.
    """
    path = file.path if isinstance(file, InputFile) else str(file)
    store, name = _place(path)
    try:
        source = store.open_input(name)
    except UnreadableError as error:
        raise InputError(str(error)) from error
    if isinstance(file, InputFile) and _fingerprint(path, source) != file.digest:
        raise InputError(f"{path}: a finished file was required, however it changed just now; run again")
    if isinstance(file, InputFile):
        return TableReader(path, source, file.constants, file.left_out)
    return TableReader(path, source)


def file_digest(path: Path) -> str:
    """Return ``sha256:…`` over a local file's content."""
    with path.open("rb") as source:
        return f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"


class PartWriter:
    """Write record batches as one local Parquet file, in row groups of up to 131,072 rows.

    Use it in a ``with`` statement: an error inside leaves no file behind.

    Parameters
    ----------
    path
        File to write, in a folder that exists.
    schema
        Columns and types of all batches.
    keep_empty
        Write a file without rows when nothing came; else there is none.
    unlike
        Columns whose values hardly repeat: a dictionary of them would only cost time (measured: three
        quarters of the time to write scores).

    Attributes
    ----------
    rows
        Rows taken so far.

    Raises
    ------
    StoreError
        When the disk refuses, or Parquet cannot hold a type.
    """

    def __init__(
        self, path: Path, schema: pa.Schema, *, keep_empty: bool = False, unlike: Collection[str] = ()
    ) -> None:
        self.path = path
        self._repeating = [name for name in schema.names if name not in unlike] if unlike else True
        self.schema = schema
        self.rows = 0
        self._keep_empty = keep_empty
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch; small ones are gathered into row groups."""
        self.rows += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= _GROUP_ROWS or self._waiting_bytes >= _GROUP_BYTES:
            with self._refusals():
                self._write_waiting()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon()
        elif self.rows or self._keep_empty:
            with self._refusals():
                self._write_waiting().close()

    def _write_waiting(self) -> pq.ParquetWriter:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self.path,
                self.schema,
                compression="zstd",
                use_dictionary=self._repeating,
                write_page_checksum=True,
            )
        table = pa.Table.from_batches(self._waiting, self.schema).unify_dictionaries()
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        self._waiting.clear()
        self._waiting_rows = self._waiting_bytes = 0
        return self._writer

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn an error of Arrow into a sentence, and leave no file behind."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            self._abandon()
            reason = " ".join(str(error).split()).rstrip(".")[:300]
            raise StoreError(f"cannot write {self.path}: {reason}; check column types and disk") from error

    def _abandon(self) -> None:
        with suppress(pa.ArrowException, OSError):
            if self._writer is not None:
                self._writer.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _parquet_files(path: str) -> list[Stored]:
    store = Store.of(path)
    if not store.is_folder():
        raise InputError(
            f"{path}: a folder of Parquet files was required, however none is there; see `source`"
        )
    found = store.list()
    others = [one for one in found if not _is_parquet(one.key)]
    stored = [one for one in found if _is_parquet(one.key)]
    stored += _hollow(others, [one.key for one in stored])
    if not stored:
        came = f"it holds {', '.join(one.key for one in others[:3])}" if others else "it is empty"
        raise InputError(f"{path}: files named *{_SUFFIX} were required, however {came}; let some arrive")
    return sorted(stored, key=lambda one: one.key)


def _is_parquet(key: str) -> bool:
    return key.lower().endswith(_SUFFIX)


def _hollow(others: list[Stored], keys: list[str]) -> list[Stored]:
    """Folders named like a file that hold none: listed, so that opening them can say so."""
    found = {}
    for one in others:
        for folder in PurePosixPath(one.key).parents:
            inside = f"{folder}/"
            if _is_parquet(str(folder)) and not any(key.startswith(inside) for key in keys):
                found[str(folder)] = Stored(str(folder), one.path[: -len(one.key)] + str(folder), 0, 0.0)
    return list(found.values())


def _by_night(
    stored: list[Stored], partition: str | None, date_pattern: str | None
) -> tuple[dict[date | None, list[Stored]], list[str]]:
    """Return the files of each night, and what is wrong with those that belong to none."""
    nights: dict[date | None, list[Stored]] = {}
    strays, homeless = [], []
    for one in stored:
        try:
            day = _folder_date(one, partition) if partition else _name_date(one, date_pattern or "")
        except InputError as error:
            strays.append(str(error))
            continue
        if day is not None:
            nights.setdefault(day, []).append(one)
        elif partition:
            homeless.append(
                f"{one.path}: a folder such as {partition}=2013-07-06 was required around it, however "
                "there is none; move or remove it"
            )
    return nights, strays + (homeless if nights else [])


def _folder_date(stored: Stored, partition: str) -> date | None:
    """Return the date of a Hive folder, None for a file that lies in no such folder."""
    value = _hive(stored.key).get(partition, "")
    if value == "":
        return None
    if value is None or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise InputError(_misdated(stored, f"{partition}={value or 'null'}"))
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise InputError(_misdated(stored, f"{partition}={value}")) from None


def _name_date(stored: Stored, date_pattern: str) -> date | None:
    """Return the date in a file's name, None for a file that is not of this source."""
    text = stored.key if "/" in date_pattern else PurePosixPath(stored.key).name
    try:
        return find_date(compile_date_pattern(date_pattern), text)
    except ValueError:
        raise InputError(_misdated(stored, text)) from None


def _misdated(stored: Stored, came: str) -> str:
    return f"{stored.path}: a date such as 2013-07-06 was required, however {came} came; rename or remove it"


def _hive(key: str) -> dict[str, str | None]:
    """Return keys and values of the Hive folders in a key, decoded; Hive's null is None."""
    folders = (part.partition("=") for part in PurePosixPath(key).parts[:-1])
    pairs = ((unquote(name), unquote(value)) for name, sign, value in folders if sign)
    return {name: None if value == _NULL_FOLDER else value for name, value in pairs}


def _date_keys(partition: str | None, date_pattern: str | None) -> set[str]:
    """Return the Hive keys that only tell the date, and so are no columns."""
    named = {part.partition("=")[0] for part in (date_pattern or "").split("/")[:-1] if "=" in part}
    return named | ({partition} if partition else set())


def _described(store: Store, stored: Stored, day: date, hidden: set[str]) -> InputFile:
    constants = {name: value for name, value in _hive(stored.key).items() if name not in hidden}
    digest = _stored_digest(store, stored)
    return InputFile(stored.path, stored.key, stored.size, digest, day, stored.modified, constants)


def _stored_digest(store: Store, stored: Stored) -> str:
    """Return the digest of a file; of what cannot be read, one over its size and time."""
    try:
        with store.open_input(stored.key) as source:
            return _fingerprint(stored.path, source)
    except UnreadableError:
        return _blake2b(f"unreadable {stored.size} {stored.modified}".encode())


def _fingerprint(path: str, source: pa.NativeFile) -> str:
    with refusals("read", path):
        return _blake2b(str(source.size()).encode() + b" " + read_footer(source) + _opened_by(source))


def _opened_by(source: pa.NativeFile) -> bytes:
    """Return what tells keys apart, for an encrypted file: with another key it is another input."""
    mark = key_mark()
    if not mark:
        return b""
    with suppress(pa.ArrowException, OSError, ValueError):
        source.seek(0)
        if source.read(4) == SEALED or is_encrypted(source, pq.read_metadata(source)):
            return mark
    return b""


def _blake2b(data: bytes) -> str:
    return f"blake2b:{hashlib.blake2b(data, digest_size=20).hexdigest()}"


def _place(path: str) -> tuple[Store, str]:
    """Split a path or URI into the store of its folder and its name."""
    folder, _, name = path.rpartition("/")
    return Store.of(folder or ("/" if path.startswith("/") else ".")), name


def _by_date(item: tuple[date | None, list[Stored]]) -> date:
    return item[0] or date.min
