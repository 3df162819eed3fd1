"""Which changes of type lose nothing, for which values."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.casts import carry, common_schema, holding_schema, plan_casts
from flows.errors import SchemaError
from flows.tables import open_table

TAXI = Path(__file__).parents[3] / "shared" / "data" / "taxi"
EXPECTED = pa.schema([("id", pa.int64()), ("city", pa.string()), ("price", pa.float64())])


def cast(values: pa.Array, to: pa.DataType) -> pa.Array:
    """Cast one column."""
    batch = pa.record_batch({"x": values})
    return plan_casts(pa.schema([("x", to)]), batch.schema).apply(batch).column(0)


DICTIONARY = pa.dictionary(pa.int8(), pa.string())
UTC_MS = pa.timestamp("ms", "UTC")
US = pa.timestamp("us")


@pytest.mark.parametrize(
    ("values", "to", "becomes"),
    [
        (pa.array([1, None], pa.int64()), pa.int32(), [1, None]),
        (pa.array([1, None], pa.int32()), pa.int64(), [1, None]),
        (pa.array([255, 0], pa.uint8()), pa.int16(), [255, 0]),
        (pa.array([2**53, None]), pa.float64(), [2.0**53, None]),
        (pa.array([3.0, None, float("nan")]), pa.int64(), [3, None, None]),
        (pa.array([1.5, None, float("inf")], pa.float16()), pa.float64(), [1.5, None, float("inf")]),
        (pa.array([3.0, None], pa.float16()), pa.int32(), [3, None]),
        (pa.array([1.5, float("inf")]), pa.float32(), [1.5, float("inf")]),
        (pa.array([Decimal("1.25"), None]), pa.float64(), [1.25, None]),
        (pa.array([Decimal("3.00")]), pa.int32(), [3]),
        (pa.array([Decimal("3.00")], pa.decimal32(6, 2)), pa.int32(), [3]),
        (pa.array([1.25]), pa.decimal128(9, 2), [Decimal("1.25")]),
        (pa.array([1.25]), pa.decimal64(9, 2), [Decimal("1.25")]),
        (pa.array([True, None]), pa.int8(), [1, None]),
        (pa.array([1, 0, None], pa.int8()), pa.bool_(), [True, False, None]),
        (pa.array(["a", None]), pa.large_string(), ["a", None]),
        (pa.array(["a", None], pa.large_string()), pa.string(), ["a", None]),
        (pa.array(["a", None], pa.string_view()), pa.string(), ["a", None]),
        (pa.array(["a", None], pa.string_view()), DICTIONARY, ["a", None]),
        (pa.array(["a", None]).dictionary_encode(), pa.string(), ["a", None]),
        (pa.array(["a", None]).dictionary_encode(), DICTIONARY, ["a", None]),
        (pa.array(["a", None]).dictionary_encode(), pa.string_view(), ["a", None]),
        (pa.array(["a", None]), DICTIONARY, ["a", None]),
        (pa.array([1, None]).dictionary_encode(), pa.float64(), [1.0, None]),
        (pa.array([b"ab"], pa.binary(2)), pa.binary(), [b"ab"]),
        (pa.array([None, None]), pa.float64(), [None, None]),
        (pa.array([None, None]), pa.list_(pa.int8()), [None, None]),
        (pa.array([None, None], pa.float64()), pa.null(), [None, None]),
        (pa.array([date(2013, 7, 6)]), US, [datetime(2013, 7, 6)]),
        (pa.array([datetime(2013, 7, 6)], US), pa.date32(), [date(2013, 7, 6)]),
        (pa.array([1000, None], pa.timestamp("ns")), US, [datetime(1970, 1, 1, 0, 0, 0, 1), None]),
        (pa.array([0, None], pa.timestamp("ms", "Mars/Olympus")), US, [datetime(1970, 1, 1), None]),
    ],
    ids=lambda case: str(getattr(case, "type", case)),
)
def test_a_change_that_loses_nothing_is_cast(
    values: pa.Array, to: pa.DataType, becomes: list[object]
) -> None:
    """Width, sign, container, unit and zone may change where the values allow it; nulls stay null."""
    result = cast(values, to)

    assert result.type == to
    assert result.to_pylist() == becomes


@pytest.mark.parametrize(
    ("values", "to", "misfits", "shown"),
    [
        (pa.array([1, 2**31, None, -(2**31) - 1]), pa.int32(), [1, 3], "2147483648, -2147483649"),
        (pa.array([7, 2**64 - 1], pa.uint64()), pa.int32(), [1], "18446744073709551615"),
        (pa.array([7, 2**64 - 1], pa.uint64()), pa.int64(), [1], "18446744073709551615"),
        (pa.array([2**53 + 1, 1]), pa.float64(), [0], "9007199254740993"),
        (pa.array([1.5, 2.0, float("inf"), None]), pa.int64(), [0, 2], "1.5, inf"),
        (pa.array([2.0**63]), pa.int64(), [0], "9.223372036854776e+18"),
        (pa.array([1.5, 0.1, 1e300]), pa.float32(), [1, 2], "0.1, 1e+300"),
        (pa.array([1.555, 1e12, 1.25]), pa.decimal128(9, 2), [0, 1], "1.555, 1e+12"),
        (pa.array([Decimal("3.50"), Decimal("3.00")]), pa.int32(), [0], "3.50"),
        (pa.array([Decimal("3.50"), Decimal("3.00")], pa.decimal64(6, 2)), pa.int32(), [0], "3.50"),
        (pa.array([2, 1, 0, -1], pa.int8()), pa.bool_(), [0, 3], "2, -1"),
        (pa.array([None, 0.5]), pa.null(), [1], "0.5"),
        (pa.array([1, 1000], pa.timestamp("ns", "Mars/Olympus")), US, [0], "1970-01-01 00:00:00.000000001"),
        (pa.array([datetime(2013, 7, 6, 1)], US), pa.date32(), [0], "2013-07-06 01:00:00"),
        (pa.array([300, 1]).dictionary_encode(), pa.int8(), [0], "300"),
    ],
    ids=lambda case: str(getattr(case, "type", case)),
)
def test_a_value_that_does_not_fit_is_named(
    values: pa.Array, to: pa.DataType, misfits: list[int], shown: str
) -> None:
    """It never wraps, rounds or vanishes; its rows are told from the others."""
    batch = pa.record_batch({"x": values})
    plan = plan_casts(pa.schema([("x", to)]), batch.schema)

    assert pc.indices_nonzero(plan.misfits(batch)).to_pylist() == misfits
    with pytest.raises(SchemaError, match="column x: values that fit") as caught:
        plan.apply(batch)
    assert f"fit {to} were required, however {len(misfits)} of {len(values)} do not, such as {shown}" in str(
        caught.value
    )


def test_rows_without_misfits_can_be_cast() -> None:
    """A flow may put the misfits aside and go on with the others."""
    batch = pa.record_batch({"x": pa.array([1, 2**40, None, 3])})
    plan = plan_casts(pa.schema([("x", pa.int32())]), batch.schema)
    fitting = batch.filter(pc.invert(plan.misfits(batch)))

    assert plan.apply(fitting).column(0).to_pylist() == [1, None, 3]


def test_many_distinct_misfits_do_not_take_long() -> None:
    """A whole batch of them is told apart within seconds."""
    batch = pa.record_batch({"x": pa.array(range(2**31, 2**31 + 65_536))})
    plan = plan_casts(pa.schema([("x", pa.int32())]), batch.schema)

    assert plan.misfits(batch).true_count == 65_536


@pytest.mark.parametrize(
    ("came", "wanted"),
    [
        (pa.string(), pa.int32()),
        (pa.int64(), pa.string()),
        (pa.string(), pa.bool_()),
        (pa.string(), US),
        (pa.int64(), US),
        (pa.float64(), pa.bool_()),
        (pa.bool_(), pa.float64()),
        (pa.decimal128(9, 2), pa.float16()),
        (pa.list_(pa.float64()), pa.float64()),
        (pa.binary(), pa.string()),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int16())])),
        (pa.dictionary(pa.int8(), pa.string()), pa.int64()),
        (pa.time32("s"), US),
    ],
    ids=str,
)
def test_a_change_of_kind_is_refused_by_the_types_alone(came: pa.DataType, wanted: pa.DataType) -> None:
    """Whatever the values: text is no number, a list no double, a count no point in time."""
    with pytest.raises(SchemaError) as caught:
        plan_casts(pa.schema([("x", wanted)]), pa.schema([("x", came)]))
    assert f"x is {came}, {wanted} was expected; restore them or retrain" in str(caught.value)


def test_columns_may_come_in_any_order_and_with_others() -> None:
    """The result has the expected ones in the expected order; the others are listed."""
    batch = pa.record_batch({"new": [0], "price": [1.5], "city": ["Rome"], "id": [7]})
    plan = plan_casts(EXPECTED, batch.schema)

    assert plan.extra == ("new",)
    assert plan.casts == plan.missing == ()
    assert plan.apply(batch).schema == EXPECTED


def test_columns_of_the_right_type_are_not_copied() -> None:
    """Casting what needs no cast costs nothing."""
    batch = pa.record_batch({"id": [7], "city": ["Rome"], "price": [1.5]})
    cast_batch = plan_casts(EXPECTED, batch.schema).apply(batch)

    assert cast_batch.column(2).buffers()[1].address == batch.column(2).buffers()[1].address


def test_a_missing_column_is_shown_beside_the_new_ones() -> None:
    """A renamed column stands first among the new, so that it is recognised."""
    actual = pa.schema(
        [("id", pa.int64()), ("city", pa.string()), ("aaa", pa.int8()), ("unit_price", pa.float64())]
    )

    with pytest.raises(SchemaError, match="missing: price; new: unit_price, aaa; restore them"):
        plan_casts(EXPECTED, actual)


def test_upper_case_is_another_name() -> None:
    """Price is not price, and the sentence shows both."""
    with pytest.raises(SchemaError, match="missing: price; new: Price;"):
        plan_casts(EXPECTED, pa.schema([("id", pa.int64()), ("city", pa.string()), ("Price", pa.float64())]))


def test_a_whole_other_table_is_told_in_one_line() -> None:
    """Thousands of columns are counted rather than listed."""
    with pytest.raises(SchemaError) as caught:
        plan_casts(EXPECTED, pa.schema([(f"c{i:04}", pa.float64()) for i in range(5000)]))
    assert "missing: id, city, price; new: c0000, c0001, c0002, c0003, c0004 and 4995 more" in str(
        caught.value
    )
    assert len(str(caught.value)) < 300


def test_an_optional_column_may_be_missing() -> None:
    """It is null then, in the expected type, and listed."""
    batch = pa.record_batch({"id": [7], "price": [1.5]})
    plan = plan_casts(EXPECTED, batch.schema, optional=["city"])

    assert plan.missing == ("city",)
    assert plan.apply(batch).to_pylist() == [{"id": 7, "city": None, "price": 1.5}]
    assert plan.misfits(batch).to_pylist() == [False]


def test_a_cast_tells_what_changed() -> None:
    """As the report prints it."""
    actual = pa.schema([("id", pa.int32()), ("city", pa.large_string()), ("price", pa.float64())])

    assert [str(one) for one in plan_casts(EXPECTED, actual).casts] == [
        "id: int32 → int64",
        "city: large_string → string",
    ]


def test_schemas_of_several_files_have_one_in_common() -> None:
    """Columns of all, the wider type of each; a type that only nulls had gives way."""
    first = pa.schema([("a", pa.int32()), ("b", pa.null()), ("c", DICTIONARY)])
    second = pa.schema([("a", pa.int64()), ("b", pa.float64()), ("c", pa.large_string()), ("d", pa.int8())])
    common = common_schema([first, second])

    assert dict(zip(common.names, common.types, strict=True)) == {
        "a": pa.int64(),
        "b": pa.float64(),
        "c": pa.large_string(),
        "d": pa.int8(),
    }
    assert common_schema([first, first]) == first


def test_types_without_anything_in_common_are_refused() -> None:
    """A column of text here and of numbers there has to be mended where it is written."""
    with pytest.raises(
        SchemaError, match=r"columns of one type in all files were required, .*string vs int64"
    ):
        common_schema([pa.schema([("a", pa.string())]), pa.schema([("a", pa.int64())])])


def test_types_without_anything_in_common_become_text_where_all_is_to_be_held() -> None:
    """The other columns are those of a table that carries all values; texts of moments are in UTC."""
    zone = pa.timestamp("s", "Europe/Zurich")
    first = pa.schema([("a", pa.int32()), ("b", pa.bool_()), ("c", zone), ("d", pa.list_(pa.int8()))])
    second = pa.schema([("a", pa.int64()), ("b", pa.int8()), ("c", pa.timestamp("s", "UTC"))])
    common = holding_schema([first, second])
    batch = pa.record_batch([[1], [True], [0], [[7]]], schema=first)

    assert dict(zip(common.names, common.types, strict=True)) == {
        "a": pa.int64(),
        "b": pa.string(),
        "c": pa.string(),
        "d": pa.list_(pa.int8()),
    }
    assert carry(batch, common).to_pylist() == [{"a": 1, "b": "true", "c": "1970-01-01 00:00:00", "d": [7]}]
    assert holding_schema([first, first]) == first


def test_where_arrow_fails_at_a_cast_column_and_types_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than that a function has no kernel."""

    def fail(*_: Any) -> None:
        raise pa.ArrowNotImplementedError("Function 'unique' has no kernel")

    batch = pa.record_batch({"x": pa.array([1, 2**40])})
    plan = plan_casts(pa.schema([("x", pa.int32())]), batch.schema)
    monkeypatch.setattr("flows.casts._misfits_one_by_one", fail)

    for asked in (plan.misfits, plan.misfit_reasons, plan.apply):
        with pytest.raises(
            SchemaError, match=r"column x: values that can become int32 .* however int64 came"
        ):
            asked(batch)


@pytest.mark.skipif(not TAXI.exists(), reason="needs the taxi files of ../shared/data")
def test_nine_real_columns_changed_their_type_without_loss() -> None:
    """From January to February 2023 the taxi files went to 32-bit integers and large strings."""
    with open_table(TAXI / "green_tripdata_2023-01.parquet") as january:
        expected = january.schema
    with open_table(TAXI / "green_tripdata_2023-02.parquet") as february:
        plan = plan_casts(expected, february.schema)
        rows = sum(plan.apply(batch).num_rows for batch in february.batches())

    assert rows == 64_809
    assert [str(one) for one in plan.casts] == [
        "VendorID: int32 → int64",
        "store_and_fwd_flag: large_string → string",
        "RatecodeID: int64 → double",
        "PULocationID: int32 → int64",
        "DOLocationID: int32 → int64",
        "passenger_count: int64 → double",
        "ehail_fee: double → null",
        "payment_type: int64 → double",
        "trip_type: int64 → double",
    ]
