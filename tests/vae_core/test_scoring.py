"""Scores: deterministic, independent of the batch, adding up."""

import numpy as np
import pyarrow as pa
import pytest

from vae_core import VAEDetector
from vae_core.scoring import Reference


@pytest.mark.parametrize("size", [1, 7, 1000, 1024, 1025, 1500])
def test_a_row_scores_the_same_in_any_batch(detector: VAEDetector, fresh: pa.Table, size: int) -> None:
    """Batches of any size give each row the score that it has in the whole table."""
    whole = detector.score_batch(fresh).reconstruction_loss
    starts = range(0, min(fresh.num_rows, 40 * size), size)

    parts = [detector.score_batch(fresh.slice(start, size)).reconstruction_loss for start in starts]

    apart = np.concatenate(parts)
    largest = np.abs(apart - whole[: apart.size]).max()
    print(f"batches of {size}: largest difference {largest:.3g}")
    assert largest < 1e-6


def test_a_row_scores_the_same_beside_any_neighbours(detector: VAEDetector, fresh: pa.Table) -> None:
    """The order of rows does not matter."""
    order = np.random.default_rng(0).permutation(fresh.num_rows)
    straight = detector.score_batch(fresh).reconstruction_loss

    shuffled = detector.score_batch(fresh.take(pa.array(order))).reconstruction_loss

    largest = np.abs(shuffled - straight[order]).max()
    print(f"shuffled: largest difference {largest:.3g}")
    assert largest < 1e-6


def test_scoring_twice_gives_the_same(detector: VAEDetector, fresh: pa.Table) -> None:
    """No chance takes part in scoring."""
    assert np.array_equal(detector.score_samples(fresh), detector.score_samples(fresh))


def test_columns_sum_to_the_reconstruction_loss(detector: VAEDetector, fresh: pa.Table) -> None:
    """The losses of a row's cells add up to the row's."""
    scores = detector.score_batch(fresh)

    np.testing.assert_allclose(scores.column_losses.sum(axis=1), scores.reconstruction_loss, atol=1e-9)
    np.testing.assert_allclose(
        detector.feature_scores(fresh).sum(axis=1), scores.reconstruction_loss, atol=1e-9
    )


def test_anomaly_score_grows_with_each_members_loss() -> None:
    """A greater loss of any member is a greater score, far below the median and far above it."""
    reference = Reference.of(np.random.default_rng(0).normal(size=(3, 500)))
    losses = np.tile(np.linspace(-1e4, 1e6, 200), (3, 1))

    assert np.all(np.diff(reference.anomaly_scores(losses)) > 0)


def test_one_member_that_finds_a_row_odd_counts_for_more_than_its_share() -> None:
    """A soft maximum: above the mean of the members, at most the highest, and finite however high that is."""
    reference = Reference(median=np.zeros(4), spread=np.ones(4))
    losses = np.array([[0.0, 0.0, 0.0, 50.0], [1e300, 0.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0]]).T

    scores, each = reference.anomaly_scores(losses), np.arcsinh(losses)

    assert np.isfinite(scores).all()
    assert (scores[:2] > each.mean(axis=0)[:2] + 1).all()
    assert (scores <= each.max(axis=0) + 1e-12).all()
    assert scores[2] == pytest.approx(np.arcsinh(3.0))


def test_scores_of_some_rows_are_theirs_among_all(detector: VAEDetector, fresh: pa.Table) -> None:
    """What is found late, p-values and severities, is the same for a few rows as for all of them."""
    scores = detector.score_batch(fresh)
    rows = np.arange(fresh.num_rows) % 7 == 3

    some = scores.of(rows)

    for name in ("reconstruction_loss", "anomaly_score", "column_losses", "p_value", "severity"):
        assert np.array_equal(getattr(some, name), getattr(scores, name)[rows]), name
    assert scores.of(np.ones(fresh.num_rows, dtype=np.bool_)) is scores


def test_anomaly_score_of_the_median_is_zero() -> None:
    """A row at every member's median scores 0."""
    reference = Reference(median=np.array([2.0, -1.0]), spread=np.array([1.0, 3.0]))

    assert reference.anomaly_scores(np.array([[2.0], [-1.0]])).tolist() == [0.0]


def test_equal_losses_have_a_spread() -> None:
    """Where all training rows lose the same, scores stay finite."""
    reference = Reference.of(np.zeros((2, 9)))

    assert np.isfinite(reference.anomaly_scores(np.array([[5.0], [5.0]]))).all()


def test_no_rows_have_no_scores(detector: VAEDetector, fresh: pa.Table) -> None:
    """An empty batch gives empty scores, reasons and expectations."""
    nothing = fresh.slice(0, 0)

    assert detector.score_batch(nothing).column_losses.shape == (0, 6)
    assert detector.transform(nothing).shape == (0, 8)
    assert detector.explain(nothing) == []
    assert detector.expected(nothing).shape == (0, 7)
