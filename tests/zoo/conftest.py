"""A small shop whose nights hold what strangers have written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.config import Pipeline, load_pipeline
from flows.expectations import profile, save_suite
from flows.manifest import ManifestModel
from flows.reference import Reference
from flows.report import night_report
from flows.scoring import score_night
from flows.sources import find_files
from vae_core import VAEDetector
from vae_core.drift import TableProfile

DAY = date(2024, 3, 1)
PIPELINE = """
version: 1
name: shop
source: {path: landing, partition: dt}
output: results
columns: {key: [id]}
"""


def sales(rows: int, seed: int = 0) -> pa.Table:
    """Return rows of a shop, one of ten without a discount."""
    rng = np.random.default_rng(seed)
    qty, price = rng.integers(1, 6, rows), rng.gamma(8.0, 3.0, rows).round(2)
    ticks = 1_709_250_000_000_000 + rng.integers(0, 30 * 86_400_000_000, rows)
    discount = pa.array(rng.uniform(0, 0.3, rows), mask=rng.random(rows) < 0.1)
    return pa.table(
        {
            "id": np.arange(rows) + 1000 * seed,
            "ts": pa.array(ticks, pa.timestamp("us")),
            "city": rng.choice(["Paris", "Oslo", "Berlin", "Lyon"], rows),
            "qty": pa.array(qty, pa.int32()),
            "price": price,
            "amount": qty * price,
            "discount": discount,
            "express": rng.random(rows) < 0.3,
        }
    )


class Model(NamedTuple):
    """What a table was learned with."""

    detector: VAEDetector
    suite: dict[str, Any]
    reference: Reference


def learned(table: pa.Table) -> Model:
    """Fit a small detector, and profile what it learned from."""
    detector = VAEDetector(max_epochs=2, n_members=1, random_state=0, kinds={"id": "key"})
    detector.fit(table).calibrate(table)
    reference = Reference(TableProfile.of(table, detector.schema_), {})
    return Model(detector, profile(table, name="shop", keys=["id"]), reference)


class Shop(NamedTuple):
    """A pipeline in a folder of the test's own, with a model of its table.

    Attributes
    ----------
    root
        The project's folder.
    model
        What scores its nights.
    """

    root: Path
    model: Model

    @classmethod
    def opened(cls, root: Path, model: Model) -> Shop:
        """Write the pipeline file and the suite."""
        (root / "mlflow.yml").write_text("experiment: shop\nmodel_name: shop\n")
        (root / "shop.yml").write_text(PIPELINE)
        save_suite(root / "shop.expectations.json", model.suite)
        return cls(root, model)

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline."""
        return load_pipeline(self.root / "shop.yml")

    @property
    def night(self) -> Path:
        """Folder that the night's files land in."""
        folder = self.root / "landing" / f"dt={DAY}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def land(self, name: str, table: pa.Table, **settings: Any) -> Path:
        """Write a table of the night as pyarrow does."""
        file = self.night / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file, **settings)
        return file

    def score(self) -> dict[str, Any]:
        """Score the night; returns its report."""
        pipeline, model = self.pipeline, ManifestModel(name="shop", version="1", run_id="run")
        detector, reference = self.model.detector, self.model.reference
        files = find_files(pipeline, DAY)
        done = score_night(pipeline, DAY, files, model, lambda: detector, {}, lambda: reference)
        return night_report(done.manifest, done.status, 0.0, None)

    def said(self) -> dict[str, tuple[str, str]]:
        """Score the night; returns status and sentences of each file by its key below the night's folder."""
        return {_key(one, self.night): (one["status"], _sentences(one)) for one in self.score()["files"]}

    def flags(self) -> pa.Table:
        """The night's flags."""
        with pq.ParquetFile(self.root / "results" / "flags" / f"dt={DAY}" / "part-0.parquet") as file:
            return file.read()


def _key(file: Mapping[str, Any], night: Path) -> str:
    return str(file["path"]).removeprefix(f"{night}/")


def _sentences(file: Mapping[str, Any]) -> str:
    return " | ".join(said for said in (file["reason"], *file["warnings"]) if said)


@pytest.fixture(scope="session")
def shop_model() -> Model:
    """Return a model of the shop's table, made once."""
    return learned(sales(600))


@pytest.fixture(scope="session")
def open_shop() -> Callable[[Path, pa.Table], Shop]:
    """Return a function that opens a shop whose model learned from a table."""
    return lambda root, table: Shop.opened(root, learned(table))


@pytest.fixture
def shop(shop_model: Model, tmp_path: Path) -> Shop:
    """Return a shop of the test's own, with one good file of the night."""
    opened = Shop.opened(tmp_path, shop_model)
    opened.land("good.parquet", sales(100, seed=1))
    return opened
