"""What is beyond `retention` goes, and nothing else: no live model, no verdict, no night that is finished."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from flows.cli import app
from flows.commit import intact
from flows.config import Pipeline, load_pipeline
from flows.context import docs_folder, registry_of
from flows.datadocs import run_page, write_index, write_report, write_text
from flows.diff import diff
from flows.errors import ConfigError, InputError, RegistryError
from flows.journal import Journal
from flows.lifecycle import promote, rollback, versions
from flows.manifest import read_manifest
from flows.prune import prune
from flows.redecide import policy, redecide
from flows.registry import PRUNED, Registry
from flows.retention import beyond
from flows.scoring import score_files
from flows.sources import find_files
from flows.storage import Store

DAYS = [date(2024, 3, day) for day in (1, 2, 3, 4)]


def kept_for(pipeline: Pipeline, **retention: Any) -> Pipeline:
    """The pipeline with another `retention`, in its file too."""
    settings = yaml.safe_load(pipeline.file.read_text())
    pipeline.file.write_text(yaml.safe_dump(settings | {"retention": retention}))
    return load_pipeline(pipeline.file)


def scored(pipeline: Pipeline, day: date) -> str:
    found = score_files(pipeline, day, find_files(pipeline, day), registry_of(pipeline).champion(), {})
    return found.status


@pytest.fixture
def nights(project: Any) -> Pipeline:
    """Return a pipeline with four scored nights."""
    pipeline: Pipeline = project.pipeline()
    for day in DAYS:
        project.land(day)
        scored(pipeline, day)
    return pipeline


def keys(output: str) -> set[str]:
    return {one.key for one in Store.of(output).list()}


def days_of(output: str, table: str) -> list[str]:
    return sorted(
        {key.split("/")[1].removeprefix("dt=") for key in keys(output) if key.startswith(f"{table}/")}
    )


@pytest.mark.parametrize(
    ("kept", "gone"),
    [
        (timedelta(days=3), DAYS[:1]),
        (timedelta(days=2), DAYS[:2]),
        (1, DAYS[:3]),
        (9, []),
        ("forever", []),
        ("none", DAYS),
    ],
)
def test_a_policy_lets_go_by_age_from_the_newest_or_by_count(kept: Any, gone: list[date]) -> None:
    assert beyond(kept, DAYS[::-1]) == gone
    assert beyond(kept, list[date]()) == []


@pytest.mark.parametrize("bad", [0, True, "often", "-3d"])
def test_a_retention_that_is_no_span_count_or_word_is_refused(nights: Pipeline, bad: object) -> None:
    with pytest.raises(ConfigError, match=r"retention\.flags must be"):
        kept_for(nights, flags=bad)


@pytest.mark.parametrize("where", ["file", "s3"])
def test_a_night_without_its_tables_stays_finished_and_says_what_it_lost(
    project: Any, where: str, request: pytest.FixtureRequest
) -> None:
    """Scoring it again does nothing; readers see the other nights."""
    settings = {"output": request.getfixturevalue("s3")} if where == "s3" else {}
    pipeline = project.pipeline(**settings)
    for day in DAYS[:3]:
        project.land(day)
        scored(pipeline, day)
    pipeline = kept_for(pipeline, scores="2d", flags=1)
    store = Store.of(pipeline.output_path)
    manifests = {key for key in keys(pipeline.output_path) if key.startswith("manifests/")}

    removed = prune(pipeline)["removed"]

    assert {what: one["nights"] for what, one in removed.items()} == {"scores": 1, "flags": 2}
    assert days_of(pipeline.output_path, "scores") == [str(day) for day in DAYS[1:3]]
    assert days_of(pipeline.output_path, "flags") == days_of(pipeline.output_path, "contributions")
    assert days_of(pipeline.output_path, "flags") == [str(DAYS[2])]
    assert {key for key in keys(pipeline.output_path) if key.startswith("manifests/")} == manifests
    manifest = read_manifest(store, DAYS[0])
    assert manifest is not None
    assert manifest.pruned.keys() == {"scores", "flags", "contributions"}
    assert manifest.rows_flagged == 3
    assert intact(store, manifest)
    assert [scored(pipeline, day) for day in DAYS[:3]] == ["unchanged"] * 3
    assert prune(pipeline)["removed"] == {}


def test_a_dry_run_says_what_the_real_one_does_and_does_nothing(nights: Pipeline) -> None:
    pipeline = kept_for(nights, scores=2, flags="3d")
    before = keys(pipeline.output_path)

    said = prune(pipeline, dry_run=True)

    assert keys(pipeline.output_path) == before
    assert prune(pipeline) == said | {"dry_run": False}
    assert len(before) - len(keys(pipeline.output_path)) == sum(
        one["files"] for one in said["removed"].values()
    )


def test_no_empty_folders_are_left(nights: Pipeline) -> None:
    prune(kept_for(nights, scores=1, flags=1))

    assert [folder.name for folder in (Path(nights.output_path) / "flags").iterdir()] == [f"dt={DAYS[3]}"]
    assert len(pd.read_parquet(Path(nights.output_path) / "scores")) == 200


def test_a_night_with_verdicts_keeps_its_flags_and_the_verdicts(nights: Pipeline) -> None:
    """Whether they lie under the results, or somewhere else."""
    key = f"verdicts/dt={DAYS[0]}/part-0.parquet"
    with Store.of(nights.output_path).stage() as stage:
        pq.write_table(pa.table({"row_id": ["a"]}), stage / "verdicts.parquet")
        Store.of(nights.output_path).commit(stage / "verdicts.parquet", key)

    report = prune(kept_for(nights, flags=1, scores=1), judged={DAYS[1]})

    assert days_of(nights.output_path, "flags") == [str(day) for day in (DAYS[0], DAYS[1], DAYS[3])]
    assert days_of(nights.output_path, "scores") == [str(DAYS[3])]
    assert key in keys(nights.output_path)
    assert {one["what"]: one["which"] for one in report["kept"]} == {"flags": f"{DAYS[0]}, {DAYS[1]}"}


def test_earlier_scorings_pages_and_triage_go_with_their_nights(nights: Pipeline) -> None:
    redecide(nights, DAYS[0], policy({"budget": 1}))
    store, docs = Store.of(nights.output_path), docs_folder(nights)
    for day in DAYS:
        store.write_bytes(f"triage/dt={day}/part-0.parquet", b"families")
        store.write_bytes(f"monitor/dt={day}/part-0.parquet", b"measures")
        store.write_bytes(f"reports/monitor-{day}.html", b"page")
        page = run_page(docs, "orders", str(day))
        write_text(page, "<html></html>")
        write_report(
            page, {"run": str(day), "suite": "orders", "success": True, "evaluated": 1, "failed": []}
        )
    write_index(docs)
    assert [one.key.split("/")[1] for one in store.list(".history")] == [f"dt={DAYS[0]}"]

    report = prune(kept_for(nights, history=2, monitor=1, docs="2d", flags="3d"))

    assert report["failed"] == []
    assert store.list(".history") == []
    assert days_of(nights.output_path, "triage") == [str(day) for day in DAYS[1:]]
    assert days_of(nights.output_path, "monitor") == [str(DAYS[3])]
    assert [one.key for one in store.list("reports")] == [f"reports/monitor-{DAYS[3]}.html"]
    assert str(DAYS[1]) not in (docs / "index.html").read_text()
    assert str(DAYS[2]) in (docs / "index.html").read_text()
    manifest = read_manifest(store, DAYS[0])
    assert manifest is not None
    assert [entry["flags"] for entry in manifest.history] == [None]


def test_who_needs_what_is_gone_is_told_so(nights: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = kept_for(nights, scores=1, flags=1)
    prune(pipeline)

    with pytest.raises(ConfigError, match=r"`vaewatch prune` removed those of night 2024-03-01"):
        redecide(pipeline, DAYS[0], policy({"budget": 1}))
    with pytest.raises(InputError, match=r"`vaewatch prune` removed them"):
        diff(pipeline, DAYS[0], "2")
    with pytest.raises(ConfigError, match=r"its manifest still counts them: 3"):
        app(["flags", "--date", str(DAYS[0]), "--pipeline", str(pipeline.file)], standalone_mode=False)


KILLED = """
import os, signal, sys
from flows.commit import _move_tables
from flows import commit, prune
from flows.config import load_pipeline
moves = int(sys.argv[2])
def killed(*arguments):
    global moves
    moves -= 1
    if moves < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return _move_tables(*arguments)
