"""A table to take away: Parquet as it is, CSV and Excel with cells that do nothing.

Spreadsheets run what looks like a formula, split cells that are too long, and take control signs for
commands. In CSV such a cell is therefore text that begins with an apostrophe; in Excel it is a cell of text.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from flows.cells import plain_rows
from review.errors import ReviewError

__all__ = ["MOST_CHARACTERS", "MOST_ROWS", "inert", "to_csv", "to_excel", "to_parquet"]

MOST_CHARACTERS = 32_000  # of a cell; Excel takes 32,767, and begins another cell with the rest
MOST_ROWS = 1_048_575  # of a sheet, below its header
_LARGEST_EXACT = 10**15  # Excel's numbers have 15 digits
_TEXT = pa.large_string()
_CONTROLS = r"[\x00-\x08\x0b-\x1f\x7f-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}\x{fffe}\x{ffff}]"
_FORMULA = r"^[\s\x{a0}\x{200b}\x{feff}]*[=+\-@\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}]"
_NUMBER = r"^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


def to_parquet(table: pa.Table) -> bytes:
    """Return the table as it is, as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def to_csv(table: pa.Table) -> bytes:
    """Return a CSV file in UTF-8: text in quotes, formulas behind an apostrophe, long cells cut."""
    from pyarrow import csv

    sink = pa.BufferOutputStream()
    csv.write_csv(_plain(table, inert), sink, csv.WriteOptions(quoting_style="all_valid"))
    return bytes(sink.getvalue())


def to_excel(table: pa.Table) -> bytes:
    """Return an Excel file: numbers and times as such, all else cells of text.

    Raises
    ------
    ReviewError
        The table has more rows than a sheet takes.
    """
    if table.num_rows > MOST_ROWS:
        raise ReviewError(
            f"a table of {MOST_ROWS:,} rows at most was required for Excel, however {table.num_rows:,} came; "
            "filter it, or take Parquet"
        )
    from xlsxwriter import Workbook

    file = io.BytesIO()
    with Workbook(file, {"constant_memory": True, "remove_timezone": False}) as book:
        text = book.add_format({"quote_prefix": True})  # stays text when somebody edits the cell
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        time = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        sheet = book.add_worksheet("flags")
        sheet.freeze_panes(1, 0)
        plain = _plain(table, _shown, keep_times=True)
        for column, name in enumerate(plain.schema.names):
            sheet.write_string(0, column, name, text)
        for row, values in enumerate(_rows(plain), start=1):
            for column, value in enumerate(values):
                _write(sheet, row, column, value, {str: text, date: day, datetime: time})
    return file.getvalue()


def inert(texts: pa.Array | pa.ChunkedArray) -> Any:
    """Texts that a spreadsheet shows, and does not run: formulas behind an apostrophe; see `_shown`."""
    shown = _shown(texts)
    is_formula = pc.and_not(
        pc.match_substring_regex(shown, _FORMULA), pc.match_substring_regex(shown, _NUMBER)
    )
    return pc.if_else(is_formula, _joined("'", shown), shown)


def _shown(texts: pa.Array | pa.ChunkedArray) -> Any:
    """Texts without signs that control, cut where they are too long."""
    texts = texts.cast(_TEXT)
    length = pc.utf8_length(texts)
    if (pc.max(length).as_py() or 0) > MOST_CHARACTERS:
        start = pc.utf8_slice_codeunits(texts, 0, MOST_CHARACTERS)
        cut = _joined(start, "… (", length.cast(_TEXT), " characters)")
        texts = pc.if_else(pc.greater(length, MOST_CHARACTERS), cut, texts)
    lines = pc.replace_substring_regex(texts, r"\r\n?", "\n")
    return pc.replace_substring_regex(lines, _CONTROLS, "\ufffd")


def _joined(*parts: Any) -> Any:
    typed = [pa.scalar(part, _TEXT) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*typed, pa.scalar("", _TEXT))


def _plain(table: pa.Table, tidy: Callable[[Any], Any], *, keep_times: bool = False) -> pa.Table:
    """The table with numbers and truth values as they are, all else as tidy text, its names too."""
    columns = []
    for column in table.columns:
        kind = column.type
        is_number = pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind)
        is_time = keep_times and (pt.is_date(kind) or (pt.is_timestamp(kind) and kind.tz is None))
        columns.append(column if is_number or is_time else tidy(_texts(column)))
    names = tidy(pa.array(table.schema.names, pa.string())).to_pylist()
    return pa.table(columns, names=names)


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as text; what Arrow has no text for, as JSON or hexadecimal digits."""
    kind = column.type.value_type if pt.is_dictionary(column.type) else column.type
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_temporal(kind) or pt.is_decimal(kind):
        with suppress(pa.ArrowException):  # moments of a zone that nobody knows
            return _valid(column.cast(kind).cast(_TEXT))
    return pa.chunked_array([[_text(value) for value in _values(column)]], _TEXT)


def _valid(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts of valid UTF-8: a Parquet file may hold others, and nobody has looked."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        raw = texts.cast(pa.large_binary()).to_pylist()
        return pa.chunked_array(
            [[None if one is None else one.decode(errors="replace") for one in raw]], _TEXT
        )
    return texts


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.hex() if isinstance(value, bytes) else json.dumps(value, default=str, ensure_ascii=False)


def _rows(table: pa.Table) -> Any:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from zip(*(_values(column) for column in batch.columns), strict=True)


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Plain values; one that Python has none for comes as text."""
    return [row["x"] for row in plain_rows(pa.table({"x": column}))]


def _write(sheet: Any, row: int, column: int, value: Any, formats: dict[type, Any]) -> None:
    """Write a cell, by a method that cannot make a formula or a link of it."""
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, int | float):
        exact = abs(value) < _LARGEST_EXACT if isinstance(value, int) else abs(value) < float("inf")
        sheet.write_number(row, column, value) if exact else sheet.write_string(row, column, str(value))
    elif isinstance(value, date) and value.year >= 1900:
        kind = datetime if isinstance(value, datetime) else date  # pandas has moments of its own
        sheet.write_datetime(row, column, value, formats[kind])
    else:
        sheet.write_string(row, column, str(value), formats[str])
