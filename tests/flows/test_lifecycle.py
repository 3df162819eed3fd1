"""A model version's life in a real MLflow: challenger, champion, rolled back, traced."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.config import Pipeline, load_pipeline
from flows.context import registry_of
from flows.errors import NoChampionError, NoDataError, RegistryAwayError, RegistryError, StoreError
from flows.expectations import profile, save_suite
from flows.lifecycle import (
    journal_of,
    journal_training,
    live_version,
    notice_live,
    promote,
    rollback,
    versions,
)
from flows.lineage import lineage, lineage_tags
from flows.manifest import read_manifest
from flows.provenance import code_version
from flows.registry import ModelRef
from flows.scoring import score_files
from flows.storage import Store
from flows.tables import night
from vae_core import VAEDetector

DAYS = [date(2024, 3, 1), date(2024, 3, 2)]
PIPELINE = """
version: 1
name: {name}
source: {{path: landing, partition: dt}}
output: results-{name}
validation: {{suite: suite.json}}
decision: {{contamination: 0.01}}
"""


def measures(rows: int, seed: int, *, unrelated: bool = False) -> pa.Table:
    """Return three columns of which the third is the sum of the others, unless they are unrelated."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(10, 2, rows), rng.normal(20, 3, rows)
    c = rng.permutation(a + b) if unrelated else a + b + rng.normal(0, 0.05, rows)
    return pa.table({"a": a, "b": b, "c": c})


class Models(NamedTuple):
    """A folder with an MLflow and two landed nights, and detectors to register in it."""

    root: Path
    good: Path
    spoiled: Path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Train two small detectors, of which one is spoiled."""
    root = tmp_path_factory.mktemp("lifecycle")
    (root / "mlflow.yml").write_text("experiment: tests\n")
    save_suite(root / "suite.json", profile(measures(500, 0), name="measures"))
    for i, day in enumerate(DAYS):
        (root / f"landing/dt={day}").mkdir(parents=True)
        pq.write_table(measures(600, 10 + i), root / f"landing/dt={day}/a.parquet")
    folders = [root / name for name in ("good", "spoiled")]
    for folder in folders:
        rows = [measures(1_500, k, unrelated=folder.name == "spoiled") for k in (1, 2)]
        detector = VAEDetector(0.01, n_members=1, max_steps=150, random_state=0)
        detector.fit(rows[0]).calibrate(rows[1]).save(folder)
    return Models(root, *folders)


@pytest.fixture
def pipeline(models: Models, request: pytest.FixtureRequest) -> Pipeline:
    """Return a pipeline of the test's own, over the same nights and MLflow."""
    name = request.node.name[:90]
    file = models.root / f"{name}.yml"
    file.write_text(PIPELINE.format(name=name))
    return load_pipeline(file)


@pytest.fixture
def register(pipeline: Pipeline) -> Callable[[Path], ModelRef]:
    """Return a function that registers a detector as the training flow does."""

    def make(detector: Path) -> ModelRef:
        registry, tags = registry_of(pipeline), lineage_tags(pipeline, "sha256:data")
        with registry.start_run("train", tags) as run:
            run.log_params({"window_first": "2024-01-01", "window_last": "2024-02-29"})
            rows = measures(3, 0)
            run.log_dataset("m", uri="landing", digest="sha256:data", schema=rows.schema, rows=3_000)
            ref = registry.register(run, detector, example=rows, tags=tags)
        journal_training(pipeline, ref)
        return ref

    return make


def score(pipeline: Pipeline) -> None:
    """Score both nights with the live version."""
    ref = registry_of(pipeline).champion()
    for day in DAYS:
        score_files(pipeline, day, night(pipeline.source_path, day, partition="dt"), ref, {})


def moves(pipeline: Pipeline) -> list[tuple[str, str | None, str | None, str]]:
    """Return alias, versions and manner of each move in the journal."""
    return [(one.alias, one.from_version, one.version, one.how) for one in journal_of(pipeline).moves()]


def run_of(pipeline: Pipeline, ref: ModelRef) -> Any:
    """Return the MLflow run of a version, as MLflow's own client gives it."""
    from mlflow import MlflowClient

    registry = registry_of(pipeline)
    return MlflowClient(registry.tracking_uri, registry.registry_uri).get_run(ref.run_id)


def ask(pipeline: Pipeline, *words: str) -> Any:
    """Run the command line."""
    return CliRunner().invoke(app, [*words, "--pipeline", str(pipeline.file)])


# -- Training -----------------------------------------------------------------------------------------------


