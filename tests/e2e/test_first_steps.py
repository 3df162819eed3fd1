"""What `vaewatch init` writes works as it is: train, check, score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.flows.test_scaffold import orders, write

pytestmark = pytest.mark.slow

NIGHT = "2024-03-12"


def test_a_folder_of_files_becomes_flags_without_a_word_written(
    tmp_path: Path, vaewatch: Callable[..., str]
) -> None:
    """Running numbers are key and ignored: files need them, flags have them, scores do not look at them."""
    for day in range(12):
        table = orders(day)
        if day == 11:
            amount = [1e6, *table["amount"].to_pylist()[1:]]
            table = table.set_column(table.schema.get_field_index("amount"), "amount", pa.array(amount))
        write(tmp_path / f"landing/orders/dt=2024-03-{day + 1:02}/part-0.parquet", table)

    vaewatch("init", "landing/orders")
    file = tmp_path / "pipelines/orders.yml"
    text = file.read_text()
    assert "detector: {}" in text
    file.write_text(text.replace("detector: {}", "detector: {max_epochs: 2, n_members: 1}"))
    vaewatch("train", "--pipeline", str(file), "--until", "2024-03-11")
    vaewatch("check", "--pipeline", str(file), "--date", NIGHT)
    vaewatch("score", "--pipeline", str(file), "--date", NIGHT)

    results = next(tmp_path.glob("**/manifests")).parent
    manifest = json.loads((results / f"manifests/dt={NIGHT}.json").read_text())
    flags = pq.ParquetFile(results / f"flags/dt={NIGHT}/part-0.parquet").read()
    assert (manifest["rows_in"], manifest["rows_scored"]) == (200, 200)
    assert json.loads(flags.column("row_key")[0].as_py()) == {"order_id": 2200}
    assert flags.column("order_id")[0].as_py() == 2200
