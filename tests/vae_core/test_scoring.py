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
