"""The doctor says of a sick project what is wrong and what to do, and leaves a healthy one as it was."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows import machine
from flows.config import Pipeline
from flows.context import registry_of
from flows.deployments import schedules as deployments_of
from flows.diagnosis import Diagnosis, checked, worst
from flows.doctor import CHECKS, examine
from flows.errors import ConfigError
from flows.scoring import score_files
from flows.sources import find_files
from flows.timekeeping import schedules
from review.store import VerdictStore

TODAY = datetime.now(UTC).date()


def scored(pipeline: Pipeline, day: date) -> None:
    score_files(pipeline, day, find_files(pipeline, day), registry_of(pipeline).champion(), {})


def found(pipeline: Pipeline, about: str) -> list[Diagnosis]:
    """What one check says of a pipeline."""
    check, remedy = CHECKS[about]
    return list(checked(about, lambda: check(pipeline), remedy))


@pytest.fixture
def healthy(project: Any, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Return a pipeline whose nights up to yesterday are scored."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    pipeline: Pipeline = project.pipeline(cron="0 0 * * *")
    for days in (3, 2, 1):
        project.land(TODAY - timedelta(days=days))
        scored(pipeline, TODAY - timedelta(days=days))
    return pipeline


def files_below(*folders: str | Path) -> set[str]:
    return {str(file) for folder in folders for file in Path(folder).rglob("*")}


def test_a_healthy_project_has_no_failure_and_stays_as_it_was(healthy: Pipeline) -> None:
    """Warnings are about what nobody has set up here: schedules and alerts."""
    before = files_below(healthy.output_path, healthy.source_path)
    list(examine([healthy.file]))  # the first one takes a copy of the model
    diagnoses = list(examine([healthy.file]))

    assert [one for one in diagnoses if one.state == "failure"] == []
    assert {one.about for one in diagnoses} == {"device", "pipeline", "model", *CHECKS} | (
        {"settings"} if os.environ.get("PYTHONDONTWRITEBYTECODE") == "1" else set()
    )
    assert all(one.remedy for one in diagnoses if one.state != "ok")
    assert files_below(healthy.output_path, healthy.source_path) == before


def test_an_altered_table_is_found_and_the_night_to_score_again_is_named(healthy: Pipeline) -> None:
    day = TODAY - timedelta(days=2)
    (Path(healthy.output_path) / f"flags/dt={day}/part-0.parquet").write_bytes(b"half of")

    (diagnosis,) = [one for one in found(healthy, "nights") if one.state == "failure"]

    assert str(day) in diagnosis.said
    assert diagnosis.remedy == f"vaewatch score --date {day}"


def test_an_altered_manifest_is_one_failure_with_its_file(healthy: Pipeline) -> None:
    day = TODAY - timedelta(days=1)
    file = Path(healthy.output_path) / f"manifests/dt={day}.json"
    file.write_text(file.read_text().replace('"rows_in": 200', '"rows_in": 201'))

    (diagnosis,) = found(healthy, "nights")

    assert diagnosis.state == "failure"
    assert str(file) in diagnosis.said


def test_a_night_that_arrived_and_was_not_scored_is_a_failure(healthy: Pipeline, project: Any) -> None:
    gone = TODAY - timedelta(days=2)
    (Path(healthy.output_path) / f"manifests/dt={gone}.json").unlink()

    (diagnosis,) = found(healthy, "due")

    assert diagnosis.state == "failure"
    assert diagnosis.remedy == f"vaewatch backfill --from {gone} --to {gone}"


def test_a_table_that_has_stopped_to_arrive_is_a_warning(project: Any) -> None:
    pipeline = project.pipeline()
    day = TODAY - timedelta(days=30)
    project.land(day)
    scored(pipeline, day)

    (diagnosis,) = found(pipeline, "due")

    assert diagnosis.state == "warning"
    assert f"nothing has arrived after {day}" in diagnosis.said


def test_a_night_of_which_no_file_could_be_scored_is_a_failure_with_the_reason(project: Any) -> None:
    pipeline = project.pipeline()
    project.land(TODAY).write_bytes(b"no parquet at all")
    scored(pipeline, TODAY)

    (diagnosis,) = found(pipeline, "nights")

    assert diagnosis.state == "failure"
    assert "a.parquet" in diagnosis.said


@pytest.mark.parametrize(("about", "setting"), [("source", "landing"), ("output", "output")])
def test_a_place_that_is_a_file_is_a_failure(project: Any, about: str, setting: str) -> None:
    file = project.folder / "file"
    file.touch()

    (diagnosis,) = found(project.pipeline(**{setting: file / "below"}), about)

    assert diagnosis.state == "failure"
    assert str(file) in diagnosis.said


def test_results_on_an_object_store_are_tried_and_left_clean(project: Any, s3: str) -> None:
    from flows.storage import Store

    (diagnosis,) = found(project.pipeline(output=s3), "output")

    assert diagnosis.state == "ok"
    assert Store.of(s3).list() == []


def test_a_registered_model_whose_files_are_gone_is_a_failure(project: Any, tmp_path: Path) -> None:
    """It is looked for where MLflow keeps it, since no copy is here."""
    import shutil

    import yaml

    (tmp_path / "mlflow.yml").write_text(
        yaml.safe_dump({"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db", "model_name": "orders"})
    )
    from flows.config import load_pipeline

    (tmp_path / "new.yml").write_text("{version: 1, name: new, source: {path: landing}, output: results}")
    pipeline = load_pipeline(tmp_path / "new.yml")
    registry = registry_of(pipeline)
    with registry.start_run("a training", {}) as run:
        example = pq.read_table(project.land(TODAY)).drop_columns(["id"]).slice(0, 3)
        registry.register(run, project.root / "detector-1", example=example)
    assert [one.state for one in found(pipeline, "mlflow")] == ["ok", "ok"]
    shutil.rmtree(tmp_path / "data")

    diagnoses = found(pipeline, "mlflow")

    assert [one.state for one in diagnoses] == ["ok", "failure"]
    assert "download version 1 of orders" in diagnoses[1].said


def test_a_project_that_was_never_trained_is_told_to_train(tmp_path: Path) -> None:
    """Nothing is made by looking."""
    (tmp_path / "mlflow.yml").write_text("experiment: tests\n")
    (tmp_path / "new.yml").write_text("{version: 1, name: new, source: {path: landing}, output: results}")
    from flows.config import load_pipeline

    (diagnosis,) = found(load_pipeline(tmp_path / "new.yml"), "mlflow")

    assert (diagnosis.state, diagnosis.remedy) == ("warning", "vaewatch train")
    assert not (tmp_path / "data").exists()


def test_a_pipeline_file_with_a_mistake_is_a_failure_and_the_next_one_is_looked_at(
    healthy: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "bad.yml").write_text("version: 1\nnmae: orders\n")

    about = [(one.about, one.state) for one in examine([tmp_path / "bad.yml", healthy.file])]

    assert ("pipeline", "failure") in about
    assert ("nights", "ok") in about


def test_a_column_that_the_newest_file_lacks_is_named_with_the_one_meant(project: Any) -> None:
    """Columns to ignore need not be there; without a file there is nothing to compare with."""
    pipeline = project.pipeline()
    named = pipeline.columns.model_copy(update={"numeric": ("fe",), "ignore": ("gone",)})
    wrong = pipeline.model_copy(update={"columns": named})
    unknown = found(wrong, "columns")
    file = project.land(TODAY)

    (diagnosis,) = found(wrong, "columns")

    assert unknown == []
    assert diagnosis.state == "warning"
    assert f"names fe (did you mean fee?), however {file} has no such column" in diagnosis.said
    assert [one.state for one in found(pipeline, "columns")] == ["ok"]


def test_whom_to_tell_is_set_in_the_environment(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is a secret: the pipeline file names the variable that holds it."""
    monkeypatch.delenv("VAEWATCH_ALERTS", raising=False)
    pipeline = project.pipeline()
    off = pipeline.alerts.model_copy(update={"notify": ()})

    (unset,) = found(pipeline, "alerts")
    (nobody,) = found(pipeline.model_copy(update={"alerts": off}), "alerts")

    assert "put an Apprise address into VAEWATCH_ALERTS" in unset.remedy
    assert "set alerts.notify to [VAEWATCH_ALERTS], and put" in nobody.remedy
    assert "into that environment variable" in nobody.remedy


