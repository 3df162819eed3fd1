"""Losses of :mod:`vae_core.losses` together with their gradients, in closed form.

A training step needs the losses of rows and their slopes against what the decoder put out. Both come
out of the same few passes over a batch; tests hold them to autograd's.

Shapes: k members, n rows, p number parts, r bits, m measured columns, q categorical columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vae_core.encoding import EncodedBatch, Layout
from vae_core.losses import LOG_TWO_PI, fixed_shares, null_costs
from vae_core.modules import LARGEST_LOG_VARIANCE, VAE

__all__ = ["HeadLosses", "RowSums"]

LEAST_SHARE = 1e-37  # of a code: what float32 can hold; caps its reported loss at 85 nats


@dataclass(frozen=True)
class RowSums:
    """Losses of rows in nats, each [k, n].

    ``reconstruction`` is the sum over all columns; ``numbers`` that of numbers and times alone, not
    weighed by their variance.
    """

    reconstruction: Tensor
    numbers: Tensor


class HeadLosses:
    """Losses of what the heads put out, and their gradients.

    Parameters
    ----------
    model
        On the device of the rows to come.
    variance_weight
        Power of the decoder's variance that weighs the losses of numbers.
    complete
        No measured cell of the rows to come is null.
    """

    def __init__(self, model: VAE, variance_weight: float, complete: bool) -> None:
        self.layout, self.complete = model.layout, complete
        self.least, self.variance_weight = model.least_log_variance, variance_weight
        device = model.heads.weight.device
        self.part_places = torch.tensor(self.layout.part_columns, device=device, dtype=torch.int64)
        self.bit_places = torch.tensor(self.layout.bit_columns, device=device, dtype=torch.int64)
        self.nulls = _NullCosts(self.layout, device)
        self.codes = [
            _CodeCosts(size, priors, device)
            for size, priors in zip(self.layout.code_sizes, self.layout.code_priors, strict=True)
        ]
        self.sizes = _read(model.sizes, bool(self.codes), self.nulls.any_learned)
        self.gradient = torch.empty(0, device=device)

    def __call__(self, batch: EncodedBatch, outputs: Tensor) -> tuple[RowSums, Tensor]:
        """Losses of the rows, and the gradient of each one's reconstruction loss against ``outputs``.

        Both ``outputs`` and gradient are [k, n, sum(sizes)]; the gradient is good until the next call.
        """
        if self.gradient.shape != outputs.shape or self.gradient.dtype != outputs.dtype:
            self.gradient = torch.zeros_like(outputs)  # stays 0 where nothing is learned
        mean, raw, bits, nulls, codes = torch.split_with_sizes(outputs, self.sizes, -1)
        of_mean, of_raw, of_bits, of_nulls, of_codes = torch.split_with_sizes(self.gradient, self.sizes, -1)
        weighed, numbers = self._numbers(batch, mean, raw, of_mean, of_raw)
        total = weighed + self.nulls(batch.present, nulls, of_nulls)
        if self.layout.bit_columns:
            total += self._bits(batch, bits, of_bits)
        if self.codes:
            total += self._codes(batch, codes, of_codes)
        return RowSums(total, numbers), self.gradient

    def _numbers(
        self, batch: EncodedBatch, mean: Tensor, raw: Tensor, of_mean: Tensor, of_raw: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gaussian losses, weighed and not, each [k, n]; gradients go to ``of_mean`` and ``of_raw``.

        With precision t = exp(-log_variance) and error e: loss = (log 2 pi + log_variance + t e²) / 2,
        slope against the mean -t e, against the log-variance (1 - t e²) / 2.
        """
        present = None if self.complete else batch.present.index_select(-1, self.part_places)
        error = batch.numbers - mean
        if self.least is None:
            torch.neg(_times(error, present), out=of_mean)
            rows = _times(error.square_().add_(LOG_TWO_PI), present).sum(dim=-1).mul_(0.5)
            return rows, rows
        log_variance, squashed = _bounded(raw, self.least)
        deviation = (0.5 * log_variance).exp_()
        cost = error.div(deviation).div_(deviation)  # t e
        surprise = error.mul_(cost)  # t e²
        losses = log_variance.add_(surprise).add_(LOG_TWO_PI)
        weight = _product(present, deviation.pow(2 * self.variance_weight) if self.variance_weight else None)
        torch.mul(cost, -1.0 if weight is None else weight.neg(), out=of_mean)
        slope = _times(surprise.sub_(1.0), weight).mul_(-2.0)  # 4 x (1 - t e²) / 2
        torch.mul(slope, torch.addcmul(squashed, squashed, squashed, value=-1.0), out=of_raw)
        plain = _times(losses, present).sum(dim=-1).mul_(0.5)
        if weight is None or not self.variance_weight:
            return plain, plain
        return losses.mul_(weight).sum(dim=-1).mul_(0.5), plain

    def _bits(self, batch: EncodedBatch, logits: Tensor, into: Tensor) -> Tensor:
        """Bernoulli losses of bits [k, n]."""
        losses, slope = _bernoulli(batch.bits, logits.contiguous())
        if self.complete:
            into.copy_(slope)
            return losses.sum(dim=-1)
        present = batch.present.index_select(-1, self.bit_places)
        torch.mul(slope, present, out=into)
        return losses.mul_(present).sum(dim=-1)

    def _codes(self, batch: EncodedBatch, logits: Tensor, into: Tensor) -> Tensor:
        """Categorical losses [k, n]: of codes and of values within them."""
        columns, slopes = (
            torch.split_with_sizes(whole, self.layout.code_sizes, -1) for whole in (logits, into)
        )
        total = batch.within.sum(dim=-1)
        for j, costs in enumerate(self.codes):
            total += costs(batch.codes[..., j], columns[j], slopes[j])
        return total


