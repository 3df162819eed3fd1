"""Codecs: values to what the network sees, and back."""

import json

import numpy as np
import pyarrow as pa
import pytest

from vae_core.categories import CategoryCodec
from vae_core.columns import (
    BooleanCodec,
    Codec,
    NumberCodec,
    TimestampCodec,
    codec_from_json,
    codec_to_json,
    compress,
    expand,
)

DAY = 86_400


def chunked(values: object, arrow_type: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, arrow_type)])


def test_compression_is_undone_by_expansion() -> None:
    """Expanding what was compressed gives it back."""
    z = np.array([-1e300, -50.0, -4.0, -0.5, 0.0, 3.9, 4.1, 1e12])

    np.testing.assert_allclose(expand(compress(z)), z, rtol=1e-9)


def test_compression_keeps_order() -> None:
    """Larger values stay larger, also far out."""
    assert np.all(np.diff(compress(np.geomspace(1e-3, 1e300, 1000))) > 0)


def test_numbers_are_centred_and_scaled() -> None:
    """Ordinary numbers come in standard deviations from their mean."""
    values = np.random.default_rng(0).normal(40, 8, 5000)
    parts, present = NumberCodec.fit("x", chunked(values)).encode(pa.array(values))

    assert present.all()
    assert abs(parts.mean()) < 0.01
    assert parts.std() == pytest.approx(1, abs=0.01)


def test_scaling_does_not_depend_on_the_order_of_rows() -> None:
    """A table sorted by time is scaled as the same table shuffled: nothing is read off its head."""
    drifting = np.linspace(0, 1000, 4000)
    ordered = NumberCodec.fit("x", chunked(drifting))

    shuffled = NumberCodec.fit("x", chunked(np.random.default_rng(0).permutation(drifting)))

    assert shuffled.scale == pytest.approx(ordered.scale)
    assert ordered.center == pytest.approx(500)


def test_nulls_and_nans_are_absent() -> None:
    """Null and NaN alike are absent cells, not values."""
    codec = NumberCodec.fit("x", chunked([1.0, 2.0, None, float("nan")]))

    parts, present = codec.encode(pa.array([None, float("nan"), 1.5]))

    assert present.tolist() == [False, False, True]
    assert codec.nulls == 0.5
    assert parts[:2].tolist() == [[0.0], [0.0]]


def test_extremes_stay_finite_and_in_order() -> None:
    """Infinities and the largest doubles become finite parts in the right order."""
    codec = NumberCodec.fit("x", chunked(np.random.default_rng(0).normal(size=1000)))

    parts, _ = codec.encode(pa.array([-np.inf, -1e308, -1e9, 0.0, 1e9, 1e308, np.inf]))

    assert np.isfinite(parts).all()
    assert np.all(np.diff(parts[:, 0])[1:5] > 0)


@pytest.mark.parametrize("values", [[1e308, -1e308, 0.0] * 50, [np.inf, -np.inf], [1e308] * 9, [1e-320] * 9])
def test_extremes_can_be_learned(values: list[float]) -> None:
    """Training rows that hold the largest doubles, infinities or denormals give a finite scale above 0."""
    codec = NumberCodec.fit("x", chunked(values))

    parts, _ = codec.encode(pa.array(values))

    assert np.isfinite([codec.center, codec.scale, codec.low, codec.high]).all()
    assert codec.scale > 0
    assert np.isfinite(parts).all()


def test_the_scale_of_a_constant_is_a_hundredth_of_it() -> None:
    """Beside a constant, a value 1 % away is one deviation off, and its neighbour is usual."""
    codec = NumberCodec.fit("x", chunked([1e6] * 50))

    parts, _ = codec.encode(pa.array([1_000_001.0, 1_010_000.0]))

    assert parts[:, 0].tolist() == pytest.approx([1e-4, 1.0])


def test_one_extreme_does_not_swallow_the_others() -> None:
    """A single huge value among thousands leaves the scale of the others as it was."""
    values = np.append(np.random.default_rng(0).normal(size=5000), 1e12)

    assert NumberCodec.fit("x", chunked(values)).scale == pytest.approx(1, abs=0.05)


