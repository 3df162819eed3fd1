"""A night is scored once, however often and by however many it is asked; what arrives late is told."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import lease as leases
from flows.changes import changes_text
from flows.commit import part_key
from flows.config import Pipeline, load_pipeline
from flows.errors import StoreError
from flows.expectations import profile, save_suite
from flows.manifest import ManifestModel
from flows.report import night_line, night_markdown, night_report
from flows.scoring import Scored, score_night
from flows.sources import find_files, finished
from flows.storage import Store
from vae_core import VAEDetector

DAY = date(2024, 3, 1)
MODEL = ManifestModel(name="orders", version="1", run_id="r1")
PIPELINE = """
version: 1
name: orders
source: {{path: "{source}", partition: dt}}
output: "{output}"
columns: {{key: [order]}}
decision: {{budget: 5}}
"""


def orders(rows: int, seed: int) -> pa.Table:
    """Return orders, one of them without its key, five of them far too dear, the dearest by the seed."""
    rng = np.random.default_rng(seed)
    amount = rng.normal(50.0, 5.0, rows)
    amount[:5] = 1_000.0 * seed + np.arange(5)
    order = pa.array(np.arange(rows), mask=np.arange(rows) == rows - 1)
    return pa.table({"order": order, "amount": amount, "shop": rng.choice(["Bern", "Chur"], rows)})


@pytest.fixture(scope="module")
def detector() -> VAEDetector:
    """Return a detector that has learned ordinary orders, roughly."""
    fitted = VAEDetector(max_epochs=1, n_members=1, random_state=0, kinds={"order": "key"})
    return fitted.fit(orders(500, 1)).calibrate(orders(500, 2))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Pipeline]:
    """Return a function that writes and loads a pipeline whose data and results lie below a place."""

    def write(place: str) -> Pipeline:
        (tmp_path / "mlflow.yml").touch()
        file = tmp_path / "orders.yml"
        file.write_text(PIPELINE.format(source=f"{place}/landing", output=f"{place}/results"))
        pipeline = load_pipeline(file)
        save_suite(
            Path(pipeline.suite_path), profile(orders(500, 1).slice(0, 499), name="orders", keys=["order"])
        )
        return pipeline

    return write


@pytest.fixture
def score(detector: VAEDetector) -> Callable[..., Scored]:
    """Return a function that scores the night."""

    def run(pipeline: Pipeline) -> Scored:
        return score_night(pipeline, DAY, find_files(pipeline, DAY), MODEL, lambda: detector, {})

    return run


def land(pipeline: Pipeline, name: str, table: pa.Table) -> None:
    """Let a file of the night arrive."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    Store.of(pipeline.source_path).write_bytes(f"dt={DAY}/{name}", sink.getvalue().to_pybytes())


def tables(pipeline: Pipeline) -> dict[str, pa.Table]:
    """Return the tables of the night, but for ``scored_at``."""
    store, found = Store.of(pipeline.output_path), {}
    for stored in store.list(suffix=".parquet"):
        with store.open_input(stored.key) as source:
            table = pq.ParquetFile(source).read()
        found[stored.key] = table.drop_columns([name for name in table.column_names if name == "scored_at"])
    return found


def flagged(pipeline: Pipeline) -> set[str]:
    """Return the flagged rows of the night."""
    return set(tables(pipeline)[part_key("flags", DAY)]["row_id"].to_pylist())


def test_a_finished_night_is_left_alone(tmp_path: Path, opened: Any, score: Any) -> None:
    """Asked again, it says so, and writes nothing."""
    pipeline = opened(str(tmp_path))
    land(pipeline, "a.parquet", orders(100, 3))
    first = score(pipeline)
    written = {one.key: one.modified for one in Store.of(pipeline.output_path).list()}

    again = score(pipeline)

    assert (first.status, again.status) == ("scored", "unchanged")
    assert again.manifest == first.manifest
    assert {one.key: one.modified for one in Store.of(pipeline.output_path).list()} == written
    line = night_line(night_report(again.manifest, again.status, 0.0, None))
    assert line.endswith("already scored")


def test_a_damaged_night_is_made_anew_as_it_was_at_first(tmp_path: Path, opened: Any, score: Any) -> None:
    """A table that is gone comes back byte for byte, with the time of the first commit."""
    pipeline = opened(str(tmp_path))
    land(pipeline, "a.parquet", orders(100, 3))
    first = score(pipeline)
    store, key = Store.of(pipeline.output_path), part_key("flags", DAY)
    content = store.read_bytes(key)
    store.delete(key)
    assert finished(pipeline, DAY, find_files(pipeline, DAY), MODEL) is None

    again = score(pipeline)

    assert again.status == "scored"
    assert again.manifest == first.manifest
    assert store.read_bytes(key) == content


