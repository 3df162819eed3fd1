"""Gradients written out by hand, against autograd."""

import pyarrow as pa
import pytest
import torch

from vae_core import TableSchema
from vae_core.backward import Passes
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.losses import column_losses, kl_divergence, number_losses
from vae_core.modules import VAE


def double(rows: EncodedBatch) -> EncodedBatch:
    """Return rows in float64, where gradients can be told apart from rounding."""
    return rows.each(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def case(
    table: pa.Table, min_scale: float | None, members: int = 2
) -> tuple[VAE, EncodedBatch, torch.Tensor]:
    """Return a model in float64, a batch of 64 rows a member, and noise."""
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    model = VAE(encoder.layout, (16, 12), 3, members, min_scale, seed=1).double()
    random = torch.Generator().manual_seed(0)
    places = torch.randint(table.num_rows, (members, 64), generator=random)
    noise = torch.randn((members, 64, 3), generator=random, dtype=torch.float64)
    return model, double(encoder.encode(table)).take(places), noise


def by_autograd(
    model: VAE, batch: EncodedBatch, noise: torch.Tensor, beta: float, weight: float, trim: float
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Return loss, reconstruction and divergence of each member, and the gradients, by the textbook."""
    latent, decoded = model(batch, noise)
    reconstruction = column_losses(batch, decoded, model.layout, weight).sum(dim=-1)
    kl = kl_divergence(latent)
    whole = reconstruction + beta * kl
    if trim and model.layout.part_columns:
        odd = number_losses(batch, decoded, model.layout) + beta * kl
        kept = whole.shape[-1] - int(whole.shape[-1] * trim)
        whole = whole.gather(-1, odd.topk(kept, dim=-1, largest=False).indices)
    loss = whole.mean(dim=-1)
    model.zero_grad()
    loss.sum().backward()  # type: ignore[no-untyped-call]
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }
    return [loss, reconstruction.mean(dim=-1), kl.mean(dim=-1)], gradients


TABLES = {
    "all kinds": lambda table: table,
    "numbers": lambda table: table.select(["x", "double"]),
    "words": lambda table: table.select(["shop"]),
    "no numbers": lambda table: table.select(["shop", "open"]),
    "nulls": lambda table: table.select(["discount", "open"]),
    "rare words": lambda table: table.append_column(
        "word", pa.array(["a", "b", None, "c", "d"] * (table.num_rows // 5))
    ),
}


@pytest.mark.parametrize(
    ("trim", "weight", "min_scale"), [(0.0, 0.5, 0.05), (0.2, 0.0, 0.22), (0.2, 0.3, 0.05), (0.0, 0.0, None)]
)
@pytest.mark.parametrize("columns", TABLES)
def test_gradients_are_those_of_autograd(
    table: pa.Table, columns: str, trim: float, weight: float, min_scale: float | None
) -> None:
    """Losses and gradients of every parameter agree to ten digits, for each kind of column and recipe."""
    model, batch, noise = case(TABLES[columns](table), min_scale)
    expected, gradients = by_autograd(model, batch, noise, 0.7, weight, trim)

    found = Passes(model, weight, trim).learn(batch, batch, noise, 0.7)

    for one, other in zip(expected, (found.loss, found.reconstruction, found.kl), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-10, atol=1e-12, msg=name)


def test_bounds_stop_gradients_where_autograd_does(table: pa.Table) -> None:
    """Latents beyond the clamp and variances far beyond their bounds have autograd's gradients too."""
    model, batch, noise = case(table, 0.05)
    with torch.no_grad():
        model.posterior.weight.mul_(40)
        model.heads.weight.mul_(40)
    _, gradients = by_autograd(model, batch, noise, 0.3, 0.5, 0.0)

    Passes(model, 0.5).learn(batch, batch, noise, 0.3)

    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-6, atol=1e-9, msg=name)


def test_complete_rows_may_skip_presence(table: pa.Table) -> None:
    """Where nothing is null, gradients are the same without looking for nulls."""
    model, batch, noise = case(table.drop_columns(["discount"]), 0.05)
    runs = []
    for complete in (False, True):
        Passes(model, 0.5, complete=complete).learn(batch, batch, noise, 0.1)
        runs.append([p.grad for p in model.parameters()])

    for one, other in zip(*runs, strict=True):
        torch.testing.assert_close(one, other)


def test_operands_of_half_precision_give_nearly_the_same_gradients(table: pa.Table) -> None:
    """With bfloat16 products, as on a GPU, losses are within a percent and gradients point the same way."""
    model, batch, noise = case(table, 0.22)
    runs = []
    for dtype in (None, torch.bfloat16):
        losses = Passes(model, 0.5, dtype=dtype).learn(batch, batch, noise, 0.1)
        runs.append((losses.loss, torch.cat([p.grad.flatten() for p in model.parameters()])))  # type: ignore[union-attr]

    torch.testing.assert_close(runs[1][0], runs[0][0], rtol=0.01, atol=0.01)
    assert torch.cosine_similarity(runs[0][1], runs[1][1], dim=0) > 0.999
