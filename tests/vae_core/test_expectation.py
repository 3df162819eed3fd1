"""What the model expected, as values and in words."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from vae_core import VAEDetector
from vae_core.expectation import _same_day, as_type, rounded

ODD_TYPES = {
    "int8": pa.array([-100, 100] * 60, pa.int8()),
    "uint8": pa.array([0, 255] * 60, pa.uint8()),
    "decimal": pa.array([1, 999] * 60).cast(pa.decimal128(25, 2)),
    "float32": pa.array([0.5, 1.5] * 60, pa.float32()),
    "time": pa.array([1, 86_399] * 60, pa.time32("s")),
    "duration": pa.array([0, 5] * 60, pa.duration("ms")),
    "word": pa.array(["a", "b"] * 60).dictionary_encode(),
    "text": pa.array(["c", None] * 60, pa.large_string()),
    "flag": pa.array([True, None] * 60),
    "day": pa.array([0, 9] * 60, pa.date32()),
    "at": pa.array([0, 10**15] * 60, pa.timestamp("ns", "Europe/Berlin")),
}


@pytest.fixture(scope="module")
def odd_types() -> pa.Table:
    return pa.table(ODD_TYPES)


@pytest.fixture(scope="module")
def odd_detector(odd_types: pa.Table) -> VAEDetector:
    return VAEDetector(random_state=0, max_epochs=2).fit(odd_types)


def test_expected_keeps_columns_and_types(odd_detector: VAEDetector, odd_types: pa.Table) -> None:
    """What was expected has the columns and types that the rows have."""
    expected = odd_detector.expected(odd_types)

    pd.testing.assert_series_equal(expected.dtypes, odd_types.to_pandas().dtypes, check_index=True)
    assert len(expected) == 120


def test_samples_keep_columns_and_types(odd_detector: VAEDetector, odd_types: pa.Table) -> None:
    """Generated rows have the columns of the rows learned, and values that were possible."""
    rows = odd_detector.sample(30, random_state=0)

    assert rows.columns.tolist() == odd_types.schema.names
    assert rows["uint8"].dtype == np.uint8
    assert rows["int8"].between(-100, 100).all()
    assert set(rows["word"]) <= {"a", "b"}
    assert rows["at"].dt.tz is not None


def test_expected_values_follow_the_other_columns(detector: VAEDetector, table: pa.Table) -> None:
    """Of a hidden shop the sign of the number tells which it was."""
    row = table.slice(0, 60)
    place = row.schema.get_field_index("shop")

    expected = detector.expected(row.set_column(place, "shop", pa.array(["west"] * 60)))

    assert np.mean(expected["shop"] == row["shop"].to_pandas()) > 0.95


def test_expected_keeps_keys_and_days(detector: VAEDetector, table: pa.Table) -> None:
    """Keys come back as they are, and timestamps on their day within opening hours."""
    rows, expected = table.slice(0, 30).to_pandas(), detector.expected(table.slice(0, 30))

    assert expected["id"].tolist() == rows["id"].tolist()
    assert (expected["at"].dt.date == rows["at"].dt.date).all()
    assert expected["at"].dt.hour.between(7, 19).all()


ODD_CATEGORIES = {
    "duration": pa.array([0, 5] * 60, pa.duration("ms")),
    "time": pa.array([1, 86_399] * 60, pa.time32("s")),
    "precise": pa.array([1_000, 86_399_000] * 60, pa.time64("ns")),
    "at": pa.array([0, 10**15] * 60, pa.timestamp("ns", "Europe/Berlin")),
    "half": pa.array([0.5, 1.5] * 60, pa.float16()),
    "code": pa.array([7, 9] * 60).dictionary_encode(),
}


def test_categories_of_any_type_can_be_expected_and_generated() -> None:
    """What was learned as codes comes back in its type, with values that were there."""
    rows = pa.table(ODD_CATEGORIES)
    kinds = dict.fromkeys(ODD_CATEGORIES, "categorical")
    detector = VAEDetector(random_state=0, max_epochs=2, n_members=1, kinds=kinds).fit(rows)
    known = rows.to_pandas()

    for found in (detector.expected(rows), detector.sample(30, random_state=0)):
        assert all(set(found[name].dropna()) <= set(known[name]) for name in ODD_CATEGORIES)


def test_dictionaries_of_instants_can_be_expected_and_generated() -> None:
    """A data frame's category of timestamps comes back, with more times than its dictionary has room for."""
    days = pd.Categorical(pd.date_range("2024-01-01", periods=120, freq="31h"))
    rows = pa.Table.from_pandas(pd.DataFrame({"at": pd.Categorical.from_codes(np.arange(600) % 120, days)}))
    detector = VAEDetector(random_state=0, max_epochs=2, n_members=1).fit(rows)

    expected, drawn = detector.expected(rows), detector.sample(300, random_state=0)

    assert (pd.to_datetime(expected["at"]).dt.date == pd.to_datetime(rows["at"].to_pandas()).dt.date).all()
    assert pd.to_datetime(drawn["at"]).between("2024-01-01", "2024-06-05").all()


