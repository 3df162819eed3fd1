"""Compiled encoding says what the codecs say, whatever Arrow holds the values in."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from vae_core import TableSchema
from vae_core.categories import CategoryCodec
from vae_core.columns import BooleanCodec, Codec
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.feeds import slabs
from vae_core.slabs import BLOCK, Slab

NUMBERS = [0.0, -0.0, 1.5, None, float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 41.0, 3.0, 1e-310]
INTEGERS = [0, 1, None, 120, 7, 99, 3]
WORDS = ["north", "south", None, "new", "", "éäß", "north", "rare", "x" * 300]
INSTANTS = [
    datetime(2020, 2, 29, 23, 59, 59, 999999, UTC),
    datetime(1969, 12, 31, 1, tzinfo=UTC),
    None,
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2020, 5, 1, 12, tzinfo=UTC),
    datetime(9999, 1, 1, 6, tzinfo=UTC),
]
NUMBER_TYPES = [
    *(pa.float64(), pa.float32(), pa.float16(), pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(
        pa.uint8(),
        pa.uint16(),
        pa.uint32(),
        pa.uint64(),
        pa.decimal128(12, 2),
        pa.dictionary(pa.int8(), pa.float64()),
    ),
]
INSTANT_TYPES = [
    *(pa.timestamp(unit) for unit in ("s", "ms", "us")),
    *(pa.timestamp("ns", "Europe/Berlin"), pa.date32(), pa.date64()),
]
WORD_TYPES = [
    *(pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())),
    *(pa.dictionary(pa.uint16(), pa.large_string()), pa.dictionary(pa.int32(), pa.string_view())),
]


def many(values: list[Any], rows: int = 2 * BLOCK + 77) -> list[Any]:
    """Values drawn again and again, some first."""
    random = np.random.default_rng(0)
    return values + [values[i] for i in random.integers(0, len(values), rows - len(values))]


def column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A column of any type; what Arrow cannot cast is built."""
    if pa.types.is_decimal(kind):
        return pa.array([None if v is None else Decimal(v) for v in values], kind)
    if pa.types.is_date(kind):
        return pa.array([None if v is None else date(v.year, v.month, v.day) for v in values], kind)
    if pa.types.is_dictionary(kind):
        plain = pa.array(values, pa.string() if pa.types.is_string_view(kind.value_type) else kind.value_type)
        coded = plain.dictionary_encode()
        words = coded.dictionary.cast(kind.value_type)
        return pa.DictionaryArray.from_arrays(coded.indices.cast(kind.index_type), words)
    return pa.array(values, kind)


def encoder_of(values: pa.Array) -> TableEncoder:
    table = pa.table({"x": values})
    kinds = (
        {"x": "numeric"}
        if pa.types.is_dictionary(values.type) and pa.types.is_float64(values.type.value_type)
        else {}
    )
    return TableEncoder(TableSchema.infer(table, kinds), max_categories=2).fit(table)


def as_codec(codec: Codec, values: pa.Array) -> dict[str, np.ndarray[Any, Any]]:
    """The parts of an encoded batch that a codec says."""
    first, second = codec.encode(values)
    if isinstance(codec, CategoryCodec):
        return {"codes": first[:, None], "within": second[:, None]}
    return {"bits" if isinstance(codec, BooleanCodec) else "numbers": first, "present": second[:, None]}


def assert_as_codec(encoder: TableEncoder, values: pa.Array, batch: EncodedBatch) -> None:
    for name, expected in as_codec(encoder.codecs[0], values).items():
        found = getattr(batch, name).numpy()
        np.testing.assert_allclose(found, expected.astype(found.dtype), rtol=0, atol=2e-7, err_msg=name)


@pytest.mark.parametrize("kind", NUMBER_TYPES, ids=str)
def test_numbers_of_every_type_are_read_as_their_codec_reads_them(kind: pa.DataType) -> None:
    """Integers, floats and decimals, with nulls, infinities and huge values: the same bits."""
    floats = pa.types.is_floating(kind) or pa.types.is_dictionary(kind)
    values = column(many(NUMBERS if floats else INTEGERS), kind)
    encoder = encoder_of(values)

    batch = encoder.encode(pa.table({"x": values}))

    expected = as_codec(encoder.codecs[0], values)
    assert np.array_equal(batch.numbers.numpy(), expected["numbers"])
    assert np.array_equal(batch.present.numpy(), expected["present"])


