"""Lower bounds on ln p(row) from draws of the latent: the same draws for every row, so without chance.

ELBO: Kingma & Welling (2014), equation 7. Importance-weighted bound: Burda, Grosse & Salakhutdinov (2016),
equation 8. Both take the divergence as it is, whatever ``beta`` weighed it by in training.
"""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vae_core.encoding import EncodedBatch
from vae_core.losses import column_losses, elbo, kl_divergence, log_importance
from vae_core.modules import VAE
from vae_core.scoring import BLOCK, blocks
from vae_core.threads import few_threads

__all__ = ["BOUNDS", "fixed_noise", "row_bounds"]

BOUNDS = ("elbo", "iwae")
DRAWS = 32  # passes of the decoder a row; the bound of few draws depends on them, that of many takes longer

Floats = npt.NDArray[np.float64]


def fixed_noise(draws: int, latent_dim: int, seed: int = 0) -> Tensor:
    """Noise [draws, z] from N(0, I), the same wherever and whenever it is asked for."""
    random = np.random.RandomState(seed)  # whose stream NumPy has promised never to change (NEP 19)
    return torch.from_numpy(random.standard_normal((draws, latent_dim)).astype(np.float32))


@torch.inference_mode()
def row_bounds(model: VAE, rows: EncodedBatch, bound: str, noise: Tensor | None = None) -> Floats:
    """Bound ``elbo`` or ``iwae`` of each member and row [k, n], nats; ``noise`` is [draws, z].

    Draws pass one after the other: memory does not grow with their number.
    """
    model.eval()
    device = model.heads.weight.device
    draws = (fixed_noise(DRAWS, model.latent_dim) if noise is None else noise).to(device)
    of_block = {"elbo": _elbo, "iwae": _importance_weighted}[bound]
    with few_threads(BLOCK * model.n_members * model.widest, device):
        found = [of_block(model, block, draws)[:, :real].cpu().numpy() for block, real in blocks(model, rows)]
    return np.concatenate(found, axis=1)


def _elbo(model: VAE, block: EncodedBatch, draws: Tensor) -> Tensor:
    """Mean over draws of the evidence lower bound [k, n]; the divergence is exact."""
    latent = model.encode(block)
    kl = kl_divergence(latent).double()
    bounds = (elbo(_losses(model, block, model.reparameterize(latent, noise)), kl) for noise in draws)
    return sum(bounds, torch.zeros_like(kl)) / len(draws)


def _importance_weighted(model: VAE, block: EncodedBatch, draws: Tensor) -> Tensor:
    """Logarithm of the mean over draws of p(row, z) / q(z | row) [k, n]."""
    latent = model.encode(block)

    def log_weight(noise: Tensor) -> Tensor:
        z = model.reparameterize(latent, noise)
        return log_importance(latent, z).double() - _losses(model, block, z).sum(dim=-1)

    total: Tensor = reduce(torch.logaddexp, map(log_weight, draws))
    return total - math.log(len(draws))


def _losses(model: VAE, block: EncodedBatch, z: Tensor) -> Tensor:
    return column_losses(block, model.decode(z), model.layout).double()
