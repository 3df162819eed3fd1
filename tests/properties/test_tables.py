"""Whatever Arrow table the schema admits: it is encoded, scored alike in any order and batch, and decoded."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from vae_core import VAEDetector
from vae_core.expectation import expect
from vae_core.generation import generate

ROWS = 40


def _ints(bits: int, signed: bool = True) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high) | st.sampled_from([low, high, 0, 1])


WORDS = st.text(max_size=6) | st.sampled_from(["", "a", "b", "Zürich", "\0", "x" * 300])
TICKS = _ints(64)
DAYS = st.dates(datetime.date(1, 1, 1), datetime.date(9999, 12, 31))
CENTS = st.decimals(-(10**7), 10**7, places=2, allow_nan=False)

KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *[(pa.int8(), _ints(8)), (pa.int16(), _ints(16)), (pa.int32(), _ints(32)), (pa.int64(), _ints(64))],
    *[(pa.uint8(), _ints(8, False)), (pa.uint64(), _ints(64, False))],
    (pa.float16(), st.floats(width=16).map(np.float16)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    (pa.decimal128(12, 2), CENTS),
    (pa.decimal256(40, 2), CENTS),
    (pa.bool_(), st.booleans()),
    (pa.string(), WORDS),
    (pa.large_string(), WORDS),
    (pa.string_view(), WORDS),
    (pa.dictionary(pa.int8(), pa.string()), WORDS),
    (pa.dictionary(pa.int32(), pa.int64()), _ints(64)),
    *[(pa.timestamp(unit), TICKS) for unit in ("s", "ms", "us", "ns")],
    (pa.timestamp("us", "Europe/Zurich"), TICKS),
    (pa.timestamp("ns", "+05:30"), TICKS),
    (pa.date32(), DAYS),
    (pa.date64(), DAYS),
    (pa.time32("s"), st.integers(0, 86_399)),
    (pa.time64("us"), st.integers(0, 86_399_999_999)),
    *[(pa.duration(unit), TICKS) for unit in ("s", "ns")],
    (pa.null(), st.none()),
    (pa.list_(pa.int64()), st.lists(st.integers(0, 9), max_size=2)),
    (pa.binary(), st.binary(max_size=3)),
    (pa.struct([("a", pa.int64())]), st.fixed_dictionaries({"a": st.integers(0, 9)})),
]


@st.composite
def columns(draw: st.DrawFn) -> tuple[pa.DataType, Callable[[], pa.ChunkedArray]]:
    """Draw a type, and what draws a column of it: a few values, nulls among them, repeated at random."""
    kind, values = draw(st.sampled_from(KINDS))
    cells = st.lists(st.none() | values, min_size=1, max_size=5)

    def column() -> pa.ChunkedArray:
        few = draw(cells)
        places = np.random.default_rng(draw(st.integers(0, 99))).integers(0, len(few), ROWS)
        return pa.chunked_array([_array([few[i] for i in places], kind)])

    return kind, column


def _array(cells: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(cells, kind.value_type).dictionary_encode().cast(kind)
    if pa.types.is_decimal(kind):
        return pa.array([None if one is None else decimal.Decimal(one) for one in cells], kind)
    return pa.array(cells, kind)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    """Draw two tables of the same schema with at least one feature: one to learn from, one to score."""
    drawn = draw(st.lists(columns(), min_size=0, max_size=4))
    makers = {f"c{i}": column for i, (_, column) in enumerate(drawn)}
    feature = {"x": pa.array(np.linspace(0.0, 1.0, ROWS))}
    past, now = ({name: make() for name, make in makers.items()} for _ in range(2))
    return pa.table(feature | past), pa.table(feature | now)


def fitted(past: pa.Table) -> VAEDetector:
    """Return a detector that has hardly learned: what is tested holds for any weights."""
    return VAEDetector(max_steps=2, n_members=2, random_state=0, training_data="clean").fit(past)


def scored(detector: VAEDetector, table: pa.Table) -> tuple[Any, Any]:
    scores = detector.score_batch(table)
    return scores.anomaly_score, scores.column_losses


def taken(table: pa.Table, order: Any) -> pa.Table:
    """Return rows of a table; Arrow cannot take string views."""
    views = [field.type == pa.string_view() for field in table.schema]
    plain = pa.schema(
        field.with_type(pa.string()) if view else field
        for field, view in zip(table.schema, views, strict=True)
    )
    return table.cast(plain).take(pa.array(order)).cast(table.schema)


@given(tables(), st.integers(0, 99), st.integers(1, ROWS - 1))
def test_any_table_of_the_schema_is_scored_finite_alike_in_any_order_and_batch(
    drawn: tuple[pa.Table, pa.Table], seed: int, cut: int
) -> None:
    past, now = drawn
    detector = fitted(past)
    order = np.random.default_rng(seed).permutation(ROWS)

    scores, losses = scored(detector, now)
    parts = [scored(detector, part) for part in (now.slice(0, cut), now.slice(cut))]
    shuffled, _ = scored(detector, taken(now, order))

    assert np.isfinite(scores).all()
    assert np.isfinite(losses).all()
    np.testing.assert_array_equal(scored(detector, now)[0], scores)
    np.testing.assert_array_equal(shuffled, scores[order])
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), scores)


@given(tables())
def test_any_table_of_the_schema_is_decoded_to_its_types(drawn: tuple[pa.Table, pa.Table]) -> None:
    past, now = drawn
    detector = fitted(past)

    expectation = expect(detector.model_, detector.encoder_, detector.encoder_.encode(now))
    wanted = {column.name: column.arrow_type for column in detector.schema_.features}
    expected = {name: expectation.column(name, now) for name in wanted}

    assert {name: column.type for name, column in expected.items()} == wanted
    assert {len(column) for column in expected.values()} == {ROWS}
    assert generate(detector.model_, detector.encoder_, 5, 0).schema == now.schema
