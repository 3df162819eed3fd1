"""The main job on real flights, with a real Prefect server and a real MLflow store, at reduced cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import mlflow
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flows.demo import _days, flights_csv
from flows.results import added_names

pytestmark = pytest.mark.slow

NIGHT = "2013-07-06"
FIRST, LAST = date(2013, 6, 1), date(2013, 7, 7)
PIPELINE = """
version: 1
name: flights
source: {path: landing, partition: dt}
output: results
columns: {key: [carrier, flight, origin, time_hour], ignore: [year, month, day], categorical: [tailnum]}
training: {window: 30d, calibration: 14d, detector: {max_steps: 150, n_members: 1, min_scale: 0.22}}
decision: {contamination: 0.005}
alerts: {max_flag_share: 0.001}
"""
AUTOMATIC = PIPELINE + "promotion: {automatic: true}\n"


class Project(NamedTuple):
    """A project that has scored a night twice and trained three times, twice with automatic promotion."""

    root: Path
    first_model: dict[str, Any]
    first_night: dict[str, Any]
    written: dict[Path, int]
    same_night: dict[str, Any]
    second_model: dict[str, Any]
    third_model: dict[str, Any]

    @property
    def results(self) -> Path:
        """Return where the nights lie."""
        return self.root / "results"

    def table(self, name: str) -> Any:
        """Return a table of the night, in the types that are on disk."""
        return pq.ParquetFile(self.results / name / f"dt={NIGHT}" / "part-0.parquet").read()


def land_flights(root: Path) -> None:
    """Write five weeks of flights, one folder a day."""
    for day, rows in _days(flights_csv()):
        if FIRST <= day <= LAST:
            folder = root / "landing" / f"dt={day}"
            folder.mkdir(parents=True)
            rows.to_parquet(folder / "flights.parquet", index=False)


def times(results: Path) -> dict[Path, int]:
    """Return when each file of the results was written, in nanoseconds."""
    return {file: file.stat().st_mtime_ns for file in results.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: str, webhook: tuple[str, list[dict[str, str]]]
) -> Iterator[Project]:
    """Train, score, score again; train badly, and as at first; while a receiver of alerts listens."""
    from flows.score import score
    from flows.server import api
    from flows.train import train

    root = tmp_path_factory.mktemp("flights")
    (root / "mlflow.yml").write_text("experiment: tests\n")
    file = root / "flights.yml"
    file.write_text(PIPELINE)
    land_flights(root)
    with api(root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEWATCH_ALERTS", webhook[0])
        model = train(str(file), "2013-06-30")
        night = score(str(file), NIGHT)
        written = times(root / "results")
        again = score(str(file), NIGHT)
        file.write_text(AUTOMATIC.replace("max_steps: 150", "learning_rate: 1.0e-6, max_steps: 3"))
        worse = train(str(file), "2013-06-30")
        file.write_text(AUTOMATIC)
        yield Project(root, model, night, written, again, worse, train(str(file), "2013-06-30"))


@pytest.fixture
def run(project: Project) -> Any:
    """Return the MLflow run of the first training."""
    client = mlflow.MlflowClient(f"sqlite:///{project.root}/data/mlflow/mlflow.db")
    return client.get_run(project.first_model["model"]["run_id"])


def test_the_first_model_becomes_the_champion_and_the_second_a_challenger(project: Project) -> None:
    first, second = project.first_model["model"], project.second_model["model"]

    assert project.first_model["promotion"] is None
    assert (first["version"], first["aliases"]) == ("1", ["champion"])
    assert (second["version"], second["aliases"]) == ("2", ["challenger"])


def test_automatic_promotion_refuses_a_worse_model_and_makes_an_equal_one_live(project: Project) -> None:
    """The gate compares them on the night that was scored; its verdict is kept with either version."""
    worse, equal = project.second_model["promotion"], project.third_model["promotion"]
    failed = {one["name"] for one in worse["verdict"]["criteria"] if one["verdict"] == "failed"}
    client = mlflow.MlflowClient(f"sqlite:///{project.root}/data/mlflow/mlflow.db")
    tags = [client.get_model_version("flights", version).tags["vaewatch.gate"] for version in "23"]

    assert (worse["status"], worse["forced"], tags[0]) == ("refused", False, "failed")
    assert "churn" in failed
    assert (equal["status"], equal["from_version"], tags[1]) == ("promoted", "1", "passed")
    assert equal["verdict"]["passed"] is True
    assert project.third_model["model"]["aliases"] == ["champion"]
    assert str(client.get_model_version_by_alias("flights", "champion").version) == "3"


def test_a_night_with_many_flags_and_a_challenger_are_told(
    project: Project, webhook: tuple[str, list[dict[str, str]]]
) -> None:
    """Once each, though the night was asked for twice; of the one that went live at once nobody is told."""
    told = {one["title"]: one["message"] for one in webhook[1]}

    assert len(webhook[1]) == 2
    assert told["vaewatch flights: flag share"].startswith(f"Night {NIGHT}: ")
    assert told["vaewatch flights: challenger ready"].startswith(
        "Version 2 of model flights is a challenger."
    )
    assert told["vaewatch flights: challenger ready"].endswith(" Automatic promotion: refused.")


def test_training_holds_out_the_newest_part_of_the_window(project: Project) -> None:
    flights = {
        day: pq.read_metadata(project.root / f"landing/dt={day.date()}/flights.parquet").num_rows
        for day in pd.date_range("2013-06-01", "2013-06-30")
    }
    newest = sum(rows for day, rows in flights.items() if day > pd.Timestamp("2013-06-16"))

    assert project.first_model["files"] == 30
    assert project.first_model["rows_calibrated"] == newest
    assert project.first_model["rows_fitted"] == sum(flights.values()) - newest


def test_flags_are_the_flights_and_then_our_columns(project: Project) -> None:
    flights = pq.ParquetFile(project.root / f"landing/dt={NIGHT}/flights.parquet").schema_arrow
    flags = project.table("flags")

    assert flags.schema.names == [*flights.names, *added_names()]
    assert flags.schema.types[: len(flights)] == flights.types
    assert flags.num_rows == project.first_night["rows_flagged"] > 0


def test_each_flag_has_a_reason_in_words(project: Project) -> None:
    for row in project.table("flags").to_pylist():
        assert row["reason_1_column"] in project.first_model["columns"]
        assert row["reason_1_kind"] in {
            "value",
            "unseen_category",
            "unexpected_null",
            "out_of_support",
            "combination",
        }
        assert row["reason_1_value"]
        assert row["reason_1_expected"]
        assert 0 < row["reason_1_share"] <= 1
        assert set(json.loads(row["row_key"])) == {"carrier", "flight", "origin", "time_hour"}
        assert row["run_id"] == project.first_model["model"]["run_id"]


def test_the_flags_are_what_the_flights_were(project: Project) -> None:
    """A flagged row is, value for value, the row of the file that it names."""
    flights = pq.ParquetFile(project.root / f"landing/dt={NIGHT}/flights.parquet").read()
    flags = project.table("flags")

    assert (
        flags.select(flights.schema.names).to_pylist() == flights.take(flags.column("row_number")).to_pylist()
    )


def test_the_account_of_the_night_adds_up(project: Project) -> None:
    manifest = json.loads((project.results / f"manifests/dt={NIGHT}.json").read_text())
    rows = pq.read_metadata(project.root / f"landing/dt={NIGHT}/flights.parquet").num_rows

    assert manifest["files_in"] == manifest["files_scored"] + manifest["files_rejected"] == 1
    assert manifest["rows_in"] == manifest["rows_scored"] + manifest["rows_quarantined"] == rows
    assert {one["path"].split("/")[0]: one["rows"] for one in manifest["outputs"]} | {
        "scores": manifest["rows_scored"],
        "flags": manifest["rows_flagged"],
    } == {name: project.table(name).num_rows for name in ("flags", "contributions", "scores")}


def test_a_second_run_of_a_finished_night_writes_nothing(project: Project) -> None:
    assert project.first_night["status"] == "scored"
    assert project.same_night["status"] == "unchanged"
    assert project.same_night["rows_flagged"] == project.first_night["rows_flagged"]
    ours = {"docs", ".leases"}  # pages, and who works on which night
    night = {file: time for file, time in project.written.items() if not ours & set(file.parts)}
    assert {file: file.stat().st_mtime_ns for file in night} == night


def test_pandas_and_duckdb_read_the_same_flags(project: Project) -> None:
    by_pandas = pd.read_parquet(project.results / "flags").sort_values("row_id")
    place = f"{project.results}/flags/*/*.parquet"
    by_duckdb = duckdb.read_parquet(place, hive_partitioning=True).order("row_id")

    found = by_duckdb.fetchall()
    assert by_duckdb.columns == by_pandas.columns.tolist()
    assert [row[by_duckdb.columns.index("row_id")] for row in found] == by_pandas.row_id.tolist()
    assert [
        row[by_duckdb.columns.index("anomaly_score")] for row in found
    ] == by_pandas.anomaly_score.tolist()
    assert by_pandas.row_id.is_unique
    assert {str(day)[:10] for day in by_pandas.dt} == {NIGHT}


def test_scores_hold_every_flight_once(project: Project) -> None:
    scores = project.table("scores")

    assert scores.num_rows == pc.count_distinct(scores.column("row_id")).as_py()
    assert scores.schema.names[:4] == ["carrier", "flight", "origin", "time_hour"]
    assert pc.sum(scores.column("is_anomaly")).as_py() == project.first_night["rows_flagged"]


def test_prefect_s_page_shows_the_night(project: Project) -> None:
    """The server is that of other tests too: what is looked for is what the scoring run left."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey

    (manifest,) = (project.results / "manifests").glob(f"*{NIGHT}*")
    scored = ArtifactFilterFlowRunId(any_=[json.loads(manifest.read_text())["flow_run_id"]])
    trained = ArtifactFilterKey(any_=["flights-training"])
    with get_client(sync_client=True) as client:
        found = {
            one.key: one.data
            for one in client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=scored))
        }
        trainings = [one.data for one in client.read_artifacts(artifact_filter=ArtifactFilter(key=trained))]

    assert f"night of {NIGHT}" in found["flights-night"]
    assert len(json.loads(found["flights-flags"])) == min(20, project.first_night["rows_flagged"])
    assert any("flights: model flights version" in text for text in trainings)


