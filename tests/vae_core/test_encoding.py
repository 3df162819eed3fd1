"""Tables to tensors."""

import re
from collections.abc import Callable
from decimal import Decimal

import pyarrow as pa
import pytest
import torch

from vae_core import ColumnError, DataError, TableSchema
from vae_core.categories import NULL, RESERVED, UNSEEN, CategoryCodec
from vae_core.encoding import TableEncoder


def fitted(table: pa.Table) -> TableEncoder:
    return TableEncoder(TableSchema.infer(table)).fit(table)


def test_shapes_follow_the_columns(table: pa.Table) -> None:
    """Numbers, bits, presence and codes have a row a row and a place a part."""
    batch = fitted(table).encode(table.slice(0, 7))

    assert batch.numbers.shape == (7, 3 + 5)  # three numbers; hours, weekdays, distance
    assert batch.bits.shape == (7, 1)
    assert batch.present.shape == (7, 5)
    assert batch.codes.shape == (7, 1)


def test_encoding_does_not_depend_on_the_order_of_training_rows(
    table_of: Callable[..., pa.Table],
) -> None:
    """Fitting on a table sorted by time or backwards encodes rows alike."""
    ordered = table_of(400).sort_by("at")
    batch = fitted(ordered).encode(ordered)

    backwards = fitted(ordered.sort_by([("at", "descending")])).encode(ordered)

    torch.testing.assert_close(backwards.numbers, batch.numbers)
    assert torch.equal(backwards.codes, batch.codes)


def test_columns_are_found_by_name(table: pa.Table) -> None:
    """Order and additional columns of a batch do not matter."""
    encoder, names = fitted(table), table.schema.names
    turned = table.select(names[::-1]).append_column("more", pa.nulls(table.num_rows))

    batch = encoder.encode(turned)

    assert torch.equal(batch.numbers, encoder.encode(table).numbers)


def test_layout_marks_what_rows_cannot_teach(table: pa.Table) -> None:
    """Columns without a null in training get a fixed, small probability of one; the others learn it."""
    layout = fitted(table).layout

    assert [share is None for share in layout.null_priors] == [False, False, False, False, True]
    assert layout.null_priors[0] == pytest.approx(0.5 / 1501)
    assert sorted(layout.order) == list(range(6))


def test_a_missing_column_is_named(table: pa.Table) -> None:
    """A batch without a learned column is refused by name."""
    with pytest.raises(ColumnError, match="'double' was learned"):
        fitted(table).encode(table.drop_columns(["double"]))


@pytest.mark.parametrize(
    ("name", "values"), [("x", ["much"]), ("shop", [[1]]), ("open", ["yes"]), ("at", [1.5])]
)
def test_a_column_of_another_type_is_named(table: pa.Table, name: str, values: list[object]) -> None:
    """A column that cannot be read as it was learned is refused by name."""
    row = table.slice(0, 1)
    place = row.schema.get_field_index(name)

    with pytest.raises(ColumnError, match=f"column '{name}' was learned as"):
        fitted(table).encode(row.set_column(place, name, pa.array(values)))


SPANS = [
    *((pa.duration(unit), pa.duration(other)) for unit, other in [("us", "ns"), ("s", "us"), ("ns", "ms")]),
    *((pa.time32("s"), pa.time64("ns")), (pa.time64("us"), pa.time32("ms"))),
]


def seconds(arrow_type: pa.DataType) -> pa.Table:
    """Times of day or durations of 1 to 90 seconds, the last one null."""
    whole = pa.time32("s") if pa.types.is_time(arrow_type) else pa.duration("s")
    values = pa.array([*range(1, 91), None], pa.int32() if pa.types.is_time(arrow_type) else pa.int64())
    return pa.table({"c": values.cast(whole).cast(arrow_type)})


@pytest.mark.parametrize(("learned", "now"), SPANS, ids=str)
def test_spans_of_another_unit_are_the_same_spans(learned: pa.DataType, now: pa.DataType) -> None:
    """A duration or a time of day does not depend on the unit that it comes in."""
    encoder = fitted(seconds(learned))

    batch = encoder.encode(seconds(now))

    assert torch.equal(batch.numbers, encoder.encode(seconds(learned)).numbers)
    assert batch.present.sum() == 90


