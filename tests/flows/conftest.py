"""A project with two model versions, made once for all tests of the flows that only score."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.config import Pipeline, load_pipeline

FIRST = date(2024, 3, 1)

PIPELINE = """
version: 1
name: {name}
source: {{path: {landing}, partition: dt, on_missing: {on_missing}}}
output: {output}
columns: {{key: [id], value_at_stake: {at_stake}}}
decision: {{{decision}}}
validation: {{suite: orders.expectations.json}}
schedule: {{score: "{cron}", train: "0 0 1 1 *", lag: 1d, timezone: America/New_York}}
"""


class Orders(NamedTuple):
    """A project of small orders with versions 1 (champion) and 2 (challenger) of the model ``orders``.

    Attributes
    ----------
    root
        Its folder, shared: never write there.
    folder
        A folder of the test's own, for files and results.
    """

    root: Path
    folder: Path

    def pipeline(self, name: str = "nights", **settings: Any) -> Pipeline:
        """Write a pipeline over the test's own files and results."""
        values = {
            "landing": self.folder / "landing",
            "output": self.folder / "results",
            "on_missing": "fail",
            "at_stake": "null",
            "decision": "budget: 3",
            "cron": "30 3 * * *",
        }
        file = self.root / "pipelines" / f"{self.folder.name}-{name}.yml"
        file.write_text(PIPELINE.format(name=name, **values | settings))
        return load_pipeline(file)

    def land(self, day: date, rows: int = 200, odd: int = 2) -> Path:
        """Let a night's file arrive; the first rows of it are odd."""
        file = self.folder / "landing" / f"dt={day}" / "a.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(orders(day.toordinal(), rows, odd), file)
        return file


def orders(seed: int, rows: int, odd: int = 0) -> pa.Table:
    """Return orders, of which the first few have an amount that nobody has seen."""
    rng = np.random.default_rng(seed)
    amount = rng.normal(50.0, 5.0, rows)
    amount[:odd] = 500.0 + 100 * np.arange(odd)
    columns = {
        "id": np.arange(rows) + 1000 * (seed % 1000),
        "amount": amount,
        "fee": amount * 0.02 + rng.normal(0, 0.1, rows),
        "shop": rng.choice(["Bern", "Basel"], rows),
    }
    return pa.table(columns)


@pytest.fixture(scope="session")
def orders_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a project whose model has two versions, the first of them live."""
    from flows.context import registry_of
    from flows.expectations import profile, save_suite
    from vae_core import VAEDetector

    root = tmp_path_factory.mktemp("orders")
    (root / "pipelines").mkdir()
    (root / "mlflow.yml").write_text("experiment: orders\nmodel_name: orders\n")
    save_suite(root / "orders.expectations.json", profile(orders(0, 500), name="orders", keys=["id"]))
    pipeline = Orders(root, root).pipeline()
    for seed in (1, 2):
        fitted = VAEDetector(max_epochs=2, n_members=1, random_state=seed, kinds={"id": "key"})
        fitted.fit(orders(seed, 1_000)).calibrate(orders(seed + 10, 1_000))
        fitted.save(root / f"detector-{seed}")
        registry = registry_of(pipeline)
        with registry.start_run(f"seed {seed}", {}) as run:
            registry.register(run, root / f"detector-{seed}", example=orders(seed, 3).drop_columns(["id"]))
    return root


@pytest.fixture
def project(orders_root: Path, tmp_path: Path) -> Orders:
    """Return that project, with files and results of this test alone."""
    return Orders(orders_root, tmp_path)


@pytest.fixture
def days() -> Callable[[int], list[date]]:
    """Return a function that lists the first nights of March 2024."""
    return lambda count: [FIRST + timedelta(days=i) for i in range(count)]


@pytest.fixture
def went_live() -> Callable[..., None]:
    """Return a function that writes moves of the live alias into a pipeline's journal, as if made then."""

    def write(pipeline: Pipeline, *moves: tuple[str, datetime]) -> None:
        from flows.journal import Journal
        from flows.storage import Store

        journal = Journal(Store.of(pipeline.output_path))
        for version, at in moves:
            journal.append("champion", version, by="a test", how="promoted", at=at.astimezone(UTC))

    return write
