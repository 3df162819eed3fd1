"""p-values, thresholds and selections."""

import numpy as np
import pytest
from scipy.stats import genpareto, kstest

from vae_core import Calibration, DataError, benjamini_hochberg, severity


def draw(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows)


def test_p_values_of_fresh_rows_are_uniform() -> None:
    """p-values of rows like the calibration rows are uniform between 0 and 1."""
    p_values = Calibration.of(draw(20_000, 0)).p_values(draw(20_000, 1))

    assert kstest(p_values, "uniform").statistic < 0.05


@pytest.mark.parametrize("share", [0.1, 0.01, 0.001])
def test_small_p_values_come_as_often_as_they_say(share: float) -> None:
    """About a share s of fresh rows has a p-value below s, within the tail as well."""
    p_values = Calibration.of(draw(50_000, 0)).p_values(draw(200_000, 1))

    assert np.mean(p_values < share) == pytest.approx(share, rel=0.35)


def test_p_values_are_conformal_without_a_tail() -> None:
    """Few rows get no tail: p is the share at least as anomalous, the row itself counted."""
    calibration = Calibration.of(np.array([3.0, 1.0, 2.0]))

    p_values = calibration.p_values(np.array([0.0, 1.0, 2.5, 9.0]))

    assert p_values.tolist() == [1.0, 1.0, 0.5, 0.25]


def test_p_values_fall_all_the_way_into_the_tail() -> None:
    """A higher score never has a higher p-value, and in the tail it has a lower one."""
    scores = np.linspace(-4, 60, 4000)

    p_values = Calibration.of(draw(5000, 0)).p_values(scores)

    assert np.all(np.diff(p_values) <= 0)
    assert np.all(np.diff(p_values[scores > 3]) < 0)
    assert p_values.min() > 0


def test_tail_continues_where_the_ranks_end() -> None:
    """At the start of the tail, ranks and tail agree on the p-value within a tenth."""
    calibration = Calibration.of(draw(10_000, 0))
    around = calibration.tail_start + np.array([0.0, 1e-9])

    before, after = calibration.p_values(around)

    assert before == pytest.approx(after, rel=0.1)


def test_many_calibration_rows_are_thinned_without_moving_p_values() -> None:
    """Beyond 50,000 rows only evenly spaced ranks are kept, and p-values stay within a thousandth."""
    scores = draw(120_000, 0)
    calibration = Calibration.of(scores)

    p_values = calibration.p_values(np.array([-1.0, 0.0, 1.0]))

    assert calibration.scores.size == 50_000
    assert calibration.rows == 120_000
    expected = [np.mean(scores >= score) for score in (-1.0, 0.0, 1.0)]
    np.testing.assert_allclose(p_values, expected, atol=1e-3)


@pytest.mark.parametrize("contamination", [0.2, 0.01, 0.002])
def test_threshold_is_exceeded_by_the_contamination(contamination: float) -> None:
    """The share of fresh rows above the threshold is the contamination asked for."""
    threshold = Calibration.of(draw(50_000, 0)).threshold(contamination)

    assert np.mean(draw(200_000, 1) > threshold) == pytest.approx(contamination, rel=0.25)


def test_threshold_and_p_values_agree() -> None:
    """The threshold for a contamination is the score with just that p-value."""
    calibration = Calibration.of(draw(50_000, 0))

    p_values = calibration.p_values(np.array([calibration.threshold(q) for q in (0.1, 0.01, 0.001)]))

    np.testing.assert_allclose(p_values, [0.1, 0.01, 0.001], rtol=0.01)


def test_equal_scores_have_no_tail() -> None:
    """Where all calibration scores are equal, they end the scale and their p-value is 1."""
    calibration = Calibration.of(np.full(5000, 2.0))

    assert calibration.tail_share == 0.0
    assert calibration.p_values(np.array([2.0])).tolist() == [1.0]


