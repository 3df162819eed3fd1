"""The benchmark of p-values and false discoveries, on scores of closed form."""

import numpy as np
import pytest

from benchmarks.calibration import Scored, distance, night_grid, nights

RANDOM = np.random.default_rng(0)
FAR = Scored("far", RANDOM.normal(size=30_000), RANDOM.normal(size=500) + 6)


def test_p_values_of_normal_rows_are_uniform() -> None:
    rows, with_tail, by_rank = distance(FAR)

    assert rows == 10_000
    assert max(with_tail, by_rank) < 0.03


def test_clean_calibration_keeps_the_rate_finds_the_anomalies_and_is_mostly_certified() -> None:
    """At q = 0.05 the 10,000 rows are too few for a certificate: 19,999 are required."""
    strict, *others = nights(FAR, 0.0, 40)

    assert all(one.holds and one.power > 0.9 for one in (strict, *others))
    assert strict.refused == 1.0
    assert max(one.refused for one in others) < 0.1


@pytest.mark.parametrize("contamination", [0.001, 0.01])
def test_contaminated_calibration_is_refused(contamination: float) -> None:
    shares = nights(FAR, contamination, 20)

    assert min(one.refused for one in shares) > 0.9
    assert shares[1].estimated == pytest.approx(contamination, rel=0.35)


def test_contaminated_calibration_takes_the_power_away() -> None:
    """One anomaly in a hundred, as many as tonight: nothing can be told apart any more."""
    assert nights(FAR, 0.01, 20)[1].power < 0.1


def test_the_table_marks_what_does_not_hold() -> None:
    [share, *_] = nights(FAR, 0.0, 5)

    heads, row = night_grid([share])

    assert dict(zip(heads, row, strict=True))["q"] == "0.05"
    assert "above q" not in row[3]