def test_the_first_version_is_champion_and_the_next_one_challenger(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    refs = [register(models.good), register(models.good)]

    assert [ref.aliases for ref in refs] == [("champion",), ("challenger",)]
    assert moves(pipeline) == [("champion", None, "1", "trained"), ("challenger", None, "2", "trained")]
    assert {one.by for one in journal_of(pipeline).moves()} == {"training"}


# -- Promotion ----------------------------------------------------------------------------------------------


def test_an_equal_challenger_is_promoted_with_its_evidence(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    """The verdict lies in the challenger's run, the tag on its version, the run's id in the journal."""
    register(models.good)
    score(pipeline)
    challenger = register(models.good)

    report = promote(pipeline)

    assert (report["status"], report["version"], report["from_version"]) == ("promoted", "2", "1")
    assert registry_of(pipeline).champion().tags["vaewatch.gate"] == "passed"
    assert registry_of(pipeline).aliases() == {"champion": "2"}
    assert moves(pipeline)[2:] == [
        ("champion", "1", "2", "promoted"),
        ("challenger", "2", None, "promoted"),
    ]
    assert {one.evidence_run_id for one in journal_of(pipeline).moves()[2:]} == {challenger.run_id}
    folder = Path(run_of(pipeline, challenger).info.artifact_uri.removeprefix("file://"), report["evidence"])
    assert {file.name for file in folder.iterdir()} == {
        "verdict.json",
        "criteria.json",
        "verdict.md",
        "verdict.html",
    }
    assert json.loads((folder / "verdict.json").read_text())["passed"] is True


def test_a_spoiled_challenger_is_refused_with_a_table_and_exit_code_1(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    register(models.good)
    score(pipeline)
    register(models.spoiled)

    answer = ask(pipeline, "promote")

    assert answer.exit_code == 1
    assert "canaries" in answer.output
    assert "failed" in answer.output
    assert "version 2 is refused, 1 stays live" in answer.output
    assert registry_of(pipeline).aliases() == {"champion": "1", "challenger": "2"}
    assert registry_of(pipeline).version("2").tags["vaewatch.gate"] == "failed"
    assert len(moves(pipeline)) == 2


def test_force_makes_it_live_and_the_journal_says_so(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    register(models.good)
    score(pipeline)
    ref = register(models.spoiled)

    report = json.loads(ask(pipeline, "promote", "--force", "--json").stdout)

    assert (report["status"], report["forced"]) == ("promoted", True)
    assert registry_of(pipeline).champion().version == "2"
    assert moves(pipeline)[2] == ("champion", "1", "2", "forced")
    assert journal_of(pipeline).moves()[2].evidence_run_id == ref.run_id


def test_what_cannot_be_promoted_is_said(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    """No challenger, no such version, live already, no night to compare on."""
    register(models.good)

    with pytest.raises(RegistryError, match="with alias 'challenger' was required, however there is none"):
        promote(pipeline)
    with pytest.raises(RegistryError, match="however version='9' came; it has 1"):
        promote(pipeline, "9")
    assert promote(pipeline, "1")["status"] == "unchanged"
    register(models.good)
    with pytest.raises(NoDataError, match="a scored night to compare two models on was required"):
        promote(pipeline)
    assert promote(pipeline, force=True)["verdict"] is None
    assert registry_of(pipeline).champion().version == "2"


def test_automatic_promotion_asks_the_gate_too(
    pipeline: Pipeline,
    register: Callable[[Path], ModelRef],
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.train import _promoted

    monkeypatch.setattr("flows.train.promote_task", promote)
    automatic = pipeline.model_copy(
        update={"promotion": pipeline.promotion.model_copy(update={"automatic": True})}
    )
    automatic._file, automatic._root = pipeline.file, pipeline.root

    assert _promoted(automatic, register(models.good)) is None
    waiting = register(models.good)
    assert _promoted(pipeline, waiting) is None
    assert "a scored night" in (_promoted(automatic, waiting) or {})["error"]
    score(pipeline)
    assert (_promoted(automatic, waiting) or {})["status"] == "promoted"
    assert (_promoted(automatic, register(models.spoiled)) or {})["status"] == "refused"


# -- Rollback -----------------------------------------------------------------------------------------------


def test_rollback_brings_back_the_version_before_at_once(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    for detector in (models.good, models.good, models.spoiled):
        register(detector)
    promote(pipeline, "2", force=True)
    promote(pipeline, "3", force=True)

    began = time.process_time()
    first = rollback(pipeline)
    took = time.process_time() - began

    assert (first["version"], first["from_version"]) == ("2", "3")
    assert registry_of(pipeline).champion().version == "2"
    assert took < 2
    assert rollback(pipeline)["version"] == "1"
    assert moves(pipeline)[-1] == ("champion", "2", "1", "rolled back")
    with pytest.raises(RegistryError, match="that was live before 1 was required"):
        rollback(pipeline)


# -- The journal and the registry ---------------------------------------------------------------------------


def test_an_alias_moved_elsewhere_is_journalled_when_it_is_seen(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    register(models.good)
    register(models.good)
    registry = registry_of(pipeline)
    registry.set_alias("champion", "2")

    notice_live(pipeline, registry.champion())
    notice_live(pipeline, registry.champion())

    assert moves(pipeline)[2:] == [("champion", "1", "2", "outside")]
    assert journal_of(pipeline).moves()[-1].by == "outside"
    assert rollback(pipeline)["version"] == "1"


def test_models_tells_which_version_was_live_when(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    register(models.good)
    register(models.good)
    promote(pipeline, force=True)

    newest, oldest = versions(pipeline)

    assert newest["live"] == [{"from": newest["live"][0]["from"], "until": None}]
    assert oldest["live"][0]["until"] == newest["live"][0]["from"]
    assert (newest["aliases"], oldest["aliases"]) == (["champion"], [])
    assert "to now" in ask(pipeline, "models").stdout
    now = datetime.now(UTC)
    assert live_version(pipeline, now) == "2"
    with pytest.raises(NoChampionError, match="was required, however the journal begins at 20"):
        live_version(pipeline, now - timedelta(days=1))


def test_a_journal_that_was_edited_stops_all_that_builds_on_it(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    register(models.good)
    register(models.good)
    file = sorted(Path(pipeline.output_path).glob("journal/*/*.parquet"))[0]
    table = pq.ParquetFile(file).read()
    pq.write_table(table.set_column(1, "version", pa.array(["7"])), file)

    for verb in (promote, rollback, versions):
        with pytest.raises(StoreError, match=rf"{file.name}: the row with digest sha256:.* was altered"):
            verb(pipeline)
    assert registry_of(pipeline).aliases() == {"champion": "1", "challenger": "2"}


# -- Lineage ------------------------------------------------------------------------------------------------


def test_a_flagged_row_leads_to_run_data_pipeline_and_code(
    pipeline: Pipeline, register: Callable[[Path], ModelRef], models: Models
) -> None:
    register(models.good)
    score(pipeline)
    flags = pd.read_parquet(Path(pipeline.output_path) / "flags")
    [(version, run_id)] = set(zip(flags["model_version"], flags["run_id"], strict=True))

    chain = lineage(pipeline, version)
    tags = run_of(pipeline, registry_of(pipeline).version(version)).data.tags
    manifest = read_manifest(Store.of(pipeline.output_path), DAYS[0])

    assert chain["run_id"] == run_id
    assert chain["data"] == {
        "uri": "landing",
        "rows": 3_000,
        "first": "2024-01-01",
        "last": "2024-02-29",
        "digest": "sha256:data",
    }
    assert chain["code"] == tags["vaewatch.code"] == code_version()
    assert manifest is not None
    assert chain["pipeline_digest"] == tags["vaewatch.pipeline_digest"] == manifest.pipeline_digest
    assert chain["pipeline_changed_since"] is False
    said = ask(pipeline, "models", "--version", version).stdout
    assert run_id in said
    assert code_version() in said


# -- MLflow away --------------------------------------------------------------------------------------------


@contextmanager
def dead_server(on_call: Callable[[int], None]) -> Iterator[str]:
    """Yield the address of a server that hangs up on everybody, and says how many have called."""
    calls = 0
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            nonlocal calls
            with suppress(OSError):  # closed: the test is over
                while True:
                    server.accept()[0].close()
                    calls += 1
                    on_call(calls)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_a_night_waits_for_mlflow_and_fails_untouched_when_it_stays_away(
    pipeline: Pipeline,
    register: Callable[[Path], ModelRef],
    models: Models,
    prefect_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked four times; then one sentence, and the night's tables are as they were."""
    from flows import champion
    from flows.score import score as score_flow

    register(models.good)
    score(pipeline)
    settings = models.root / "mlflow.yml"
    here = settings.read_text()
    before = tables(pipeline)
    calls: list[int] = []
    quick = champion.model_task.with_options(retry_delay_seconds=0.1)
    monkeypatch.setattr("flows.score.model_task", quick)

    with dead_server(calls.append) as address:
        settings.write_text(f"{here}tracking_uri: {address}\n")
        with pytest.raises(
            RegistryAwayError, match=r"cannot find the live model in MLflow at .*; check track"
        ):
            score_flow(str(pipeline.file), str(DAYS[0]))
    assert calls == [1, 2, 3, 4]
    assert tables(pipeline) == before

    with dead_server(lambda call: settings.write_text(here) if call == 2 else None) as address:
        settings.write_text(f"{here}tracking_uri: {address}\n")
        assert score_flow(str(pipeline.file), str(DAYS[0]))["status"] == "unchanged"
    assert {file: said for file, said in tables(pipeline).items() if "triage" not in file.parts} == before


def tables(pipeline: Pipeline) -> dict[Path, bytes]:
    """Return all files of the results that readers see."""
    found = [file for file in Path(pipeline.output_path).rglob("*") if file.is_file()]
    return {file: file.read_bytes() for file in found if "/." not in str(file)}
