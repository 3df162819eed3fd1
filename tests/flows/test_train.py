"""What a training refuses before it costs anything."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from flows.config import Pipeline, load_pipeline
from flows.errors import ConfigError
from flows.train import _require_columns

TABLE = pa.table({"id": [1], "amount": [2.5], "shop": ["Bern"], "coupon": pa.array([7], pa.decimal128(9, 2))})
PIPELINE = """
version: 1
name: orders
source: {{path: landing}}
output: results
columns: {{{columns}}}
"""


def pipeline(folder: Path, columns: str) -> Pipeline:
    (folder / "mlflow.yml").touch()
    (folder / "orders.yml").write_text(PIPELINE.format(columns=columns))
    return load_pipeline(folder / "orders.yml")


@pytest.mark.parametrize(
    "columns", ["", "key: [id], sensitive: [shop]", "value_at_stake: coupon, ignore: [id]"]
)
def test_columns_that_are_there_pass(tmp_path: Path, columns: str) -> None:
    _require_columns(pipeline(tmp_path, columns), TABLE)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("sensitive: [shop, shoe]", r"columns names shoe, however the table has id, amount, shop, coupon"),
        ("value_at_stake: price", r"columns names price, however the table has"),
        ("key: [id, nr], categorical: [color]", r"columns names color, nr, however"),
        ("value_at_stake: shop", r"value_at_stake`: a column shop of numbers was required, however it holds"),
    ],
)
def test_columns_that_are_not_there_or_hold_no_numbers_are_named(
    tmp_path: Path, columns: str, said: str
) -> None:
    """The pipeline file is named, too: there is something to correct."""
    with pytest.raises(ConfigError, match=rf"orders\.yml: .*{said}"):
        _require_columns(pipeline(tmp_path, columns), TABLE)
