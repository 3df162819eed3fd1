"""What the model expected, as values and in words."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from vae_core import VAEDetector
from vae_core.expectation import as_type, rounded

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
