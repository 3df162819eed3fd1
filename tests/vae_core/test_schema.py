"""What each column is taken for."""

import pyarrow as pa
import pytest

from vae_core import ColumnError, TableSchema

TYPES = {
    pa.int8(): "numeric",
    pa.uint64(): "numeric",
    pa.float16(): "numeric",
    pa.float64(): "numeric",
    pa.decimal128(5, 2): "numeric",
    pa.time64("us"): "numeric",
    pa.duration("s"): "numeric",
    pa.string(): "categorical",
    pa.large_string(): "categorical",
    pa.string_view(): "categorical",
    pa.dictionary(pa.int8(), pa.string()): "categorical",
    pa.dictionary(pa.int8(), pa.int64()): "categorical",
    pa.dictionary(pa.int8(), pa.float64()): "numeric",
    pa.dictionary(pa.int8(), pa.timestamp("ns")): "timestamp",
    pa.bool_(): "boolean",
    pa.date32(): "timestamp",
    pa.timestamp("ns", "UTC"): "timestamp",
    pa.binary(): "ignored",
    pa.list_(pa.int8()): "ignored",
    pa.struct([("a", pa.int8())]): "ignored",
    pa.null(): "ignored",
}


@pytest.mark.parametrize(("arrow_type", "kind"), TYPES.items(), ids=str)
def test_kind_follows_the_arrow_type(arrow_type: pa.DataType, kind: str) -> None:
    """Every Arrow type has its kind."""
    schema = TableSchema.infer(pa.schema([("c", arrow_type)]))

    assert schema.kinds == {"c": kind}


@pytest.mark.parametrize(
    "arrow_type", [pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_strings_that_name_their_row_are_keys(arrow_type: pa.DataType) -> None:
    """A string column that is distinct in each of many rows is a key."""
    names = pa.array([f"n{i}" for i in range(200)]).cast(arrow_type)

    assert TableSchema.infer(pa.table({"name": names})).kinds == {"name": "key"}


def test_few_distinct_strings_prove_nothing() -> None:
    """Below a hundred rows, distinct strings stay categories."""
    names = pa.table({"name": [f"n{i}" for i in range(99)]})

    assert TableSchema.infer(names).kinds == {"name": "categorical"}


def test_overrides_go_before_types() -> None:
    """What the user says of a column goes before its type."""
    schema = pa.schema([("code", pa.int64()), ("id", pa.int64()), ("note", pa.string())])

    inferred = TableSchema.infer(schema, {"code": "categorical", "id": "key", "note": "ignored"})

    assert inferred.kinds == {"code": "categorical", "id": "key", "note": "ignored"}
    assert [column.name for column in inferred.features] == ["code"]


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"there": "number"}, "kinds are numeric, categorical"),
        ({"there": "boolean"}, "cannot be boolean; it can be numeric"),
        ({"elsewhere": "key"}, "'elsewhere'"),
    ],
)
def test_impossible_overrides_are_refused(kinds: dict[str, str], message: str) -> None:
    """An unknown kind, a kind that the type cannot be, an unknown column: each is named."""
    with pytest.raises(ColumnError, match=message):
        TableSchema.infer(pa.schema([("there", pa.int64())]), kinds)


def test_whole_numbers_by_dictionary_can_still_be_numbers() -> None:
    """A data frame's category of integers is a code, unless the user says that it is a number."""
    schema = pa.schema([("size", pa.dictionary(pa.int8(), pa.int64()))])

    assert TableSchema.infer(schema, {"size": "numeric"}).kinds == {"size": "numeric"}


def test_doubled_names_are_refused() -> None:
    """Two columns of one name cannot be told apart."""
    with pytest.raises(ColumnError, match="'a'"):
        TableSchema.infer(pa.schema([("a", pa.int8()), ("a", pa.int8())]))


def test_compare_tells_missing_new_and_changed_columns() -> None:
    """The diff names what is missing, what is new, and what changed its type."""
    learned = TableSchema.infer(pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.binary())]))

    diff = learned.compare(pa.schema([("a", pa.float64()), ("d", pa.int8())]))

    assert str(diff) == "missing: b; new: d; a: double where int64 was learned"
    assert diff


def test_compare_of_the_same_columns_is_empty() -> None:
    """No difference is false, and says so; ignored columns and the order do not count."""
    learned = TableSchema.infer(pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.binary())]))

    diff = learned.compare(pa.schema([("b", pa.string()), ("a", pa.int64())]))

    assert not diff
    assert str(diff) == "no difference"
