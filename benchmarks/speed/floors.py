"""What nobody can do without: decode the file, multiply the matrices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from benchmarks.speed.data import TEXTS

if TYPE_CHECKING:
    from vae_core.modules import VAE, MemberLinear

__all__ = ["Forward", "decode"]

BLOCK = 1024  # rows; 512 to 2,048 take the same time, 65,536 twice as long: out of the cache


def decode(file: Path) -> int:
    """Parquet to Arrow, a row group at a time, texts as dictionaries, one thread."""
    with pq.ParquetFile(file, read_dictionary=list(TEXTS)) as source:
        for group in range(source.num_row_groups):
            source.read_row_group(group, use_threads=False)
        return int(source.metadata.num_rows)


@dataclass(frozen=True)
class _Layer:
    """One affine map of k members into memory of its own, and SiLU where the model has one.

    Shape
    -----
    weight: [k, outputs, inputs], bias: [k, outputs, 1], out: [k, outputs, BLOCK]
    """

    weight: Tensor
    bias: Tensor
    out: Tensor
    activated: bool

    @classmethod
    def of(cls, layer: MemberLinear, activated: bool, outputs: int | None = None) -> _Layer:
        """The first ``outputs`` outputs of a layer of the model."""
        weight = layer.weight.detach()[..., :outputs].transpose(1, 2).contiguous()
        bias = layer.bias.detach()[..., :outputs].transpose(1, 2).contiguous()
        return cls(weight, bias, torch.empty((*weight.shape[:2], BLOCK)), activated)

    def apply(self, x: Tensor) -> Tensor:
        """Inputs [k, inputs, BLOCK] to outputs."""
        torch.baddbmm(self.bias, self.weight, x, out=self.out)
        return F.silu(self.out, inplace=True) if self.activated else self.out


class Forward:
    """The products of a model's layers and its activations, in blocks that stay in the cache.

    Encoder to posterior mean, decoder to all heads, in single precision, one thread. What is before
    (encoding) and after (losses) is left out.

    Parameters
    ----------
    model
        The network, on the CPU.
    """

    def __init__(self, model: VAE) -> None:
        self.layers = [
            *(_Layer.of(layer, True) for layer in model.encoder if hasattr(layer, "weight")),  # type: ignore[arg-type]
            _Layer.of(model.posterior, False, model.latent_dim),
            *(_Layer.of(layer, True) for layer in model.decoder if hasattr(layer, "weight")),  # type: ignore[arg-type]
            _Layer.of(model.heads, False, sum(model.sizes[:-1])),
        ]
        members, _, inputs = self.layers[0].weight.shape
        self.input = torch.randn((members, inputs, BLOCK))

    def __call__(self, file: Path) -> int:
        """Run as many blocks as a file has rows."""
        with pq.ParquetFile(file) as source:
            rows = int(source.metadata.num_rows)
        torch.set_num_threads(1)
        with torch.inference_mode():
            for _ in range(0, rows, BLOCK):
                self._block()
        return rows

    def _block(self) -> None:
        flowing = self.input
        for layer in self.layers:
            flowing = layer.apply(flowing)
