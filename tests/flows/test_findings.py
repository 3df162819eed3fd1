"""What monitoring finds out about a night's columns, types and volume."""

from __future__ import annotations

import pytest

from flows.findings import Finding, schema_findings, table_of, volume_finding
from flows.monitor_page import sentences


def test_columns_that_changed_are_named_with_what_they_were() -> None:
    trained = {"a": "int64", "b": "string", "c": "double"}
    files = {
        "1.parquet": {"a": "int32", "b": "string", "c": "double"},
        "2.parquet": {"a": "int64", "d": "bool"},
    }
    found = {(one.column, one.metric): one for one in schema_findings(trained, files)}

    assert {place: (one.value, one.detail) for place, one in found.items()} == {
        ("a", "type_changed"): (0.5, "int64 → int32"),
        ("b", "missing_column"): (0.5, "not in 2.parquet"),
        ("c", "missing_column"): (0.5, "not in 2.parquet"),
        ("d", "new_column"): (0.5, "bool, not learned"),
    }
    assert {one.state for one in found.values()} == {"changed"}


def test_files_like_the_training_data_have_no_schema_findings() -> None:
    assert not list(schema_findings({"a": "int64"}, {"1.parquet": {"a": "int64"}}))


@pytest.mark.parametrize(
    ("rows", "state"), [(1000, "ok"), (1600, "watch"), (600, "watch"), (2100, "drift"), (0, "drift")]
)
def test_the_rows_of_a_night_are_compared_with_the_median_of_earlier_nights(rows: int, state: str) -> None:
    finding = volume_finding(rows, [900, 1000, 5000])

    assert (finding.reference, finding.state) == (1000.0, state)


def test_volume_needs_three_earlier_nights() -> None:
    finding = volume_finding(10, [1000, 1000])

    assert (finding.reference, finding.state) == (None, "ok")
    assert finding.detail == "2 earlier nights: too few to compare with"


def test_findings_are_said_in_words_a_sentence_a_measure_the_greatest_first() -> None:
    found = [
        Finding("fee", "psi", 0.3, 0.0, 0.25, "drift"),
        Finding("tax", "psi", 1.2, 0.0, 0.25, "drift"),
        Finding("flag", "null_share", 0.075, 0.1035, 0.02, "drift"),
        Finding("zone", "type_changed", 1.0, 0.0, 0.0, "changed", "int64 → int32"),
        Finding("tip", "power_null", 0.2, 0.9, 0.5, "blind"),
    ]

    assert sentences(found) == [
        "Types changed: zone (int64 → int32).",
        "Shares of nulls changed: flag (10.350% → 7.500%).",
        "Drifted: tax (index 1.20), fee (index 0.30).",
        "Blind to plain errors: null in tip (20% found).",
    ]


def test_findings_are_a_long_table() -> None:
    batch = table_of([Finding("fee", "psi", 0.3, 0.0, 0.25, "drift"), Finding(None, "rows", 5.0)])

    assert batch.schema.names == ["column", "metric", "value", "reference", "threshold", "state", "detail"]
    assert batch.to_pylist()[1]["column"] is None
