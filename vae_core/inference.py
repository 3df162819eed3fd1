"""The scoring pass on a CPU: blocks of rows through all members, losses taken on the way out.

The same figures as :func:`vae_core.losses.column_losses` of :class:`vae_core.modules.VAE`, but for
rounding, in buffers that stay in the cache: nothing but the losses is kept of a block. Of the posterior
only its mean is computed, embedded categories are multiplied by the first layer's weights beforehand,
and outputs that no loss reads are left out.

Shapes: k members, w width of the first layer, d shown features, h outputs, m measured columns, q
categorical ones, c columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vae_core.categories import RESERVED
from vae_core.encoding import Layout
from vae_core.losses import fixed_shares, null_costs
from vae_core.modules import EMBEDDING, LARGEST_LOG_VARIANCE, TILE, VAE, MemberLinear
from vae_core.slabs import BLOCK, Slab

__all__ = ["Network"]

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Affine = tuple[Tensor, Tensor]  # weights [k, inputs, outputs], biases [k, 1, outputs]


class Network:
    """Weights and buffers of one thread's scoring pass; another thread takes a network of its own.

    Parameters
    ----------
    model
        On the CPU. A model that trains on needs a new network.
    """

    def __init__(self, model: VAE) -> None:
        affines = _affines(model)
        self.members = model.n_members
        self.start = _Start.of(affines[0], model)
        bends = [True] * len(_linear(model.encoder)) + [False] + [True] * len(_linear(model.decoder))
        self.bends_first = bends[0]
        self.inner = [_Layer(affine, bend) for affine, bend in zip(affines[1:-1], bends[1:], strict=True)]
        kept = torch.from_numpy(_outputs_read(model))
        weight, bias = (tensor.transpose(1, 2)[:, kept].contiguous() for tensor in affines[-1])
        self.heads = weight, bias  # [k, h, inputs], [k, h, 1]
        self.rules = _Rules.of(model)
        self.first = torch.empty((BLOCK, len(self.start.bias)))
        self.outputs = torch.empty((len(kept), BLOCK))

    def add_losses(self, slab: Slab, members: Floats, columns: Floats) -> None:
        """Add losses of a slab's rows to ``members`` [b, k, BLOCK], their sum over members to ``columns``.

        ``columns`` is [b, c, BLOCK]; without a column it is left alone.
        """
        for block, losses in enumerate(members):
            self._begin(slab, block)
            for k, loss in enumerate(losses):
                self._finish(k)
                self.rules.add(self.outputs.numpy(), slab, block, loss, columns[block])

    def bare(self, slab: Slab) -> None:
        """Products and activations without losses: the floor that scoring is measured against."""
        for block in range(slab.blocks):
            self._begin(slab, block)
            for k in range(self.members):
                self._finish(k)

    def _begin(self, slab: Slab, block: int) -> None:
        """The first layer of all members, side by side in one product."""
        self.start.run(slab, block, self.first)
        if self.bends_first:
            _bend(self.first)

    def _finish(self, k: int) -> None:
        """The other layers of one member."""
        width = self.first.shape[1] // self.members
        x = self.first[:, k * width : (k + 1) * width]
        for layer in self.inner:
            x = layer.run(k, x)
        torch.addmm(self.heads[1][k], self.heads[0][k], x.T, out=self.outputs)


def _affines(model: VAE) -> list[Affine]:
    """Layers from shown features to outputs; of the posterior only its mean."""
    encoder = _linear(model.encoder)
    layers = [*encoder, model.posterior, *_linear(model.decoder), model.heads]
    affines = [(layer.weight.detach(), layer.bias.detach()) for layer in layers]
    mean = (tensor[..., : model.latent_dim].contiguous() for tensor in affines[len(encoder)])
    affines[len(encoder)] = next(mean), next(mean)
    return affines


class _Layer:
    """A layer between the first and the last, and the buffer for its outputs.

    Few outputs are computed with rows last: of 64 inputs to 8 outputs, 27 ns a row instead of 83.
    """

    def __init__(self, affine: Affine, bends: bool) -> None:
        weight, bias = affine
        self.narrow = weight.shape[2] <= TILE
        self.weight = weight.transpose(1, 2).contiguous() if self.narrow else weight
        self.bias = bias.transpose(1, 2).contiguous() if self.narrow else bias
        self.bends = bends
        rows_last = (weight.shape[2], BLOCK)
        self.out = torch.empty(rows_last if self.narrow else rows_last[::-1])

    def run(self, k: int, x: Tensor) -> Tensor:
        """Outputs [BLOCK, outputs] of member k for ``x`` [BLOCK, inputs]."""
        if self.narrow:
            torch.addmm(self.bias[k], self.weight[k], x.T, out=self.out)
        else:
            torch.addmm(self.bias[k], x, self.weight[k], out=self.out)
        if self.bends:
            _bend(self.out)
        return self.out.T if self.narrow else self.out


def _bend(x: Tensor) -> None:
    """SiLU in place."""
    from vae_core.loss_kernels import bend

    bend(x.view(-1).numpy())


def _linear(stack: nn.Sequential) -> list[MemberLinear]:
    return [layer for layer in stack if isinstance(layer, MemberLinear)]


@dataclass(frozen=True)
class _Start:
    """The first layer, members side by side.

    Shape
    -----
    weight: [d, k * w], of parts, signs and presence
    tables: [codes + 1, k * w], what each code adds; the last row is zero
    first:  [q], where the codes of each column begin
    bias:   [k * w]
    """

    weight: Tensor
    tables: Floats32
    first: Ints
    bias: Floats32

    @classmethod
    def of(cls, affine: Affine, model: VAE) -> Self:
        weight, bias = affine
        plain = weight.shape[1] - EMBEDDING * len(model.layout.code_sizes)
        shown = torch.split_with_sizes(model.embedding.detach().double(), model.layout.code_sizes, dim=1)
        words = [EMBEDDING] * len(model.layout.code_sizes)
        learned = torch.split_with_sizes(weight[:, plain:].double(), words, dim=1)
        tables = [torch.bmm(embedded, of) for embedded, of in zip(shown, learned, strict=False)]
        zero = torch.zeros((model.n_members, 1, weight.shape[2]), dtype=torch.float64)
        return cls(
            weight=_side_by_side(weight[:, :plain]),
            tables=_side_by_side(torch.cat([*tables, zero], dim=1)).float().numpy(),
            first=_starts(model.layout.code_sizes)[:-1],
            bias=_side_by_side(bias).flatten().numpy(),
        )

    def run(self, slab: Slab, block: int, out: Tensor) -> None:
        """Write the layer's outputs [BLOCK, k * w]."""
        from vae_core.loss_kernels import start_rows  # numba's import is not free

        start_rows(slab.codes[block], self.first, self.tables, self.bias, out.numpy())
        out.addmm_(torch.from_numpy(slab.shown[block]).T, self.weight)


