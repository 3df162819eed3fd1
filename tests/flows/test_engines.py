"""Engines: shards worked off in order by threads, and by the processes of a Dask cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.config import load_pipeline
from flows.engines import Dask, Engine, Threads, _Portions, engine_of, usable_cores
from flows.errors import ConfigError, InputError, ServerError
from flows.manifest import ManifestModel
from flows.night import Night
from flows.tables import night
from vae_core import VAEDetector

DAY = date(2024, 3, 1)
PIPELINE = """
version: 1
name: meters
source: {path: landing, partition: dt}
output: results
columns: {key: [meter]}
decision: {budget: 20}
"""


def test_threads_hand_back_outcomes_in_order_however_long_each_takes() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item * item

    outcomes = list(Threads(3).map(slow_first, range(8)))

    assert outcomes == [(item, item * item) for item in range(8)]


def test_threads_take_items_only_as_fast_as_they_are_worked_off() -> None:
    """A night of thousands of shards is never in memory at once."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    outcomes = Threads(2).map(lambda item: item, items())
    next(outcomes)
    ahead = len(taken)
    outcomes.close()

    assert ahead == 4
    assert len(taken) == 4


def test_an_error_of_a_thread_arrives_where_its_outcome_is_asked_for() -> None:
    def fail(item: int) -> int:
        if item == 2:
            raise InputError("no")
        return item

    outcomes = Threads(2).map(fail, range(50))

    assert [next(outcomes), next(outcomes)] == [(0, 0), (1, 1)]
    with pytest.raises(InputError, match="no"):
        next(outcomes)


def test_quick_items_are_handed_out_in_portions_of_some_seconds() -> None:
    portions = _Portions()
    cut = portions.of(range(100))

    first, second = next(cut), next(cut)  # nothing is known yet
    portions.weigh(0.7)
    third = next(cut)
    portions.weigh(60.0)
    slow = next(cut)
    portions.weigh(0.0)  # as quick as a clock can tell
    quick = next(cut)
    rest = [item for part in cut for item in part]

    assert (first, second, third, slow) == ([0], [1], [2, 3, 4, 5], [6])
    assert quick == list(range(7, 23))
    assert rest == list(range(23, 100))


def test_threads_use_the_cores_that_this_process_may_use() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert Threads().workers == usable_cores()


def test_the_setting_names_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://elsewhere:8786")
    import dask

    dask.config.refresh()
    engines = [
        engine_of(setting, "/results")
        for setting in ("threads", {"threads": 3}, "dask", {"dask": "tcp://a:1"})
    ]
    monkeypatch.undo()
    dask.config.refresh()

    assert [type(engine).__name__ for engine in engines] == ["Threads", "Threads", "Dask", "Dask"]
    assert [getattr(engine, "workers", None) for engine in engines[:2]] == [usable_cores(), 3]
    assert [getattr(engine, "address", None) for engine in engines[2:]] == [
        "tcp://elsewhere:8786",
        "tcp://a:1",
    ]


def test_dask_without_an_address_says_where_to_write_it() -> None:
    with pytest.raises(ConfigError, match=r"address of a Dask cluster is required.*DASK_SCHEDULER_ADDRESS"):
        engine_of("dask", "/results")


def test_dask_refuses_an_output_whose_stage_its_workers_cannot_see() -> None:
    with pytest.raises(ConfigError, match=r"folder that all workers see, however output is s3://results"):
        engine_of({"dask": "tcp://a:1"}, "s3://results")


def meters(rows: int, seed: int) -> pa.Table:
    """Return readings of meters: an id, two numbers that go together, a kind."""
    rng = np.random.default_rng(seed)
    load = rng.normal(10.0, 2.0, rows)
    return pa.table(
        {
            "meter": pa.array(np.arange(rows)),
            "load": pa.array(load, mask=rng.random(rows) < 0.05),
            "peak": pa.array(load * 1.5 + rng.normal(0, 0.2, rows)),
            "kind": pa.array(rng.choice(["home", "shop", "farm"], rows)),
        }
    )


@pytest.fixture(scope="module")
def detector() -> VAEDetector:
    """Return a detector that has learned ordinary readings, roughly."""
    fitted = VAEDetector(max_epochs=2, n_members=2, random_state=0, kinds={"meter": "key"})
    return fitted.fit(meters(1_000, 1)).calibrate(meters(1_000, 2))


