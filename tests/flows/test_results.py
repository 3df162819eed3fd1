"""The columns that are added to a table: names of rows, scores, reasons."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from flows.errors import SchemaError
from flows.results import added_names, contributions, flag_columns, refuse_clashes, row_ids, row_keys
from vae_core import Reason

REASON = Reason("price", "value", "1,000", "about 10", 0.75)


def test_a_row_id_is_sixteen_hexadecimal_digits_and_unique() -> None:
    ids = row_ids("dt=2024-01-01/a.parquet", np.arange(100_000)).to_pylist()

    assert len(set(ids)) == 100_000
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


def test_a_row_id_is_the_same_in_every_release() -> None:
    """Verdicts refer to it: this is a promise about files, not about code."""
    assert row_ids("a.parquet", np.array([0, 7])).to_pylist() == ["d6b3f9a49b3f5f17", "c010dada9ed7cc4e"]


def test_a_row_id_does_not_depend_on_the_batch() -> None:
    whole = row_ids("a.parquet", np.arange(10)).to_pylist()

    assert row_ids("a.parquet", np.array([3, 8])).to_pylist() == [whole[3], whole[8]]


def test_rows_of_two_files_have_different_ids() -> None:
    one, other = (set(row_ids(key, np.arange(1000)).to_pylist()) for key in ("a.parquet", "b.parquet"))

    assert not one & other


def test_no_rows_have_no_ids() -> None:
    assert row_ids("a.parquet", np.arange(0)).to_pylist() == []


def test_a_row_key_is_json_of_the_key_columns_without_sensitive_ones() -> None:
    batch = pa.RecordBatch.from_pydict({"id": [2**63 - 1], "who": ["Ann"], "shop": ["Zürich"], "x": [1.0]})

    keys = row_keys(batch, ["id", "who", "shop"], ["who"])

    assert keys.to_pylist() == ['{"id": 9223372036854775807, "shop": "Zürich"}']


def test_a_row_key_holds_dates_decimals_and_nulls() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "at": [datetime(2024, 1, 2, tzinfo=UTC)],
            "price": [Decimal("1.50")],
            "shop": pa.array([None], "str"),
        }
    )

    [key] = row_keys(batch, ["at", "price", "shop"], []).to_pylist()

    assert json.loads(key) == {"at": "2024-01-02 00:00:00+00:00", "price": "1.50", "shop": None}


def test_without_key_columns_a_row_key_is_an_empty_object() -> None:
    batch = pa.RecordBatch.from_pydict({"x": [1, 2]})

    assert row_keys(batch, [], []).to_pylist() == ["{}", "{}"]


def test_a_row_with_fewer_reasons_than_three_has_nulls() -> None:
    columns = flag_columns([[REASON], []], [])

    assert columns["reason_1_column"].to_pylist() == ["price", None]
    assert columns["reason_1_share"].to_pylist() == [0.75, None]
    assert columns["reason_3_value"].to_pylist() == [None, None]


def test_a_reason_of_a_sensitive_column_names_the_column_and_hides_its_values() -> None:
    columns = flag_columns([[REASON]], ["price"])

    assert columns["reason_1_column"].to_pylist() == ["price"]
    assert (
        columns["reason_1_value"].to_pylist() == columns["reason_1_expected"].to_pylist() == ["(sensitive)"]
    )


def test_a_clash_of_names_is_an_error_that_names_them_and_the_setting() -> None:
    with pytest.raises(SchemaError, match=r"however severity, threshold came; set `prefix`"):
        refuse_clashes(["threshold", "x", "severity"], "")


def test_with_a_prefix_our_names_are_free() -> None:
    refuse_clashes(["threshold", "x", "severity"], "vw_")

    assert added_names("vw_")[0] == "vw_reconstruction_loss"


def test_names_that_differ_in_case_only_clash() -> None:
    """DuckDB and Spark tell no ``Severity`` from ``severity``."""
    with pytest.raises(SchemaError, match="however Severity came"):
        refuse_clashes(["Severity"], "")


@pytest.mark.parametrize("prefix", ["", "vw_"])
def test_a_column_called_as_folders_tell_the_night_is_refused(prefix: str) -> None:
    """Readers of all nights would find it twice; the message says what to do."""
    with pytest.raises(SchemaError, match=r"however Dt came; rename it, or list it under `columns: ignore`"):
        refuse_clashes(["x", "Dt"], prefix)


def test_contributions_are_one_line_for_each_row_and_column() -> None:
    batch = contributions(
        pa.array(["r1", "r2"]),
        ["x", "y"],
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[0.25, 0.75], [0, 1]]),
    )

    assert batch.to_pylist()[1] == {"row_id": "r1", "column": "y", "loss": 2.0, "share": 0.75}
    assert batch.column("row_id").to_pylist() == ["r1", "r1", "r2", "r2"]