def test_spans_beyond_the_learned_unit_are_far_out() -> None:
    """A duration of more nanoseconds than 64 bits hold does not wrap around."""
    encoder = fitted(seconds(pa.duration("ns")))

    batch = encoder.encode(pa.table({"c": pa.array([2**40], pa.duration("s"))}))

    assert batch.numbers[0, 0] > 20


NAIVE, AWARE = pa.timestamp("us"), pa.timestamp("us", "America/New_York")
OTHERS = [
    *((pa.duration("us"), pa.int64()), (pa.float64(), pa.duration("us")), (pa.duration("s"), pa.string())),
    *((pa.duration("us"), pa.time64("us")), (pa.time64("us"), pa.int64()), (pa.int64(), NAIVE)),
    *((NAIVE, AWARE), (AWARE, NAIVE), (AWARE, pa.date32())),
]


@pytest.mark.parametrize("kind", [None, "categorical"])
@pytest.mark.parametrize(("learned", "now"), OTHERS, ids=str)
def test_values_that_mean_something_else_are_refused(
    learned: pa.DataType, now: pa.DataType, kind: str | None
) -> None:
    """A number is no duration, and a clock without a zone none of a zone: both types are named."""
    rows = pa.table({"c": pa.array([1, 2, 3] * 5, pa.int64()).cast(learned)})
    encoder = TableEncoder(TableSchema.infer(rows, {"c": kind} if kind else {})).fit(rows)
    other = pa.table({"c": pa.nulls(2, now)})

    if kind and pa.types.is_string(now):
        assert encoder.encode(other).codes.tolist() == [[0], [0]]
    else:
        with pytest.raises(ColumnError, match=rf"'c' was learned as {re.escape(str(learned))}, .*"):
            encoder.encode(other)


TWO = pa.array([0, 1] * 20)
PRICES = pa.array([Decimal("1.25"), Decimal("0.10")] * 20)
CATEGORIES = [
    (TWO.cast(pa.timestamp("s")).cast(pa.timestamp("us")), pa.timestamp("ns")),
    (TWO.cast(pa.timestamp("s", "UTC")), pa.timestamp("ns", "Asia/Tokyo")),
    (TWO.cast(pa.int32()).cast(pa.date32()), pa.timestamp("us")),
    (TWO.cast(pa.duration("s")), pa.duration("us")),
    (TWO.cast(pa.int32()).cast(pa.time32("s")), pa.time64("ns")),
    (PRICES.cast(pa.decimal128(5, 2)), pa.decimal128(10, 4)),
    (PRICES.cast(pa.decimal128(5, 2)), pa.float64()),
    (PRICES.cast(pa.float64()), pa.decimal128(10, 4)),
    (TWO, pa.decimal128(30, 2)),
    (TWO.cast(pa.decimal128(30, 2)).cast(pa.decimal128(5, 2)), pa.int64()),
    *((TWO.cast(pa.bool_()), pa.int8()), (TWO, pa.bool_()), (TWO, pa.float64()), (TWO, pa.float16())),
    *((TWO.cast(pa.float16()), pa.float64()), (TWO.dictionary_encode(), pa.float64())),
]


def of_codes(values: pa.Array) -> TableEncoder:
    rows = pa.table({"c": values})
    return TableEncoder(TableSchema.infer(rows, {"c": "categorical"})).fit(rows)


@pytest.mark.parametrize(
    ("learned", "now"), CATEGORIES, ids=[f"{learned.type}-{now}" for learned, now in CATEGORIES]
)
def test_equal_values_are_one_category(learned: pa.Array, now: pa.DataType) -> None:
    """A value is the category that it was, in whatever type it comes that can hold it."""
    encoder = of_codes(learned)
    plain = learned.dictionary_decode() if pa.types.is_dictionary(learned.type) else learned

    batch = encoder.encode(pa.table({"c": plain.cast(now)}))

    assert torch.equal(batch.codes, encoder.encode(pa.table({"c": learned})).codes)
    assert batch.codes.min() >= RESERVED


