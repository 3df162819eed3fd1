"""Scoring: reconstruction loss per row and column at the posterior mean, without chance.

Rows pass through in blocks of one fixed size, the last one padded, so that a row's loss depends
neither on the size of its batch nor on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from vae_core.encoding import EncodedBatch
from vae_core.losses import column_losses, number_losses
from vae_core.modules import VAE, Decoded
from vae_core.threads import few_threads

__all__ = ["Reference", "RowLosses", "blocks", "latent_means", "odd_numbers", "row_losses"]

BLOCK = 1024  # rows; blocks of 1,000 to 2,000 stay in the cache of today's cores

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RowLosses:
    """Reconstruction losses in nats.

    Shape
    -----
    members: float64 [k, n], of each member and row
    columns: float64 [n, c], of each cell, mean over members; columns sum to the mean of ``members``
    """

    members: Floats
    columns: Floats

    @property
    def total(self) -> Floats:
        """Reconstruction loss of each row [n]: mean over members, sum over columns."""
        return np.asarray(self.columns.sum(axis=1))


@dataclass(frozen=True)
class Reference:
    """Where each member's training losses lay: ``median`` and ``spread`` (interquartile range), each [k]."""

    median: Floats
    spread: Floats

    @classmethod
    def of(cls, members: Floats) -> Reference:
        """Take the reference of losses [k, n]."""
        low, median, high = np.quantile(members, (0.25, 0.5, 0.75), axis=1)
        return cls(median, np.maximum(high - low, 1e-3))

    def anomaly_scores(self, members: Floats) -> Floats:
        """Anomaly score of each row [n], higher is more anomalous.

        Mean over members of asinh((loss - median) / spread): strictly increasing in each loss, linear
        near the median, logarithmic in the tail, and defined for the negative losses of densities above 1.
        """
        standard = (members - self.median[:, None]) / self.spread[:, None]
        return np.asarray(np.arcsinh(standard).mean(axis=0))


def blocks(model: VAE, rows: EncodedBatch) -> Iterator[tuple[EncodedBatch, int]]:
    """Blocks of BLOCK rows on the device of the model, at least one, and how many of its rows are real."""
    device = model.heads.weight.device
    for start in range(0, max(len(rows), 1), BLOCK):
        block = rows.take(slice(start, start + BLOCK))
        real = len(block)
        whole = block.each(partial(pad, pad=(0, 0, 0, BLOCK - real)))
        yield whole.to(device), real


@torch.inference_mode()
def row_losses(model: VAE, rows: EncodedBatch) -> RowLosses:
    """Losses of encoded rows."""
    model.eval()
    members, columns = [], []
    device = model.heads.weight.device
    with few_threads(BLOCK * model.n_members * model.widest, device):
        for block, real in blocks(model, rows):
            losses = column_losses(block, reconstruct(model, block), model.layout)[:, :real]
            wide = losses.to(torch.float64)
            members.append(wide.sum(dim=-1).cpu().numpy())
            columns.append(wide.mean(dim=0).cpu().numpy())
    return RowLosses(np.concatenate(members, axis=1), np.concatenate(columns, axis=0))


@torch.inference_mode()
def odd_numbers(model: VAE, rows: EncodedBatch) -> Floats:
    """Losses of each member and row [k, n] from numbers and times alone, nats."""
    model.eval()
    found = [
        number_losses(block, reconstruct(model, block), model.layout)[:, :real].double().cpu().numpy()
        for block, real in blocks(model, rows)
    ]
    return np.concatenate(found, axis=1)


def reconstruct(model: VAE, block: EncodedBatch) -> Decoded:
    """What the decoder expects of each row, from the posterior mean."""
    return model.decode(model.encode(block).mean)


@torch.inference_mode()
def latent_means(model: VAE, rows: EncodedBatch) -> Floats:
    """Posterior means of the first member [n, z]."""
    model.eval()
    found: list[Tensor] = [model.encode(block).mean[0, :real] for block, real in blocks(model, rows)]
    return torch.cat(found).double().cpu().numpy()
