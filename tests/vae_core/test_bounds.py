"""Bounds against a model whose likelihood is known: linear decoder, Gaussian noise."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch import distributions as d

from vae_core import TableSchema, VAEDetector
from vae_core.bounds import fixed_noise, row_bounds
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.modules import VAE

LOADINGS = torch.tensor(
    [[1.5, 0.0, 0.8, 0.0], [0.0, -0.7, 0.0, 1.1]]
)  # [z, columns]; its rows are orthogonal
OFFSET = torch.tensor([0.3, -0.2, 0.0, 0.5])
PRECISION = 1 + LOADINGS.square().sum(dim=1)  # of the posterior of each latent dimension, which is Gaussian
ROWS = 40


def linear_model(deviation: float) -> tuple[VAE, EncodedBatch, Tensor]:
    """Return a linear model, rows, and the exact ln p of each row.

    The encoder gives the exact posterior, its standard deviation multiplied by ``deviation``.
    """
    x = np.random.default_rng(0).normal(size=(ROWS, 4))
    table = pa.table({f"x{j}": x[:, j] for j in range(4)})
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    model, rows = VAE(encoder.layout, (), latent_dim=2, min_scale=None), encoder.encode(table)
    maps = LOADINGS.T / PRECISION
    with torch.no_grad():
        for layer in (model.posterior, model.heads):
            layer.weight.zero_()
            layer.bias.zero_()
        model.posterior.weight[0, :4, :2] = maps
        model.posterior.bias[0, 0, :2] = -OFFSET @ maps
        model.posterior.bias[0, 0, 2:] = 2 * np.log(deviation) - PRECISION.log()
        model.heads.weight[0, :, :4] = LOADINGS
        model.heads.bias[0, 0, :4] = OFFSET
    cells = d.MultivariateNormal(OFFSET, LOADINGS.T @ LOADINGS + torch.eye(4)).log_prob(rows.numbers)
    presence = sum(np.log1p(-share) for share in encoder.layout.null_priors)
    return model, rows, cells + presence


def test_both_bounds_are_exact_where_the_posterior_is() -> None:
    """With the exact posterior every draw weighs the same, so few of them give ln p of each row."""
    model, rows, exact = linear_model(deviation=1.0)

    importance_weighted = row_bounds(model, rows, "iwae", fixed_noise(3, 2))
    evidence = row_bounds(model, rows, "elbo", fixed_noise(4_000, 2))

    np.testing.assert_allclose(importance_weighted[0], exact, atol=1e-4)
    np.testing.assert_allclose(evidence[0], exact, atol=0.1)


def test_the_evidence_bound_lacks_the_divergence_from_the_exact_posterior() -> None:
    """ELBO = ln p - KL(q || posterior), which is known for two Gaussians."""
    model, rows, exact = linear_model(deviation=1.6)
    gap = d.kl_divergence(d.Normal(torch.zeros(2), 1.6 * torch.ones(2)), d.Normal(0.0, 1.0)).sum()

    evidence = row_bounds(model, rows, "elbo", fixed_noise(4_000, 2))

    np.testing.assert_allclose(evidence[0], exact - gap, atol=0.15)


def test_more_draws_bring_the_importance_weighted_bound_nearer() -> None:
    """ELBO = IWAE of 1 draw < of 4 < of 32 < ln p, on the mean of 640 draws."""
    model, rows, exact = linear_model(deviation=0.4)

    def gap(bound: str, draws: int) -> float:
        sets = fixed_noise(640, 2).split(draws)
        return float(np.mean([exact.numpy() - row_bounds(model, rows, bound, noise)[0] for noise in sets]))

    evidence, *weighted = gap("elbo", 640), gap("iwae", 1), gap("iwae", 4), gap("iwae", 32)
    print(f"nats below ln p: elbo {evidence:.3f}, iwae of 1, 4, 32 draws {np.round(weighted, 3)}")
    assert evidence == pytest.approx(weighted[0], abs=0.1)
    assert weighted[0] > weighted[1] > weighted[2] > 0


@pytest.fixture(scope="module", params=["elbo", "iwae"])
def ranked_by_bound(request: pytest.FixtureRequest, table: pa.Table) -> VAEDetector:
    """Return a detector that ranks by a bound; tests must not change it."""
    return VAEDetector(bound=request.param, random_state=0, max_epochs=3, device="cpu").fit(table)


def test_scores_by_a_bound_do_not_depend_on_the_batch(ranked_by_bound: VAEDetector, fresh: pa.Table) -> None:
    """A row scores alike alone, among others, in any order and at any time."""
    scores = ranked_by_bound.score_samples(fresh)
    order = np.random.default_rng(0).permutation(fresh.num_rows)

    parts = [ranked_by_bound.score_samples(fresh.slice(start, 7)) for start in range(0, 70, 7)]
    turned = ranked_by_bound.score_samples(fresh.take(order))

    np.testing.assert_allclose(np.concatenate(parts), scores[:70], atol=1e-6)
    np.testing.assert_allclose(turned, scores[order], atol=1e-6)
    assert np.array_equal(ranked_by_bound.score_samples(fresh), scores)


def test_a_bound_changes_the_rank_and_nothing_else(ranked_by_bound: VAEDetector, fresh: pa.Table) -> None:
    """The same weights ranked by reconstruction loss have other scores, equal losses and equal reasons."""
    plain = VAEDetector(random_state=0, max_epochs=3, device="cpu")
    table = fresh.slice(0, 300)
    plain.__dict__ |= {name: value for name, value in vars(ranked_by_bound).items() if name.endswith("_")}
    plain.bound_ = None

    ours, theirs = ranked_by_bound.score_batch(table), plain.score_batch(table)

    assert np.array_equal(ours.reconstruction_loss, theirs.reconstruction_loss)
    assert np.array_equal(ranked_by_bound.feature_scores(table), plain.feature_scores(table))
    assert ranked_by_bound.explain(table.slice(0, 5)) == plain.explain(table.slice(0, 5))
    assert not np.allclose(ours.anomaly_score, theirs.anomaly_score)
    np.testing.assert_allclose(ours.anomaly_score, -ranked_by_bound.score_samples(table))


def test_the_share_of_training_rows_called_anomalous_is_kept(
    ranked_by_bound: VAEDetector, table: pa.Table
) -> None:
    """The offset is taken from scores by the bound too."""
    assert np.mean(ranked_by_bound.predict(table) == -1) == pytest.approx(0.01, abs=0.002)


def test_a_saved_detector_ranks_by_its_bound(
    tmp_path: Path, ranked_by_bound: VAEDetector, fresh: pa.Table
) -> None:
    """Reading what was saved gives equal scores, draws included."""
    ranked_by_bound.save(tmp_path)

    again = VAEDetector.load(tmp_path)

    assert np.array_equal(again.score_samples(fresh), ranked_by_bound.score_samples(fresh))
