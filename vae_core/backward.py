"""Forward and backward pass of a training step, by hand.

Autograd's bookkeeping and its passes over memory cost as much again as the matrix products of a step.
So the gradients are written out: each part remembers what its own backward pass needs, and
:mod:`vae_core.loss_gradients` has the losses. Tests hold all of it to autograd over
:mod:`vae_core.modules` and :mod:`vae_core.losses`.

Shapes: k members, n rows, z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vae_core.encoding import EncodedBatch
from vae_core.loss_gradients import HeadLosses
from vae_core.losses import kl_divergence
from vae_core.modules import EMBEDDING, LARGEST_LATENT, VAE, Latent, MemberLinear

__all__ = ["Passes", "StepLosses"]


@dataclass(frozen=True)
class StepLosses:
    """Means over the rows of a batch, nats, each [k]; ``loss`` is over the rows that are learned from."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor


class Passes:
    """Both passes of a model; :meth:`learn` leaves the gradients with the parameters.

    Parameters
    ----------
    model
        On the device to train on.
    variance_weight
        Power of the decoder's variance that weighs the losses of numbers.
    trim
        Share of each batch, the rows whose numbers and divergence cost most, that is not learned from.
    complete
        No measured cell of the rows to come is null: presence is then no input but part of a bias.
    dtype
        Of the operands of the matrix products; by default that of the parameters, as for all else.
    """

    def __init__(
        self,
        model: VAE,
        variance_weight: float = 0.0,
        trim: float = 0.0,
        complete: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model, self.trim = model, trim if model.layout.part_columns else 0.0
        self.losses = HeadLosses(model, variance_weight, complete)
        plain = len(model.layout.part_columns) + len(model.layout.bit_columns)
        ones = slice(plain, plain + (model.layout.n_measured if complete else 0))
        operands = dtype or model.heads.weight.dtype
        self.encoder = _Stack([*model.encoder, model.posterior], operands, ones=ones)
        self.decoder = _Stack([*model.decoder, model.heads], operands, outputs=sum(self.losses.sizes))
        self.complete = complete
        self.bit_places = self.losses.bit_places
        self.embedded = EMBEDDING * len(model.layout.code_sizes)

    @torch.no_grad()
    def learn(self, batch: EncodedBatch, seen: EncodedBatch, noise: Tensor, beta: float) -> StepLosses:
        """Gradients of the mean loss of each member, summed over members.

        Parameters
        ----------
        batch
            The rows to explain, a batch a member [k, n, …].
        seen
            The same rows as the encoder sees them: cells may be hidden.
        noise
            From N(0, I) [k, n, z].
        beta
            Weight of the divergence.
        """
        places = self.model.places(seen)
        draw = _Draw(self.encoder.forward(self._shown(seen, places)).to(noise.dtype), noise)
        rows, gradient = self.losses(batch, self.decoder.forward(draw.z).to(noise.dtype))
        kept, count = self._kept(rows.numbers + beta * draw.kl)
        if kept is not None:
            gradient.mul_(kept.unsqueeze(-1))
        of_z = self.decoder.backward(gradient, 1 / count, self.model.latent_dim)
        of_shown = self.encoder.backward(draw.backward(of_z, beta, kept), 1 / count, self.embedded)
        self._embedding(of_shown, places, 1 / count)
        loss = rows.reconstruction + beta * draw.kl
        learned = loss if kept is None else loss * kept
        return StepLosses(learned.sum(dim=-1) / count, rows.reconstruction.mean(dim=-1), draw.kl.mean(dim=-1))

    @torch.no_grad()
    def row_losses(self, rows: EncodedBatch, beta: float) -> Tensor:
        """Reconstruction loss + beta x divergence of rows at the posterior mean [k, n]."""
        rows = rows.each(lambda tensor: tensor.expand(self.model.n_members, *tensor.shape[-2:]))
        posterior = self.encoder.forward(self._shown(rows, self.model.places(rows)))
        mean, log_variance = posterior.to(self.model.heads.weight.dtype).chunk(2, dim=-1)
        latent = Latent(mean, log_variance.clamp(-LARGEST_LATENT, LARGEST_LATENT))
        losses, _ = self.losses(rows, self.decoder.forward(mean).to(mean.dtype))
        return losses.reconstruction + beta * kl_divergence(latent)

    def _shown(self, seen: EncodedBatch, places: Tensor) -> Tensor:
        """What the encoder looks at [k, n, …]; presence only where some cells are null."""
        shown = [seen.numbers]
        if self.bit_places.numel():
            signs = 2 * seen.bits - 1
            shown.append(signs if self.complete else signs * seen.present.index_select(-1, self.bit_places))
        if not self.complete:
            shown.append(seen.present)
        if self.embedded:
            embedding = self.model.embedding.flatten(end_dim=1)
            shown.append(F.embedding(places, embedding).flatten(start_dim=2))
        return torch.cat(shown, dim=-1) if len(shown) > 1 else shown[0]

    def _kept(self, odd: Tensor) -> tuple[Tensor | None, int]:
        """1 for rows [k, n] to learn from and 0 for others, None for all rows; and how many they are."""
        rows = odd.shape[-1]
        if not self.trim:
            return None, rows
        kept = max(rows - int(rows * self.trim), 1)
        least = odd.topk(kept, dim=-1, largest=False, sorted=False).indices
        return torch.zeros_like(odd).scatter_(-1, least, 1.0), kept

    def _embedding(self, of_shown: Tensor, places: Tensor, scale: float) -> None:
        """Sum the gradient [k, n, q * EMBEDDING] of embedded codes over the cells of each code."""
        weight = self.model.embedding
        weight.grad = torch.zeros_like(weight)
        if self.embedded:
            of_cells = of_shown.to(weight.dtype).reshape(places.numel(), EMBEDDING)
            weight.grad.view(-1, EMBEDDING).index_add_(0, places.flatten(), of_cells)
            weight.grad.mul_(scale)


class _Stack:
    """Affine maps for k members, a SiLU between each two.

    Inputs ``ones`` of the first map are always 1 and are not given; ``outputs`` of the last are read.
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        dtype: torch.dtype,
        ones: slice = slice(0, 0),
        outputs: int | None = None,
    ) -> None:
        maps = [layer for layer in layers if isinstance(layer, MemberLinear)]
        last = len(maps) - 1
        self.maps = [
            _Affine(layer, dtype, slice(0, 0) if i else ones, outputs if i == last else None)
            for i, layer in enumerate(maps)
        ]
        self.sums: list[Tensor] = []  # what each map but the last put out

    def forward(self, x: Tensor) -> Tensor:
        """What the last map puts out."""
        self.sums = []
        for affine in self.maps[:-1]:
            self.sums.append(affine.forward(x))
            x = F.silu(self.sums[-1])
        return self.maps[-1].forward(x)

    def backward(self, gradient: Tensor, scale: float, wanted: int) -> Tensor:
        """Leave gradients times ``scale`` with the maps; return that of the last ``wanted`` inputs."""
        for affine, pre in zip(self.maps[:0:-1], self.sums[::-1], strict=True):
            gradient = torch.ops.aten.silu_backward(affine.backward(gradient, scale), pre)
        return self.maps[0].backward(gradient, scale, wanted)


class _Affine:
    """An affine map with what its backward pass needs."""

    def __init__(self, layer: MemberLinear, dtype: torch.dtype, ones: slice, outputs: int | None) -> None:
        self.layer, self.dtype, self.ones = layer, dtype, ones
        self.outputs = outputs or layer.weight.shape[2]

    def forward(self, x: Tensor) -> Tensor:
        """Each member's map of its rows."""
        weight, bias = (whole.detach()[..., : self.outputs] for whole in (self.layer.weight, self.layer.bias))
        if self.ones.stop > self.ones.start:
            bias = bias + weight[:, self.ones].sum(dim=1, keepdim=True)
            weight = torch.cat([weight[:, : self.ones.start], weight[:, self.ones.stop :]], dim=1)
        self.x, self.weight = x.to(self.dtype), weight.to(self.dtype)
        return torch.baddbmm(bias.to(self.dtype), self.x, self.weight)

    def backward(self, gradient: Tensor, scale: float, wanted: int | None = None) -> Tensor:
        """Leave the gradients with the parameters: inputs times gradient, and its sum; return the inputs'."""
        gradient = gradient.to(self.dtype)
        of_weight, of_bias = _gradient(self.layer.weight), _gradient(self.layer.bias)
        total = gradient.sum(dim=1, keepdim=True, dtype=of_bias.dtype).mul_(scale)
        product = torch.bmm(self.x.transpose(1, 2), gradient).to(of_weight.dtype).mul_(scale)
        of_bias[..., : self.outputs] = total
        of_weight[:, : self.ones.start, : self.outputs] = product[:, : self.ones.start]
        of_weight[:, self.ones, : self.outputs] = total
        of_weight[:, self.ones.stop :, : self.outputs] = product[:, self.ones.start :]
        first = 0 if wanted is None else self.weight.shape[1] - wanted
        return torch.bmm(gradient, self.weight[:, first:].transpose(1, 2))


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Where the parameter's gradient is kept; 0 at first, and for ever where nothing is learned."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


class _Draw:
    """Latents drawn from the posterior with ``noise``: mean + deviation * noise."""

    def __init__(self, posterior: Tensor, noise: Tensor) -> None:
        self.mean, self.raw = posterior.chunk(2, dim=-1)
        self.noise = noise
        log_variance = self.raw.clamp(-LARGEST_LATENT, LARGEST_LATENT)
        self.deviation = (0.5 * log_variance).exp_()
        self.excess = self.deviation.square().sub_(1.0)  # of the variance over the prior's
        self.kl = self.mean.square().add_(self.excess).sub_(log_variance).sum(dim=-1).mul_(0.5)
        self.z = torch.addcmul(self.mean, self.deviation, noise)

    def backward(self, of_z: Tensor, beta: float, kept: Tensor | None) -> Tensor:
        """Gradient against the posterior, of what came through the latents and of ``beta`` x divergence.

        The divergence's slope is the mean, and (variance - 1) / 2 against the log-variance.
        """
        weight = torch.full_like(of_z[..., :1], beta) if kept is None else beta * kept.unsqueeze(-1)
        of_mean = torch.addcmul(of_z, self.mean, weight)
        spread = self.deviation.mul_(self.noise).mul_(of_z).addcmul_(self.excess, weight).mul_(0.5)
        bound = LARGEST_LATENT
        return torch.cat([of_mean, torch.ops.aten.hardtanh_backward(spread, self.raw, -bound, bound)], dim=-1)