def _read(sizes: list[int], codes: bool, nulls: bool) -> list[int]:
    """Widths of the heads' parts up to the last that is learned; what nobody reads is not computed."""
    means, variances, bits, measured, words, _ = sizes
    return [means, variances, bits, measured if nulls or codes else 0, words]


class _NullCosts:
    """Cost of null or presence: learned where nulls were seen, fixed where never."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        of_value, of_null, learned = null_costs(layout.null_priors, layout.null_evidence, device)
        self.any_learned = None in layout.null_priors
        self.learned = learned.to(of_null.dtype)
        self.base = float(of_null[~learned].sum())
        self.saved = torch.where(learned, 0.0, of_value - of_null)

    def __call__(self, present: Tensor, logits: Tensor, into: Tensor) -> Tensor:
        """Losses [k, n]; the gradient goes to ``into`` [k, n, m]."""
        fixed = present @ self.saved.to(present.dtype) + self.base
        if not self.any_learned:
            return fixed
        losses, slope = _bernoulli(1 - present, logits.contiguous())
        torch.mul(slope, self.learned, out=into)
        return fixed + losses @ self.learned.to(losses.dtype)


class _CodeCosts:
    """Cost of one column's codes: those of a fixed probability, and a softmax over all others."""

    def __init__(self, size: int, priors: tuple[float | None, ...], device: torch.device) -> None:
        given = fixed_shares(priors)
        shares = [given.get(code, 0.0) for code in range(size)]
        self.log_rest = math.log(1.0 - sum(shares))
        self.shares = torch.tensor(shares, device=device)
        self.shut = torch.tensor([-math.inf if share else 0.0 for share in shares], device=device)
        self.all_shut = len(given) == size

    def __call__(self, codes: Tensor, logits: Tensor, into: Tensor) -> Tensor:
        """Losses [k, n] of codes [k, n]; the gradient goes to ``into`` [k, n, size]."""
        fixed = self.shares.to(logits.dtype)[codes]
        if self.all_shut:
            return -fixed.log()
        share = torch.softmax(logits + self.shut, dim=-1)
        code = codes.unsqueeze(-1)
        learned = share.gather(-1, code).squeeze(-1)
        is_open = (fixed == 0).to(logits.dtype).unsqueeze(-1)
        torch.mul(share.scatter_add_(-1, code, -torch.ones_like(is_open)), is_open, out=into)
        return torch.where(fixed > 0, -fixed.log(), -learned.clamp_min(LEAST_SHARE).log() - self.log_rest)


def _bernoulli(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of ``x`` in {0, 1} and their slopes, elementwise."""
    return F.softplus(logits).addcmul_(x, logits, value=-1.0), torch.sigmoid(logits).sub_(x)


def _bounded(raw: Tensor, low: float) -> tuple[Tensor, Tensor]:
    """Log-variances as the decoder bounds them, and s, from which their slope is 4 s (1 - s).

    high * tanh(raw / high) above 0 and -low * tanh(raw / -low) below, through the sigmoid, which is
    five times as fast: tanh(x) = 2 sigmoid(2 x) - 1.
    """
    high = LARGEST_LOG_VARIANCE
    squashed = F.leaky_relu(raw, high / -low).mul_(2 / high).sigmoid_()
    return F.leaky_relu_((squashed - 0.5).mul_(2 * high), -low / high), squashed


def _times(values: Tensor, weight: Tensor | None) -> Tensor:
    return values if weight is None else values * weight


def _product(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one * other
