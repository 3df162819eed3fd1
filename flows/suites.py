"""The suite of a table: profiled from training rows, kept as JSON, edited by hand.

A suite is Great Expectations' own JSON, beside the pipeline file. It describes the form of a table (columns,
types, nulls, keys, booleans), never tight ranges: a range would turn away just the rows that the model is to
find. Each expectation has a role, in ``meta: {"vaewatch": {"role": …}}``:

========== ================================ ==========================
role       when it does not hold            asked of
========== ================================ ==========================
contract   the file is rejected             a sample
row        the row goes to quarantine       every row, as Arrow masks
batch      the report says so               a sample
========== ================================ ==========================
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import importlib.util
import json
import math
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.datadocs import write_text
from flows.errors import ConfigError, InputError
from flows.rules import ROLES, columns_of, declared_role, plain_column

__all__ = ["Entry", "Suite", "load_suite", "profile", "save_suite", "title"]

Entry = dict[str, Any]
Suite = dict[str, Any]

NOTES = (
    "Profiled from training data; edit it freely, it is read before every run. "
    "meta.vaewatch.role: contract = reject the file, row = quarantine the row, batch = report only."
)

SEVERITY = {"contract": "critical", "row": "warning", "batch": "info"}

GIVE = 0.05
"""How far a share may fall below the one seen in training before the report names it."""

WIDE = 250
"""Of tables with more columns only the keys are described one by one: 10,000 expectations take 3 minutes."""

NEVER_NULL = 0.999
"""Share of values that must be there where training saw no null: a stray one is evidence, not a breach."""


# --- profile ----------------------------------------------------------------------------------------------


def profile(
    table: pa.Table,
    *,
    name: str,
    keys: Sequence[str] = (),
    ignore: Collection[str] = (),
    booleans: Collection[str] = (),
) -> Suite:
    """Write down the form of a table from a sample of its training rows.

    Only a null in a key column, and a third value in a column declared boolean, send a row to quarantine:
    any other oddity of a value is evidence that the model must see.

    Parameters
    ----------
    table : pyarrow.Table
        The sample, in the types that the model is trained on.
    name : str
        Of the suite; the pipeline's name.
    keys : sequence of str
        Columns that together name a row. Their uniqueness is reported, not enforced: equal keys are rarer in
        a sample of months than in one night.
    ignore : collection of str
        Columns about which nothing is written.
    booleans : collection of str
        Columns declared boolean that hold other types, such as ``Y`` and ``N``.

    Returns
    -------
    dict
        The suite, as `save_suite` writes it.

    Raises
    ------
    InputError
        The sample has no rows.
    ConfigError
        A key is not a column.
    """
    _require_rows_and_keys(table, name, keys)
    columns = [column for column in table.column_names if column in keys or column not in ignore]
    rules = [
        _entry("expect_table_columns_to_match_set", "contract", column_set=columns, exact_match=False),
        _entry("expect_table_row_count_to_be_between", "batch", min_value=1),
        *_unique(table, keys),
    ]
    for column in columns if len(columns) <= WIDE else keys:
        values = plain_column(table.column(column))
        rules += [*_typed(column, values), *_filled(column, values, column in keys)]
        rules += _two_valued(column, values, column in booleans)
    return {"name": name, "expectations": rules, "meta": _made_by(), "notes": NOTES}


def _require_rows_and_keys(table: pa.Table, name: str, keys: Sequence[str]) -> None:
    if table.num_rows == 0:
        raise InputError(f"the suite {name} needs rows, however the sample has none; check the window")
    if strangers := sorted(set(keys) - set(table.column_names)):
        raise ConfigError(f"keys must be columns, however {', '.join(strangers)} came; correct columns.key")


def _entry(type_: str, role: str, /, **kwargs: Any) -> Entry:
    return {"type": type_, "kwargs": kwargs, "severity": SEVERITY[role], "meta": {"vaewatch": {"role": role}}}


def _made_by() -> dict[str, str]:
    return {"great_expectations_version": importlib.metadata.version("great-expectations")}


def _unique(table: pa.Table, keys: Sequence[str]) -> list[Entry]:
    if not keys:
        return []
    counts = table.group_by(list(keys)).aggregate([([], "count_all")])["count_all"]
    mostly = _below(pc.sum(pc.equal(counts, 1)).as_py() / table.num_rows)
    if mostly <= 0:
        return []
    if len(keys) == 1:
        return [_entry("expect_column_values_to_be_unique", "batch", column=keys[0], mostly=mostly)]
    return [_entry("expect_compound_columns_to_be_unique", "batch", column_list=list(keys), mostly=mostly)]


def _typed(column: str, values: pa.ChunkedArray) -> list[Entry]:
    """Tell numbers, texts, truth values and moments apart; other types are the business of Arrow's schema."""
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        names = ["int", "float"]
        return [_entry("expect_column_values_to_be_in_type_list", "contract", column=column, type_list=names)]
    if pa.types.is_boolean(kind):
        name = "bool"
    elif pa.types.is_timestamp(kind):
        name = "Timestamp"
    elif pa.types.is_large_string(kind):
        name = "str"
    else:
        return []
    return [_entry("expect_column_values_to_be_of_type", "contract", column=column, type_=name)]


