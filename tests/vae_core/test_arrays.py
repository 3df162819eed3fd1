"""Arrow arrays of any flavour to plain NumPy."""

import decimal

import numpy as np
import pyarrow as pa
import pytest

from vae_core import arrays

LEARNED = [1, 2, None]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(LEARNED, pa.int8()),
        pa.array(LEARNED, pa.uint64()),
        pa.array([1.0, 2.0, float("nan")], pa.float32()),
        pa.array([decimal.Decimal(1), decimal.Decimal(2), None]),
        pa.array(LEARNED, pa.time32("s")),
        pa.array(LEARNED, pa.duration("ns")),
        pa.array(["1", "2", None]),
        pa.array(LEARNED).dictionary_encode(),
        pa.chunked_array([[1], [2, None]]),
        pa.array([9, *LEARNED], pa.time64("us"))[1:],
    ],
    ids=lambda array: str(array.type),
)
def test_numbers_of_any_type_become_floats(array: pa.Array) -> None:
    """Every numeric type gives the same floats, null and NaN both as NaN."""
    np.testing.assert_array_equal(arrays.numbers(array, "x"), [1.0, 2.0, np.nan])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_instants_of_any_unit_are_alike(unit: str) -> None:
    """Days and share of the day do not depend on the unit; time before 1970 counts forward too."""
    seconds = pa.array([-21_600, 129_600, None]).cast(pa.timestamp("s"))

    days, share, present = arrays.instants(seconds.cast(pa.timestamp(unit)), "t")

    assert days.tolist()[:2] == [-1.0, 1.0]
    assert share.tolist()[:2] == [0.75, 0.5]
    assert present.tolist() == [True, True, False]


@pytest.mark.parametrize("arrow_type", [pa.date32(), pa.date64()], ids=str)
def test_dates_are_instants_at_midnight(arrow_type: pa.DataType) -> None:
    """Dates have a day and no time of day."""
    days, share, _ = arrays.instants(pa.array([3], pa.int32()).cast(pa.date32()).cast(arrow_type), "d")

    assert (days.tolist(), share.tolist()) == ([3.0], [0.0])


def test_clocks_are_ahead_of_utc_by_their_zone_and_season() -> None:
    """Berlin is ahead by one hour, in summer by two; instants that no calendar holds have an offset too."""
    summer = 1_688_169_600  # 2023-07-01

    ahead = arrays.seconds_ahead(np.array([0, summer, 2**62, -(2**62)]), "Europe/Berlin")

    assert ahead[:3].tolist() == [3600, 7200, 3600]
    assert arrays.seconds_ahead(np.array([0, summer]), None).tolist() == [0, 0]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None]),
        pa.array(["a", None], pa.large_string()),
        pa.array(["a", None], pa.string_view()),
        pa.array(["a", None]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, None], pa.uint32()), pa.array(["a"], pa.string_view())),
    ],
    ids=lambda array: str(array.type),
)
def test_texts_of_any_type_are_alike(array: pa.Array) -> None:
    """Every string type gives the same texts, views in a dictionary too."""
    assert arrays.texts(array, "c").to_pylist() == ["a", None]


def test_truth_values_come_with_their_presence() -> None:
    """A null is absent, and neither true nor false."""
    values, present = arrays.bits(pa.array([True, None, False]), "b")

    assert values[present].tolist() == [True, False]
