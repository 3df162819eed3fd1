"""A small night and two models to score it with, and what an undisturbed run makes of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flows.commit import TABLES, intact
from flows.config import Pipeline, load_pipeline
from flows.expectations import profile, save_suite
from flows.manifest import ManifestModel, read_manifest
from flows.scoring import score_night
from flows.sources import find_files
from flows.storage import Store
from flows.tables import InputFile
from vae_core import VAEDetector

__all__ = ["DAY", "EARLIER", "PIPELINE", "Workshop", "digest_of", "model", "orders", "state_of"]

DAY, EARLIER = date(2024, 3, 2), date(2024, 3, 1)
FILES = 3
PIPELINE = """\
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
columns: {key: [order]}
decision: {budget: 40}
"""


def model(version: str) -> ManifestModel:
    """What manifests say of a version."""
    return ManifestModel(name="orders", version=version, run_id=f"run{version}")


@dataclass
class Workshop:
    """A pipeline in a folder, files of two nights, two fitted detectors by their versions."""

    folder: Path
    rows: int
    pipeline: Pipeline
    detectors: dict[str, VAEDetector]
    files: list[InputFile] = field(default_factory=list)

    @classmethod
    def opened(cls, folder: Path, rows: int) -> Workshop:
        """Write the files, fit the detectors; everything is loaded in this process afterwards."""
        (folder / "mlflow.yml").touch()
        (folder / "orders.yml").write_text(PIPELINE)
        for i, day in enumerate((EARLIER, DAY)):
            for part in range(FILES):
                file = folder / "landing" / f"dt={day}" / f"{part}.parquet"
                file.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(orders(rows // FILES, 10 * i + part), file)
        past = orders(1_000, 99)
        pipeline = load_pipeline(folder / "orders.yml")
        save_suite(Path(pipeline.suite_path), profile(past, name="orders", keys=["order"]))
        detectors = {version: _fitted(past, int(version)) for version in ("1", "2")}
        return cls(folder, rows, pipeline, detectors, find_files(pipeline, DAY))

    def score(self, output: str, version: str, day: date = DAY) -> str:
        """Score a night into an output folder; returns ``scored`` or ``unchanged``."""
        pipeline = self.pipeline.model_copy(update={"output": output})
        files, detector = find_files(pipeline, day), self.detectors[version]
        return score_night(pipeline, day, files, model(version), lambda: detector, {}).status

    def example(self) -> pa.Table:
        """A few rows of what the detectors look at."""
        return orders(5, 99).drop_columns(["order"])


def state_of(output: str) -> dict[str, Any]:
    """What an output folder holds, but for ``scored_at``: digests of tables, manifest, what is left over."""
    store = Store.of(output)
    manifest = read_manifest(store, DAY)
    if manifest is None:
        return {"manifest": None}
    known = manifest.model_dump(mode="json", exclude={"scored_at", "flow_run_id", "outputs", "history"})
    tables = {one.key: _table(store, one.key) for table in TABLES for one in store.list(table)}
    return {
        "tables": tables,
        "manifest": known,
        "versions": [entry["model"]["version"] for entry in manifest.history],
        "intact": intact(store, manifest),
        "left": [one.key for folder in (".commits", f".staging/dt={DAY}") for one in store.list(folder)],
    }


def digest_of(frame: pd.DataFrame) -> str:
    """Digest of a table, but for ``scored_at`` and the night that the folder's name tells."""
    told = frame.drop(columns=[name for name in ("scored_at", "dt") if name in frame])
    return hashlib.sha256(told.to_csv(index=False).encode()).hexdigest()


def _table(store: Store, key: str) -> str:
    with store.open_input(key) as source:
        return digest_of(pq.ParquetFile(source).read().to_pandas())


def orders(rows: int, seed: int) -> pa.Table:
    """Orders of which the first three are odd, and of all but the past's the last has no number."""
    rng = np.random.default_rng(seed)
    amount = rng.normal(50.0, 5.0, rows)
    amount[:3] *= 20.0
    order: list[int | None] = [seed * 1_000_000 + i for i in range(rows)]
    if seed != 99:
        order[-1] = None  # breaks the rule that keys are there: the night has a quarantine
    return pa.table(
        {
            "order": pa.array(order, pa.int64()),
            "amount": amount,
            "tax": amount * 0.2 + rng.normal(0, 0.1, rows),
            "shop": rng.choice(["Bern", "Basel", "Chur"], rows),
        }
    )


def _fitted(table: pa.Table, seed: int) -> VAEDetector:
    detector = VAEDetector(max_epochs=2, n_members=1, random_state=seed, kinds={"order": "key"})
    return detector.fit(table).calibrate(table)
