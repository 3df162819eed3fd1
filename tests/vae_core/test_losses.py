"""Likelihoods against closed forms and torch.distributions."""

import math

import pyarrow as pa
import pytest
import torch
from torch import distributions as d

from vae_core import TableSchema
from vae_core.categories import NULL, RARE, UNSEEN
from vae_core.encoding import TableEncoder
from vae_core.losses import (
    bernoulli_nll,
    categorical_nll,
    category_probabilities,
    elbo,
    gaussian_nll,
    kl_divergence,
    log_importance,
    number_losses,
)
from vae_core.modules import VAE, Latent


def test_gaussian_loss_is_minus_the_log_density() -> None:
    """The Gaussian loss is minus the log-density of torch's normal distribution."""
    x, mean, log_variance = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))

    expected = -d.Normal(mean, torch.exp(0.5 * log_variance)).log_prob(x)

    torch.testing.assert_close(gaussian_nll(x, mean, log_variance), expected)


def test_gaussian_loss_of_the_mean_under_unit_variance_is_half_log_two_pi() -> None:
    """At its mean a standard normal costs half of log 2 pi."""
    zero = torch.zeros(1)

    assert gaussian_nll(zero, zero, zero).item() == pytest.approx(0.5 * math.log(2 * math.pi))


def test_bernoulli_loss_is_minus_the_log_probability() -> None:
    """The Bernoulli loss is minus the log-probability of torch's, also for certain logits."""
    logits = torch.tensor([-80.0, -2.0, 0.0, 3.0, 80.0])
    x = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])

    expected = -d.Bernoulli(logits=logits).log_prob(x)

    torch.testing.assert_close(bernoulli_nll(x, logits), expected)


def test_categorical_loss_without_priors_is_minus_the_log_probability() -> None:
    """With every code learned, the categorical loss is that of torch's categorical distribution."""
    logits = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(0))
    codes = torch.arange(7).remainder(6).expand(2, 7)

    expected = -d.Categorical(logits=logits).log_prob(codes)

    torch.testing.assert_close(categorical_nll(codes, logits, (None, None, None)), expected)


def test_fixed_priors_cost_their_own_probability_and_the_rest_is_shared() -> None:
    """Codes with a prior cost minus its log; the others share what remains by their softmax."""
    logits = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0))
    rest = torch.log_softmax(logits[..., RARE:], dim=-1) + math.log(1 - 0.01 - 0.2)
    codes = torch.tensor([[NULL, UNSEEN, RARE, 4]])

    losses = categorical_nll(codes, logits, (0.01, 0.2, None))

    expected = torch.tensor([-math.log(0.01), -math.log(0.2), -rest[0, 2, 0], -rest[0, 3, 2]])
    torch.testing.assert_close(losses[0], expected)


@pytest.mark.parametrize(
    "priors", [(None, 0.1, None), (0.01, 0.1, 0.02), (0.25, 0.75, 0.25), (None, 0.99, 0.3)]
)
def test_probabilities_of_a_column_sum_to_one(priors: tuple[float | None, ...]) -> None:
    """Whatever is fixed, even the large priors of a handful of rows, all codes make up 1."""
    logits = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))

    totals = category_probabilities(logits, priors).sum(dim=-1)

    torch.testing.assert_close(totals, torch.ones(1, 9))


def test_divergence_is_that_of_torch() -> None:
    """The divergence of a latent is torch's, summed over its dimensions."""
    mean, log_variance = torch.randn(2, 1, 20, 4, generator=torch.Generator().manual_seed(0))
    posterior = d.Normal(mean, torch.exp(0.5 * log_variance))
    prior = d.Normal(torch.zeros_like(mean), torch.ones_like(mean))

    expected = d.kl_divergence(posterior, prior).sum(dim=-1)

    torch.testing.assert_close(kl_divergence(Latent(mean, log_variance)), expected)


def test_importance_is_the_ratio_of_torch_s_densities() -> None:
    """The importance of a latent is ln of its prior density less ln of its posterior density."""
    mean, log_variance, z = torch.randn(3, 1, 20, 4, generator=torch.Generator().manual_seed(0))
    posterior, prior = d.Normal(mean, torch.exp(0.5 * log_variance)), d.Normal(0.0, 1.0)

    expected = (prior.log_prob(z) - posterior.log_prob(z)).sum(dim=-1)

    torch.testing.assert_close(log_importance(Latent(mean, log_variance), z), expected)


def test_divergence_of_the_prior_from_itself_is_zero() -> None:
    """A posterior that equals the prior diverges by nothing."""
    zero = torch.zeros(1, 3, 2)

    assert kl_divergence(Latent(zero, zero)).tolist() == [[0.0, 0.0, 0.0]]


def test_bound_is_minus_losses_minus_weighted_divergence() -> None:
    """The bound of a row is minus its column losses minus beta times its divergence."""
    losses, kl = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[4.0]])

    assert elbo(losses, kl, beta=0.5).item() == -5.0


def test_losses_of_numbers_leave_out_absent_cells_and_other_kinds(table: pa.Table) -> None:
    """They are the Gaussian costs of the parts that are there, whatever categories and nulls cost."""
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    rows = encoder.encode(table.slice(0, 50))
    model = VAE(encoder.layout, (8,), 2, n_members=2)
    decoded = model.decode(model.encode(rows).mean)
    parts = list(encoder.layout.part_columns)

    found = number_losses(rows, decoded, encoder.layout)

    each = gaussian_nll(rows.numbers, decoded.mean, decoded.log_variance) * rows.present[:, parts]
    torch.testing.assert_close(found, each.sum(dim=-1))
    assert (rows.present[:, parts] == 0).any()
