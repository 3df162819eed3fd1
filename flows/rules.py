"""Row rules: what a suite of expectations asks of every single row, as Arrow masks.

Great Expectations validates a bounded sample; these masks give the same verdict on the same rows at the
speed of Arrow, so that they can be asked of every row of a night. A null (and a NaN, which pandas calls
null) breaks no rule but the one that forbids nulls.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.errors import ConfigError, SchemaError

__all__ = [
    "ROLES",
    "RowRule",
    "bad_rows",
    "columns_of",
    "declared_role",
    "is_row_rule",
    "plain_column",
    "plain_type",
    "role_of",
    "row_rules",
]

ROLES = ("contract", "row", "batch")
"""What a broken expectation means: reject the file, quarantine the row, or tell people."""

CONTRACT_TYPES = frozenset(
    {
        "expect_column_to_exist",
        "expect_column_values_to_be_in_type_list",
        "expect_column_values_to_be_of_type",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
    }
)
"""Expectations that are contract unless their ``meta`` says otherwise."""

Entry = Mapping[str, Any]
Mask = Callable[[pa.RecordBatch], pa.BooleanArray]
Test = Callable[[pa.Array], pa.BooleanArray]
Compare = Callable[[Any, Any], pa.BooleanArray]


@dataclass(frozen=True)
class RowRule:
    """One expectation, compiled for the columns of one schema.

    Attributes
    ----------
    name : str
        Type of the expectation, such as ``expect_column_values_to_not_be_null``.
    column : str
        The column it reads; of a pair, both, parted by a comma.
    describe : str
        The rule in words, such as ``carrier must not be null``.
    """

    name: str
    column: str
    describe: str
    breaks: Mask = field(repr=False, compare=False)

    def mask(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Mark the rows of a batch, (n,), that break this rule; never null."""
        return self.breaks(batch)


def role_of(entry: Entry) -> str:
    """Tell what a broken expectation means: ``contract``, ``row`` or ``batch``.

    The entry's own ``meta: {"vaewatch": {"role": …}}`` decides. An entry added by hand without one is judged
    by its type; with ``mostly`` below 1 it speaks of the whole batch, never of single rows.
    """
    role = declared_role(entry) or _usual_role(entry["type"])
    return "batch" if role == "row" and entry["kwargs"].get("mostly", 1) < 1 else str(role)


def declared_role(entry: Entry) -> Any:
    """Read the role that an entry's ``meta`` declares, whatever it is; None without one."""
    ours = (entry.get("meta") or {}).get("vaewatch") or {}
    return ours.get("role") if isinstance(ours, Mapping) else ours


def columns_of(entry: Entry) -> list[str]:
    """Name the columns that an expectation reads; none where it speaks of the table."""
    kwargs = entry["kwargs"]
    named = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    return named or list(kwargs.get("column_list", []))


def is_row_rule(entry: Entry, schema: pa.Schema) -> bool:
    """Whether an expectation is asked of every row of such a table, not of a sample only."""
    columns = columns_of(entry)
    known = bool(columns) and all(name in schema.names for name in columns)
    return _wants_rows(entry) and known and _compile(entry, schema) is not None


def row_rules(suite: Mapping[str, Any], schema: pa.Schema) -> tuple[RowRule, ...]:
    """Compile the row rules of a suite for files of one schema.

    Parameters
    ----------
    suite : mapping
        As `flows.expectations.load_suite` returns it.
    schema : pyarrow.Schema
        Of the batches that the rules will read.

    Returns
    -------
    tuple of RowRule
        One for each expectation of role ``row`` whose type can be compiled for its column's type. The others
        are left to the sample.

    Raises
    ------
    ConfigError
        An expectation's arguments are impossible, such as a bound that is no number.
    SchemaError
        A rule reads a column that is not there.
    """
    entries = [entry for entry in suite["expectations"] if _wants_rows(entry)]
    rules = (_compile(entry, schema) for entry in entries)
    return tuple(rule for rule in rules if rule is not None)


