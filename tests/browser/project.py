"""Projects with results as the flows write them, without a model: many flags, odd cells, years of nights."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.config import Pipeline, load_pipeline
from flows.manifest import Manifest, ManifestInput, ManifestModel, ManifestOutput, manifest_key
from flows.results import added_names, row_ids, type_of

PIPELINE = """
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
columns: {key: [id], sensitive: [card]}
"""
DAY = date(2024, 3, 1)


def project(root: Path, review: str = "") -> Pipeline:
    """Write the pipeline file of a project; ``review`` is a line of it."""
    (root / "pipelines").mkdir(parents=True)
    (root / "mlflow.yml").write_text("experiment: tests\n")
    file = root / "pipelines" / "orders.yml"
    file.write_text(PIPELINE + review)
    return load_pipeline(file)


def orders(count: int, seed: int = 0) -> dict[str, pa.Array]:
    """Columns of orders."""
    rng = np.random.default_rng(seed)
    return {
        "id": pa.array(np.arange(count)),
        "amount": pa.array(rng.gamma(2.0, 50.0, count).round(2)),
        "shop": pa.array(rng.choice(["Bern", "Basel", "Chur", "Genf"], count)),
        "card": pa.array([f"card-{i:07d}" for i in range(count)]),
        "at": pa.array(rng.integers(1_709_251_200, 1_709_337_600, count), pa.timestamp("s", "UTC")),
        **{f"figure_{i}": pa.array(rng.normal(size=count)) for i in range(12)},
    }


def write_night(
    pipeline: Pipeline, own: dict[str, pa.Array], day: date = DAY, scored: int | None = None, **changes: Any
) -> pa.Table:
    """Write the flags, contributions and manifest of a night; return the flags."""
    flags = _flags(own, day)
    root = Path(pipeline.output_path)
    _write(root / f"flags/dt={day}/part-0.parquet", flags)
    _write(root / f"contributions/dt={day}/part-0.parquet", _contributions(flags, list(own)))
    _write_manifest(root, day, flags.num_rows, scored or flags.num_rows * 10, changes)
    return flags


def write_families(pipeline: Pipeline, flags: pa.Table, families: int, day: date = DAY) -> None:
    """Write the triage of a night: so many families, and an order of its own."""
    count = flags.num_rows
    numbers = np.random.default_rng(0).zipf(1.5, count) % families
    rows = {
        "row_id": flags["row_id"],
        "family_id": [f"f{i:010d}" for i in numbers],
        "family_name": [f"orders of shop {i} with unusual amount" for i in numbers],
        "raw_rank": np.arange(1, count + 1),
        "learned_rank": np.arange(count, 0, -1),
        "hidden_by": pa.nulls(count, pa.int64()),
    }
    _write(Path(pipeline.output_path) / f"triage/dt={day}/part-0.parquet", pa.table(rows))


def _flags(own: dict[str, pa.Array], day: date) -> pa.Table:
    count = len(next(iter(own.values())))
    rng = np.random.default_rng(day.toordinal())
    scores = np.sort(rng.exponential(2.0, count))[::-1] + 2.0
    names = [name for name in own if name != "card"]
    first = rng.integers(0, len(names), count)
    texts = {name: own[name].cast(pa.string()).to_pylist() for name in names}
    ours: dict[str, Any] = {
        "reconstruction_loss": scores * 10,
        "anomaly_score": scores,
        "p_value": np.exp(-scores),
        "severity": np.minimum(100.0, 4.34 * scores),
        "is_anomaly": np.ones(count, dtype=np.bool_),
        "threshold": np.full(count, 2.0),
        "reason_1_column": [names[i] for i in first],
        "reason_1_kind": rng.choice(["value", "combination", "unexpected_null"], count),
        "reason_1_value": [texts[names[i]][row] for row, i in enumerate(first)],
        "reason_1_expected": ["about 50"] * count,
        "reason_1_share": np.full(count, 0.6),
        "row_id": row_ids("a.parquet", np.arange(count)),
        "row_key": [f'{{"id": {i}}}' for i in own["id"].to_pylist()],
        "batch_file": [f"dt={day}/a.parquet"] * count,
        "row_number": np.arange(count),
        "model_name": ["orders"] * count,
        "model_version": ["3"] * count,
        "run_id": ["0" * 32] * count,
        "scored_at": [datetime(2024, 3, 2, 4, tzinfo=UTC)] * count,
    }
    columns = {
        name: pa.array(ours[name], type_of(name)) if name in ours else pa.nulls(count, type_of(name))
        for name in added_names()
    }
    return pa.table({**own, **columns})


def _contributions(flags: pa.Table, names: list[str]) -> pa.Table:
    count = min(flags.num_rows, 1_000)
    ids = flags["row_id"].slice(0, count).to_pylist()
    shares = np.random.default_rng(0).dirichlet(np.ones(len(names)), count)
    return pa.table(
        {
            "row_id": [row_id for row_id in ids for _ in names],
            "column": names * count,
            "loss": shares.ravel() * 20,
            "share": shares.ravel(),
        }
    )


def _write(file: Path, table: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, compression="zstd")


def _write_manifest(root: Path, day: date, flagged: int, scored: int, changes: dict[str, Any]) -> None:
    manifest = Manifest(
        pipeline="orders",
        date=day,
        files_in=1,
        files_scored=1,
        files_rejected=0,
        rows_in=scored,
        rows_scored=scored,
        rows_quarantined=0,
        rows_flagged=flagged,
        inputs=(
            ManifestInput(path=f"{root}/a.parquet", size=1, digest="blake2b:0", rows=scored, status="scored"),
        ),
        outputs=(ManifestOutput(path=f"flags/dt={day}/part-0.parquet", rows=flagged, digest="sha256:0"),),
        pipeline_digest="sha256:0",
        model=ManifestModel(name="orders", version="3", run_id="0" * 32),
        decision={"contamination": 0.005},
        certified=False,
        scored_at="2024-03-02T04:00:00+00:00",
    )
    file = root / manifest_key(day)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(manifest.model_copy(update=changes).to_json())


def write_years(pipeline: Pipeline, nights: int) -> None:
    """Write the manifests of many nights before `DAY`, without their flags."""
    rng = np.random.default_rng(0)
    for i in range(1, nights + 1):
        flagged = int(rng.integers(0, 40))
        _write_manifest(Path(pipeline.output_path), DAY - timedelta(days=i), flagged, 5_000, {})