@pytest.mark.parametrize("kind", INSTANT_TYPES, ids=str)
def test_instants_of_every_type_are_read_as_their_codec_reads_them(kind: pa.DataType) -> None:
    """Timestamps of every unit and dates, before 1970 and far away, to the last bits of a float."""
    instants = [v for v in INSTANTS if v is None or v.year < 2200]
    values = column(many(instants if str(kind).startswith("timestamp[ns") else INSTANTS), kind)
    encoder = encoder_of(values)

    assert_as_codec(encoder, values, encoder.encode(pa.table({"x": values})))


@pytest.mark.parametrize("kind", WORD_TYPES, ids=str)
def test_words_of_every_type_are_read_as_their_codec_reads_them(kind: pa.DataType) -> None:
    """Strings of every make and dictionaries, with nulls, rare values and new ones."""
    encoder = encoder_of(pa.array(["north"] * 9 + ["south"] * 5 + ["rare", "seldom", None]))
    values = column(many(WORDS), kind)

    batch = encoder.encode(pa.table({"x": values}))

    expected = as_codec(encoder.codecs[0], values)
    assert np.array_equal(batch.codes.numpy(), expected["codes"])
    assert np.array_equal(batch.within.numpy(), expected["within"])


def test_truth_values_are_read_as_their_codec_reads_them() -> None:
    """True, false and null."""
    values = pa.array(many([True, False, None]))
    encoder = encoder_of(values)

    assert_as_codec(encoder, values, encoder.encode(pa.table({"x": values})))


@pytest.mark.parametrize("first", [0, 1, 8, 13, BLOCK + 5])
@pytest.mark.parametrize(
    "values",
    [
        pa.array(many(NUMBERS)),
        pa.array(many(INSTANTS)),
        pa.array(many([True, False, None])),
        pa.array(many(WORDS)),
    ],
    ids=["numbers", "instants", "bits", "words"],
)
def test_slices_begin_at_any_bit(values: pa.Array, first: int) -> None:
    """Bitmaps of a slice begin in the middle of a byte."""
    encoder = encoder_of(values)
    part = values.slice(first, BLOCK + 3)

    assert_as_codec(encoder, part, encoder.encode(pa.table({"x": part})))


@pytest.mark.parametrize("size", [50, 1000, 5000])
def test_chunks_of_any_size_are_one_table(table_of: Callable[..., pa.Table], size: int) -> None:
    """Many small chunks and few large ones encode as the whole does, dictionaries that differ too."""
    whole = table_of(11_000)
    encoder = TableEncoder(TableSchema.infer(whole)).fit(whole)
    chunks = [whole.slice(start, size) for start in range(0, whole.num_rows, size)]
    place = whole.schema.get_field_index("shop")
    coded = [
        c.set_column(place, "shop", c.column("shop").combine_chunks().dictionary_encode()) for c in chunks
    ]

    batch = encoder.encode(pa.concat_tables(coded))

    expected = encoder.encode(whole)
    assert torch.equal(batch.numbers, expected.numbers)
    assert torch.equal(batch.codes, expected.codes)


def test_wide_tables_come_in_fewer_blocks() -> None:
    """Room for shown cells is bounded, but for one block."""
    wide = pa.table({f"x{j}": np.arange(3.0) for j in range(1500)})
    encoder = TableEncoder(TableSchema.infer(wide)).fit(wide)

    slab = Slab.empty(encoder.layout, 8 * BLOCK)

    assert (slab.blocks, slab.shown.shape[1]) == (1, 3000)


def test_a_slab_is_as_long_as_its_rows(table_of: Callable[..., pa.Table]) -> None:
    """Slabs hold eight blocks at most, and tell how many rows each holds."""
    rows = table_of(8 * BLOCK + 5)
    encoder = TableEncoder(TableSchema.infer(rows)).fit(rows)

    assert [(slab.blocks, n) for slab, n in slabs(encoder, rows)] == [(8, 8 * BLOCK), (1, 5)]