def bad_rows(rules: Sequence[RowRule], batch: pa.RecordBatch) -> tuple[pa.BooleanArray, pa.StringArray]:
    """Find the rows that break a rule, and say which.

    Returns
    -------
    broken : pyarrow.BooleanArray, (n,)
        True where a rule is broken; never null.
    reasons : pyarrow.StringArray, (n,)
        The broken rules in words, parted by semicolons; null where none is.
    """
    texts: dict[int, str] = {}
    for rule in rules:
        for row in pc.indices_nonzero(rule.mask(batch)).to_pylist():
            texts[row] = f"{texts[row]}; {rule.describe}" if row in texts else rule.describe
    reasons = pa.nulls(batch.num_rows, pa.string())
    if texts:
        reasons = pa.array([texts.get(row) for row in range(batch.num_rows)], pa.string())
    return pc.is_valid(reasons), reasons


# --- which expectations are asked of rows -----------------------------------------------------------------


def _usual_role(type_: str) -> str:
    if type_ in CONTRACT_TYPES:
        return "contract"
    return "row" if type_ in COMPILERS or type_ in PAIRS else "batch"


def _wants_rows(entry: Entry) -> bool:
    compiles = entry["type"] in COMPILERS or entry["type"] in PAIRS
    return compiles and role_of(entry) == "row" and not entry["kwargs"].get("row_condition")


def _compile(entry: Entry, schema: pa.Schema) -> RowRule | None:
    columns = columns_of(entry)
    if missing := sorted(set(columns) - set(schema.names)):
        raise SchemaError(
            f"the suite's {entry['type']} reads {', '.join(missing)}, however no such column came; "
            "send it, or take the expectation out of the suite"
        )
    try:
        return _compile_pair(entry, schema) if entry["type"] in PAIRS else _compile_column(entry, schema)
    except (KeyError, ValueError, TypeError, re.error) as error:
        where = f"the expectation {entry['type']} of {', '.join(columns) or 'no column'}"
        raise ConfigError(f"{where} cannot be asked: {error}; correct it in the suite") from error


def _compile_column(entry: Entry, schema: pa.Schema) -> RowRule | None:
    name = entry["kwargs"]["column"]
    index, kind = schema.get_field_index(name), plain_type(schema.field(name).type)
    compiled = COMPILERS[entry["type"]](entry["kwargs"], kind)
    if compiled is None:
        return None
    broken, words = compiled
    return RowRule(entry["type"], name, f"{name} {words}", lambda batch: _asked(broken, batch.column(index)))


def _asked(broken: Test, values: pa.Array) -> pa.BooleanArray:
    """Ask a test of each value (n,); of values by dictionary, of each distinct one and of null once."""
    if not pa.types.is_dictionary(values.type) or 2 * len(values.dictionary) > len(values):
        return broken(plain(values))
    distinct = plain(values.dictionary)
    answers = broken(pa.concat_arrays([distinct, pa.nulls(1, distinct.type)]))
    if not pc.any(answers).as_py():
        return pa.repeat(pa.scalar(False), len(values))
    return answers.take(pc.fill_null(values.indices.cast(pa.int64()), len(distinct)))


def _compile_pair(entry: Entry, schema: pa.Schema) -> RowRule | None:
    kwargs = entry["kwargs"]
    names = (kwargs["column_A"], kwargs["column_B"])
    kinds = [plain_type(schema.field(name).type) for name in names]
    if not any(all(map(same, kinds)) for same in (_is_number, _is_string, pa.types.is_timestamp)):
        return None
    compare, words = PAIRS[entry["type"]](kwargs)
    excused = EXCUSED[kwargs.get("ignore_row_if") or "both_values_are_missing"]

    def breaks(batch: pa.RecordBatch) -> pa.BooleanArray:
        left, right = (plain(batch.column(name)) for name in names)
        holds = pc.fill_null(compare(*alike(left, right)), False)
        return pc.and_not(pc.invert(holds), excused(present(left), present(right)))

    return RowRule(entry["type"], ", ".join(names), f"{names[0]} {words} {names[1]}", breaks)


# --- values as pandas, and so Great Expectations, see them ------------------------------------------------