def _side_by_side(weights: Tensor) -> Tensor:
    """Weights [k, inputs, w] as [inputs, k * w]."""
    return weights.transpose(0, 1).flatten(start_dim=1).contiguous()


def _starts(sizes: Sequence[int]) -> Ints:
    """Where runs of these sizes begin [n + 1], the end last."""
    return np.array([0, *accumulate(sizes)], dtype=np.int64)


def _outputs_read(model: VAE) -> Ints:
    """Outputs that a loss reads: all but nulls that cannot be learned, and what fills the last tile."""
    parts, variances, bits, nulls, codes, _ = model.sizes
    first = parts + variances + bits
    learned = [first + j for j, share in enumerate(model.layout.null_priors) if share is None]
    rest = range(first + nulls, first + nulls + codes)
    return np.array([*range(first), *learned, *rest], dtype=np.int64)


@dataclass(frozen=True)
class _Rules:
    """What turns outputs into losses, as :mod:`vae_core.loss_kernels` reads it."""

    parts: Ints
    bits: Ints
    null_at: Ints
    null_costs: Floats32
    squeeze: Floats32
    codes: Ints
    fixed: Floats32
    rest: Floats32
    place: Ints

    @classmethod
    def of(cls, model: VAE) -> Self:
        layout, first = model.layout, sum(model.sizes[:3])
        learned = np.array([share is None for share in layout.null_priors], dtype=np.bool_)
        shares = [fixed_shares(priors) for priors in layout.code_priors]
        costs = [[-math.log(given[c]) if c in given else -1.0 for c in range(RESERVED)] for given in shares]
        rest = [-math.log(1.0 - sum(given.values())) for given in shares]
        least = model.least_log_variance
        of_value, of_null, _ = null_costs(layout.null_priors, layout.null_evidence, torch.device("cpu"))
        return cls(
            parts=_runs(layout.part_columns, layout),
            bits=_runs(layout.bit_columns, layout),
            null_at=np.where(learned, first + np.cumsum(learned) - 1, -1),
            null_costs=torch.stack([of_value, of_null], dim=1).numpy(),
            squeeze=np.array([] if least is None else [least, LARGEST_LOG_VARIANCE], dtype=np.float32),
            codes=first + int(learned.sum()) + _starts(layout.code_sizes),
            fixed=np.array(costs, dtype=np.float32).reshape(-1, RESERVED),
            rest=np.array(rest, dtype=np.float32),
            place=np.argsort(layout.order).astype(np.int64),
        )

    def add(self, outputs: Floats32, slab: Slab, block: int, losses: Floats, columns: Floats) -> None:
        """Add the losses of a member's ``outputs`` [h, n] to ``losses`` [n] and ``columns`` [c, n]."""
        from vae_core.loss_kernels import add_code_losses, add_measured_losses

        measured = (self.parts, self.bits, self.null_at, self.null_costs, self.squeeze)
        add_measured_losses(outputs, slab.shown[block], *measured, self.place, losses, columns)
        if len(self.rest):
            codes, within = slab.codes[block], slab.within[block]
            given = (self.codes, self.fixed, self.rest, self.place)
            add_code_losses(outputs, codes, within, *given, losses, columns)


def _runs(columns: Sequence[int], layout: Layout) -> Ints:
    """Where the parts (or bits) of each measured column begin [m + 1]; they stand in its columns' order."""
    return np.searchsorted(columns, np.arange(layout.n_measured + 1)).astype(np.int64)