@pytest.mark.parametrize(
    ("learned", "odd"),
    [
        (TWO, pa.array([1.0, 1.5, 1e300, float("inf")])),
        (TWO.cast(pa.int8()), pa.array([1, 257, -255, 2**40 + 1])),
        (TWO.cast(pa.bool_()), pa.array([1, 2, -1, 3])),
        (TWO.cast(pa.timestamp("ns")), pa.array([0, 2**62, 1, 5]).cast(pa.timestamp("s"))),
        (
            TWO.cast(pa.decimal128(30, 2)).cast(pa.decimal128(5, 2)),
            pa.array([1.0, 1.001, 1e300, float("-inf")]),
        ),
    ],
    ids=lambda array: str(array.type),
)
def test_values_that_the_learned_type_cannot_hold_are_new(learned: pa.Array, odd: pa.Array) -> None:
    """What would have to be rounded or cut off is a value never seen, and its neighbours are not."""
    batch = of_codes(learned).encode(pa.table({"c": odd}))

    assert batch.codes[0, 0] >= RESERVED
    assert batch.codes[1:, 0].tolist() == [UNSEEN] * 3


@pytest.mark.parametrize("arrow_type", [pa.float64(), pa.float16(), pa.dictionary(pa.int8(), pa.float64())])
def test_nan_is_no_category(arrow_type: pa.DataType) -> None:
    """Of floats that are codes, NaN is null, as it is of numbers."""
    values = pa.array([1.0, 2.0, float("nan"), None] * 9)
    plain = values.dictionary_encode() if pa.types.is_dictionary(arrow_type) else values

    encoder = of_codes(plain.cast(arrow_type))

    assert encoder.categorical[0].vocabulary == ("1", "2")
    assert encoder.categorical[0].nulls == 0.5
    assert encoder.encode(pa.table({"c": values})).codes[2:4].tolist() == [[NULL], [NULL]]


def test_nan_stays_a_category_where_it_was_learned_as_one() -> None:
    """A model saved when NaN was the word ``nan`` reads it as that word."""
    encoder = of_codes(pa.array([1.0, 2.0] * 9))
    encoder.codecs = (CategoryCodec.fit("c", pa.chunked_array([["1", "nan"] * 9]), 8),)

    codes = encoder.encode(pa.table({"c": [1.0, float("nan"), None]})).codes

    assert codes.flatten().tolist() == [RESERVED, RESERVED + 1, NULL]


def test_a_column_that_stands_twice_is_named(table: pa.Table) -> None:
    """Of two columns of one name neither is the one that was learned; others may stand twice."""
    encoder, extra = fitted(table), pa.nulls(table.num_rows)

    with pytest.raises(ColumnError, match="'x' is required once, however it is there 2 times"):
        encoder.encode(table.append_column("x", extra))
    assert len(encoder.encode(table.append_column("id", extra))) == table.num_rows


def test_nulls_without_a_type_are_nulls(table: pa.Table) -> None:
    """A column in which all is missing may have lost its type; it still is a column of nulls."""
    untyped = pa.table({name: pa.nulls(2) for name in table.schema.names})

    batch = fitted(table).encode(untyped)

    assert batch.present.sum() == 0
    assert batch.codes.tolist() == [[0], [0]]


def test_nothing_to_model_is_refused() -> None:
    """A table of keys and lists only cannot be learned from."""
    with pytest.raises(DataError, match="at least one numeric, categorical"):
        fitted(pa.table({"list": [[1]]}))


def test_json_keeps_the_encoder(table: pa.Table) -> None:
    """An encoder read from its JSON encodes as before."""
    encoder = fitted(table)

    again = TableEncoder.from_json(encoder.schema, encoder.to_json())

    assert torch.equal(again.encode(table).numbers, encoder.encode(table).numbers)
    assert again.layout == encoder.layout
