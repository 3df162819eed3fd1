"""Planted errors are exact: one thing is wrong in a row, in the column that is named."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from time import process_time

import numpy as np
import pyarrow as pa
import pytest

from vae_core import TableSchema, arrays
from vae_core.canaries import KINDS, Planted, plant, plant_each
from vae_core.exceptions import DataError

KINDS_OF_NUMBERS = ("unit_slip_10", "unit_slip_1000", "sign_flip")


def all_types(rows: int = 400, seed: int = 0) -> pa.Table:
    """Return columns of each Arrow type that may be a feature, some with nulls; of texts two."""
    random = np.random.default_rng(seed)
    whole, words = random.integers(1, 100, rows), random.choice(["a", "b", "c"], rows)
    hours = [timedelta(hours=int(value)) for value in whole]
    start = datetime(2024, 1, 1, tzinfo=UTC)
    odd = pa.array(np.where(random.random(rows) < 0.2, None, words), pa.string())
    return pa.table(
        {
            "key": pa.array([f"row {i}" for i in range(rows)]),
            "int8": pa.array(whole, pa.int8()),
            "int64": pa.array(whole + 2**60),
            "uint8": pa.array(whole, pa.uint8()),
            "uint64": pa.array(whole.astype(np.uint64) + np.uint64(2**63)),
            "float16": pa.array(whole.astype(np.float16), pa.float16()),
            "float32": pa.array(random.normal(size=rows), pa.float32()),
            "float64": pa.array(np.where(random.random(rows) < 0.2, np.nan, random.normal(size=rows))),
            "decimal": pa.array([Decimal(int(value)) / 8 for value in whole], pa.decimal128(8, 3)),
            "duration": pa.array(hours, pa.duration("ms")),
            "time": pa.array([time(int(value) % 24) for value in whole], pa.time32("s")),
            "date32": pa.array([(start + one).date() for one in hours], pa.date32()),
            "date64": pa.array([(start + one).date() for one in hours], pa.date64()),
            "instant": pa.array([start + one for one in hours], pa.timestamp("ns", "Europe/Zurich")),
            "seconds": pa.array([start + one for one in hours], pa.timestamp("s")),
            "bool": pa.array(random.random(rows) < 0.5),
            "string": odd,
            "large": pa.array(words, pa.large_string()),
            "view": pa.array(words[::-1], pa.string_view()),
            "dictionary": pa.array(words[::-1]).dictionary_encode(),
            "small_dictionary": pa.array(words).cast(pa.dictionary(pa.int8(), pa.large_string())),
            "list": pa.array([[1, 2]] * rows),
        }
    )


def schema_of(table: pa.Table) -> TableSchema:
    """Return the kinds of a table."""
    return TableSchema.infer(table)


def differing(old: dict[str, object], new: dict[str, object]) -> list[str]:
    """Names of the cells that differ between two rows; NaN equals NaN."""
    return sorted(name for name in old if old[name] != new[name] and not old[name] != old[name] != new[name])


def wrong(planted: Planted, row: int) -> list[str]:
    """Return the columns of a planted row that should differ from its original."""
    names = planted.columns[row]
    return sorted(names if planted.kind == "swapped_cells" else names[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_named_cells_differ_and_types_stay(kind: str) -> None:
    table = all_types()

    planted = plant(table, schema_of(table), kind)

    assert len(planted) > 0
    assert planted.table.schema == table.schema
    before, after = arrays.pick(table, planted.rows).to_pylist(), planted.table.to_pylist()
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        assert differing(old, new) == wrong(planted, row)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_plants_the_same_errors(table: pa.Table, kind: str) -> None:
    schema = schema_of(table)

    first, again, other = (plant(table, schema, kind, seed=seed) for seed in (5, 5, 6))

    assert (first.table, first.columns) == (again.table, again.columns)
    assert first.rows.tolist() == again.rows.tolist()
    assert kind == "unseen_category" or first.table != other.table  # one column of words, one new word


def test_the_rows_that_came_in_are_left_alone(table: pa.Table) -> None:
    before = pa.table(table.to_pydict(), schema=table.schema)

    plant_each(table, schema_of(table), rows=50)

    assert table == before


def test_a_row_where_nothing_would_change_is_not_counted() -> None:
    table = pa.table({"x": [0.0, 2.0, None, float("inf"), float("nan"), 1e308], "same": [1.0] * 6})
    schema = TableSchema.infer(table, {"same": "ignored"})

    assert plant(table, schema, "unit_slip_10").rows.tolist() == [1]
    assert plant(table, schema, "sign_flip").rows.tolist() == [1, 5]


def test_equal_cells_are_not_swapped() -> None:
    table = pa.table({"x": [1, 2, 3], "y": [1, 5, None]})

    planted = plant(table, schema_of(table), "swapped_cells")

    assert planted.rows.tolist() == [1]
    assert planted.table.to_pylist() == [{"x": 5, "y": 2}]
    assert planted.columns == (("x", "y"),)


@pytest.mark.parametrize(("kind", "factor"), zip(KINDS_OF_NUMBERS, (10, 1000, -1), strict=True))
@pytest.mark.parametrize("arrow_type", [pa.int8(), pa.uint16(), pa.int64(), pa.uint64(), pa.decimal128(5, 2)])
def test_numbers_stay_within_their_type(kind: str, factor: int, arrow_type: pa.DataType) -> None:
    """What does not fit is left out, and never wraps around."""
    table = pa.table({"x": pa.array([0, 1, 12, 40, 100], arrow_type)})

    planted = plant(table, schema_of(table), kind)

    limit = 999.99 if pa.types.is_decimal(arrow_type) else np.iinfo(arrow_type.to_pandas_dtype()).max
    lowest = 0 if pa.types.is_unsigned_integer(arrow_type) else -limit
    whole = [value * factor for value in (0, 1, 12, 40, 100)]
    expected = [value for value in whole if value != 0 and lowest <= value <= limit]
    assert planted.table["x"].to_pylist() == expected


def test_the_greatest_integers_are_multiplied_exactly_or_not_at_all() -> None:
    table = pa.table({"x": pa.array([2**63 - 1, -(2**63), 922337203685477580, 922337203685477581])})

    tenfold, flipped = (plant(table, schema_of(table), kind) for kind in ("unit_slip_10", "sign_flip"))

    assert tenfold.table["x"].to_pylist() == [9223372036854775800]
    assert flipped.rows.tolist() == [0, 2, 3]


def test_an_impossible_pair_is_usual_apart_and_never_seen_together() -> None:
    rows = 3000
    random = np.random.default_rng(0)
    country = random.choice(["CH", "FR", "US"], rows)
    currency = np.where(country == "CH", "CHF", np.where(country == "FR", "EUR", "USD"))
    height = np.where(country == "CH", 4000.0, 100.0) + random.normal(0, 20, rows)
    table = pa.table({"country": country, "currency": currency, "height": height})

    planted = plant(table, schema_of(table), "impossible_pair")

    seen = set(zip(country.tolist(), currency.tolist(), strict=True))
    changed = {names[0] for names in planted.columns}
    assert len(planted) > 0.9 * rows
    assert changed == {"country", "currency", "height"}
    for row, names in zip(planted.table.to_pylist(), planted.columns, strict=True):
        if set(names) == {"country", "currency"}:
            assert (row["country"], row["currency"]) not in seen
        if names == ("height", "country"):
            assert (row["height"] > 2000) != (row["country"] == "CH")
            assert height.min() < row["height"] < height.max()


def test_independent_columns_have_no_impossible_pair() -> None:
    """A combination that chance left out of a small sample proves nothing."""
    random = np.random.default_rng(0)
    words = [random.choice([f"{name}{i}" for i in range(12)], 300) for name in "ab"]
    table = pa.table({"a": words[0], "b": words[1], "x": random.normal(size=300)})

    planted = plant(table, schema_of(table), "impossible_pair")

    assert len(planted) == 0


def test_nulls_are_planted_only_where_they_are_rare(table: pa.Table) -> None:
    planted = plant(table, schema_of(table), "null")

    assert {names[0] for names in planted.columns} == {"x", "double", "shop", "open", "at"}
    assert all(
        row[names[0]] is None for row, names in zip(planted.table.to_pylist(), planted.columns, strict=True)
    )


def test_a_column_that_may_hold_no_null_gets_none() -> None:
    table = pa.table({"x": [1.0, 2.0]}, schema=pa.schema([pa.field("x", pa.float64(), nullable=False)]))

    assert len(plant(table, schema_of(table), "null")) == 0


def test_an_unseen_category_is_not_in_the_sample(table: pa.Table, fresh: pa.Table) -> None:
    planted = plant(fresh, schema_of(table), "unseen_category", sample=table)

    assert len(planted) == fresh.num_rows
    assert not set(planted.table["shop"].to_pylist()) & {"north", "south"}


def test_a_code_without_room_for_another_gets_none() -> None:
    table = pa.table({"code": pa.array([1, 127], pa.int8())})

    planted = plant(table, TableSchema.infer(table, {"code": "categorical"}), "unseen_category")

    assert len(planted) == 0


def test_a_wrong_category_is_a_known_one(table: pa.Table, fresh: pa.Table) -> None:
    planted = plant(fresh, schema_of(table), "wrong_category", sample=table)

    assert set(planted.table["shop"].to_pylist()) == {"north", "south"}


def test_a_stale_cell_holds_a_value_of_the_sample(table: pa.Table, fresh: pa.Table) -> None:
    planted = plant(fresh, schema_of(table), "stale_cell", sample=table)

    known = {name: set(table[name].to_pylist()) for name in table.schema.names}
    assert all(
        row[names[0]] in known[names[0]]
        for row, names in zip(planted.table.to_pylist(), planted.columns, strict=True)
    )


def test_a_far_timestamp_lies_years_outside_of_the_sample(table: pa.Table) -> None:
    planted = plant(table, schema_of(table), "far_timestamp")

    times = table["at"].to_pylist()
    low, high = min(times) - timedelta(days=3 * 365), max(times) + timedelta(days=3 * 365)
    assert len(planted) == table.num_rows
    assert all(value < low or value > high for value in planted.table["at"].to_pylist())


def test_kinds_without_a_column_for_them_are_empty() -> None:
    table = pa.table({"x": [1.0, 2.0, 4.0]})

    planted = plant_each(table, schema_of(table))

    assert tuple(planted) == KINDS
    assert {kind for kind in KINDS if len(planted[kind])} == {*KINDS_OF_NUMBERS, "stale_cell", "null"}
    assert all(one.table.schema == table.schema for one in planted.values())


def test_row_numbers_are_those_of_the_table_that_came_in(table: pa.Table) -> None:
    planted = plant_each(table, schema_of(table), rows=20, seed=1)

    for one in planted.values():
        assert 0 < len(one) <= 20
        assert table.take(pa.array(one.rows))["id"] == one.table["id"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_tables_of_hardly_a_row_are_no_trouble(table: pa.Table, kind: str, rows: int) -> None:
    planted = plant(table.slice(0, rows), schema_of(table), kind)

    assert len(planted) <= rows
    assert planted.table.schema == table.schema


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_nothing_but_nulls_stay_so(kind: str) -> None:
    table = pa.table(
        {"x": pa.nulls(9, pa.float64()), "s": pa.nulls(9, pa.string()), "b": pa.nulls(9, pa.bool_())}
    )

    assert len(plant(table, schema_of(table), kind)) == 0


def test_a_thousand_columns_take_no_longer_than_a_few_seconds() -> None:
    """Places are drawn before pairs are formed."""
    values = np.random.default_rng(0).normal(size=(1000, 20))
    table = pa.table({f"x{i}": column for i, column in enumerate(values)})
    began = process_time()

    planted = plant_each(table, schema_of(table))

    seconds = process_time() - began
    print(f"10 kinds planted in 1,000 columns: {seconds:.1f} CPU-seconds")
    assert len(planted["swapped_cells"]) == 20
    assert seconds < 5


def test_an_unknown_kind_is_told_which_there_are(table: pa.Table) -> None:
    with pytest.raises(DataError, match="kind='typo' came; take unit_slip_10"):
        plant(table, schema_of(table), "typo")