MOMENT = pa.timestamp("us", "UTC")
"""Dates and times alike; one without a zone is read as UTC."""
WIDE = pa.decimal128(20)
"""Holds every integer of 64 bits, with a sign or without."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Name the type that `plain` gives to values of a type."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return MOMENT
    return pa.large_string() if _is_string(kind) else kind


def plain(values: pa.Array) -> pa.Array:
    """Undo what is storage only: dictionaries, string layouts, decimals (as doubles), units of time."""
    kind = plain_type(values.type)
    return values if values.type == kind else values.cast(kind, safe=False)


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Do to the chunks of a table's column what `plain` does to an array."""
    return pa.chunked_array([plain(chunk) for chunk in column.chunks], plain_type(column.type))


def comparable(values: pa.Array) -> pa.Array:
    """Numbers of all widths as doubles, as pandas compares them; other values as they are."""
    return values.cast(pa.float64(), safe=False) if _is_number(values.type) else values


def alike(left: pa.Array, right: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Two columns in types that compare as in pandas: integers to the last digit, others as `comparable`."""
    kinds = {left.type, right.type}
    if not all(map(pa.types.is_integer, kinds)):
        return comparable(left), comparable(right)
    return (left.cast(WIDE), right.cast(WIDE)) if kinds > {pa.uint64()} else (left, right)


def missing(values: pa.Array) -> pa.BooleanArray:
    """Mark the values, (n,), that are null or NaN."""
    if values.null_count == 0 and not pa.types.is_floating(values.type):
        return pa.repeat(pa.scalar(False), len(values))
    return pc.is_null(values, nan_is_null=True)


def present(values: pa.Array) -> pa.BooleanArray:
    """Mark the values, (n,), that are neither null nor NaN."""
    return pc.invert(missing(values))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _unless(holds: Test) -> Test:
    """Turn "this holds" into "a present value breaks it"."""
    return lambda values: pc.fill_null(pc.and_not(present(values), holds(values)), False)


# --- one compiler an expectation: arguments and type -> test and words ------------------------------------

Compiled = tuple[Test, str] | None


def _not_null(kwargs: Entry, kind: pa.DataType) -> Compiled:
    return missing, "must not be null"


def _null(kwargs: Entry, kind: pa.DataType) -> Compiled:
    return present, "must be null"


def _between(kwargs: Entry, kind: pa.DataType) -> Compiled:
    if not (_is_number(kind) or pa.types.is_timestamp(kind)):
        return None
    holds, words = _range(kwargs, functools.partial(_bound, kind=kind))
    return _unless(lambda values: holds(comparable(values))), f"must be {words}"


def _lengths_between(kwargs: Entry, kind: pa.DataType) -> Compiled:
    if not _is_string(kind):
        return None
    holds, words = _range(kwargs, float)
    return _unless(lambda values: holds(pc.utf8_length(values))), f"must have a length of {words}"


def _lengths_equal(kwargs: Entry, kind: pa.DataType) -> Compiled:
    if not _is_string(kind):
        return None
    length = float(kwargs["value"])
    return _unless(
        lambda values: pc.equal(pc.utf8_length(values), length)
    ), f"must have {length:g} characters"


def _in_set(kwargs: Entry, kind: pa.DataType) -> Compiled:
    allowed = _members(kwargs["value_set"], kind)
    if allowed is None:
        return None
    return _unless(lambda values: _is_in(values, allowed)), f"must be one of {_listing(kwargs)}"


def _not_in_set(kwargs: Entry, kind: pa.DataType) -> Compiled:
    forbidden = _members(kwargs["value_set"], kind)
    if forbidden is None:
        return None
    return _unless(lambda values: pc.invert(_is_in(values, forbidden))), f"must not be {_listing(kwargs)}"


def _match(kwargs: Entry, kind: pa.DataType) -> Compiled:
    pattern = re.compile(kwargs["regex"])
    if not _is_string(kind):
        return None
    return _unless(functools.partial(_found, pattern)), f"must match {pattern.pattern}"


def _not_match(kwargs: Entry, kind: pa.DataType) -> Compiled:
    pattern = re.compile(kwargs["regex"])
    if not _is_string(kind):
        return None
    return _unless(lambda values: pc.invert(_found(pattern, values))), f"must not match {pattern.pattern}"


def _found(pattern: re.Pattern[str], values: pa.Array) -> pa.BooleanArray:
    """Search each distinct value once, with Python's own expressions: those of Arrow differ in small ways."""
    coded = values.dictionary_encode()
    hits = pa.array([pattern.search(text) is not None for text in coded.dictionary.to_pylist()], pa.bool_())
    return hits.take(coded.indices)


def _range(kwargs: Entry, parse: Callable[[Any], Any]) -> tuple[Test, str]:
    sides = [(compare, parse(bound), f"{word} {bound}") for compare, bound, word in _sides(kwargs)]

    def holds(values: pa.Array) -> pa.BooleanArray:
        return functools.reduce(pc.and_, [compare(values, bound) for compare, bound, _ in sides])

    return holds, " and ".join(words for *_, words in sides)


def _sides(kwargs: Entry) -> list[tuple[Compare, Any, str]]:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is None and high is None:
        raise ValueError("min_value or max_value is required")
    if low is not None and high is not None and low > high:
        raise ValueError(f"min_value {low} is above max_value {high}")
    above = (pc.greater, low, "above") if kwargs.get("strict_min") else (pc.greater_equal, low, "at least")
    below = (pc.less, high, "below") if kwargs.get("strict_max") else (pc.less_equal, high, "at most")
    return [side for side in (above, below) if side[1] is not None]


def _bound(value: Any, *, kind: pa.DataType) -> pa.Scalar:
    """Read a bound of a suite (JSON) as a value that a column of a type can be compared with."""
    if _is_number(kind):
        return pa.scalar(float(value), pa.float64())  # as Great Expectations reads it, whatever was written
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"a bound such as 2013-07-06T00:00:00+00:00 was required, however {value} came")
    return pa.scalar(moment, kind)


