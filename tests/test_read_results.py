"""The page on reading results: its blocks run, and the three readers show the same table."""

from __future__ import annotations

import contextlib
import io
import re
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from review.triaging import TRIAGE

PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "read-results.md").read_text()
NIGHTS = [date(2013, 7, 6), date(2013, 7, 7)]


def block(heading: str, number: int = 0) -> str:
    """A block of Python under a heading of the page."""
    return re.findall(r"^```python\n(.*?)^```", PAGE.split(f"## {heading}\n")[1], re.MULTILINE | re.DOTALL)[
        number
    ]


@pytest.fixture
def _results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out two nights of four flags each; a rule hides the third, and the learned order turns the rest."""
    monkeypatch.chdir(tmp_path)
    for i, day in enumerate(NIGHTS):
        ids = [f"{i}{letter}" for letter in "abcd"]
        flags = {
            "carrier": ["UA", "VX", "B6", "AA"],
            "flight": [1, 2, 3, 4],
            "severity": [40.0, 30.0, 25.0, 20.0],
        }
        triage: dict[str, Any] = {
            "row_id": ids,
            "row_key": ["{}"] * 4,
            "family_id": ["f1", "f1", "f2", "f3"],
            "family_name": ["flights, dest SFO, 2 rows", "flights, dest SFO, 2 rows", "flights", "others"],
            "raw_rank": [1, 2, 3, 4],
            "learned_score": [0.2, 0.9, 0.5, 0.1],
            "learned_rank": [3, 1, 2, 4],
            "hidden_by": [None, None, 7, None],
        }
        parts = {"row_id": ["0a", "0a"], "column": ["dest", "arr_time"], "share": [0.7, 0.05]}
        scores = {"anomaly_score": [4.0, 3.0, 2.5, 2.0], "row_id": ids}
        write("flags", day, pa.table({**flags, **scores, "row_key": ["{}"] * 4}))
        write("triage", day, pa.table(triage, schema=TRIAGE))
        write("contributions", day, pa.table(parts))


def write(name: str, day: date, table: pa.Table) -> None:
    folder = Path(f"data/results/flights/{name}/dt={day}")
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part-0.parquet")
    (folder.parent / "_families.json").write_text("{}")


def printed(code: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code, "read-results.md", "exec"), {})  # noqa: S102 (our own text)
    return said.getvalue()


@pytest.mark.usefixtures("_results")
@pytest.mark.parametrize("reader", ["pandas", "Polars", "DuckDB"])
def test_the_table_of_flags_is_the_same_in_every_reader(reader: str) -> None:
    """In the learned order, without the hidden row: flights 2, 1 and 4 of the night of 6 July."""
    said = printed(block(reader))

    flights = re.findall(r"(UA|VX|B6|AA)\W+(\d)\W+(\d+\.\d)\d*\W+(\d)\W+(\d)", said)
    assert flights == [
        ("VX", "2", "30.0", "1", "2"),
        ("UA", "1", "40.0", "3", "1"),
        ("AA", "4", "20.0", "4", "4"),
    ]


@pytest.mark.usefixtures("_results")
def test_the_other_questions_of_the_page_are_answered() -> None:
    families, nights, columns = (printed(block("DuckDB", number)) for number in (1, 2, 3))

    assert re.findall(r"(f\d)\W+(\d)\W+(\d)", families) == [
        ("f1", "2", "4"),
        ("f2", "2", "2"),
        ("f3", "2", "2"),
    ]
    found = re.findall(r"(2013-07-0\d)\W+(\d)\W+([\d.]+)", nights)
    assert sorted(found) == [("2013-07-06", "4", "40.0"), ("2013-07-07", "4", "40.0")]
    assert re.findall(r"(\d)\W+(dest|arr_time)\W+([\d.]+)", columns) == [("1", "dest", "0.7")]
