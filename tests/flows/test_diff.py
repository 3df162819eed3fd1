"""Two scorings of a night are compared flag by flag, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from flows.config import Decision, Pipeline
from flows.context import model_ref
from flows.diff import diff
from flows.errors import ConfigError, InputError
from flows.redecide import redecide
from flows.scoring import score_files
from flows.sources import find_files


def score(pipeline: Pipeline, day: date, version: str | None = None) -> None:
    score_files(pipeline, day, find_files(pipeline, day), model_ref(pipeline, version), {})


def numbers(rows: list[dict[str, Any]]) -> set[str]:
    return {row["row_key"] for row in rows}


def files_of(pipeline: Pipeline) -> dict[Path, int]:
    root = Path(pipeline.output_path)
    return {file: file.stat().st_mtime_ns for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def night(project: Any, days: Callable[[int], list[date]]) -> date:
    (day,) = days(1)
    project.land(day, rows=300, odd=4)
    return day


def test_late_rows_are_gained_and_the_others_kept(project: Any, night: date) -> None:
    """The flags before are those of the scoring that was replaced."""
    pipeline = project.pipeline(decision="contamination: 0.001")
    score(pipeline, night)
    late = project.land(night, rows=30, odd=1)
    late.rename(late.with_name("b.parquet"))
    project.land(night, rows=300, odd=4)
    score(pipeline, night)

    found = diff(pipeline, night)

    assert len(found.gained) >= 1
    assert len(found.kept) == found.before["rows_flagged"]
    assert found.lost == []
    assert found.after["rows_flagged"] == len(found.gained) + len(found.kept)


def test_rows_beyond_a_smaller_budget_are_lost(project: Any, night: date) -> None:
    pipeline = project.pipeline(decision="budget: 6")
    score(pipeline, night)
    redecide(pipeline, night, Decision(budget=2))

    found = diff(pipeline, night).report()

    assert (found["gained"], found["lost"], found["kept"]) == (0, 4, 2)
    assert found["before"]["decision"] == {"budget": 6}
    assert [row["anomaly_score"] for row in found["rows_lost"]] == sorted(
        (row["anomaly_score"] for row in found["rows_lost"]), reverse=True
    )
    assert found["rows_lost"][0]["reason_1_column"]


def test_another_model_version_scores_aside(project: Any, night: date) -> None:
    """The clearest rows are flagged by both; nothing that is there changes."""
    pipeline = project.pipeline(decision="budget: 8")
    score(pipeline, night)
    before = files_of(pipeline)

    found = diff(pipeline, night, "2")

    assert found.before["model"]["version"] == "1"
    assert found.after["model"]["version"] == "2"
    assert len(found.kept) >= 4
    assert len(found.gained) == len(found.lost) == 8 - len(found.kept)
    assert files_of(pipeline) == before


def test_a_night_that_was_scored_once_is_compared_with_a_model_only(project: Any, night: date) -> None:
    pipeline = project.pipeline()
    with pytest.raises(ConfigError, match="a scored night was required"):
        diff(pipeline, night)
    score(pipeline, night)

    with pytest.raises(ConfigError, match=r"two scorings of night .+ however there is one.+--model VERSION"):
        diff(pipeline, night)


def test_flags_that_were_not_kept_are_missed(project: Any, night: date) -> None:
    pipeline = project.pipeline(decision="budget: 6")
    score(pipeline, night)
    score(pipeline, night, "2")
    for file in (Path(pipeline.output_path) / ".history").rglob("*.parquet"):
        file.unlink()

    with pytest.raises(InputError, match=r"however they were not kept; compare with a model: .+--model 1"):
        diff(pipeline, night)
