"""Filling: cells of encoded rows replaced by what the model expects in their place."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vae_core.categories import UNSEEN
from vae_core.encoding import EncodedBatch
from vae_core.losses import category_probabilities
from vae_core.modules import VAE, Decoded
from vae_core.scoring import blocks, reconstruct

__all__ = ["filled"]


@torch.inference_mode()
def filled(model: VAE, rows: EncodedBatch, measured: Tensor, categorical: Tensor) -> EncodedBatch:
    """Rows whose chosen cells hold the likeliest value under the row's own posterior mean.

    Shape
    -----
    measured: bool [n, m], categorical: bool [n, q]; true chooses. A category never becomes a new value.
    """
    model.eval()
    first, found = 0, []
    for block, real in blocks(model, rows):
        part = slice(first, first + real)
        chosen = measured[part], categorical[part]
        found.append(_filled(model, rows.take(part), *chosen, _first(reconstruct(model, block), real)))
        first += real
    return EncodedBatch(*(torch.cat([getattr(one, name) for one in found]) for name in FIELDS))


FIELDS = ("numbers", "bits", "present", "codes", "within")


def _first(decoded: Decoded, real: int) -> Decoded:
    return Decoded(*(getattr(decoded, name)[:, :real].cpu() for name in Decoded.__dataclass_fields__))


def _filled(
    model: VAE, rows: EncodedBatch, measured: Tensor, categorical: Tensor, decoded: Decoded
) -> EncodedBatch:
    layout = model.layout
    parts, bits = list(layout.part_columns), list(layout.bit_columns)
    never = torch.tensor([share is not None for share in layout.null_priors], dtype=torch.bool)
    there = never | (torch.sigmoid(decoded.null_logits).mean(dim=0) <= 0.5)
    present = torch.where(measured, there.to(rows.present), rows.present)
    numbers = decoded.mean.mean(dim=0) * present[:, parts]
    truth = (torch.sigmoid(decoded.bit_logits).mean(dim=0) >= 0.5).to(rows.bits) * present[:, bits]
    return replace(
        rows,
        numbers=torch.where(measured[:, parts], numbers, rows.numbers),
        bits=torch.where(measured[:, bits], truth, rows.bits),
        present=present,
        codes=_with_likeliest(model, rows.codes, categorical, decoded),
    )


def _with_likeliest(model: VAE, codes: Tensor, chosen: Tensor, decoded: Decoded) -> Tensor:
    """Codes [n, q], the chosen ones the likeliest over all members; only their chances are computed."""
    codes, layout = codes.clone(), model.layout
    columns = torch.split_with_sizes(decoded.code_logits, layout.code_sizes, dim=-1)
    for j, (logits, priors) in enumerate(zip(columns, layout.code_priors, strict=True)):
        rows = chosen[:, j].nonzero().squeeze(1)
        chances = category_probabilities(logits[:, rows], priors).mean(dim=0)
        chances[:, UNSEEN] = -1.0
        codes[rows, j] = chances.argmax(dim=1)
    return codes
