"""Where rows have a value at stake, a budget takes the odder ones, and among equally odd ones the dearer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.config import Decision, Pipeline
from flows.context import model_ref
from flows.decision import Decider
from flows.errors import SchemaError
from flows.redecide import redecide
from flows.scoring import score_files
from flows.sources import find_files
from flows.stake import ranks, values_at_stake
from vae_core import Calibration


def test_rows_of_another_power_of_ten_are_never_overtaken_by_value() -> None:
    dear, odd = ranks(np.array([2e-3, 9e-4]), np.array([1e300, 0.0]))

    assert odd > dear


def test_equally_odd_rows_are_ranked_by_value_then_by_p_value() -> None:
    p_values, values = np.array([2e-4, 9e-4, 8e-4, 8e-4]), np.array([0.0, 10.0, 10.0, 0.0])

    assert np.argsort(-ranks(p_values, values)).tolist() == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array([1, None, -3], pa.int64()), [1.0, 0.0, 3.0]),
        (pa.array([1.5, float("nan"), -float("inf")]), [1.5, 0.0, np.finfo(np.float64).max]),
        (pa.array([100, 250, None], pa.int64()).cast(pa.decimal128(22, 2)), [100.0, 250.0, 0.0]),
    ],
)
def test_values_are_magnitudes_and_none_is_nothing(column: pa.Array, values: list[float]) -> None:
    batch = pa.RecordBatch.from_arrays([column], names=["amount"])

    assert values_at_stake(batch, "amount").tolist() == values


def test_a_column_without_numbers_is_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["a"])], names=["shop"])

    with pytest.raises(SchemaError, match="a column shop of numbers was required, however it holds string"):
        values_at_stake(batch, "shop")
    with pytest.raises(SchemaError, match="a column amount of numbers was required, however it is missing"):
        values_at_stake(batch, "amount")


def test_a_budget_goes_by_ranks_within_the_rule() -> None:
    """The dearest row of all is not odd enough for the rule."""
    night = Decider.of({"contamination": 0.3, "budget": 2}, Calibration.of(np.arange(999.0)))
    scores, rank = np.array([900.0, 950.0, 800.0, 10.0]), np.array([1.0, 2.0, 3.0, 99.0])

    night.candidates(scores, ranks=rank)

    assert (night.threshold(), night.line()) == (800.0, 2.0)
    assert night.selection()["left_out"] == 1


@pytest.fixture
def night(project: Any, days: Callable[[int], list[date]]) -> date:
    """Return a night of ten rows odd beyond measure, the dearest of them among the least odd."""
    (day,) = days(1)
    file = project.land(day, rows=200, odd=10)
    table = pq.read_table(file, partitioning=None)
    stake = pa.array([float(1 + (i * 7) % 10) if i < 10 else 1e6 for i in range(200)])
    pq.write_table(table.append_column("stake", stake), file)
    return day


def score(pipeline: Pipeline, day: date) -> pa.Table:
    score_files(pipeline, day, find_files(pipeline, day), model_ref(pipeline), {})
    return flags(pipeline, day)


def flags(pipeline: Pipeline, day: date, table: str = "flags") -> pa.Table:
    return pq.ParquetFile(Path(pipeline.output_path) / table / f"dt={day}" / "part-0.parquet").read()


def test_a_night_s_budget_takes_the_dearest_of_the_oddest(project: Any, night: date) -> None:
    """Scores, flags and a later policy agree; without the column the oddest are taken."""
    plain = project.pipeline(
        "plain", decision="contamination: 0.01, budget: 4", output=project.folder / "plain"
    )
    dear = project.pipeline(
        "dear", decision="contamination: 0.01, budget: 4", at_stake="stake", output=project.folder / "dear"
    )

    by_score, by_value = score(plain, night), score(dear, night)

    scores = flags(dear, night, "scores").to_pandas()
    top = scores.sort_values("rank", ascending=False).head(4)
    assert (
        set(by_value.column("row_id").to_pylist()) == set(top.row_id) == set(scores[scores.is_anomaly].row_id)
    )
    assert sum(by_value.column("stake").to_pylist()) >= sum(by_score.column("stake").to_pylist())
    assert max(by_value.column("stake").to_pylist()) <= 10.0
    assert by_value.column("threshold")[0].as_py() == min(by_value.column("anomaly_score").to_pylist())


@pytest.mark.parametrize(("then", "now"), [(2, 6), (6, 2)])
def test_another_budget_is_that_of_a_new_scoring(project: Any, night: date, then: int, now: int) -> None:
    moved = project.pipeline(
        "moved", decision=f"budget: {then}", at_stake="stake", output=project.folder / "a"
    )
    fresh = project.pipeline(
        "fresh", decision=f"budget: {now}", at_stake="stake", output=project.folder / "b"
    )
    score(moved, night)

    redecide(moved, night, Decision(budget=now))

    assert flags(moved, night).drop_columns(["scored_at"]) == score(fresh, night).drop_columns(["scored_at"])
    assert flags(moved, night, "scores") == flags(fresh, night, "scores")
