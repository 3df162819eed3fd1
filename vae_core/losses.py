"""Log-likelihoods of each column kind, the divergence from the prior, the bound: pure functions, in nats.

Shapes as in :mod:`vae_core.modules`: k members, n rows, columns in the order of the table.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vae_core.categories import RESERVED
from vae_core.encoding import EncodedBatch, Layout
from vae_core.modules import Decoded, Latent

__all__ = [
    "bernoulli_nll",
    "categorical_nll",
    "column_losses",
    "elbo",
    "fixed_shares",
    "gaussian_nll",
    "kl_divergence",
    "log_importance",
    "null_costs",
    "number_losses",
]

LOG_TWO_PI = math.log(2 * math.pi)
LEAST_REST = 1e-6  # probability left to learned codes where a handful of rows makes large priors


def gaussian_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log-density of ``x`` under N(mean, exp(log_variance)), elementwise."""
    return 0.5 * (LOG_TWO_PI + log_variance + (x - mean).square() * torch.exp(-log_variance))


def bernoulli_nll(x: Tensor, logits: Tensor) -> Tensor:
    """Negative log-probability of ``x`` in {0, 1} under Bernoulli(sigmoid(logits)), elementwise."""
    return F.softplus(logits) - x * logits


def fixed_shares(priors: tuple[float | None, ...]) -> dict[int, float]:
    """Fixed probabilities of reserved codes, by code, scaled where they would leave nothing to the others."""
    given = {code: share for code, share in enumerate(priors) if share is not None}
    whole = max(sum(given.values()) + LEAST_REST, 1.0)
    return {code: share / whole for code, share in given.items()}


def category_log_probabilities(logits: Tensor, priors: tuple[float | None, ...]) -> Tensor:
    """Log-probabilities [k, n, size] of the codes of one column.

    The first codes (null, unseen, rare) have a fixed probability where ``priors`` gives one; the
    softmax over all other codes shares the rest.
    """
    fixed = fixed_shares(priors)
    rest = 1.0 - sum(fixed.values())
    if len(fixed) == logits.shape[-1]:
        learned = logits
    else:
        closed = torch.tensor(list(fixed), device=logits.device, dtype=torch.int64)
        learned = torch.log_softmax(logits.index_fill(-1, closed, -torch.inf), dim=-1) + math.log(rest)
    reserved = [
        torch.full_like(learned[..., 0], math.log(fixed[code])) if code in fixed else learned[..., code]
        for code in range(RESERVED)
    ]
    return torch.cat([torch.stack(reserved, dim=-1), learned[..., RESERVED:]], dim=-1)


def categorical_nll(codes: Tensor, logits: Tensor, priors: tuple[float | None, ...]) -> Tensor:
    """Negative log-probability of codes [k, n] under logits [k, n, size]."""
    log_p = category_log_probabilities(logits, priors)
    return -log_p.gather(-1, codes.unsqueeze(-1)).squeeze(-1)


def category_probabilities(logits: Tensor, priors: tuple[float | None, ...]) -> Tensor:
    """Probabilities [k, n, size] of the codes of one column."""
    return category_log_probabilities(logits, priors).exp()