def many_tied() -> dict[str, np.ndarray]:
    """Calibration scores of categories, counts and a few doubled rows."""
    random = np.random.default_rng(0)
    return {
        "ten of a kind": np.repeat([0.0, 1.0], [4990, 10]),
        "forty of a kind": np.repeat([0.0, 1.0], [4960, 40]),
        "counts": random.geometric(0.5, 5000).astype(float),
        "far counts": random.geometric(0.1, 20_000).astype(float),
        "hundredths": np.round(random.standard_t(3, 50_000), 2),
        "a clump": np.concatenate([random.normal(size=4950), np.full(50, 5.0)]),
        "doubled rows": np.repeat(random.normal(size=2500), 2),
    }


@pytest.mark.parametrize("scores", many_tied().values(), ids=many_tied())
def test_p_values_of_tied_scores_are_those_of_their_ranks(scores: np.ndarray) -> None:
    """No calibration score that comes more than once has a p-value of less than half of its rank's."""
    calibration = Calibration.of(scores)
    values, counts = np.unique(scores, return_counts=True)
    tied = values[counts > 1]

    p_values, ranks = calibration.p_values(tied), calibration.rank_p_values(tied)

    assert (p_values > ranks / 2).all()
    assert (p_values < ranks * 2).all()
    assert np.all(np.diff(calibration.p_values(np.linspace(values[0], values[-1] + 9, 999))) <= 0)


@pytest.mark.parametrize("contamination", [0.02, 0.01, 0.005, 0.001])
@pytest.mark.parametrize("scores", many_tied().values(), ids=many_tied())
def test_no_more_tied_scores_exceed_the_threshold_than_may(scores: np.ndarray, contamination: float) -> None:
    """A clump of rows lies above the threshold only where all of it may."""
    calibration = Calibration.of(scores)

    above = scores[scores > calibration.threshold(contamination)]

    assert above.size <= max(1.3 * contamination * scores.size, 2)


def test_peaks_tied_with_the_start_of_the_tail_are_not_fitted() -> None:
    """The tail is the one of the scores beyond its start, and its share is theirs."""
    random = np.random.default_rng(0)
    beyond = 1.0 + random.exponential(size=50)
    calibration = Calibration.of(np.concatenate([np.zeros(4000), np.ones(950), beyond]))

    assert (calibration.tail_start, calibration.tail_share) == (1.0, 0.01)
    assert calibration.p_values(np.array([3.0]))[0] == pytest.approx(0.01 * np.exp(-2.0), rel=0.5)


def test_scores_that_differ_are_judged_by_the_tail_alone() -> None:
    """Without ties p-values are share times survival, to the bit."""
    calibration = Calibration.of(draw(5000, 0))
    scores = np.linspace(calibration.tail_start + 1e-3, 9.0, 200)

    survival = genpareto.sf(
        scores - calibration.tail_start, calibration.tail_shape, scale=calibration.tail_scale
    )

    assert np.array_equal(calibration.p_values(scores), calibration.tail_share * survival)


def test_rank_p_values_are_those_of_the_ranks_beyond_the_tail_too() -> None:
    """Beyond all calibration rows a rank says one in n + 1, however far out the score is."""
    calibration = Calibration.of(draw(10_000, 0))

    p_values = calibration.rank_p_values(np.array([-100.0, 100.0, 1e9]))

    np.testing.assert_allclose(p_values, [1.0, 1 / 10_001, 1 / 10_001])


def test_rank_p_values_of_thinned_scores_are_never_too_small() -> None:
    """What was thinned out is counted as more anomalous: p-values err upwards, by less than a rank kept."""
    scores = draw(220_000, 0)
    calibration = Calibration.of(scores)
    fresh = draw(2000, 1)

    exact = (np.array([np.sum(scores >= score) for score in fresh]) + 1) / (scores.size + 1)
    over = calibration.rank_p_values(fresh) - exact

    assert over.min() >= -1e-12
    assert over.max() < 5 / scores.size


