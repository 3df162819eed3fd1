"""What people have said of rows: which are confirmed, and where they are in a table."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.config import load_pipeline
from flows.errors import StoreError
from flows.results import row_keys
from flows.storage import Store
from flows.train import draw_rows
from flows.verdicts import CONFIRMED, confirmed_rows, named, said_of

FIRST, SECOND = date(2024, 3, 1), date(2024, 3, 2)


def say(folder: Path, day: date, hour: int, *said: tuple[str, str, str]) -> None:
    """Write verdicts: row id, row key and verdict."""
    target = folder / f"verdicts/dt={day}/{hour}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "row_id": one,
            "row_key": key,
            "verdict": verdict,
            "decided_at": datetime(2024, 3, 3, hour, tzinfo=UTC),
        }
        for one, key, verdict in said
    ]
    pq.write_table(pa.Table.from_pylist(rows), target)


def test_the_last_verdict_of_a_row_counts(tmp_path: Path) -> None:
    say(tmp_path, FIRST, 9, ("a", "1", "expected"), ("b", "2", "anomaly"), ("c", "3", "data error"))
    say(tmp_path, FIRST, 8, ("a", "1", "anomaly"), ("b", "2", "expected"))

    assert confirmed_rows(Store.of(tmp_path), FIRST) == {"b": "2", "c": "3"}
    assert confirmed_rows(Store.of(tmp_path), SECOND) == {}


def test_keys_are_those_of_the_asked_nights(tmp_path: Path) -> None:
    say(tmp_path, FIRST, 9, ("a", "1", "anomaly"))
    say(tmp_path, SECOND, 9, ("b", "2", "anomaly"))
    store = Store.of(tmp_path)

    say(tmp_path, SECOND, 10, ("c", "{}", "anomaly"))  # a row of a table without keys

    assert said_of(store, FIRST, SECOND, CONFIRMED).keys == {"1", "2"}
    assert said_of(store, SECOND, SECOND + timedelta(days=9), CONFIRMED).keys == {"2"}


def test_a_file_that_holds_no_verdicts_is_named(tmp_path: Path) -> None:
    (tmp_path / f"verdicts/dt={FIRST}").mkdir(parents=True)
    (tmp_path / f"verdicts/dt={FIRST}/x.parquet").write_bytes(b"nothing")

    with pytest.raises(
        StoreError, match=r"x\.parquet: verdicts with row_id, row_key, verdict, decided_at were"
    ):
        confirmed_rows(Store.of(tmp_path), FIRST)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_rows_are_found_by_their_keys_whatever_the_types(kind: pa.DataType) -> None:
    """Numbers, texts, moments and nulls; a row that shares only a part of its key is another one."""
    start = datetime(2024, 3, 1, tzinfo=UTC)
    table = pa.table(
        {
            "shop": pa.array(["Bern", "Basel", None] * 100).cast(kind),
            "number": pa.array(np.arange(300) // 3, pa.int32()),
            "at": pa.array([start + timedelta(hours=i) for i in range(300)], pa.timestamp("us", "UTC")),
            "amount": np.arange(300.0),
        }
    )
    keys = ["shop", "number", "at"]
    texts = row_keys(table.to_batches()[0], keys, ()).to_pylist()

    found = named(table, keys, (), {texts[4], texts[5], texts[299]})

    assert np.flatnonzero(found).tolist() == [4, 5, 299]
    assert not named(table, keys, (), set()).any()
    assert not named(table, [], (), {"{}"}).any()
    assert not named(table, keys, (), {json.dumps({"shop": 1, "number": "x", "at": "y"})}).any()


@pytest.mark.parametrize(
    ("kind", "number"), [(pa.uint64(), 2**64 - 1), (pa.uint64(), 2**63), (pa.int64(), -(2**63))]
)
@pytest.mark.parametrize("other", [7, 10**30, -(10**30), "x", 7.5, True, None, [1], {"a": 1}, "\ud800"])
def test_whole_numbers_of_any_size_are_found_whatever_other_keys_hold(
    kind: pa.DataType, number: int, other: Any
) -> None:
    """A key that the column cannot hold is the key of no row, and hides none of the others."""
    table = pa.table({"id": pa.array([5, number], kind)})

    found = named(table, ["id"], (), {json.dumps({"id": other}), json.dumps({"id": number})})

    assert found.tolist() == [False, True]


def flag(folder: Path, day: date, rows: dict[str, Any]) -> None:
    """Write flags without keys, and verdicts that confirm them all."""
    ids = [f"r{i}" for i in range(len(next(iter(rows.values()))))]
    target = folder / f"flags/dt={day}/part-0.parquet"
    target.parent.mkdir(parents=True)
    pq.write_table(pa.table({**rows, "row_id": ids}), target)
    say(folder, day, 9, *((one, "{}", "anomaly") for one in ids))


def test_rows_without_keys_are_found_though_their_types_differ_from_night_to_night(tmp_path: Path) -> None:
    """Each night's rows are compared in the table's types; those that are not of them are no row of it."""
    flag(tmp_path, FIRST, {"x": [1, 5]})
    flag(tmp_path, SECOND, {"x": ["2", "3"]})
    flag(tmp_path, SECOND + timedelta(days=1), {"x": ["four"]})

    said = said_of(Store.of(tmp_path), FIRST, SECOND + timedelta(days=1), CONFIRMED)

    assert said.among(pa.table({"x": [1, 2, 4]}), [], ()).tolist() == [True, True, False]
    assert said.among(pa.table({"x": ["four", "1", "x"]}), [], ()).tolist() == [True, True, False]


def test_rows_of_nights_without_a_column_are_those_that_have_nothing_there(tmp_path: Path) -> None:
    """A column that came later says that the rows before it are other rows; one that no flag has, nothing."""
    flag(tmp_path, FIRST, {"x": [1]})
    flag(tmp_path, SECOND, {"x": [2], "y": ["b"]})
    table = pa.table({"x": [1, 1, 2, 2], "y": [None, "a", None, "b"], "z": [0, 0, 0, 0]})

    found = said_of(Store.of(tmp_path), FIRST, SECOND, CONFIRMED).among(table, [], ())

    assert found.tolist() == [True, False, False, True]


def test_a_training_leaves_confirmed_rows_out(tmp_path: Path) -> None:
    """Those of the rows to fit on, and those held out for calibration."""
    (tmp_path / "orders.yml").write_text(
        "{version: 1, name: orders, source: {path: landing, partition: dt}, output: results, "
        "columns: {key: [id]}, training: {window: 2d, calibration: 1d}}"
    )
    (tmp_path / "mlflow.yml").write_text("experiment: tests\n")
    for i, day in enumerate((FIRST, SECOND)):
        (tmp_path / f"landing/dt={day}").mkdir(parents=True)
        rows: dict[str, Any] = {"id": np.arange(10) + 10 * i, "x": np.arange(10.0)}
        pq.write_table(pa.table(rows), tmp_path / f"landing/dt={day}/a.parquet")
    say(tmp_path / "results", FIRST, 9, ("a", '{"id": 3}', "anomaly"), ("b", '{"id": 4}', "expected"))
    say(tmp_path / "results", SECOND, 9, ("c", '{"id": 15}', "data error"))

    rows = draw_rows(load_pipeline(tmp_path / "orders.yml"), SECOND)

    assert rows.confirmed == 2
    assert rows.fit["id"].to_pylist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert rows.held_out["id"].to_pylist() == [10, 11, 12, 13, 14, 16, 17, 18, 19]


def test_a_training_knows_which_rows_are_expected(tmp_path: Path) -> None:
    """Of those to fit on; a later verdict counts, and what was withdrawn does not."""
    (tmp_path / "orders.yml").write_text(
        "{version: 1, name: orders, source: {path: landing, partition: dt}, output: results, "
        "columns: {key: [id]}, training: {window: 2d, calibration: 1d}}"
    )
    (tmp_path / "mlflow.yml").write_text("experiment: tests\n")
    for i, day in enumerate((FIRST, SECOND)):
        (tmp_path / f"landing/dt={day}").mkdir(parents=True)
        rows: dict[str, Any] = {"id": np.arange(10) + 10 * i, "x": np.arange(10.0)}
        pq.write_table(pa.table(rows), tmp_path / f"landing/dt={day}/a.parquet")
    say(tmp_path / "results", FIRST, 8, ("a", '{"id": 3}', "anomaly"), ("b", '{"id": 4}', "expected"))
    say(tmp_path / "results", FIRST, 9, ("a", '{"id": 3}', "expected"), ("b", '{"id": 4}', "investigating"))
    say(tmp_path / "results", FIRST, 10, ("c", '{"id": 0}', "anomaly"), ("d", '{"id": 9}', "expected"))

    rows_drawn = draw_rows(load_pipeline(tmp_path / "orders.yml"), SECOND)

    assert rows_drawn.normal is not None
    assert rows_drawn.fit["id"].filter(pa.array(rows_drawn.normal)).to_pylist() == [3, 9]
    assert (rows_drawn.confirmed, rows_drawn.expected) == (1, 2)