def _members(value_set: Any, kind: pa.DataType) -> pa.Array | None:
    """Keep of a set what a column of a type can hold at all; None for types that are not compiled."""
    if not isinstance(value_set, list):
        raise TypeError(f"a list of values was required, however {value_set!r} came")
    if _is_string(kind):
        return pa.array([value for value in value_set if isinstance(value, str)], kind)
    numbers = [value for value in value_set if isinstance(value, int | float) and not math.isnan(value)]
    if pa.types.is_boolean(kind):
        return pa.array([bool(value) for value in numbers if value in (0, 1)], kind)
    if pa.types.is_floating(kind):
        return pa.array([float(value) for value in numbers], pa.float64())
    if pa.types.is_integer(kind):
        return pa.array([int(value) for value in numbers if _fits(value, kind)], kind)
    return None


def _is_in(values: pa.Array, members: pa.Array) -> pa.BooleanArray:
    return pc.is_in(values.cast(members.type), members)


def _fits(value: float, kind: pa.DataType) -> bool:
    try:
        pa.scalar(int(value), kind)
    except (pa.ArrowInvalid, OverflowError):
        return False
    return int(value) == value


def _listing(kwargs: Entry) -> str:
    shown = [str(value) for value in kwargs["value_set"][:10]]
    return ", ".join([*shown, "…"] if len(kwargs["value_set"]) > len(shown) else shown)


def _greater(kwargs: Entry) -> tuple[Compare, str]:
    if kwargs.get("or_equal"):
        return pc.greater_equal, "must be at least"
    return pc.greater, "must be greater than"


def _equal(kwargs: Entry) -> tuple[Compare, str]:
    return pc.equal, "must be equal to"


COMPILERS: dict[str, Callable[[Entry, pa.DataType], Compiled]] = {
    "expect_column_value_lengths_to_be_between": _lengths_between,
    "expect_column_value_lengths_to_equal": _lengths_equal,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_be_null": _null,
    "expect_column_values_to_match_regex": _match,
    "expect_column_values_to_not_be_in_set": _not_in_set,
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_not_match_regex": _not_match,
}

PAIRS: dict[str, Callable[[Entry], tuple[Compare, str]]] = {
    "expect_column_pair_values_a_to_be_greater_than_b": _greater,
    "expect_column_pair_values_to_be_equal": _equal,
}

EXCUSED: dict[str, Callable[[pa.BooleanArray, pa.BooleanArray], pa.BooleanArray]] = {
    "both_values_are_missing": lambda left, right: pc.invert(pc.or_(left, right)),
    "either_value_is_missing": lambda left, right: pc.invert(pc.and_(left, right)),
    "neither": lambda left, right: pc.and_not(left, left),
}
"""Rows that a rule on a pair lets pass, by its ``ignore_row_if``; of which values are present."""
