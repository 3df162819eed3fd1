"""The network's shapes and members."""

import dataclasses

import pyarrow as pa
import torch

from vae_core import TableSchema
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.modules import VAE, Latent, MemberLinear


def encoded(table: pa.Table, rows: int = 9) -> tuple[TableEncoder, EncodedBatch]:
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    return encoder, encoder.encode(table.slice(0, rows))


def test_each_member_maps_with_its_own_weights() -> None:
    """A member's product is that of its own weight and bias."""
    layer = MemberLinear(3, 4, 2, torch.Generator().manual_seed(0))
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(layer(x)[1], x[1] @ layer.weight[1] + layer.bias[1])


def test_shapes_of_latent_and_decoded(table: pa.Table) -> None:
    """Members lead, then rows, then latent dimensions or outputs."""
    encoder, rows = encoded(table)
    model = VAE(encoder.layout, (16,), latent_dim=3, n_members=2)

    latent, decoded = model(rows, torch.zeros(2, 9, 3))

    assert latent.mean.shape == latent.log_variance.shape == (2, 9, 3)
    assert decoded.mean.shape == (2, 9, 8)
    assert decoded.bit_logits.shape == (2, 9, 1)
    assert decoded.null_logits.shape == (2, 9, 5)
    assert decoded.code_logits.shape == (2, 9, 3 + 2)


def test_noise_moves_the_latent_by_its_deviation() -> None:
    """A draw is the mean plus the deviation times the noise."""
    latent = Latent(torch.tensor([1.0]), torch.tensor([2.0]).log() * 2)

    assert torch.allclose(VAE.reparameterize(latent, torch.tensor([3.0])), torch.tensor([7.0]))


def test_deviations_never_fall_below_the_least(table: pa.Table) -> None:
    """However sure the decoder is, its deviation stays above ``min_scale``."""
    encoder, _ = encoded(table)
    model = VAE(encoder.layout, (16,), 3, min_scale=0.05)

    decoded = model.decode(1e6 * torch.randn(1, 50, 3, generator=torch.Generator().manual_seed(0)))

    assert torch.exp(0.5 * decoded.log_variance).min() >= 0.05 * (1 - 1e-5)


def test_without_a_least_deviation_all_are_one(table: pa.Table) -> None:
    """A decoder told no ``min_scale`` holds no variances: whatever the latent, they are 1."""
    encoder, _ = encoded(table)
    model = VAE(encoder.layout, (16,), 3, min_scale=None)

    decoded = model.decode(1e6 * torch.randn(1, 50, 3, generator=torch.Generator().manual_seed(0)))

    assert torch.equal(decoded.log_variance, torch.zeros_like(decoded.mean))


def test_the_encoder_does_not_see_hidden_bits(table: pa.Table) -> None:
    """An absent truth value looks the same whichever bit stands there."""
    encoder, rows = encoded(table)
    model = VAE(encoder.layout, (16,), 3)
    absent = dataclasses.replace(rows, present=torch.zeros_like(rows.present))

    flipped = dataclasses.replace(absent, bits=1 - absent.bits)

    assert torch.equal(model.encode(absent).mean, model.encode(flipped).mean)