def scored(root: Path, detector: VAEDetector, engine: Engine, stage: str) -> dict[str, pa.Table]:
    """Score the night with an engine; return its tables by the keys of their objects."""
    pipeline = load_pipeline(root / "meters.yml")
    folder = root / stage
    folder.mkdir()
    suite: dict[str, Any] = {"expectations": [], "meta": {}}
    model = ManifestModel(name="meters", version="1", run_id="0" * 32)
    made = Night(pipeline, DAY, detector, model, suite, folder, engine)
    made.read(night(pipeline.source_path, DAY, partition="dt"))
    made.decide()
    tables = {key: pq.ParquetFile(part).read() for key, part in made.parts().items()}
    return {
        key: table.drop_columns([name for name in table.schema.names if name == "scored_at"])
        for key, table in tables.items()
    }


def land(root: Path) -> None:
    """Let two files of the night arrive."""
    (root / "mlflow.yml").touch()
    (root / "meters.yml").write_text(PIPELINE)
    folder = root / "landing" / f"dt={DAY}"
    folder.mkdir(parents=True)
    pq.write_table(meters(2_000, 3), folder / "a.parquet", row_group_size=250)
    pq.write_table(meters(300, 4), folder / "b.parquet")


@pytest.mark.slow
def test_two_processes_of_a_dask_cluster_make_the_tables_that_threads_make(
    tmp_path: Path, detector: VAEDetector, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through Prefect's own task runner, each shard a task run; byte for byte in the columns of data."""
    import cloudpickle
    from distributed import Client, LocalCluster
    from prefect import flow

    monkeypatch.setattr("flows.shards.SHARD_ROWS", 500)
    monkeypatch.setattr("flows.night.SHARD_ROWS", 500)
    land(tmp_path)
    here = scored(tmp_path, detector, Threads(2), "here")

    @flow(name="night on dask")
    def on_dask(address: str, root: str, model: str) -> dict[str, pa.Table]:
        return scored(Path(root), VAEDetector.load(model), Dask(address), "there")

    detector.save(tmp_path / "model")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        there = on_dask(str(cluster.scheduler_address), str(tmp_path), str(tmp_path / "model"))
        with Client(cluster) as client:
            loaded = client.run(_detectors_loaded)

    assert here == there
    assert len([key for key in there if key.startswith("scores/")]) == 5
    assert list(loaded.values()) == [1, 1]


def _detectors_loaded() -> int:
    from flows import shards

    return len(shards._DETECTORS)


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, detector: VAEDetector) -> None:
    land(tmp_path)

    with pytest.raises(ServerError, match=r"Dask cluster with workers was required at tcp://127\.0\.0\.1:9"):
        scored(tmp_path, detector, Dask("tcp://127.0.0.1:9"), "there")


HUGE = """
import json, sys
from datetime import date
from pathlib import Path
from flows.config import load_pipeline
from flows.engines import Threads
from flows.manifest import ManifestModel
from flows.night import Night
from flows.stopwatch import peak_memory
from flows.tables import night
from vae_core import VAEDetector

root = Path(sys.argv[1])
pipeline = load_pipeline(root / "meters.yml")
stage = root / "stage"
stage.mkdir()
model = ManifestModel(name="meters", version="1", run_id="0" * 32)
detector = VAEDetector.load(root / "model")
made = Night(pipeline, date(2024, 3, 1), detector, model, {"expectations": []}, stage, Threads(2))
made.read(night(pipeline.source_path, date(2024, 3, 1), partition="dt"))
made.decide()
files = [[one.scored, one.reason] for one in made.accounts]
print(json.dumps({"files": files, "megabytes": peak_memory() / 2**20}))
"""


@pytest.mark.slow
def test_memory_is_bounded_whatever_the_row_group_or_the_text(tmp_path: Path) -> None:
    """One row group of 2,000,000 rows, and a text column of 10 kB that expands to 0.8 GB: below 1.5 GB."""
    (tmp_path / "mlflow.yml").touch()
    (tmp_path / "meters.yml").write_text(PIPELINE + "retention: {scores: none}\n")
    learned = VAEDetector(
        preset="textbook",
        hidden_dims=(8,),
        latent_dim=2,
        max_epochs=2,
        random_state=0,
        kinds={"meter": "key"},
    )
    learned.fit(meters(500, 1)).calibrate(meters(500, 2)).save(tmp_path / "model")
    folder = tmp_path / "landing" / f"dt={DAY}"
    folder.mkdir(parents=True)
    few = meters(1_000, 3)
    huge = few.take(pa.array(np.arange(2_000_000) % 1_000))
    pq.write_table(huge, folder / "huge.parquet", row_group_size=2_000_000)
    long = pa.DictionaryArray.from_arrays(np.full(1_000, 1, np.int32), ["home", "x" * 800_000])
    pq.write_table(few.set_column(3, "kind", long), folder / "long.parquet", store_schema=False)  # as text

    run = subprocess.run(
        [sys.executable, "-c", HUGE, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["files"] == [[2_000_000, None], [1_000, None]]
    assert report["megabytes"] < 1_500
