"""A table of mixed types with labels: attacks among web requests (KDD Cup 1999)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

PIPELINE = """
version: 1
name: http
source: {path: landing, partition: dt}
output: results
training: {window: 1d, calibration: 4h, detector: {max_steps: 300, n_members: 1}}
"""


def land(root: Path, day: str, table: pa.Table) -> None:
    """Let a night arrive."""
    folder = root / "landing" / f"dt={day}"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "http.parquet")


@pytest.mark.slow
def test_attacks_score_higher_than_ordinary_requests(
    tmp_path: Path, shared_data: Path, prefect_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model of ordinary requests ranks requests that it has not seen; the labels are kept away from it."""
    table = pq.read_table(shared_data / "labelled" / "kdd99_http.parquet")
    normal = pc.equal(table.column("label"), 0).to_numpy()
    learned = normal & (np.arange(table.num_rows) % 2 == 0)
    (tmp_path / "mlflow.yml").write_text("experiment: tests\n")
    (tmp_path / "http.yml").write_text(PIPELINE)
    land(tmp_path, "1999-01-01", table.filter(pa.array(learned)).drop_columns(["label"]))
    land(tmp_path, "1999-01-02", table.filter(pa.array(~learned)).drop_columns(["label"]))
    labels = table.column("label").to_numpy()[~learned]

    from flows.score import score
    from flows.server import api
    from flows.train import train

    with api(tmp_path):
        train(str(tmp_path / "http.yml"), "1999-01-01")
        report = score(str(tmp_path / "http.yml"), "1999-01-02")

    scores = pq.ParquetFile(tmp_path / "results/scores/dt=1999-01-02/part-0.parquet").read().to_pandas()
    area = roc_auc_score(labels[scores.row_number], scores.anomaly_score)
    flagged = scores.is_anomaly.to_numpy()
    with capsys.disabled():  # the figure belongs in the log of a run that passes, too
        print(
            f"KDD99 http: AUROC {area:.4f}; {flagged.sum()} flagged,"
            f" {labels[scores.row_number][flagged].sum()} of {labels.sum()} attacks among them"
        )
    assert report["rows_scored"] == len(scores) == len(labels)
    assert set(scores.batch_file) == {"dt=1999-01-02/http.parquet"}
    assert area > 0.95
