"""Great Expectations: a suite is validated on a sample of rows, and its pages of Data Docs are written.

The suite itself (`flows.suites`) and what it asks of every single row (`flows.rules`) need no Great
Expectations; importing it takes 8 seconds of CPU, so only `validate` does.
"""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows import datadocs
from flows.errors import ConfigError, InputError
from flows.rules import ROLES, RowRule, bad_rows, columns_of, is_row_rule, plain_column, role_of, row_rules
from flows.suites import Entry, Suite, load_suite, profile, save_suite, title

__all__ = [
    "SAMPLE_ROWS",
    "Failure",
    "Report",
    "RowRule",
    "bad_rows",
    "load_suite",
    "prepare",
    "profile",
    "row_rules",
    "save_suite",
    "validate",
]

SAMPLE_ROWS = 20_000
"""Great Expectations is shown at most so many rows: it costs 8 to 18 times what scoring costs."""

EXACT = 2**53
"""Beyond it a double no longer holds every integer."""


@dataclass(frozen=True)
class Failure:
    """One expectation that did not hold, or could not be evaluated.

    Attributes
    ----------
    expectation : str
        Its type.
    column : str
        Its column or columns; empty where it speaks of the table.
    role : str
        ``contract``, ``row`` or ``batch``.
    checked_on : str
        ``every row`` (and here on the sample, too) or ``sample``.
    observed : str
        What came instead.
    message : str
        All of this as a sentence.
    error : str or None
        Why it could not be evaluated.
    """

    expectation: str
    column: str
    role: str
    checked_on: str
    observed: str
    message: str
    error: str | None


@dataclass(frozen=True)
class Report:
    """What Great Expectations found on a sample.

    Attributes
    ----------
    success : bool
        All expectations hold; one that could not be evaluated does not.
    evaluated : int
        Number of expectations.
    failed : tuple of Failure
        Those that do not hold: first contract, then row, then batch.
    docs_url : str or None
        Address of the page in Data Docs.
    statistics : dict
        ``rows`` of the sample, and how many expectations are ``checked_on_every_row`` and
        ``checked_on_sample``.
    """

    success: bool
    evaluated: int
    failed: tuple[Failure, ...]
    docs_url: str | None
    statistics: dict[str, int]

    @property
    def contract_broken(self) -> bool:
        """Whether the file must be rejected."""
        return any(failure.role == "contract" for failure in self.failed)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        return {**asdict(self), "failed": [asdict(failure) for failure in self.failed]} | {
            "contract_broken": self.contract_broken
        }


def validate(sample: pa.Table, suite: Suite, *, docs_folder: Path | None, run_name: str) -> Report:
    """Show a sample of rows to Great Expectations, and write its page in Data Docs.

    Parameters
    ----------
    sample : pyarrow.Table
        Rows of the batch; of more than `SAMPLE_ROWS`, evenly spaced ones are taken.
    suite : dict
        As `load_suite` returns it.
    docs_folder : Path or None
        Where the static site of Data Docs lies; None writes none.
    run_name : str
        Names the page, such as the logical date. A second run of a name replaces the first.

    Raises
    ------
    ConfigError
        An expectation's arguments are not what its type takes.
    InputError
        A column's values cannot be shown to pandas.
    StoreError
        Data Docs cannot be written.
    """
    rows = _thinned(sample)
    with ONE_AT_A_TIME:
        result = _whole_frame().get_batch({"dataframe": _frame(rows)}).validate(_built(suite))
        for one in result.results:
            _forget_nulls(one)
        if docs_folder is None:
            return _report(result, suite, rows, None)
        page = datadocs.run_page(docs_folder.absolute(), suite["name"], run_name)
        report = _report(result, suite, rows, page.as_uri())
        datadocs.write_text(page, _run_html(result, run_name, rows.num_rows))
        datadocs.write_report(page, {"run": run_name, "suite": suite["name"], **report.to_dict()})
        _write_suite_page(docs_folder, suite)
        datadocs.write_index(docs_folder)
        return report


ONE_AT_A_TIME = threading.Lock()
"""Great Expectations keeps its project, and the last batch, in the process."""


