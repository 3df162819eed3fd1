"""The gate: who may become champion, shown on challengers that are as good, spoiled, or of another table."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.config import Pipeline, load_pipeline
from flows.errors import NoDataError, StoreError
from flows.evidence import markdown, page
from flows.expectations import profile, save_suite
from flows.manifest import ManifestModel, read_manifest
from flows.promotion import Contender, Verdict, gate
from flows.registry import ModelRef
from flows.scoring import score_night
from flows.shadow import finished_nights, opinion, read_night
from flows.storage import Store
from flows.tables import night
from vae_core import VAEDetector

NIGHTS = [date(2024, 3, 1) + timedelta(days=i) for i in range(4)]
ROWS, ODD = 800, 6  # rows a night, and those among them that are wrong
PIPELINE = """
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
columns: {key: [order_id]}
decision: {contamination: 0.005}
promotion: {nights: 3}
"""


def orders(rows: int, seed: int) -> pa.Table:
    """Return orders whose tax follows the amount, and whose weight and shelf follow the product."""
    rng = np.random.default_rng(seed)
    amount = rng.normal(50.0, 8.0, rows)
    product = rng.choice(5, rows)
    return pa.table(
        {
            "order_id": pa.array(np.arange(rows) + 10_000 * seed),
            "amount": amount,
            "tax": amount * 0.2 + rng.normal(0, 0.1, rows),
            "product": np.array(["cup", "bowl", "plate", "jug", "pot"])[product],
            "weight": product * 10 + rng.normal(20, 0.5, rows),
            "shelf": np.array(["A", "B", "C", "D", "E"])[product],
        }
    )


def odd(table: pa.Table, rows: int) -> pa.Table:
    """Return a table whose first rows have the tax of another amount and stand on a wrong shelf."""
    frame = table.to_pandas()
    frame.loc[: rows - 1, "tax"] = 2.0
    frame.loc[: rows - 1, "shelf"] = "E"
    frame.loc[: rows - 1, "product"] = "cup"
    return pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False)


def shuffled(table: pa.Table) -> pa.Table:
    """Return a table whose columns no longer belong together."""
    rng = np.random.default_rng(5)
    return pa.table(
        {name: table[name].take(pa.array(rng.permutation(len(table)))) for name in table.column_names}
    )


def fitted(table: pa.Table, held_out: pa.Table, seed: int = 0, data: str = "auto") -> VAEDetector:
    """Return a small detector that has learned a table."""
    few = {"n_members": 2, "max_steps": 250, "kinds": {"order_id": "key"}}
    detector = VAEDetector(0.005, random_state=seed, training_data=data, **few)
    return detector.fit(table).calibrate(held_out)


def contender(detector: VAEDetector, version: str) -> Contender:
    """Return a version of the orders' model."""
    created = datetime(2024, 3, 1, tzinfo=UTC)
    return Contender(ModelRef("orders", version, f"run{version}", (), created, None), detector)


class Project(NamedTuple):
    """Four scored nights of a champion; ``learned`` and ``held_out`` are what it was trained on."""

    pipeline: Pipeline
    champion: Contender
    learned: pa.Table
    held_out: pa.Table
    judged: Callable[[VAEDetector], Verdict]


