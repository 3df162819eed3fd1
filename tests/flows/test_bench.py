"""What `vaewatch bench` tells of a table."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.errors import NoDataError
from flows.pace import STAGES

PIPELINE = """\
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
columns: {key: [id]}
training: {detector: {n_members: 2, hidden_dims: [8], latent_dim: 2}}
"""
ROWS = 400


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline with three nights and no model."""
    random = np.random.default_rng(0)
    for day in range(1, 4):
        night = tmp_path / "landing" / f"dt=2026-01-0{day}"
        night.mkdir(parents=True)
        columns = {"id": np.arange(ROWS), "x": random.normal(size=ROWS), "y": random.normal(size=ROWS)}
        pq.write_table(pa.table(columns), night / "part-0.parquet")
    (tmp_path / "mlflow.yml").write_text("experiment: bench\n")
    (tmp_path / "orders.yml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_without_a_model_is_measured_with_one_that_is_thrown_away(project: Path) -> None:
    """Every stage took time; hours follow from rows a second; nothing of it is left behind."""
    line = ["bench", "-p", "orders.yml", "--rows", "500", "--rows-a-night", "1000000000", "--json"]
    ran = CliRunner().invoke(app, line)
    report = json.loads(ran.stdout)

    assert report["throw_away_model"]
    assert (report["date"], report["rows_measured"], report["files_measured"]) == ("2026-01-03", 2 * ROWS, 2)
    assert [*report["stages"]] == [*STAGES, "the rest"]
    assert all(report["stages"][name]["cpu_ns_a_row"] > 0 for name in STAGES if name != "rules")
    assert report["night"]["hours"] >= 1e9 / report["rows_a_second"] / 3600 - 1e-3
    assert report["peak_memory_mib"] > 50
    assert not (project / "results").exists()


def test_people_read_sentences(project: Path) -> None:
    """The night's own size is taken where none is given."""
    ran = CliRunner().invoke(app, ["bench", "-p", "orders.yml", "--rows", "1", "--date", "2026-01-02"])

    assert ran.exit_code == 0
    assert "a model trained for a moment and thrown away" in ran.stdout
    assert f"A night of {ROWS} rows" in ran.stdout
    assert "encode and score" in ran.stdout


def test_a_night_that_has_not_arrived_is_an_error(project: Path) -> None:
    """As for scoring."""
    ran = CliRunner().invoke(app, ["bench", "-p", "orders.yml", "--date", str(dt.date(2025, 1, 1))])

    assert isinstance(ran.exception, NoDataError)