def kl_divergence(latent: Latent) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) of each row [k, n] (Kingma & Welling 2014, appendix B)."""
    terms = 1 + latent.log_variance - latent.mean.square() - latent.log_variance.exp()
    return -0.5 * terms.sum(dim=-1)


def log_importance(latent: Latent, z: Tensor) -> Tensor:
    """The importance ln p(z) - ln q(z | row) [k, n] of latents [k, n, z] drawn from their posteriors."""
    squares = (z - latent.mean).square() * torch.exp(-latent.log_variance)
    return 0.5 * (latent.log_variance + squares - z.square()).sum(dim=-1)


def column_losses(
    batch: EncodedBatch, decoded: Decoded, layout: Layout, variance_weight: float = 0.0
) -> Tensor:
    """Negative log-likelihood of each cell [k, n, columns], nats, columns in the order of the table.

    A measured cell costs its null or its presence, and its value where it has one. Numbers are in
    standard deviations of the training sample, so densities above 1 make negative losses.

    In training, numbers may be weighed by their own variance to the power ``variance_weight``, so that
    those that the decoder finds hard still teach it (Seitzer et al., ICLR 2022, equation 6).
    """
    members, rows = decoded.mean.shape[0], decoded.mean.shape[1]
    numbers = gaussian_nll(batch.numbers, decoded.mean, decoded.log_variance)
    if variance_weight:
        numbers = numbers * torch.exp(variance_weight * decoded.log_variance.detach())
    measured = _null_losses(batch.present, decoded.null_logits, layout).expand(members, rows, -1).clone()
    present = batch.present.expand(members, rows, -1)
    _add(measured, numbers, present, layout.part_columns)
    _add(measured, bernoulli_nll(batch.bits, decoded.bit_logits), present, layout.bit_columns)
    losses = torch.cat([measured, *_code_losses(batch, decoded.code_logits, layout)], dim=-1)
    return losses if layout.order == tuple(range(layout.n_columns)) else losses[..., list(layout.order)]


def number_losses(batch: EncodedBatch, decoded: Decoded, layout: Layout) -> Tensor:
    """Negative log-likelihood of each row's numbers and times [k, n], nats; absent ones cost nothing."""
    losses = gaussian_nll(batch.numbers, decoded.mean, decoded.log_variance)
    present = batch.present[..., _places(layout.part_columns, losses.device)]
    return (losses * present).sum(dim=-1)


def _add(total: Tensor, losses: Tensor, present: Tensor, columns: tuple[int, ...]) -> None:
    """Add losses [k, n, parts] of present cells onto the columns that they belong to."""
    if columns:
        index = _places(columns, total.device)
        total.index_add_(-1, index, losses * present[..., index])


def _null_losses(present: Tensor, logits: Tensor, layout: Layout) -> Tensor:
    """Cost of null or presence [k, n, m]: learned where nulls were seen, fixed where never."""
    of_value, of_null, learned = null_costs(layout.null_priors, layout.null_evidence, present.device)
    constant = torch.where(present > 0, of_value, of_null).to(present.dtype)
    if None not in layout.null_priors:
        return constant
    return torch.where(learned, bernoulli_nll(1 - present, logits), constant)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # whoever asks first: training may ask next
def _places(columns: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(columns, device=device, dtype=torch.int64)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)
def null_costs(
    priors: tuple[float | None, ...], evidence: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Fixed cost of a value and of a null [m], and where both are learned instead.

    A null where there never was one costs what a value never seen costs: its probability, its novelty, and
    what its rarity asks for beyond.
    """
    fixed = torch.tensor([0.5 if share is None else share for share in priors], device=device)
    learned = torch.tensor([share is None for share in priors], device=device, dtype=torch.bool)
    new = torch.log(0.5 / fixed)  # novelty(0, rows): the share is (0 + 0.5) / (rows + 1)
    new += torch.tensor(evidence, device=device)
    return -torch.log1p(-fixed), new - torch.log(fixed), learned


def _code_losses(batch: EncodedBatch, logits: Tensor, layout: Layout) -> list[Tensor]:
    """Cost of each categorical cell, one [k, n, 1] a column: of its code and of its value within it."""
    columns = torch.split_with_sizes(logits, layout.code_sizes, dim=-1)
    codes = batch.codes.expand(logits.shape[0], *batch.codes.shape[-2:])
    return [
        (categorical_nll(codes[..., j], column, layout.code_priors[j]) + batch.within[..., j]).unsqueeze(-1)
        for j, column in enumerate(columns)
    ]


def elbo(losses: Tensor, kl: Tensor, beta: float = 1.0) -> Tensor:
    """Evidence lower bound of each row [k, n]: minus reconstruction loss minus beta times divergence."""
    return -(losses.sum(dim=-1) + beta * kl)