def confirm(pipeline: Pipeline, day: date, verdicts: list[str]) -> None:
    """Write what a reviewer says of a night's first flagged rows."""
    results = Path(pipeline.output_path)
    flags = pd.read_parquet(results / f"flags/dt={day}/part-0.parquet").sort_values("row_number")
    rows = flags.head(len(verdicts))
    folder = results / f"verdicts/dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    said = rows[["row_id", "row_key"]].assign(
        verdict=verdicts, note="", reviewer="ann", decided_at=pd.Timestamp.now("UTC"), supersedes=None
    )
    said.to_parquet(folder / f"{len(list(folder.iterdir()))}.parquet", index=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Train a champion, score four nights, and have the odd rows of all but the first confirmed."""
    root = tmp_path_factory.mktemp("orders")
    (root / "mlflow.yml").touch()
    (root / "orders.yml").write_text(PIPELINE)
    pipeline = load_pipeline(root / "orders.yml")
    learned, held_out = orders(4_000, 1), orders(2_000, 2)
    save_suite(Path(pipeline.suite_path), profile(learned, name="orders", keys=["order_id"]))
    champion = contender(fitted(learned, held_out), "1")
    for i, day in enumerate(NIGHTS):
        folder = root / f"landing/dt={day}"
        folder.mkdir(parents=True)
        pq.write_table(odd(orders(ROWS, 10 + i), ODD), folder / "a.parquet")
        files = night(pipeline.source_path, day, partition="dt")
        model = ManifestModel(name="orders", version="1", run_id="run1")
        score_night(pipeline, day, files, model, lambda: champion.detector, {})
    for day in NIGHTS[1:]:
        confirm(pipeline, day, ["anomaly"] * (ODD - 1) + ["data error"])

    def judged(challenger: VAEDetector) -> Verdict:
        return gate(pipeline, champion, contender(challenger, "2"))

    return Project(pipeline, champion, learned, held_out, judged)


def verdicts(verdict: Verdict) -> dict[str, str]:
    """Return the verdict of each criterion."""
    return {one.name: one.verdict for one in verdict.criteria}


@pytest.mark.slow
def test_an_equal_challenger_passes(project: Project) -> None:
    """Trained on the same rows, from another seed."""
    verdict = project.judged(fitted(project.learned, project.held_out, seed=1))

    assert verdict.passed, markdown(verdict)
    assert set(verdicts(verdict).values()) == {"passed"}
    assert verdict.criteria[1].found == f"{3 * ODD} of {3 * ODD}"
    assert [row["date"] for row in verdict.nights] == [str(day) for day in NIGHTS[1:]]
    assert {row["rows"] for row in verdict.nights} == {ROWS}


@pytest.mark.slow
def test_a_challenger_trained_on_shuffled_columns_is_refused(project: Project) -> None:
    verdict = project.judged(fitted(shuffled(project.learned), shuffled(project.held_out)))

    assert not verdict.passed
    assert verdicts(verdict)["canaries"] == "failed"
    assert verdicts(verdict)["churn"] == "failed"


@pytest.mark.slow
def test_a_challenger_trained_with_the_confirmed_anomalies_is_refused(project: Project) -> None:
    """Told that all of its rows are clean, it takes for usual what people have confirmed as wrong."""
    wrong = odd(orders(200, 3), 200)
    spoiled = pa.concat_tables([project.learned, wrong])

    verdict = project.judged(fitted(spoiled, project.held_out, data="clean"))

    assert not verdict.passed
    assert verdicts(verdict)["recall"] == "failed"


def test_the_champion_is_equal_to_itself(project: Project) -> None:
    """A shadow-scored night flags what the night itself has flagged."""
    verdict = project.judged(project.champion.detector)

    assert verdict.criteria[2].found.startswith("0.0%:")
    assert all(row["champion"] == row["challenger"] for row in verdict.canaries)
    assert {row["column"] for row in verdict.canaries} == {"amount", "tax", "product", "weight", "shelf"}
    assert verdict.passed


def rescored(project: Project, root: Path, **settings: str) -> Pipeline:
    """Return a pipeline with other settings, over one night of the project scored by its champion."""
    text = PIPELINE.replace("path: landing", f"path: {project.pipeline.source_path}")
    for old, new in settings.items():
        text = re.sub(rf"{old}: .*", f"{old}: {new}", text)
    (root / "mlflow.yml").touch()
    (root / "orders.yml").write_text(text)
    shutil.copy(project.pipeline.suite_path, root)
    pipeline, day = load_pipeline(root / "orders.yml"), NIGHTS[0]
    files = night(pipeline.source_path, day, partition="dt")
    model = ManifestModel(name="orders", version="1", run_id="run1")
    score_night(pipeline, day, files, model, lambda: project.champion.detector, {})
    return pipeline


AT_STAKE = {"columns": "{key: [order_id], value_at_stake: amount}", "decision": "{budget: 20}"}


@pytest.mark.parametrize(
    ("settings", "rows_read"),
    [
        (AT_STAKE, ROWS),
        (AT_STAKE, ROWS // 4),
        ({"decision": "{budget: 20}"}, ROWS // 4),
        ({"decision": "{fdr: 0.2}"}, ROWS // 4),
    ],
)
def test_the_champion_s_twin_changes_no_flag(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    rows_read: int,
) -> None:
    """Nor by what is at stake, nor on a sample of the night."""
    pipeline = rescored(project, tmp_path, **settings)
    monkeypatch.setattr("flows.shadow.MOST_ROWS", rows_read)

    verdict = gate(pipeline, project.champion, contender(project.champion.detector, "2"))

    assert verdict.criteria[2].found.startswith("0.0%:")
    assert verdict.nights[0]["flagged by champion"] > 0


def test_the_champion_s_twin_changes_no_flag_of_a_night_that_tripped_the_breaker(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are given all the flags of the policy, of which the results hold the first few."""
    monkeypatch.setattr("flows.night.KEPT", 3)
    alerts = "{nights: 3}\nalerts: {breaker_share: 0.001}"
    pipeline = rescored(project, tmp_path, decision="{contamination: 0.001}", promotion=alerts)
    manifest = read_manifest(Store.of(pipeline.output_path), NIGHTS[0])

    verdict = gate(pipeline, project.champion, contender(project.champion.detector, "2"))

    assert manifest.incident is not None
    assert manifest.rows_flagged == 3 < verdict.nights[0]["flagged by champion"]
    assert verdict.criteria[2].found.startswith("0.0%:")


def test_a_shadow_scored_night_flags_what_the_night_has_flagged_by_value_at_stake(
    project: Project, tmp_path: Path
) -> None:
    pipeline, detector = rescored(project, tmp_path, **AT_STAKE), project.champion.detector
    manifest = read_manifest(Store.of(pipeline.output_path), NIGHTS[0])
    flags = pd.read_parquet(Path(pipeline.output_path) / f"flags/dt={NIGHTS[0]}/part-0.parquet")
    rows = read_night(pipeline, manifest, [detector])

    said = opinion(detector, rows, pipeline.decision.model_dump())

    assert rows.ids.filter(pa.array(said.flagged)).to_pylist() == flags.row_id.to_list()
    assert len(flags) == 20


def test_a_value_at_stake_that_older_files_lack_is_nothing(project: Project, tmp_path: Path) -> None:
    """A column that was added since does not stand in the way of a challenger."""
    pipeline = rescored(project, tmp_path, decision="{budget: 20}")
    pipeline.file.write_text(
        pipeline.file.read_text().replace("[order_id]", "[order_id], value_at_stake: price")
    )

    verdict = gate(load_pipeline(pipeline.file), project.champion, project.champion)

    assert verdict.criteria[0].passed
    assert verdict.criteria[2].found == "0.0%: 20 flags kept, 0 lost, 0 new"


def test_a_challenger_of_another_schema_is_refused_by_name(project: Project) -> None:
    table = orders(500, 4).append_column("discount", pa.array(np.zeros(500)))

    verdict = project.judged(fitted(table, table))

    assert not verdict.passed
    assert verdicts(verdict)["columns"] == "failed"
    assert "discount" in verdict.criteria[0].found
    assert verdicts(verdict)["churn"] == "no evidence"


def test_a_later_verdict_counts_and_one_of_no_anomaly_takes_nothing_from_recall(project: Project) -> None:
    day = NIGHTS[-1]
    confirm(project.pipeline, day, ["expected"] * 2)

    verdict = project.judged(project.champion.detector)

    assert verdict.criteria[1].found == f"{3 * ODD - 2} of {3 * ODD - 2}"
    confirm(project.pipeline, day, ["anomaly"] * 2)


def test_without_verdicts_recall_is_no_evidence_and_the_others_decide(project: Project) -> None:
    folder = Path(project.pipeline.output_path)
    (folder / "verdicts").rename(folder / "elsewhere")

    verdict = project.judged(project.champion.detector)

    (folder / "elsewhere").rename(folder / "verdicts")
    assert verdicts(verdict)["recall"] == "no evidence"
    assert verdict.passed


def test_a_night_whose_files_were_changed_is_passed_over(project: Project) -> None:
    """The rows of its flags are not there any more."""
    file = Path(project.pipeline.source_path) / f"dt={NIGHTS[-1]}/a.parquet"
    before = file.read_bytes()
    pq.write_table(orders(10, 9), file)

    found = finished_nights(project.pipeline, 3)

    file.write_bytes(before)
    assert [one.date for one in found] == NIGHTS[:3]


@pytest.mark.parametrize(
    "name", ["dt=2024-03-01 (conflicted copy).json", "notes.json", "2024-03-01.json", "dt=20240301.json"]
)
def test_a_stray_file_among_the_manifests_is_passed_over(project: Project, name: str) -> None:
    """A copy is no further night."""
    file = Path(project.pipeline.output_path) / "manifests" / name
    file.write_text("{}")

    found = finished_nights(project.pipeline, 9)

    file.unlink()
    assert [one.date for one in found] == NIGHTS


def test_of_a_large_night_a_sample_is_scored_and_all_confirmed_rows(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.shadow.MOST_ROWS", 200)

    verdict = project.judged(project.champion.detector)

    assert all(150 < row["rows"] < 250 for row in verdict.nights)
    assert verdict.criteria[1].found == f"{3 * ODD} of {3 * ODD}"


def test_without_a_finished_night_there_is_nothing_to_compare_on(project: Project, tmp_path: Path) -> None:
    (tmp_path / "mlflow.yml").touch()
    (tmp_path / "orders.yml").write_text(PIPELINE)

    with pytest.raises(NoDataError, match="a scored night to compare two models on was required"):
        gate(load_pipeline(tmp_path / "orders.yml"), project.champion, project.champion)


def test_verdicts_that_are_none_are_named(project: Project) -> None:
    file = Path(project.pipeline.output_path) / f"verdicts/dt={NIGHTS[-1]}/wrong.parquet"
    pq.write_table(pa.table({"row_id": ["a"]}), file)

    with pytest.raises(StoreError, match=r"wrong\.parquet: verdicts with row_id, row_key, verdict"):
        project.judged(project.champion.detector)
    file.unlink()


def test_the_page_of_a_verdict_loads_nothing_and_is_escaped(project: Project) -> None:
    verdict = replace(project.judged(project.champion.detector), model="<orders>")

    assert "<orders>" not in page(verdict)
    assert "http" not in page(verdict)
    assert "| recall | passed |" in markdown(verdict)