def same_day(values: pa.Array, hour: float, wanted: pa.DataType | None = None) -> list[str | None]:
    """What is expected at an hour of UTC, as text."""
    moved = _same_day(values, np.full(len(values), hour / 24), wanted or values.type)
    found: list[str | None] = moved.cast(pa.string()).to_pylist()
    return found


def test_expected_timestamps_keep_their_day_by_their_own_clocks() -> None:
    """Eight in the evening of New York stays on its day, though it is the next one in London."""
    evening = dt.datetime(2024, 1, 11, 1, tzinfo=dt.UTC)

    moved = same_day(pa.array([evening, None], pa.timestamp("s", "America/New_York")), hour=14)

    assert moved == ["2024-01-10 09:00:00-0500", None]


@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("day", ["2024-03-31", "2024-10-27"])
def test_expected_timestamps_keep_their_day_when_the_clocks_change(day: str, hour: int) -> None:
    """No time of day leads out of a day of 23 or 25 hours."""
    local = pd.date_range(day, periods=4, freq="7h", tz="Europe/Berlin").as_unit("us")

    moved = same_day(pa.array(local), hour)

    assert [text and text[:10] for text in moved] == [str(one.date()) for one in local]


def test_expected_instants_beyond_their_type_do_not_wrap() -> None:
    """An instant that the learned type cannot hold becomes its first or last one."""
    years = pa.array([dt.datetime(2300, 1, 1), dt.datetime(1, 1, 1)], pa.timestamp("us"))
    last = pa.array([2**31 - 1], pa.int32()).view(pa.date32())

    assert [text and text[:10] for text in same_day(years, 5, pa.timestamp("ns"))] == [
        "2262-04-11",
        "1677-09-21",
    ]
    assert _same_day(last, np.array([np.nan]), pa.date32()).equals(last)
    assert _same_day(last, np.array([0.5]), pa.timestamp("us"))[0].value > 2**63 - 86_400_000_000


def test_samples_look_like_the_rows_learned(detector: VAEDetector, table: pa.Table) -> None:
    """Generated rows have shares and ranges near those of the rows, and no keys."""
    rows = detector.sample(2000, random_state=0)

    assert rows["id"].isna().all()
    assert rows["open"].mean() == pytest.approx(0.7, abs=0.1)
    assert rows["discount"].isna().mean() == pytest.approx(0.3, abs=0.1)
    assert np.corrcoef(rows["x"], rows["double"])[0, 1] > 0.6
    assert rows["at"].dt.hour.between(7, 19).mean() > 0.9


def test_samples_of_one_seed_are_equal(detector: VAEDetector) -> None:
    """The seed decides the rows."""
    first, second, other = (detector.sample(5, random_state=seed) for seed in (1, 1, 2))

    pd.testing.assert_frame_equal(first, second)
    assert not first["x"].equals(other["x"])


@pytest.mark.parametrize(
    ("value", "deviation", "text"),
    [(12.3456, 0.5, "12.35"), (12.3456, 3.0, "12"), (-0.001, 0.5, "0"), (1e20, 1.0, "1e+20")],
)
def test_expected_numbers_have_no_meaningless_digits(value: float, deviation: float, text: str) -> None:
    """Digits far below the model's own deviation are not shown."""
    assert rounded(value, deviation) == text


def test_floats_are_rounded_into_integers() -> None:
    """A column of integers gets the nearest ones."""
    assert as_type(pa.array([1.6, None]), pa.int16()).to_pylist() == [2, None]
