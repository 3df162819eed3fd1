"""From training to a night that is certified, by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow

DAYS = [date(2024, 3, day) for day in range(1, 4)]
NIGHT, TAMPERED = date(2024, 3, 4), 6
PIPELINE = """
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
columns: {key: [id]}
training: {window: 3d, calibration: 2d, detector: {max_epochs: 2, n_members: 1}}
decision: {fdr: 0.1}
"""


def land(root: Path, day: date, rows: int, tampered: int = 0) -> None:
    """Let orders arrive, of which the first few have ten times their amount and more."""
    rng = np.random.default_rng(day.toordinal())
    amount = rng.normal(50.0, 5.0, rows)
    fee = amount * 0.02 + rng.normal(0.0, 0.1, rows)
    amount[:tampered] = 500.0 + 100.0 * np.arange(tampered)
    table = {"id": np.arange(rows), "amount": amount, "fee": fee, "shop": rng.choice(["Bern", "Basel"], rows)}
    (root / f"landing/dt={day}").mkdir(parents=True)
    pq.write_table(pa.table(table), root / f"landing/dt={day}/orders.parquet")


def test_a_night_is_certified_when_thousands_of_clean_rows_were_held_out(
    tmp_path: Path, vaewatch: Callable[..., str]
) -> None:
    """Six rows were tampered with; they are flagged, and at most one of ten flags is another."""
    (tmp_path / "mlflow.yml").write_text("experiment: tests\n")
    (tmp_path / "orders.yml").write_text(PIPELINE)
    for day in DAYS:
        land(tmp_path, day, 2_500)
    land(tmp_path, NIGHT, 500, TAMPERED)

    trained = vaewatch("train", "--pipeline", "orders.yml", "--until", str(DAYS[-1]))
    said = vaewatch("score", "--pipeline", "orders.yml", "--date", str(NIGHT))

    manifest = json.loads((tmp_path / f"results/manifests/dt={NIGHT}.json").read_text())
    flags = pq.ParquetFile(tmp_path / f"results/flags/dt={NIGHT}/part-0.parquet").read()
    assert "5,000 held out" in trained
    assert (manifest["certified"], manifest["not_certified"]) == (True, None)
    assert manifest["calibration"]["contamination_limit"] <= 0.001
    assert set(range(TAMPERED)) <= set(flags.column("id").to_pylist())
    assert flags.num_rows <= TAMPERED + 1
    assert "Certified: of the flags at most 10 % are expected to be false discoveries." in said
    assert "flags is expected to be noise" in said
