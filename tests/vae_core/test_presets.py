"""The textbook's autoencoder: what it holds, and who has the last word."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone
from torch import distributions as d

from vae_core import VAEDetector
from vae_core.scoring import reconstruct


@pytest.fixture(scope="module")
def textbook(table: pa.Table) -> VAEDetector:
    """Return a textbook detector; tests must not change it."""
    return VAEDetector(preset="textbook", random_state=0, max_epochs=5, device="cpu").fit(table)


def test_the_textbook_is_one_autoencoder_with_all_of_the_divergence(textbook: VAEDetector) -> None:
    """One member, beta 1 from the first epoch to the last."""
    assert textbook.model_.n_members == 1
    assert {record.beta for record in textbook.history_} == {1.0}


def test_its_loss_is_half_the_squared_error_and_a_constant() -> None:
    """Numbers have variance 1: a row costs half of its squared error, ½ ln 2π a column, and its presence."""
    x = np.random.default_rng(0).normal(size=(400, 3))
    detector = VAEDetector(preset="textbook", random_state=0, max_epochs=3, device="cpu").fit(x)
    rows = detector._encoded(x)
    errors = (rows.numbers - reconstruct(detector.model_, rows).mean[0]).square().sum(dim=1).detach().numpy()

    losses = detector.score_batch(x).reconstruction_loss

    presence = -3 * np.log1p(-0.5 / 401)
    np.testing.assert_allclose(losses, 0.5 * errors + 1.5 * np.log(2 * np.pi) + presence, atol=1e-4)


def test_its_decoder_holds_no_variance(table: pa.Table, textbook: VAEDetector) -> None:
    """The heads give a mean a part and no variance; that of the distribution is 1."""
    rows = textbook._encoded(table.slice(0, 9))

    decoded = reconstruct(textbook.model_, rows)

    assert textbook.model_.sizes[1] == 0
    assert torch.equal(decoded.log_variance, torch.zeros_like(decoded.mean))


def test_it_scores_truth_values_by_bernoulli_and_categories_by_their_probability() -> None:
    """A row of a truth value and a category costs what torch's distributions say."""
    random = np.random.default_rng(0)
    table = pa.table({"b": random.random(300) < 0.3, "s": random.choice(["a", "b", "c"], 300)})
    detector = VAEDetector(preset="textbook", random_state=0, max_epochs=3, device="cpu").fit(table)
    rows = detector._encoded(table)
    decoded = reconstruct(detector.model_, rows)

    losses = detector.feature_scores(table)

    bits = -d.Bernoulli(logits=decoded.bit_logits[0, :, 0]).log_prob(rows.bits[:, 0]).detach()
    fixed = [np.log(0.5 / 301), np.log(detector.encoder_.codecs[1].unseen), np.log(0.5 / 301)]
    seen = d.Categorical(logits=decoded.code_logits[0, :, 3:]).log_prob(rows.codes[:, 0] - 3).detach()
    np.testing.assert_allclose(losses[:, 0], bits - np.log1p(-0.5 / 301), atol=1e-5)
    np.testing.assert_allclose(losses[:, 1], -seen - np.log1p(-np.exp(fixed).sum()), atol=1e-5)


def test_it_ranks_by_its_reconstruction_loss(textbook: VAEDetector, fresh: pa.Table) -> None:
    """The anomaly score of one member rises with its loss, without exception."""
    scores = textbook.score_batch(fresh)

    order = np.argsort(scores.reconstruction_loss)

    assert (np.diff(scores.anomaly_score[order]) >= 0).all()


def test_an_argument_that_is_given_is_taken_whatever_the_preset(table: pa.Table) -> None:
    """Members, beta and variance can be added to the textbook one by one."""
    more = {"n_members": 2, "beta": 0.5, "min_scale": 0.1, "masking": 0.3}
    detector = VAEDetector(preset="textbook", random_state=0, max_epochs=1, **more).fit(table.slice(0, 200))

    plan = detector._plan(200, 0)

    assert (detector.model_.n_members, plan.beta, plan.masking, plan.warm_up) == (2, 0.5, 0.3, 0.0)
    assert detector.model_.sizes[1] == detector.model_.sizes[0] > 0


def test_fitting_leaves_open_arguments_open(textbook: VAEDetector) -> None:
    """A clone of a fitted textbook detector can become a default one: nothing was written into it."""
    other = clone(textbook).set_params(preset="default")

    assert other.get_params()["n_members"] is None
    assert other.fit(np.random.default_rng(0).normal(size=(60, 2))).model_.n_members == 8


def test_a_saved_textbook_scores_as_before(tmp_path: Path, textbook: VAEDetector, fresh: pa.Table) -> None:
    """Weights without variances come back."""
    textbook.save(tmp_path)

    again = VAEDetector.load(tmp_path)

    assert again.get_params() == textbook.get_params()
    assert np.array_equal(again.score_samples(fresh), textbook.score_samples(fresh))
    assert again.explain(fresh.slice(0, 3)) == textbook.explain(fresh.slice(0, 3))


@pytest.mark.parametrize(("name", "value"), [("preset", "text book"), ("bound", "iw")])
def test_an_unknown_choice_is_refused_with_those_there_are(name: str, value: str) -> None:
    """The message lists what can be chosen."""
    with pytest.raises(ValueError, match=rf"{name} must be one of .*'.*, however it is '{value}'"):
        VAEDetector(**{name: value}).fit(np.zeros((9, 1)))
