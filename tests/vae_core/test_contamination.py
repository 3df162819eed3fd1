"""The share of anomalies among calibration rows."""

from collections.abc import Callable

import numpy as np
import pytest

from vae_core.contamination import estimate_contamination, upper_limit

Draw = Callable[[np.random.Generator, int], np.ndarray]

CLEAN: dict[str, Draw] = {
    "normal": lambda random, rows: random.normal(size=rows),
    "exponential": lambda random, rows: random.exponential(size=rows),
    "log-normal": lambda random, rows: random.lognormal(size=rows),
    "t with 3 degrees of freedom": lambda random, rows: random.standard_t(3, rows),
    "asinh of chi square": lambda random, rows: np.arcsinh((random.chisquare(10, rows) - 9.3) / 6),
    "two groups": lambda random, rows: random.normal(size=rows) + 2.5 * (random.random(rows) < 0.1),
}


def estimates(draw: Draw, share: float, far: float = 0.0) -> np.ndarray:
    """Ten estimates of 10,000 rows, a share of which lies ``far`` and farther above."""
    found = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        scores, planted = draw(random, 10_000), int(10_000 * share)
        scores[:planted] = far * (1 + random.random(planted))
        found.append(estimate_contamination(np.sort(scores)))
    return np.array(found)


@pytest.mark.parametrize("name", CLEAN)
def test_clean_rows_are_found_clean(name: str) -> None:
    """Of rows without anomalies, heavy tails included, hardly any is taken for one."""
    found = estimates(CLEAN[name], 0.0)

    assert found.mean() < 0.0003
    assert np.median([upper_limit(share, 10_000) for share in found]) < 0.001


@pytest.mark.parametrize("share", [0.001, 0.01, 0.03, 0.08, 0.14])
def test_anomalies_that_stand_apart_are_counted(share: float) -> None:
    """From one row in a thousand to one in seven, to within a third."""
    found = estimates(CLEAN["normal"], share, far=7.0)

    assert found.mean() == pytest.approx(share, rel=0.33)
    assert min(upper_limit(one, 10_000) for one in found) > 0.001


def test_anomalies_that_score_like_ordinary_rows_cannot_be_seen() -> None:
    """The limit of the method: what overlaps with the tail of ordinary rows is not counted."""
    assert estimates(CLEAN["normal"], 0.01, far=1.0).max() < 0.003


def test_equal_scores_and_few_rows_have_no_estimate() -> None:
    """Where the body has no shape, nothing is foretold: the estimate is 0, and its limit says how little."""
    assert estimate_contamination(np.ones(5000)) == 0.0
    assert estimate_contamination(np.arange(100.0)) == 0.0
    assert upper_limit(0.0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))


def test_the_limit_lies_above_the_estimate_and_closes_in() -> None:
    """More rows say more: one anomaly in a hundred is known to be below 2.8, 1.2, then 1.1 percent."""
    limits = [upper_limit(0.01, rows) for rows in (300, 10_000, 200_000)]

    np.testing.assert_allclose(limits, [0.0257, 0.0118, 0.0104], rtol=0.03)
    assert upper_limit(1.0, 50) == 1.0
