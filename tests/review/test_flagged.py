"""A night's flags are found, filtered and sorted in a small index, and read a page at a time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flows.errors import InputError, StoreError
from flows.storage import Store
from review.flagged import LEARNED, OPEN, Flagged, Query
from tests.browser.project import DAY, orders, project, write_night

ROWS = 500


@pytest.fixture
def night(tmp_path: Path) -> tuple[Flagged, pa.Table]:
    """Return the flags of a night as the page opens them, and as they were written."""
    pipeline = project(tmp_path)
    flags = write_night(pipeline, orders(ROWS))
    opened = Flagged.open(Store.of(pipeline.output_path), DAY)
    assert opened is not None
    return opened, flags


def test_a_night_without_flags_is_none(tmp_path: Path) -> None:
    assert Flagged.open(Store.of(tmp_path), DAY) is None


def test_without_a_query_all_rows_come_most_anomalous_first(night: tuple[Flagged, pa.Table]) -> None:
    opened, flags = night

    places = opened.select(Query(), {})

    scores = flags["anomaly_score"].to_numpy()[places]
    assert (len(places), len(opened)) == (ROWS, ROWS)
    assert np.all(np.diff(scores) <= 0)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (Query(severity=15.0), lambda flags: pc.greater_equal(flags["severity"], 15.0)),
        (Query(columns=("shop",)), lambda flags: pc.equal(flags["reason_1_column"], "shop")),
        (Query(kinds=("value",)), lambda flags: pc.equal(flags["reason_1_kind"], "value")),
        (Query(text="CHUR"), lambda flags: pc.equal(flags["shop"], "Chur")),
        (Query(text="card-000001"), lambda flags: pc.match_substring(flags["card"], "card-000001")),
        (
            Query(columns=("shop",), kinds=("value",), severity=10.0),
            lambda flags: pc.and_(
                pc.and_(
                    pc.equal(flags["reason_1_column"], "shop"), pc.equal(flags["reason_1_kind"], "value")
                ),
                pc.greater_equal(flags["severity"], 10.0),
            ),
        ),
    ],
)
def test_a_query_lets_through_what_it_says(
    night: tuple[Flagged, pa.Table], query: Query, kept: object
) -> None:
    opened, flags = night
    wanted = flags.filter(kept(flags))["row_id"].to_pylist()  # type: ignore[operator]

    found = opened.ids(opened.select(query, {}))

    assert sorted(found) == sorted(wanted)
    assert wanted


def test_text_is_not_sought_in_columns_that_are_hidden(night: tuple[Flagged, pa.Table]) -> None:
    opened, _ = night

    assert len(opened.select(Query(text="card-0000001"), {}, ["shop", "amount"])) == 0


def test_rows_are_filtered_by_verdict(night: tuple[Flagged, pa.Table]) -> None:
    opened, flags = night
    first, second = flags["row_id"].to_pylist()[:2]
    settled = {first: "anomaly", second: "expected"}

    assert opened.ids(opened.select(Query(verdicts=("anomaly",)), settled)) == [first]
    assert len(opened.select(Query(verdicts=(OPEN,)), settled)) == ROWS - 2
    assert len(opened.select(Query(verdicts=(OPEN, "expected")), settled)) == ROWS - 1


@pytest.mark.parametrize("column", ["amount", "shop", "at"])
def test_rows_are_sorted_by_any_column(night: tuple[Flagged, pa.Table], column: str) -> None:
    opened, flags = night

    down = opened.rows(opened.select(Query(sort=column), {}), [column])[column].to_pylist()
    up = opened.rows(opened.select(Query(sort=column, descending=False), {}), [column])[column].to_pylist()

    assert up == sorted(flags[column].to_pylist())
    assert down == up[::-1]


def test_rows_come_whole_in_the_order_of_their_places(night: tuple[Flagged, pa.Table]) -> None:
    opened, flags = night
    places = np.array([7, 3, 3, 400])

    assert opened.rows(places).to_pylist() == flags.take(places).to_pylist()
    assert opened.row(7) == flags.slice(7, 1).to_pylist()[0]
    assert opened.rows(np.array([], dtype=np.int64)).num_rows == 0


def test_families_ranks_and_hidden_rows_stand_beside(night: tuple[Flagged, pa.Table]) -> None:
    opened, flags = night
    ids = flags["row_id"].to_pylist()
    triage = pa.table(
        {
            "row_id": ids[::-1],
            "family_id": ["f1" if i % 2 else "f2" for i in range(ROWS)][::-1],
            "family_name": ["orders"] * ROWS,
            "raw_rank": list(range(1, ROWS + 1))[::-1],
            "learned_rank": list(range(1, ROWS + 1)),
            "hidden_by": pa.array([7 if i < 10 else None for i in range(ROWS)][::-1], pa.int64()),
        }
    )
    file = Path(opened.store.uri(f"triage/dt={DAY}/part-0.parquet"))
    file.parent.mkdir(parents=True)
    pq.write_table(triage, file)

    again = Flagged.open(opened.store, DAY)

    assert again is not None
    assert again.is_relearned
    assert len(again.select(Query(families=("f1",)), {})) == (ROWS - 10) // 2
    assert len(again.select(Query(), {})) == ROWS - 10
    assert len(again.select(Query(hidden=True), {})) == ROWS
    assert again.ids(again.select(Query(hidden=True, sort=LEARNED, descending=False), {})) == ids[::-1]


def test_a_file_that_was_replaced_meanwhile_is_not_read(night: tuple[Flagged, pa.Table]) -> None:
    opened, flags = night
    file = Path(opened.file.path)
    pq.write_table(flags.slice(0, 3), file)
    os.utime(file, (1, 1))

    with pytest.raises(StoreError, match="scored again meanwhile"):
        opened.rows(np.array([0]))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / f"flags/dt={DAY}/part-0.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"x": [1]}), file)

    with pytest.raises(InputError, match="row_id is missing"):
        Flagged.open(Store.of(tmp_path), DAY)
