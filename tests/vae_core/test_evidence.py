"""What training never had counts as much as ordinary rows that come as seldom."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vae_core import VAEDetector
from vae_core.evidence import weighed
from vae_core.scoring import Reference

ROWS = 3000


def _heavy(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """One row in a hundred has an amount far out; the flag never has a third value, and no cell is empty."""
    rng = np.random.default_rng(seed)
    amount = np.where(rng.random(rows) < 0.01, rng.uniform(200, 1000, rows), rng.normal(0, 1, rows))
    return pd.DataFrame(
        {
            "amount": amount,
            "size": rng.normal(0, 1, rows),
            "flag": rng.choice(["a", "b"], rows),
            "paid": np.ones(rows, dtype=bool),
        }
    )


@pytest.fixture(scope="module")
def detector() -> VAEDetector:
    return VAEDetector(random_state=0, max_epochs=8).fit(_heavy())


def _with(column: str, value: object, rows: int = 200) -> pd.DataFrame:
    usual = _heavy(4 * rows, seed=1)
    usual = usual[usual["amount"].abs() < 5].head(rows).reset_index(drop=True)
    usual[column] = [value] * rows
    return usual


@pytest.mark.parametrize(
    ("column", "value"), [("flag", "never"), ("flag", None), ("size", None), ("paid", False)]
)
def test_what_never_came_ranks_among_the_rarest_rows(
    detector: VAEDetector, column: str, value: object
) -> None:
    """Above all but one in a thousand of training rows, though one in a hundred has a number far out."""
    training = -detector.score_samples(_heavy())
    news = -detector.score_samples(_with(column, value))
    assert np.median(news) > np.quantile(training, 0.999)
    assert (detector.predict(_with(column, value)) == -1).all()


def test_a_truth_never_seen_is_named_first(detector: VAEDetector) -> None:
    """A flag that was always true is the reason where it is false, in words of its own."""
    first = [reasons[0] for reasons in detector.explain(_with("paid", False, 20))]
    assert {(reason.column, reason.kind) for reason in first} == {("paid", "unseen_category")}
    assert str(first[0]).startswith("paid is False, a value never seen")


def test_textbook_weighs_nothing() -> None:
    """The textbook's autoencoder has no evidence beyond probabilities."""
    detector = VAEDetector(preset="textbook", random_state=0, max_epochs=2).fit(_heavy())
    assert all(codec.null_evidence == 0 for codec in detector.encoder_.codecs)
    assert all(codec.new_evidence == 0 for codec in detector.encoder_.categorical)


def test_evidence_is_kept_by_a_saved_model(detector: VAEDetector, tmp_path: Path) -> None:
    """Scores of what never came are the same after saving and loading."""
    detector.save(tmp_path / "model")
    again = VAEDetector.load(tmp_path / "model")
    for column, value in (("flag", "never"), ("size", None), ("paid", False)):
        rows = _with(column, value)
        np.testing.assert_array_equal(again.score_samples(rows), detector.score_samples(rows))
    assert again.encoder_.codecs == detector.encoder_.codecs
    assert max(codec.null_evidence for codec in again.encoder_.codecs) > 0


def test_columns_add_up_to_the_loss_with_evidence(detector: VAEDetector) -> None:
    """The cost of the news stands in its own column."""
    scores = detector.score_batch(_with("flag", "never"))
    np.testing.assert_allclose(scores.column_losses.sum(axis=1), scores.reconstruction_loss, rtol=1e-6)
    assert (scores.column_losses.argmax(axis=1) == 2).mean() > 0.95


def test_a_column_that_brings_news_weekly_is_left_alone() -> None:
    """Values seen once are common in the column, so that one more is no evidence."""
    rng = np.random.default_rng(0)
    rows = _heavy()
    rows["tail"] = [f"N{i}" for i in rng.zipf(1.3, ROWS)]
    codec = VAEDetector(random_state=0, max_epochs=2).fit(rows).encoder_.categorical[1]
    assert codec.name == "tail"
    assert not codec.is_closed
    assert codec.new_evidence == 0


def test_rarity_is_that_of_all_news_as_rare(detector: VAEDetector) -> None:
    """Of c columns each news comes c times as often as that of one: it asks for less."""
    codecs, reference = detector.encoder_.codecs, Reference(np.zeros(1), np.ones(1))
    scores = reference.anomaly_scores(np.arange(float(ROWS))[None] ** 2)
    usual = np.zeros(len(codecs))
    many = weighed(codecs, usual, reference, scores)
    one = weighed(codecs[:1], usual[:1], reference, scores)
    assert one[0].null_evidence > many[0].null_evidence > 0


def test_loss_at_is_the_inverse_of_the_score() -> None:
    """Adding the nats to every member's median gives the score back."""
    reference = Reference(np.array([-5.0, 3.0, 100.0]), np.array([0.5, 2.0, 40.0]))
    for score in (0.0, 0.3, 2.0, 12.0, 30.0):
        above = reference.loss_at(score)
        again = reference.anomaly_scores((reference.median + above)[:, None])[0]
        assert again == pytest.approx(score, abs=1e-6)
    assert reference.loss_at(-1.0) == pytest.approx(0.0, abs=1e-9)
