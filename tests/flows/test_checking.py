"""A night is checked file by file."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.checking import check_files
from flows.config import load_pipeline
from flows.suites import save_suite
from flows.tables import InputFile, input_file

pytestmark = pytest.mark.slow

DAY = dt.date(2026, 1, 1)
SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float64())])


def _file(folder: Path, name: str, table: pa.Table) -> InputFile:
    pq.write_table(table, folder / name)
    return input_file(str(folder / name), DAY)


def test_what_is_wrong_is_told_of_each_file_and_each_column_once(tmp_path: Path) -> None:
    """One that lacks a column cannot be read; one that breaks the contract is named with the rule."""
    (tmp_path / "mlflow.yml").touch()
    (tmp_path / "orders.yml").write_text("version: 1\nname: orders\nsource: {path: .}\noutput: results\n")
    meta = {"vaewatch": {"role": "contract"}}
    rule = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}, "meta": meta}
    save_suite(tmp_path / "orders.expectations.json", {"name": "orders", "expectations": [rule], "meta": {}})
    good = _file(tmp_path, "good.parquet", pa.table({"id": [1, 2], "x": [0.5, 0.6]}, SCHEMA))
    bad = _file(tmp_path, "bad.parquet", pa.table({"id": [1, None], "x": [0.5, 0.6]}, SCHEMA))
    less = _file(tmp_path, "less.parquet", pa.table({"id": [1, 2]}))

    checked = check_files(load_pipeline(tmp_path / "orders.yml"), DAY, [good, bad, less], (SCHEMA, []))

    assert checked["rejected"].keys() == {less.path}
    assert checked["rejected"][less.path].startswith(f"{less.path}: ")
    assert "missing: x" in checked["rejected"][less.path]
    assert checked["broken"].keys() == {bad.path}
    assert checked["broken"][bad.path].startswith("id: column values to not be null was required, however 1")
