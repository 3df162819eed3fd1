"""Tables to take away: hostile cells come out as text, and do nothing."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from xml.etree import ElementTree

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import review.export
from review.errors import ReviewError
from review.export import MOST_CHARACTERS, to_csv, to_excel, to_parquet

SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
FORMULAS = [
    '=HYPERLINK("http://evil.example","x")',
    "=cmd|' /C calc'!A0",
    "+1+cmd",
    "-1-cmd",
    "@SUM(A1)",
    "\t=1+1",
    "  =1+1",
    "\r\n=1+1",
    "\u200b=1+1",
    "\uff1d1+1",
    "\ufeff@x",
]


def rows_of(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def sheet_of(data: bytes) -> ElementTree.Element:
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        return ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314 (our own)


def texts_of(data: bytes) -> list[str]:
    return ["".join(cell.itertext()) for cell in sheet_of(data).iter(f"{SHEET}c")]


@pytest.mark.parametrize("formula", FORMULAS)
def test_what_a_spreadsheet_would_run_is_text(formula: str) -> None:
    table = pa.table({formula: pa.array([formula]), "kind": pa.array([formula]).dictionary_encode()})

    for row in rows_of(to_csv(table)):
        assert row[0].startswith("'")
        assert row[0].strip("'").lstrip()[-3:] == formula.lstrip()[-3:]
    assert rows_of(to_csv(table))[1][1].startswith("'")
    data = to_excel(table)
    assert all(cell.get("t") == "inlineStr" for cell in sheet_of(data).iter(f"{SHEET}c"))
    assert not list(sheet_of(data).iter(f"{SHEET}f")), "no formula"
    assert not list(sheet_of(data).iter(f"{SHEET}hyperlink")), "no link"


@pytest.mark.parametrize(
    "text", ["-5", "+1.50", "-1e-5", "plain", "a=b", "", "<script>alert(1)</script>", "2013-07-06"]
)
def test_what_it_would_not_run_stays_as_it_is(text: str) -> None:
    table = pa.table({"x": [text], "y": [1]})

    assert rows_of(to_csv(table))[1] == [text, "1"]
    assert texts_of(to_excel(table))[2] == text


def test_text_cannot_leave_its_cell() -> None:
    text = 'a"b,c;d\n=1+1'

    assert rows_of(to_csv(pa.table({"x": [text], "y": ["z"]})))[1:] == [[text, "z"]]
    assert texts_of(to_excel(pa.table({"x": [text], "y": ["z"]})))[2:] == [text, "z"]


def test_signs_that_control_are_shown_as_such() -> None:
    table = pa.table({"x": ["a\x00b\x1bc\x7fd\u202ee\u2066f\u0085g"]})

    assert rows_of(to_csv(table))[1] == ["a�b�c�d�e�f�g"]
    assert texts_of(to_excel(table))[1] == "a�b�c�d�e�f�g"


def test_text_that_is_none_is_shown_as_far_as_it_can_be() -> None:
    """Parquet takes any bytes for text."""
    bad = pa.array([b"a\xffb", None], pa.binary()).view(pa.string())

    assert rows_of(to_csv(pa.table({"x": bad, "y": [1, 2]})))[1:] == [["a�b", "1"], ["", "2"]]
    assert texts_of(to_excel(pa.table({"x": bad})))[1] == "a�b"


def test_a_cell_of_a_megabyte_is_cut_and_says_so() -> None:
    """Excel would go on with the rest in another cell, which might begin with anything."""
    table = pa.table({"x": ["x" * 1_000_000, "short"]})

    for cell in (rows_of(to_csv(table))[1][0], texts_of(to_excel(table))[1]):
        assert cell == "x" * MOST_CHARACTERS + "… (1000000 characters)"
    assert pq.read_table(io.BytesIO(to_parquet(table))) == table


def test_numbers_times_and_nulls_come_back() -> None:
    table = pa.table(
        {
            "id": pa.array([2**62, None], pa.int64()),
            "x": [-1.5, float("nan")],
            "ok": [True, None],
            "day": [date(2013, 7, 6), date(1800, 1, 1)],
            "at": pa.array([datetime(2013, 7, 6, 12, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
            "euro": [Decimal("-1.50"), None],
            "raw": [b"\x00=", None],
            "tags": [["a", "=b"], None],
            "void": pa.nulls(2),
        }
    )

    first, second = rows_of(to_csv(table))[1:]
    assert first == [
        *("4611686018427387904", "-1.5", "true", "2013-07-06", "2013-07-06 12:00:00.000000Z", "-1.50"),
        *("003d", '["a", "=b"]', ""),
    ]
    assert second == ["", "nan", "", "1800-01-01", "", "", "", "", ""]
    frame = pd.read_csv(io.BytesIO(to_csv(table)))
    assert frame["id"][0] == 2**62
    cells = [cell for cell in sheet_of(to_excel(table)).iter(f"{SHEET}c") if str(cell.get("r")).endswith("2")]
    assert "".join(cells[0].itertext()) == "4611686018427387904", "as text: Excel's numbers have 15 digits"
    assert "".join(cells[3].itertext()) == "41461", "a day of Excel's calendar"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_moment_is_one_in_a_sheet_whatever_its_unit(unit: str) -> None:
    """Nanoseconds are what pandas writes, microseconds what Spark does."""
    times = pa.array([datetime(2013, 7, 6, 12), datetime(1850, 1, 1), None], pa.timestamp(unit))

    texts = texts_of(to_excel(pa.table({"at": times})))

    assert texts == ["at", "41461.5", "1850-01-01 00:00:00"]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([10_000_000], pa.int32()).cast(pa.date32()), "29349-01-26"),
        (pa.array([300_000 * 366], pa.int32()).cast(pa.date32()), "<value out of range: 109800000>"),
        (pa.array([9 * 10**11], pa.timestamp("s")), "30489-11-11 16:00:00"),
        (pa.array([10**18], pa.timestamp("s")), "<value out of range: 1000000000000000000>"),
        (pa.array([-(10**11)], pa.timestamp("s")), "-1199-02-15 14:13:20"),
        (pa.array([0], pa.timestamp("us", "Mars/Base")), "1970-01-01 00:00:00.000000"),
        (
            pa.array([[10_000_000]], pa.list_(pa.int32())).cast(pa.list_(pa.date32())),
            "(list<item: date32[day]>)",
        ),
    ],
)
def test_a_moment_that_python_has_none_for_is_text(column: pa.Array, text: str) -> None:
    """Of a far year or an unknown zone, also beside a column whose name is shown as the same."""
    table = pa.table({"a\x00": column, "a\x01": pa.array([1])})

    assert [cell.strip("'") for cell in rows_of(to_csv(table))[1]] == [text, "1"]
    assert texts_of(to_excel(table))[2:] == [text, "1"]


def test_an_empty_table_has_its_header() -> None:
    table = pa.table({"x": pa.array([], pa.string()), "y": pa.array([], pa.int64())})

    assert rows_of(to_csv(table)) == [["x", "y"]]
    assert texts_of(to_excel(table)) == ["x", "y"]


def test_more_rows_than_a_sheet_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review.export, "MOST_ROWS", 2)

    with pytest.raises(ReviewError, match="a table of 2 rows at most was required for Excel, however 3 came"):
        to_excel(pa.table({"x": [1, 2, 3]}))
