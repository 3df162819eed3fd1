"""The variational autoencoder: encoder to mean and log-variance, latent, decoder, a head a column kind.

Kingma & Welling, Auto-Encoding Variational Bayes (2014). All members of an ensemble run at once:
every weight carries a leading axis of k members, every product is one batched matrix product.

Shapes: k members, n rows, p number parts, r bits, m measured columns, q categorical columns,
c category codes in total, z latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vae_core.encoding import EncodedBatch, Layout

__all__ = ["VAE", "Decoded", "Latent", "MemberLinear"]

EMBEDDING = 8  # numbers a category is shown as
TILE = 16  # products of other widths round a row by its place in the block, measured with MKL on AVX-512
LARGEST_LOG_VARIANCE = 6.0  # of the decoder, in squared standard deviations
LARGEST_LATENT = 12.0  # of the posterior's log-variance, either way


@dataclass(frozen=True)
class Latent:
    """Posterior of the latent: ``mean`` and ``log_variance``, each [k, n, z]."""

    mean: Tensor
    log_variance: Tensor


@dataclass(frozen=True)
class Decoded:
    """What the decoder expects of each row.

    Shape
    -----
    mean, log_variance: [k, n, p]  of the Gaussian of each number part
    bit_logits:         [k, n, r]  of the Bernoulli of each bit
    null_logits:        [k, n, m]  of the Bernoulli of a null in each measured column
    code_logits:        [k, n, c]  of the categorical of each categorical column, side by side
    """

    mean: Tensor
    log_variance: Tensor
    bit_logits: Tensor
    null_logits: Tensor
    code_logits: Tensor


class MemberLinear(nn.Module):
    """An affine map for each of k members.

    Shape
    -----
    input: [k, n, inputs], output: [k, n, outputs]
    """

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(max(inputs, 1))
        self.weight = nn.Parameter(_uniform((members, inputs, outputs), bound, generator))
        self.bias = nn.Parameter(_uniform((members, 1, outputs), bound, generator))

    def forward(self, x: Tensor) -> Tensor:
        """Apply each member's map to its rows."""
        return torch.baddbmm(self.bias, x, self.weight)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