def test_outside_is_beyond_the_training_range() -> None:
    """Only values beyond the smallest and largest seen are outside; null is not."""
    codec = NumberCodec.fit("x", chunked([0.0, 10.0]))

    outside = codec.outside(pa.array([-0.1, 0.0, 10.0, np.inf, None]))

    assert outside.tolist() == [True, False, False, True, False]


def test_times_of_day_are_cyclic() -> None:
    """One minute before and after midnight are neighbours; noon lies opposite."""
    training = chunked(np.arange(0, 400 * 3600, 3600), pa.timestamp("s"))
    codec = TimestampCodec.fit("at", training)

    parts, _ = codec.encode(pa.array([DAY - 60, DAY + 60, DAY + 12 * 3600], pa.timestamp("s")))

    assert codec.hours
    assert np.linalg.norm(parts[0] - parts[1]) < 0.05
    assert np.linalg.norm(parts[0, :2] - parts[2, :2]) == pytest.approx(2 * np.sqrt(2), abs=0.05)


def test_weeks_are_cyclic() -> None:
    """A weekday a week later looks the same, three days later it does not."""
    days = chunked(np.arange(100) * DAY, pa.timestamp("s"))
    codec = TimestampCodec.fit("at", days)

    parts, _ = codec.encode(pa.array([10 * DAY, 17 * DAY, 13 * DAY], pa.timestamp("s")))

    assert not codec.hours
    np.testing.assert_allclose(parts[0], parts[1], atol=1e-6)
    assert np.linalg.norm(parts[0] - parts[2]) > 1


def test_dates_far_from_training_show_and_near_ones_do_not() -> None:
    """Next month costs nothing; a date years away has a distance, and is out of support."""
    codec = TimestampCodec.fit("at", chunked(np.arange(60) * DAY, pa.timestamp("s")))
    far = pa.array([90 * DAY, 10_000 * DAY, -10_000 * DAY], pa.timestamp("s"))

    parts, _ = codec.encode(far)

    assert (parts[:, -1] > 0).tolist() == [False, True, True]
    assert codec.outside(far).tolist() == [False, True, True]


def test_time_of_day_is_decoded() -> None:
    """The share of the day gone comes back from the parts."""
    at = pa.array(np.arange(0, 50 * 3600, 3600) + 1800, pa.timestamp("s"))
    codec = TimestampCodec.fit("at", pa.chunked_array([at]))

    shares = codec.decode(codec.encode(at)[0].astype(np.float64))

    np.testing.assert_allclose(shares, (np.arange(50) % 24 + 0.5) / 24, atol=1e-6)


def test_instants_that_no_calendar_holds_stay_finite() -> None:
    """The first and last instants of 64 bits become finite parts."""
    codec = TimestampCodec.fit("at", chunked(np.arange(60) * DAY + 7, pa.timestamp("s")))

    parts, present = codec.encode(pa.array([-(2**63), 2**63 - 1, None], pa.timestamp("s")))

    assert np.isfinite(parts).all()
    assert present.tolist() == [True, True, False]


def test_booleans_become_bits() -> None:
    """Truth values become bits with their presence; the share of true is among the present."""
    codec = BooleanCodec.fit("b", chunked([True, False, None, True]))

    bits, present = codec.encode(pa.array([True, False, None]))

    assert bits[:, 0].tolist() == [True, False, False]
    assert present.tolist() == [True, True, False]
    assert codec.share == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "codec",
    [
        NumberCodec.fit("x", chunked([1.0, 2.0, None])),
        TimestampCodec.fit("t", chunked([1, 2, 3], pa.timestamp("us"))),
        BooleanCodec.fit("b", chunked([True, None])),
        CategoryCodec.fit("c", chunked(["é", "a", None]), limit=1),
    ],
    ids=lambda codec: codec.kind,
)
def test_codecs_survive_json(codec: Codec) -> None:
    """A codec written as JSON and read again equals itself."""
    assert codec_from_json(json.loads(json.dumps(codec_to_json(codec)))) == codec