def test_prefect_has_recorded_the_flows(project: Project) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        runs = [(flows[run.flow_id], run.state_name) for run in client.read_flow_runs(limit=200)]

    assert {("train", "Completed"), ("score", "Completed"), ("ingest", "Completed")} <= set(runs)


def test_mlflow_holds_the_settings_and_a_metric_for_each_epoch(project: Project, run: Any) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project.root}/data/mlflow/mlflow.db")
    losses = client.get_metric_history(run.info.run_id, "validation_loss")

    assert run.data.params["detector.max_steps"] == "150"
    assert run.data.params["window_last"] == "2013-06-30"
    assert run.data.metrics["rows_fitted"] == project.first_model["rows_fitted"]
    assert [one.step for one in losses] == list(
        range(losses[0].step, losses[0].step + project.first_model["epochs"])
    )


def test_mlflow_holds_the_data_set_the_pictures_and_the_validation(project: Project, run: Any) -> None:
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    [data_set] = run.inputs.dataset_inputs

    assert data_set.dataset.name == "flights"
    assert {file.name for file in (folder / "figures").iterdir()} == {
        "loss_curve.png",
        "planted_errors.png",
        "score_histogram.png",
    }
    assert (folder / "figures" / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "validation.json").read_text())["contract_broken"] is False


def test_mlflow_holds_how_many_planted_errors_were_found(project: Project, run: Any) -> None:
    said = project.first_model["honesty"]
    table = json.loads(Path(run.info.artifact_uri.removeprefix("file://"), "honesty.json").read_text())

    assert run.data.tags["honesty"] == said["verdict"]
    assert run.data.metrics["honesty.vae"] == pytest.approx(said["found"]["VAE"], abs=1e-4)
    assert 0 <= run.data.metrics["honesty.far_timestamp.isolation_forest"] <= 1
    assert table["columns"] == ["kind", "column", "planted", "VAE", "PCA", "Isolation Forest"]
    assert sum(row[2] for row in table["data"]) == said["planted"] > 4000
    assert said["not_applicable"] == []


def test_a_model_that_has_hardly_been_trained_is_said_to_be_behind(project: Project) -> None:
    said = project.second_model["honesty"]

    assert said["behind"] == ["PCA"]
    assert said["verdict"] == "behind PCA"
    assert said["found"]["VAE"] < said["found"]["PCA"]
    assert said["sentence"].startswith("The model finds fewer planted errors than PCA: ")