def _filled(column: str, values: pa.ChunkedArray, key: bool) -> list[Entry]:
    missing = pc.sum(pc.is_null(values, nan_is_null=True)).as_py()
    if key and not missing:
        return [_entry("expect_column_values_to_not_be_null", "row", column=column)]
    mostly = _below(1 - missing / len(values)) if missing else NEVER_NULL
    if mostly <= 0:
        return []
    return [_entry("expect_column_values_to_not_be_null", "batch", column=column, mostly=mostly)]


def _two_valued(column: str, values: pa.ChunkedArray, declared: bool) -> list[Entry]:
    if pa.types.is_boolean(values.type) or not (declared or pa.types.is_integer(values.type)):
        return []
    distinct = pc.unique(values.drop_null())
    if len(distinct) > 2:
        return []
    seen = sorted(distinct.to_pylist())
    if declared and seen:
        return [_entry("expect_column_values_to_be_in_set", "row", column=column, value_set=seen)]
    if seen == [0, 1]:
        return [_entry("expect_column_values_to_be_in_set", "batch", column=column, value_set=seen)]
    return []


def _below(share: float) -> float:
    return math.floor(round(100 * (share - GIVE), 6)) / 100  # 100 * 0.89 is 88.99…


# --- the suite on disk ------------------------------------------------------------------------------------


def save_suite(path: Path | str, suite: Suite) -> None:
    """Write a suite as JSON that a person can read and edit."""
    write_text(Path(path), json.dumps(suite, indent=2, ensure_ascii=False) + "\n")


def load_suite(path: Path | str) -> Suite:
    """Read a suite, and check all that can be checked without Great Expectations.

    Raises
    ------
    ConfigError
        The file is missing, is no JSON, or holds an entry that is no expectation; names file and entry.
    """
    try:
        suite = json.loads(Path(path).read_text(encoding="utf-8"))
        return _checked(suite)
    except FileNotFoundError as error:
        raise ConfigError(
            f"a suite was required at {path}, however there is none; `vaewatch train` profiles one"
        ) from error
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}"
        raise ConfigError(f"{where}: JSON was required, however: {error.msg}; correct it there") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}; correct it there") from error


def _checked(suite: Any) -> Suite:
    _require(isinstance(suite, dict), "an object with name and expectations was required", suite)
    _known("key", suite, {"name", "expectations", "meta", "notes", "id"})
    plain_name = re.fullmatch(r"[A-Za-z0-9_.-]+", str(suite.get("name")))
    _require(bool(plain_name), "a name of letters, digits, _, . and - was required", suite.get("name"))
    _require(isinstance(suite.get("expectations"), list), "a list of expectations was required", suite)
    for number, entry in enumerate(suite["expectations"], start=1):
        try:
            _check_entry(entry)
        except ValueError as error:
            raise ValueError(f"expectation {number} ({title(entry)}): {error}") from error
    return dict(suite)


def _check_entry(entry: Any) -> None:
    _require(isinstance(entry, dict), "an object with type and kwargs was required", entry)
    _known("key", entry, {"type", "kwargs", "meta", "severity", "notes", "description", "id"})
    _known("type", [str(entry.get("type"))], _types())
    kwargs, meta = entry.get("kwargs"), entry.get("meta") or {}
    _require(isinstance(kwargs, dict), "kwargs as an object was required", kwargs)
    _require(isinstance(meta, dict), "meta as an object was required", meta)
    columns, mostly = columns_of(entry), entry["kwargs"].get("mostly", 1)
    _require(all(isinstance(name, str) for name in columns), "names of columns were required", columns)
    share = isinstance(mostly, int | float) and 0 <= mostly <= 1
    _require(share, "mostly as a share from 0 to 1 was required", mostly)
    role = declared_role(entry)
    _require(role in (None, *ROLES), f"a role of {', '.join(ROLES)} was required", role)


def _require(holds: bool, what: str, value: Any) -> None:
    if not holds:
        raise ValueError(f"{what}, however {str(value)[:60]!r} came")


def _known(what: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.3)
            raise ValueError(f"{name!r} is no known {what}" + (f", did you mean {near[0]}?" if near else ""))


def title(entry: Any) -> str:
    """Name an expectation for a message: its type, and its column where it has one."""
    if not isinstance(entry, dict):
        return "no object"
    kwargs = entry.get("kwargs")
    column = kwargs.get("column") if isinstance(kwargs, dict) else None
    return f"{entry.get('type')} of {column}" if column else str(entry.get("type"))


@functools.cache
def _types() -> frozenset[str]:
    """Names of all expectations, from the names of the files that define them: no import, no 8 seconds."""
    package = importlib.util.find_spec("great_expectations")
    if package is None or not package.submodule_search_locations:
        raise ConfigError(
            "Great Expectations is required, however it is not installed; install vaewatch again"
        )
    folder = Path(package.submodule_search_locations[0]) / "expectations" / "core"
    return frozenset(path.stem for path in folder.glob("*expect*.py"))