class VAE(nn.Module):
    """k variational autoencoders over mixed columns.

    Parameters
    ----------
    layout
        Sizes of the encoded columns.
    hidden_dims
        Widths of the encoder's hidden layers; the decoder mirrors them.
    latent_dim
        Dimensions of the latent, z.
    n_members
        Number of autoencoders trained and scored jointly, k.
    min_scale
        Smallest standard deviation that the decoder may claim, in standard deviations of the column;
        None fixes all of them at 1, and no variance is learned.
    seed
        Of the initial weights.
    """

    def __init__(
        self,
        layout: Layout,
        hidden_dims: Sequence[int],
        latent_dim: int,
        n_members: int = 1,
        min_scale: float | None = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.layout, self.n_members, self.latent_dim = layout, n_members, latent_dim
        self.least_log_variance = None if min_scale is None else 2 * math.log(min_scale)
        self.widest = max(hidden_dims, default=latent_dim)
        generator = torch.Generator().manual_seed(seed)
        parts, bits, codes = len(layout.part_columns), len(layout.bit_columns), sum(layout.code_sizes)
        shown = parts + bits + layout.n_measured + EMBEDDING * len(layout.code_sizes)
        variances = 0 if min_scale is None else parts
        self.sizes = [parts, variances, bits, layout.n_measured, codes]
        self.sizes.append(-sum(self.sizes) % TILE)  # outputs that nobody reads
        self.embedding = nn.Parameter(
            torch.randn((n_members, codes, EMBEDDING), generator=generator) / EMBEDDING
        )
        self.encoder = _stack(n_members, [shown, *hidden_dims], generator)
        self.posterior = MemberLinear(n_members, ([shown, *hidden_dims])[-1], 2 * latent_dim, generator)
        self.decoder = _stack(n_members, [latent_dim, *reversed(hidden_dims)], generator)
        self.heads = MemberLinear(
            n_members, ([latent_dim, *reversed(hidden_dims)])[-1], sum(self.sizes), generator
        )
        self.arguments = (layout, tuple(hidden_dims), latent_dim, n_members, min_scale)
        starts = torch.tensor([0, *layout.code_sizes], dtype=torch.int64).cumsum(0)[:-1]
        self.register_buffer("code_starts", starts, persistent=False)
        self.code_starts: Tensor

    @classmethod
    def joined(cls, models: Sequence[VAE]) -> VAE:
        """One model of all members of ``models``, which must agree in everything but their number."""
        layout, hidden_dims, latent_dim, _, min_scale = models[0].arguments
        members = sum(model.n_members for model in models)
        whole = cls(layout, hidden_dims, latent_dim, members, min_scale).to(models[0].heads.weight.device)
        states = [model.state_dict() for model in models]
        whole.load_state_dict({name: torch.cat([state[name] for state in states]) for name in states[0]})
        return whole

    @torch.no_grad()
    def forget_variances(self) -> None:
        """Fix the decoder's variances at 1, whatever was learned of them."""
        parts, variances = self.sizes[:2]
        for weight in (self.heads.weight, self.heads.bias):
            weight[..., parts : parts + variances] = 0.0

    @torch.no_grad()
    def fix_bits(self, logits: Sequence[float | None]) -> None:
        """Give bits the logit that is theirs in every row; None leaves what was learned."""
        first = sum(self.sizes[:2])
        for place, logit in enumerate(logits, start=first):
            if logit is not None:
                self.heads.weight[..., place] = 0.0
                self.heads.bias[..., place] = logit

    def encode(self, batch: EncodedBatch) -> Latent:
        """Posterior of each row; fields of ``batch`` are [n, …], or [k, n, …] for a batch a member."""
        mean, log_variance = self.posterior(self.encoder(self.shown(batch))).chunk(2, dim=-1)
        return Latent(mean, log_variance.clamp(-LARGEST_LATENT, LARGEST_LATENT))

    def shown(self, batch: EncodedBatch) -> Tensor:
        """What the encoder looks at [k, n, shown]: parts, bits, presence, embedded codes."""
        signs = (2 * batch.bits - 1) * batch.present[..., list(self.layout.bit_columns)]
        plain = [self._of_each(t) for t in (batch.numbers, signs, batch.present)]
        embedded = F.embedding(self.places(batch), self.embedding.flatten(end_dim=1))  # [k, n, q, EMBEDDING]
        return torch.cat([*plain, embedded.flatten(start_dim=2)], dim=-1)

    def places(self, batch: EncodedBatch) -> Tensor:
        """Where each code's embedding lies [k, n, q] among those of all members."""
        members = torch.arange(self.n_members, device=batch.codes.device)[:, None, None]
        return self._of_each(batch.codes + self.code_starts) + members * self.embedding.shape[1]

    def _of_each(self, tensor: Tensor) -> Tensor:
        return tensor.expand(self.n_members, *tensor.shape[-2:])

    @staticmethod
    def reparameterize(latent: Latent, noise: Tensor) -> Tensor:
        """A latent drawn from the posterior with ``noise`` from N(0, I): mean + deviation * noise."""
        return latent.mean + torch.exp(0.5 * latent.log_variance) * noise

    def decode(self, z: Tensor) -> Decoded:
        """What each latent [k, n, z] stands for."""
        mean, log_variance, bit, null, code, _ = self.heads(self.decoder(z)).split(self.sizes, dim=-1)
        if self.least_log_variance is None:
            return Decoded(mean, torch.zeros_like(mean), bit, null, code)
        return Decoded(mean, _bounded(log_variance, self.least_log_variance), bit, null, code)

    def forward(self, batch: EncodedBatch, noise: Tensor) -> tuple[Latent, Decoded]:
        """Encode, draw, decode."""
        latent = self.encode(batch)
        return latent, self.decode(self.reparameterize(latent, noise))


def _stack(members: int, widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [MemberLinear(members, inputs, outputs, generator), nn.SiLU()]
    return nn.Sequential(*layers)


def _bounded(log_variance: Tensor, low: float) -> Tensor:
    """Log-variances squeezed smoothly between ``low`` and LARGEST_LOG_VARIANCE; 0 stays 0."""
    high = LARGEST_LOG_VARIANCE
    below, above = -low * torch.tanh(log_variance / -low), high * torch.tanh(log_variance / high)
    return torch.where(log_variance < 0, below, above)