def test_a_version_that_is_known_to_fail_is_named_with_what_it_does(tmp_path: Path) -> None:
    """Another Python finds the metadata of a SQLAlchemy 2.1 first, as after an upgrade."""
    folder = tmp_path / "sqlalchemy-2.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: sqlalchemy\nVersion: 2.1.0\n")
    script = (
        "from flows.machine import versions\nfor one in versions(): print(one.state, one.said, one.remedy)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "failure sqlalchemy<2.1,>=2.0.40 is required, however 2.1.0 is installed" in run.stdout
    assert "schedules never fire" in run.stdout


def test_a_pipeline_of_an_object_store_needs_its_extra() -> None:
    (diagnosis,) = machine.optional("s3", "no-such-package", "results at s3://bucket")

    assert diagnosis.state == "failure"
    assert diagnosis.remedy == "pip install 'vaewatch[s3]'"


def test_a_setting_that_lets_model_files_run_code_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")

    assert any("run code" in one.said for one in machine.settings())


def test_a_broken_database_of_verdicts_is_a_failure(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project.folder / "verdicts.db"
    file.write_text(
        "no database at all, however long it is, until it is longer than a header of SQLite's" * 9
    )
    monkeypatch.setenv("VAEWATCH_REVIEW_DB", f"sqlite:///{file}")

    assert [one.state for one in found(project.pipeline(), "verdicts")] == ["failure"]


def test_a_database_of_verdicts_of_a_newer_release_is_a_failure(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of this release is well; one whose tables a newer release has changed is told, and left alone."""
    file = project.folder / "verdicts.db"
    monkeypatch.setenv("VAEWATCH_REVIEW_DB", f"sqlite:///{file}")
    VerdictStore.open(f"sqlite:///{file}", "orders").close()
    before = found(project.pipeline(), "verdicts")
    with contextlib.closing(sqlite3.connect(file)) as base, base:
        base.execute("UPDATE review_version SET version_num = '9999'")

    (after,) = found(project.pipeline(), "verdicts")

    assert [one.state for one in before] == ["ok"]
    assert after.state == "failure"
    assert "of 9999 came, of a newer release" in after.said


def test_the_password_of_the_database_of_verdicts_is_not_shown(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEWATCH_REVIEW_DB", "postgresql+nodriver://me:planted@127.0.0.1:1/verdicts")

    (diagnosis,) = found(project.pipeline(), "verdicts")

    assert diagnosis.state == "failure"
    assert "planted" not in diagnosis.said + diagnosis.remedy


def test_a_stack_that_was_killed_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "mlflow.yml").write_text("experiment: tests\n")
    (tmp_path / "new.yml").write_text("{version: 1, name: new, source: {path: landing}, output: results}")
    (tmp_path / "data/prefect").mkdir(parents=True)
    (tmp_path / "data/prefect/server.json").write_text('{"url": "http://127.0.0.1:1/api", "pid": 999999999}')
    from flows.config import load_pipeline

    (diagnosis,) = found(load_pipeline(tmp_path / "new.yml"), "schedules")

    assert diagnosis.state == "failure"
    assert "was killed" in diagnosis.said


@pytest.mark.slow
def test_schedules_are_unknown_then_unserved_then_alive(
    project: Any, prefect_server: str, until: Callable[[Callable[[], bool], float], None]
) -> None:
    """Registered ones need somebody who asks for what is due."""
    from prefect.client.orchestration import get_client

    pipeline = project.pipeline(name="timed")

    def said() -> str:
        return " ".join(one.said for one in schedules(pipeline))

    assert "knows no monitor-daily, score-nightly, train-weekly" in said()
    ids = [one.apply() for one in deployments_of(pipeline)]
    assert "nobody runs monitor-daily, score-nightly, train-weekly" in said()
    with get_client(sync_client=True) as client:
        client._client.post(
            "/deployments/get_scheduled_flow_runs", json={"deployment_ids": [str(i) for i in ids]}
        )
    until(lambda: "next night" in said(), 60)

    assert [one.state for one in schedules(pipeline)] == ["ok"]


def test_a_check_that_cannot_be_ended_is_a_failure_and_not_an_error() -> None:
    def bad() -> Iterator[Diagnosis]:
        yield Diagnosis("a", "ok", "so far so good")
        raise RuntimeError("unforeseen")

    def refused() -> Iterator[Diagnosis]:
        raise ConfigError("one sentence")

    states = [(one.state, one.said) for one in [*checked("a", bad, "r"), *checked("a", refused, "r")]]

    assert states[1:] == [
        ("failure", "it could not be checked: RuntimeError: unforeseen"),
        ("failure", "one sentence"),
    ]
    assert worst([]) == "ok"


@pytest.mark.slow
def test_the_command_prints_json_for_monitoring_and_ends_with_1_on_a_failure(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "doctor", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(run.stdout)

    assert run.returncode == 1
    assert report["state"] == "failure"
    assert report["failures"] == 1
    assert [one["remedy"] for one in report["checks"] if one["state"] == "failure"] == [
        "write one with `vaewatch init PATH`, or name one with --pipeline"
    ]
