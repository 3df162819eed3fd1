"""Which files make a night, and what of them is read."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.config import load_pipeline
from flows.sources import find_files
from flows.tables import open_table

NIGHT = date(2024, 3, 1)
PIPELINE = """
version: 1
name: orders
source: {{path: landing, partition: day}}
output: results
columns: {{key: [{key}], ignore: [{ignored}]}}
"""


@pytest.mark.parametrize(
    ("key", "ignored", "read"),
    [("id", "dt, x", ["id", "x"]), ("id", "x", ["id", "dt", "x"]), ("dt", "dt", ["id", "dt", "x"])],
)
def test_an_ignored_column_that_results_cannot_hold_is_not_read(
    tmp_path: Path, key: str, ignored: str, read: list[str]
) -> None:
    """It is called ``dt``, as folders of results are; other ignored columns stay, and a key does."""
    file = tmp_path / f"landing/day={NIGHT}/a.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": [1, 2], "dt": ["a", "b"], "x": [0.5, 1.5]}), file)
    (tmp_path / "mlflow.yml").write_text("experiment: tests\n")
    (tmp_path / "orders.yml").write_text(PIPELINE.format(key=key, ignored=ignored))
    pipeline = load_pipeline(tmp_path / "orders.yml")

    found = [*find_files(pipeline, NIGHT), *find_files(pipeline, NIGHT, str(file))]

    for one in found:
        with open_table(one) as reader:
            assert reader.schema.names == read
            assert [batch.schema.names for batch in reader.batches()] == [read]
            coded = next(iter(reader.coded_batches(reader.row_groups)))
            assert (coded.num_rows, coded.schema.names) == (2, read)
