"""When most of a night is odd there is one incident, not a flood of flags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.breaker import incident_of
from flows.config import Pipeline, load_pipeline
from flows.decision import Decider
from flows.verbs.nights import exit_code
from vae_core import Calibration

PIPELINE = """
version: 1
name: orders
source: {path: landing}
output: results
"""


def pipeline_of(folder: Path, more: str = "") -> Pipeline:
    """Return a pipeline with settings of its own."""
    (folder / "orders.yml").write_text(PIPELINE + more)
    return load_pipeline(folder / "orders.yml")


@pytest.fixture
def calibration() -> Calibration:
    """Return the calibration of 10,000 ordinary rows."""
    return Calibration.of(np.random.default_rng(0).normal(size=10_000))


@pytest.mark.parametrize(
    "decision",
    [{"contamination": 0.005}, {"fdr": 0.1}, {"budget": 50}, {"contamination": 0.005, "budget": 50}],
)
def test_odd_rows_are_counted_whatever_rule_flags(
    calibration: Calibration, decision: dict[str, float]
) -> None:
    """Half of the night is moved by ten standard deviations; a night in parts counts the same."""
    night = np.random.default_rng(1).normal(size=4000) + np.repeat([0.0, 10.0], 2000)
    whole = Decider.of(decision, calibration)
    together = Decider.of(decision, calibration)
    for part in np.split(night, 4):
        whole.candidates(part)
        one = Decider.of(decision, calibration)
        one.candidates(part)
        together.take(one.tally())

    assert 2000 <= whole.odd <= 2040
    assert together.odd == whole.odd


def test_at_most_so_many_rows_are_shown_the_most_anomalous_ones(calibration: Calibration) -> None:
    decider = Decider.of({"contamination": 0.005}, calibration)
    scores = np.random.default_rng(1).normal(10.0, 1.0, 5000)
    decider.candidates(scores)
    level = decider.level_of(1000)

    assert (scores >= level).sum() == 1000
    assert decider.level_of(6000) == -np.inf


def test_rows_of_one_score_are_shown_together_or_not_at_all(calibration: Calibration) -> None:
    decider = Decider.of({"contamination": 0.005}, calibration)
    scores = np.repeat([10.0, 11.0], [3000, 700])
    decider.candidates(scores)

    assert (scores >= decider.level_of(1000)).sum() == 700


def test_a_night_within_the_limit_is_no_incident(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path, "alerts: {breaker_share: 0.1}\n")

    assert incident_of(pipeline, 100, 1000) is None
    assert incident_of(pipeline, 0, 0) is None


def test_an_incident_is_said_in_one_sentence(tmp_path: Path) -> None:
    incident = incident_of(pipeline_of(tmp_path), 201, 1000)

    assert incident is not None
    assert (incident["kind"], incident["odd_rows"], incident["limit"]) == ("batch_shift", 201, 0.2)
    assert incident["sentence"].startswith("201 of 1,000 rows (20%) are odd, where 0.5% are usual")


def test_an_incident_ends_a_backfill_as_it_ends_a_scoring(tmp_path: Path) -> None:
    """With exit code 3, though all files were scored; a night without one ends with 0."""
    pipeline = pipeline_of(tmp_path)
    night = {"status": "scored", "rows_in": 1000, "files_scored": 1, "files_rejected": 0}

    codes = [
        exit_code(pipeline, {**night, "incident": one}) for one in (incident_of(pipeline, 201, 1000), None)
    ]

    assert codes == [3, 0]


def test_what_was_asked_for_is_no_incident(tmp_path: Path) -> None:
    """Who wants 30 % flagged is not told that 30 % are odd."""
    pipeline = pipeline_of(tmp_path, "decision: {contamination: 0.3}\n")

    assert incident_of(pipeline, 350, 1000) is None
    assert incident_of(pipeline, 601, 1000) is not None


def test_the_limit_shapes_a_night_so_it_is_part_of_the_pipeline_s_digest(tmp_path: Path) -> None:
    before = pipeline_of(tmp_path).digest()

    assert pipeline_of(tmp_path, "alerts: {breaker_share: 1.0}\n").digest() != before
    assert pipeline_of(tmp_path, "alerts: {max_flag_share: 1.0}\n").digest() == before