commit._move_tables = killed
prune.prune(load_pipeline(sys.argv[1]))
"""


def test_what_a_killed_run_has_begun_the_next_one_ends(nights: Pipeline) -> None:
    """The second night's commit is begun, and nothing of it is moved yet."""
    pipeline = kept_for(nights, scores=1)
    run = subprocess.run([sys.executable, "-c", KILLED, str(pipeline.file), "1"], check=False)

    assert run.returncode == -signal.SIGKILL
    assert len(days_of(pipeline.output_path, "scores")) == 3
    prune(pipeline)
    store = Store.of(pipeline.output_path)
    manifests = [read_manifest(store, day) for day in DAYS]
    assert days_of(pipeline.output_path, "scores") == [str(DAYS[3])]
    assert all(one is not None and intact(store, one) for one in manifests)
    assert [list(one.pruned) for one in manifests if one] == [["scores"]] * 3 + [[]]
    assert store.list(".commits") == []


# -- Models -------------------------------------------------------------------------------------------------


@pytest.fixture
def registered(project: Any, tmp_path: Path) -> tuple[Pipeline, Registry]:
    """Return a pipeline of its own registry with five versions: 2 live, 5 to challenge it, 1 live before."""
    (tmp_path / "mlflow.yml").write_text("experiment: tests\nmodel_name: orders\n")
    file = tmp_path / "own.yml"
    file.write_text(
        "{version: 1, name: own, source: {path: landing}, output: results, retention: {models: 1}}"
    )
    pipeline = load_pipeline(file)
    registry = registry_of(pipeline)
    example = pq.read_table(project.land(DAYS[0])).drop_columns(["id"]).slice(0, 3)
    for _ in range(5):
        with registry.start_run("a training", {}) as run:
            registry.register(run, project.root / "detector-1", example=example)
    registry.set_alias("champion", "2")
    journal = Journal(Store.of(pipeline.output_path))
    for version in ("1", "2"):
        journal.append("champion", version, by="a test", how="promoted")
    return pipeline, registry


