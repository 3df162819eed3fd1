"""Scoring: reconstruction loss per row and column at the posterior mean, without chance.

Rows pass through in blocks of one fixed size, the last one padded, so that a row's loss depends
neither on the size of its batch nor on its neighbours. On a CPU the blocks fit its cache and
:mod:`vae_core.inference` takes them through, with one thread: who has more cores scores batches side by
side. On other devices :mod:`vae_core.modules` does, in large blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.feeds import slabs
from vae_core.inference import Network
from vae_core.losses import column_losses, number_losses
from vae_core.modules import VAE, Decoded
from vae_core.slabs import BLOCK, Slab, slabs_of
from vae_core.threads import one_thread
from vae_core.transfers import device_blocks, padded

__all__ = [
    "BLOCK",
    "Reference",
    "RowLosses",
    "blocks",
    "device_losses",
    "latent_means",
    "odd_numbers",
    "row_losses",
    "table_losses",
]

Floats = npt.NDArray[np.float64]

HALVINGS = 60  # of the range in which a loss is sought


@dataclass(frozen=True)
class RowLosses:
    """Reconstruction losses in nats.

    Shape
    -----
    members: float64 [k, n], of each member and row
    columns: float64 [n, c], of each cell, mean over members; columns sum to the mean of ``members``;
             [n, 0] where they were not asked for
    """

    members: Floats
    columns: Floats

    @property
    def total(self) -> Floats:
        """Reconstruction loss of each row [n]: mean over members, sum over columns."""
        return np.asarray(self.members.mean(axis=0))


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

        The logarithm of the mean over members of exp(asinh((loss - median) / spread)), a soft maximum: a row
        that some members find odd counts, though others have learned it by heart. Strictly increasing in
        each loss; of one member linear near the median, logarithmic in the tail, and defined for the
        negative losses of densities above 1.
        """
        standard = np.arcsinh((members - self.median[:, None]) / self.spread[:, None])
        highest = standard.max(axis=0)
        return np.asarray(highest + np.log(np.exp(standard - highest).mean(axis=0)))

    def loss_at(self, score: float) -> float:
        """Nats above each member's median that give a row this anomaly score; 0 for scores below 0."""
        low, high = 0.0, math.exp(max(score, 0.0)) / (2 * float((1 / self.spread).mean()))
        for _ in range(HALVINGS):  # exp(asinh x) is at least 2 x: the score at ``high`` is not below
            middle = (low + high) / 2
            reached = float(self.anomaly_scores((self.median + middle)[:, None])[0]) >= score
            low, high = (low, middle) if reached else (middle, high)
        return high


def blocks(model: VAE, rows: EncodedBatch) -> Iterator[tuple[EncodedBatch, int]]:
    """Blocks of BLOCK rows on the device of the model, at least one, and how many of its rows are real."""
    device = model.heads.weight.device
    for block, real in padded(rows, BLOCK):
        yield block.to(device), real


@torch.inference_mode()
def row_losses(model: VAE, rows: EncodedBatch, *, columns: bool = True) -> RowLosses:
    """Losses of encoded rows; those of their cells only if ``columns``."""
    if model.heads.weight.device.type == "cpu":
        return _losses_of(model, slabs_of(rows, model.layout), len(rows), columns)
    return device_losses(model, rows, columns)


@torch.inference_mode()
def table_losses(
    model: VAE, encoder: TableEncoder, table: pa.Table | pa.RecordBatch, *, columns: bool = True
) -> RowLosses:
    """Losses of a table's rows, encoded on the way; those of their cells only if ``columns``."""
    if model.heads.weight.device.type == "cpu":
        return _losses_of(model, slabs(encoder, table), table.num_rows, columns)
    return device_losses(model, encoder.encode(table), columns)


def _losses_of(model: VAE, parts: Iterator[tuple[Slab, int]], rows: int, columns: bool) -> RowLosses:
    cells = model.layout.n_columns if columns else 0
    found, first = RowLosses(np.empty((model.n_members, rows)), np.empty((rows, cells))), 0
    with one_thread():
        network = Network(model)
        for slab, used in parts:
            of_members = np.zeros((slab.blocks, model.n_members, BLOCK))
            of_cells = np.zeros((slab.blocks, cells, BLOCK))
            network.add_losses(slab, of_members, of_cells)
            taken = slice(first, first + used)
            found.members[:, taken] = _rows_first(of_members)[:used].T
            found.columns[taken] = _rows_first(of_cells)[:used] / model.n_members
            first += used
    return found


def _rows_first(losses: Floats) -> Floats:
    """Losses [b, …, BLOCK] as [rows, …]."""
    blocks, what, size = losses.shape
    return losses.swapaxes(1, 2).reshape(blocks * size, what)


@torch.inference_mode()
def device_losses(model: VAE, rows: EncodedBatch, columns: bool = True) -> RowLosses:
    """Losses of encoded rows by torch's own operations, on the device of the model."""
    model.eval()
    members, cells = [], []
    for block, real in device_blocks(rows, model.heads.weight.device):
        losses = column_losses(block, reconstruct(model, block), model.layout)[:, :real].double()
        members.append(losses.sum(dim=-1).cpu().numpy())
        cells.append((losses.mean(dim=0) if columns else losses[0, :, :0]).cpu().numpy())
    return RowLosses(np.concatenate(members, axis=1), np.concatenate(cells, axis=0))


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
