"""What is said of files that are odd and scored all the same."""

import numpy as np
import pyarrow as pa
import pytest

from flows.cells import plain_rows
from flows.reference import Reference
from flows.remarks import KEPT, Glance, Glimpse, Overview, remarks
from vae_core.drift import TableProfile
from vae_core.schema import TableSchema

ROWS = 2_000
LEARNED = pa.schema([("price", pa.float64()), ("city", pa.string()), ("ts", pa.timestamp("us"))])


def table(price: float = 10.0, city: str = "Bern", rows: int = ROWS) -> pa.RecordBatch:
    """Return ordinary rows, but for the price's mean and one city's name."""
    rng = np.random.default_rng(0)
    moments = pa.array(rng.integers(0, 10**15, rows), pa.timestamp("us"))
    columns = [pa.array(rng.normal(price, 1.0, rows)), pa.array(rng.choice([city, "Basel"], rows)), moments]
    return pa.RecordBatch.from_arrays(columns, schema=LEARNED)


@pytest.fixture(scope="module")
def reference() -> Reference:
    learned = pa.Table.from_batches([table()])
    return Reference(TableProfile.of(learned, TableSchema.infer(learned.schema, {})), {})


def said(batch: pa.RecordBatch, reference: Reference | None) -> list[str]:
    """Return the remarks on rows that came in three batches."""
    glance = Glance(LEARNED, batch.num_rows, 0)
    for start in range(0, batch.num_rows, 700):
        glance.scored(batch.slice(start, 700))
    return remarks(glance.glimpse(), learned=LEARNED, new={}, missing=(), reference=reference)


def test_ordinary_rows_are_not_remarked_on(reference: Reference) -> None:
    """Rows as they were learned have nothing odd."""
    assert said(table(), reference) == []


def test_what_moved_is_named_by_column(reference: Reference) -> None:
    """Other numbers, values never seen, values from nowhere, a moment that few programs can show."""
    assert [one.partition(":")[0] for one in said(table(price=14.0), reference)] == ["price"]
    assert "never seen" in said(table(city="Chur"), reference)[0]
    assert "from 1e+300 to 1e+300" in said(table(price=1e300), reference)[0]

    far = table().set_column(2, "ts", pa.array([2**62] * ROWS, pa.timestamp("us")))
    assert any(one.startswith("ts: moments beyond the years 1 to 9999") for one in said(far, None))


def test_a_single_null_where_none_was_is_remarked_on(reference: Reference) -> None:
    """Though five of two thousand are no drift."""
    values = table().column("price").to_pylist()
    holed = table().set_column(0, "price", pa.array([None] * 5 + values[5:]))

    assert said(holed, reference) == ["price: rows without a value (5), where none is usual"]


def test_rules_new_and_missing_columns_are_named() -> None:
    """With how many rows broke which rule; names on one printable line."""
    glance = Glance(LEARNED, 3, 0)
    glance.set_aside(pa.array(["qty must not be null", None, "qty must not be null"]))

    found = remarks(
        glance.glimpse(), learned=LEARNED, new={"a\nb": pa.int8()}, missing=["id"], reference=None
    )

    assert found == [
        "new columns, which the model does not know: a\\nb (int8)",
        "columns that no row has, and no score needs: id",
        "rows in quarantine: qty must not be null (2)",
    ]


def test_a_sample_is_bounded_whatever_the_text() -> None:
    """Texts that repeat cost nothing coded, and must not be decoded by the gigabyte."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array(["x" * 1_000_000]))
    coded = table().set_column(1, "city", words)
    glance = Glance(LEARNED, ROWS, 0)

    glance.scored(coded)

    assert 0 < sum(one.nbytes for one in glance.glimpse().sample) < 20_000_000


def test_values_that_python_has_none_for_come_as_text() -> None:
    """Moments of the year 292,277, and those of a zone that nobody knows."""
    far = pa.array([2**63 - 1, 0, None], pa.timestamp("us"))
    lost = pa.array([1, 0, None], pa.timestamp("us", "Mars/Olympus"))

    rows = plain_rows(pa.table({"far": far, "lost": lost}))

    assert str(2**63 - 1) in rows[0]["far"]
    assert rows[0]["lost"].startswith("1970-01-01")
    assert rows[2] == {"far": None, "lost": None}


def test_what_is_kept_of_a_file_of_many_shards_has_a_bound_and_is_even() -> None:
    """Of 64 shards as much is kept as of 16, of each the same number of rows; counts and ends are of all."""
    overview, shards = Overview(), 64
    for i in range(shards):
        rows = pa.record_batch({"row": pa.array(range(i * 5_000, (i + 1) * 5_000), pa.int64())})
        overview.add(Glimpse((rows,), {"row": (i, i + 1.0)}, {"row": 2}, {"a rule": 1}))
    seen = overview.glimpse()

    kept = pa.Table.from_batches(seen.sample)["row"].to_numpy()
    assert KEPT / 2 < len(kept) <= KEPT < shards * 5_000
    assert set(np.diff(kept)) == {4}
    assert (seen.ends, seen.nulls, seen.broken) == ({"row": (0, 64.0)}, {"row": 128}, {"a rule": 64})


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.int64(), pa.uint8(), pa.timestamp("us")])
def test_ends_are_those_of_the_values_whatever_stands_where_one_is_missing(kind: pa.DataType) -> None:
    """Behind a missing value lies any number, here the greatest; another batch widens what is known."""
    missing = np.array([i % 3 == 0 for i in range(300)])
    numbers = np.arange(300) % 100 + 20
    lying = pa.array(np.where(missing, 120, numbers), pa.int64()).cast(pa.int64())
    column = pa.Array.from_buffers(
        kind,
        300,
        [pa.array(~missing).buffers()[1], lying.cast(kind).buffers()[1]],
    )
    glance = Glance(pa.schema([("n", kind)]), 600, 0)
    glance.scored(pa.record_batch([column.slice(100, 50)], ["n"]))
    glance.scored(pa.record_batch([column], ["n"]))
    glance.scored(pa.record_batch([pa.nulls(5, kind)], ["n"]))

    assert glance.glimpse().ends == {"n": (20.0, 119.0)}


def test_what_is_no_number_is_beyond_nothing() -> None:
    glance = Glance(pa.schema([("n", pa.float64())]), 600, 0)
    for values in ([np.nan, None], [np.nan, 3.0], [2.0, np.nan, None]):
        glance.scored(pa.record_batch([pa.array(values, pa.float64(), from_pandas=False)], ["n"]))

    assert glance.glimpse().ends == {"n": (2.0, 3.0)}