@pytest.mark.slow
def test_versions_lose_their_files_but_live_ones_and_the_one_to_roll_back_to(
    registered: tuple[Pipeline, Registry],
) -> None:
    """Their records stay, so that flagged rows lead back; who wants to load one is told."""
    pipeline, registry = registered
    cache = pipeline.root / "data" / "models"
    copies = {ref.version: registry.download(ref, cache) for ref in registry.models()}
    artifacts = pipeline.root / "data" / "mlflow" / "artifacts" / "models"
    before = len(list(artifacts.iterdir()))

    _becomes_live_meanwhile(registry, cache)
    registry.tag("4", {PRUNED: "begun"})  # as by a run that was killed then

    report = prune(pipeline)

    assert report["models"] == ["4", "3"]
    assert {one["which"]: one["why"] for one in report["kept"]} == {
        "version 2": "champion",
        "version 1": "a rollback would bring it back",
    }
    assert [version for version, copy in copies.items() if copy.exists()] == ["5", "2", "1"]
    assert sum(any(one.rglob("*.safetensors")) for one in artifacts.iterdir()) == before - 2
    assert [one["version"] for one in versions(pipeline) if one["pruned"]] == ["4", "3"]
    with pytest.raises(RegistryError, match="`vaewatch prune` removed them"):
        registry.download(registry.version("3"), cache)
    with pytest.raises(RegistryError, match="choose another"):
        promote(pipeline, "3", force=True)
    assert rollback(pipeline)["version"] == "1"
    assert registry.download(registry.version("1"), cache).is_dir()
    assert prune(pipeline)["models"] == ["2"]  # live no more, and no way back leads there


def _becomes_live_meanwhile(registry: Registry, cache: Path) -> None:
    """A version that gets an alias between the plan and the removal keeps its files."""
    ref = registry.version("3")
    registry.set_alias("shadow", "3")

    assert not registry.discard(ref, datetime.now(UTC), cache)
    assert PRUNED not in registry.version("3").tags
    registry.take_alias("shadow")


# -- The command --------------------------------------------------------------------------------------------


def test_the_command_asks_the_database_of_verdicts(
    nights: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from review.store import RowRef, VerdictStore

    url = f"sqlite:///{tmp_path}/verdicts.db"
    monkeypatch.setenv("VAEWATCH_REVIEW_DB", url)
    row = RowRef(DAYS[1], "0123456789abcdef", '{"id": 1}')
    with VerdictStore.open(url, nights.name) as verdicts:
        verdicts.decide([row], "anomaly", reviewer="ada", seen={row.row_id: None})
    pipeline = kept_for(nights, flags=1)

    app(["prune", "--dry-run", "--json", "--pipeline", str(pipeline.file)], standalone_mode=False)
    report = json.loads(capsys.readouterr().out)

    assert report["removed"]["flags"]["nights"] == 2
    assert report["kept"] == [
        {"what": "flags", "which": str(DAYS[1]), "why": "somebody has given verdicts on them"}
    ]
    app(["prune", "--dry-run", "--pipeline", str(pipeline.file)], standalone_mode=False)
    assert "Nothing is done yet" in capsys.readouterr().out
    app(["prune", "--pipeline", str(pipeline.file)], standalone_mode=False)
    assert days_of(pipeline.output_path, "flags") == [str(DAYS[1]), str(DAYS[3])]
    said = capsys.readouterr().out
    assert "flags" in said
    assert "All of this is removed." in said