def _thinned(sample: pa.Table) -> pa.Table:
    if sample.num_rows <= SAMPLE_ROWS:
        return sample
    return sample.take(pa.array([row * sample.num_rows // SAMPLE_ROWS for row in range(SAMPLE_ROWS)]))


def prepare() -> None:
    """Import Great Expectations now, not when the first sample is shown to it."""
    _whole_frame()


@functools.cache
def _whole_frame() -> Any:
    """Set up one in-memory project for the life of the process: no files, no progress bars, no telemetry."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("sample").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("whole")


def _built(suite: Suite) -> Any:
    import great_expectations as gx

    expectations = [_built_one(entry) for entry in suite["expectations"]]
    return gx.ExpectationSuite(suite["name"], expectations, meta=dict(suite.get("meta") or {}))


def _built_one(entry: Entry) -> Any:
    """Build one expectation here: a suite drops those it cannot build, with a line in the log."""
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    try:
        return ExpectationConfiguration(**{**entry, "id": None}).to_domain_obj()
    except (GreatExpectationsError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{title(entry)} is no expectation: {_one_line(error)}; correct the suite"
        ) from error


def _frame(table: pa.Table) -> Any:
    """Convert to pandas so that its types are few: int64, float64, bool, str, UTC moments, or objects."""
    import pandas as pd

    series = {}
    for name in table.column_names:
        try:
            table.column(name).validate(full=True)  # finds text that is no UTF-8, which pandas would choke on
            series[name] = _series(plain_column(table.column(name)))
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise InputError(f"column {name} cannot be read: {_one_line(error)}; correct the file") from error
    return pd.DataFrame(series)


def _series(column: pa.ChunkedArray) -> Any:
    if pa.types.is_integer(column.type):
        return _integers(column)
    if pa.types.is_floating(column.type):
        return column.cast(pa.float64()).to_pandas()
    return column.to_pandas()


def _integers(column: pa.ChunkedArray) -> Any:
    """Convert without losing a digit: doubles stand in for nulls only where they are exact."""
    bounds = pc.min_max(column).as_py()
    low, high = bounds["min"] or 0, bounds["max"] or 0
    if high >= 2**63:
        return column.to_pandas(integer_object_nulls=True).astype(object)
    exact = low > -EXACT and high < EXACT
    return column.cast(pa.int64()).to_pandas(integer_object_nulls=not exact)


def _forget_nulls(one: Any) -> None:
    """Drop the examples of missing values: a page of NaN tells nobody anything."""
    if one.expectation_config.type == "expect_column_values_to_not_be_null":
        one.result = {name: value for name, value in one.result.items() if not name.startswith("partial_")}


def _report(result: Any, suite: Suite, rows: pa.Table, docs_url: str | None) -> Report:
    every = sum(is_row_rule(entry, rows.schema) for entry in suite["expectations"])
    failures = [_failure(one, rows.schema) for one in result.results if not one.success or _error(one)]
    failed = tuple(sorted(failures, key=lambda failure: ROLES.index(failure.role)))
    counts = {
        "rows": rows.num_rows,
        "checked_on_every_row": every,
        "checked_on_sample": len(result.results) - every,
    }
    return Report(not failed, len(result.results), failed, docs_url, counts)


def _failure(one: Any, schema: pa.Schema) -> Failure:
    entry = one.expectation_config.to_json_dict()
    columns = columns_of(entry)
    missing = [column for column in columns if column not in schema.names]
    error = f"no column {', '.join(missing)} came" if missing else _error(one)
    observed = error or _observed(one.result)
    message = f"{', '.join(columns) or 'table'}: {_asked(entry)} was required, however {observed}"
    checked_on = "every row" if is_row_rule(entry, schema) else "sample"
    return Failure(entry["type"], ", ".join(columns), role_of(entry), checked_on, observed, message, error)


def _asked(entry: Entry) -> str:
    """Name an expectation in words with its arguments, less those that say where it is asked."""
    where = ("batch_id", "column", "column_A", "column_B", "column_list", "column_set")
    asked = [f"{name} {value}" for name, value in entry["kwargs"].items() if name not in where]
    words: str = entry["type"].removeprefix("expect_").replace("_", " ")
    return words + (f" ({_short(', '.join(asked))})" if asked else "")


def _observed(result: dict[str, Any]) -> str:
    mismatched = (result.get("details") or {}).get("mismatched") or {}
    if mismatched:
        parts = [("missing", mismatched.get("missing", [])), ("new", mismatched.get("unexpected", []))]
        return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts if names)
    if "unexpected_count" in result:
        examples = dict.fromkeys(_short(value) for value in result.get("partial_unexpected_list") or [])
        such = f", such as {', '.join(list(examples)[:3])}" if examples else ""
        return f"{result['unexpected_count']} of {result['element_count']} are not so{such}"
    return f"{result.get('observed_value')} came"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _error(one: Any) -> str | None:
    """Read ``exception_info``, which is one report or a report for each metric that raised."""
    info = one.exception_info or {}
    found = [info] if "raised_exception" in info else list(info.values())
    raised = [each["exception_message"] for each in found if each["raised_exception"]]
    return _one_line(raised[0]) if raised else None


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())


# --- Data Docs --------------------------------------------------------------------------------------------


def _run_html(result: Any, run_name: str, rows: int) -> str:
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    result.meta["run_id"] = RunIdentifier(run_name=run_name, run_time=datetime.now(UTC))
    result.meta.pop("batch_markers", None)
    result.meta["batch_spec"] = {"data_asset_name": f"a sample of {rows:,} rows"}
    return _html(ValidationResultsPageRenderer().render(result))


def _write_suite_page(docs_folder: Path, suite: Suite) -> None:
    """Render the page of a suite where it is not yet the page of just this suite."""
    from great_expectations.render.renderer import ExpectationSuitePageRenderer

    page = datadocs.suite_page(docs_folder, suite["name"])
    copy, text = page.with_suffix(".json"), json.dumps(suite, indent=2)
    if page.exists() and copy.exists() and copy.read_text(encoding="utf-8") == text:
        return
    datadocs.write_text(page, _html(ExpectationSuitePageRenderer().render(_built(suite))))
    datadocs.write_text(copy, text)


def _html(document: Any) -> str:
    from great_expectations.render.view import DefaultJinjaPageView

    page: str = DefaultJinjaPageView().render(document, show_how_to_buttons=False)
    return datadocs.offline(page)