def test_a_late_file_makes_the_night_anew_and_is_told(tmp_path: Path, opened: Any, score: Any) -> None:
    """The report says which files came, and how many flags; the scoring before is kept as history."""
    pipeline = opened(str(tmp_path))
    land(pipeline, "a.parquet", orders(100, 3))
    first, then = score(pipeline), flagged(pipeline)
    land(pipeline, "late.parquet", orders(100, 4))

    again, now = score(pipeline), flagged(pipeline)

    gained, lost = len(now - then), len(then - now)
    assert gained > 0
    late = f"{pipeline.source_path}/dt={DAY}/late.parquet"
    assert again.manifest.changes == {
        "files_added": [late],
        "files_changed": [],
        "files_gone": [],
        "flags_gained": gained,
        "flags_lost": lost,
        "flags_kept": 5 - lost,
    }
    assert [entry["inputs"][0]["digest"] for entry in again.manifest.history] == [
        first.manifest.inputs[0].digest
    ]
    assert again.manifest.history[0]["scored_at"] == first.manifest.scored_at
    report = night_report(again.manifest, "scored", 1.0, None)
    said = f"scored again, files: 1 added; flags: {5 - lost} kept, {gained} gained, {lost} lost"
    assert changes_text(report["changes"]) == said
    assert said in night_markdown(report, [], "")


def test_two_runs_at_once_are_one_night(
    tmp_path: Path, opened: Any, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later one waits, and finds it finished."""
    monkeypatch.setattr(leases, "_POLL_SECONDS", 0.02)
    pipeline = opened(str(tmp_path))
    land(pipeline, "a.parquet", orders(100, 3))

    with ThreadPoolExecutor(3) as pool:
        runs = [future.result() for future in [pool.submit(score, pipeline) for _ in range(3)]]

    assert sorted(run.status for run in runs) == ["scored", "unchanged", "unchanged"]
    assert len({run.manifest.to_json() for run in runs}) == 1


def test_a_full_disk_leaves_the_night_as_it_was(tmp_path: Path, opened: Any, score: Any) -> None:
    """The error says so; once there is room, the same run succeeds."""
    pipeline = opened(str(tmp_path))
    land(pipeline, "a.parquet", orders(100, 3))
    score(pipeline)
    before = tables(pipeline)
    land(pipeline, "late.parquet", orders(4_000, 4))

    with _room_for(20_000), pytest.raises(StoreError, match="cannot write"):
        score(pipeline)

    assert tables(pipeline) == before
    assert Store.of(pipeline.output_path).list(".staging") == []
    assert score(pipeline).manifest.files_scored == 2


def test_an_error_over_data_is_not_told_as_one_of_the_disk(
    tmp_path: Path, opened: Any, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks for room on a disk that has enough, and no retry is made."""
    pipeline = opened(str(tmp_path))
    land(pipeline, "a.parquet", orders(100, 3))
    monkeypatch.setattr("flows.night.Night.decide", lambda _: pa.array(["a"]).cast(pa.int64()))

    with pytest.raises(pa.ArrowInvalid, match="Failed to parse string"):
        score(pipeline)

    assert tables(pipeline) == {}


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_night_on_an_object_store_is_the_one_on_files(
    tmp_path: Path, s3: str, opened: Any, score: Any
) -> None:
    """Read from s3://, written to s3://: the same tables, and the same words when asked again."""
    local = opened(str(tmp_path))
    scored = {}
    for place in (str(tmp_path), s3):
        pipeline = opened(place)
        land(pipeline, "a.parquet", orders(300, 3))
        land(pipeline, "broken.parquet", orders(10, 4))
        Store.of(pipeline.source_path).write_bytes(f"dt={DAY}/broken.parquet", b"PAR1")
        scored[place] = score(pipeline)
        assert score(pipeline).status == "unchanged"

    remote = opened(s3)
    assert sorted(tables(local)) == [
        part_key(table, DAY) for table in ("contributions", "flags", "quarantine", "rejected", "scores")
    ]
    for key, table in tables(local).items():
        if not key.startswith("rejected"):  # its paths tell the places apart
            assert tables(remote)[key].equals(table), key
    ours, theirs = (one.manifest for one in scored.values())
    assert (ours.rows_scored, ours.files_rejected) == (theirs.rows_scored, theirs.files_rejected) == (299, 1)
    assert Store.of(remote.output_path).list(".commits") == []
