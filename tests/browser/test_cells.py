"""Cells that want to do something: shown as text, exported inert."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.browser.people import Serve, Visitor
from tests.browser.project import DAY, project, write_night

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCRIPT = "<script>window.harmed = 1; alert(1)</script><img src=x onerror='window.harmed = 1'>"
HOSTILE = [
    SCRIPT,
    '=HYPERLINK("http://example.org")',
    "+1+1|cmd",
    "[link](javascript:alert(1)) ![](http://example.org/x.png) :red[x] $x^2$",
    "line\nbreak\x00\x07\x1b[31m\u202etxt",
    "x" * 1_000_000,
]
COLUMN = "<b onmouseover=alert(2)>**note**</b>"


def test_hostile_cells_are_text_on_the_page_and_in_exports(
    tmp_path: Path, serve: Serve, visitor: Callable[..., Visitor]
) -> None:
    pipeline = project(tmp_path)
    flags = write_night(
        pipeline,
        {"id": pa.array(range(len(HOSTILE))), COLUMN: pa.array(HOSTILE), "card": pa.array(HOSTILE[::-1])},
    )
    with serve(pipeline) as address:
        guest = visitor(address)
        guest.visit(f"night?date={DAY}")
        guest.shot("cells-night")
        shown = [row[COLUMN] for row in guest.table() if COLUMN in row]
        assert SCRIPT in shown
        assert max(map(len, shown)) < 300
        for row_id in flags["row_id"].to_pylist():
            guest.visit(f"row?date={DAY}&row={row_id}")
            assert guest.page.get_by_test_id("stException").count() == 0
        guest.visit(f"row?date={DAY}&row={flags['row_id'][0].as_py()}")
        guest.shot("cells-row")
        assert guest.page.evaluate("window.harmed") is None
        assert (guest.dialogs, guest.foreign, guest.errors) == ([], [], [])

        guest.visit(f"night?date={DAY}")
        saved = {name: _saved(guest, name) for name in ("Parquet", "CSV", "Excel")}

    assert pq.read_table(saved["Parquet"])[COLUMN].to_pylist() == flags[COLUMN].to_pylist()
    lines = list(csv.DictReader(io.StringIO(saved["CSV"].read_text(encoding="utf-8"), newline="")))
    assert not any(str(cell).startswith(("=", "+", "@", "-cmd")) for line in lines for cell in line.values())
    with zipfile.ZipFile(saved["Excel"]) as book:
        sheet = book.read("xl/worksheets/sheet1.xml")
    assert b"<sheetData>" in sheet
    assert b"<f>" not in sheet
    assert b"hyperlink" not in sheet


def _saved(guest: Visitor, name: str) -> Path:
    with guest.page.expect_download() as download:
        guest.page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path())