@pytest.mark.parametrize("kind", ["normal", "ties", "far", "equal"])
def test_many_scores_rank_as_each_does(kind: str) -> None:
    """Ranks of many scores, found by a grid, are those that a search for each finds."""
    random = np.random.default_rng(3)
    reference = {
        "normal": random.normal(size=20_000),
        "ties": random.integers(0, 50, 20_000).astype(float),
        "far": np.append(random.normal(size=19_999), 1e9),
        "equal": np.full(20_000, 2.0),
    }[kind]
    calibration = Calibration.of(reference)
    scores = np.concatenate([random.normal(size=9000), reference[:5000], [-1e300, 1e300, 2.0]])

    many = calibration.rank_p_values(scores)

    few = [calibration.rank_p_values(scores[start : start + 100]) for start in range(0, scores.size, 100)]
    assert np.array_equal(many, np.concatenate(few))


def test_false_discoveries_stay_within_the_rate_asked_for() -> None:
    """200 nights, each with calibration rows of its own; exact null and anomalous scores.

    By ranks the mean share of false discoveries is at most q plus two standard errors, and the anomalies,
    6 standard deviations out, are found.
    """
    for q in (0.05, 0.1, 0.2):
        wrong, found = np.array([_night(seed, q) for seed in range(200)]).T

        assert wrong.mean() <= q + 2 * wrong.std() / np.sqrt(wrong.size)
        assert found.mean() > 0.95


def _night(seed: int, q: float) -> tuple[float, float]:
    """Share of false discoveries, and of anomalies found, among 1,000 rows with 10 anomalies."""
    random = np.random.default_rng(seed)
    calibration = Calibration.of(random.normal(size=5000))
    scores = random.normal(size=1000)
    scores[:10] += 6.0
    p_values = calibration.rank_p_values(scores)
    selected = p_values <= benjamini_hochberg(p_values, q)
    return selected[10:].sum() / max(selected.sum(), 1), selected[:10].mean()


def test_no_rows_cannot_calibrate() -> None:
    """Calibrating on nothing is refused with a remedy."""
    with pytest.raises(DataError, match="at least one calibration row"):
        Calibration.of(np.empty(0))


def test_severity_is_minus_ten_log_ten_up_to_a_hundred() -> None:
    """Severity counts tens of decimal places: one in a hundred is 20; nothing exceeds 100."""
    values = severity(np.array([1.0, 0.1, 0.01, 1e-3, 1e-50, 0.0]))

    np.testing.assert_allclose(values, [0, 10, 20, 30, 100, 100], atol=1e-12)


def test_benjamini_hochberg_selects_by_hand() -> None:
    """The ten p-values and bounds 0.005 i by hand: the second is the last below its bound."""
    p_values = np.array([0.459, 0.001, 0.042, 0.008, 0.041, 0.039, 0.060, 0.205, 0.074, 0.212])

    assert benjamini_hochberg(p_values, 0.05) == 0.008


def test_benjamini_hochberg_steps_up_over_gaps() -> None:
    """A p-value above its own bound is selected when a later one is below its bound."""
    assert benjamini_hochberg(np.array([0.03, 0.033, 0.9, 0.02]), 0.05) == 0.033


def test_benjamini_hochberg_counts_rows_left_out() -> None:
    """``total`` gives the rows tested when only small p-values are at hand."""
    p_values = np.array([0.001, 0.008])

    assert benjamini_hochberg(p_values, 0.05, total=1000) == 0.0
    assert benjamini_hochberg(p_values, 0.05, total=10) == 0.008


def test_benjamini_hochberg_of_nothing_selects_nothing() -> None:
    """No rows, no selection."""
    assert benjamini_hochberg(np.empty(0), 0.05) == 0.0


def test_benjamini_hochberg_keeps_false_discoveries_rare() -> None:
    """Over many nights without anomalies, at most a share q of nights flags anything."""
    random = np.random.default_rng(0)

    nights = [benjamini_hochberg(random.random(500), 0.1) > 0 for _ in range(500)]

    assert np.mean(nights) < 0.14
