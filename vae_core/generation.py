"""New rows from the prior: draw a latent, decode it, draw each cell from its likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from vae_core.arrays import LAST_DAY, MICROSECONDS_A_DAY
from vae_core.categories import RARE, UNSEEN, CategoryCodec
from vae_core.columns import BooleanCodec, Codec, TimestampCodec
from vae_core.encoding import TableEncoder
from vae_core.expectation import Expectation, as_type, parameters
from vae_core.modules import VAE
from vae_core.schema import value_type

__all__ = ["generate"]

Random = np.random.Generator


@torch.inference_mode()
def generate(model: VAE, encoder: TableEncoder, n: int, seed: int | None) -> pa.Table:
    """``n`` rows in the table's columns and types, from the first member; unmodelled columns are null."""
    random = np.random.default_rng(seed)
    z = torch.from_numpy(random.standard_normal((1, n, model.latent_dim)).astype(np.float32))
    decoded = model.decode(z.to(model.heads.weight.device).expand(model.n_members, -1, -1))
    first = type(decoded)(**{name: tensor[:1] for name, tensor in vars(decoded).items()})
    drawn = Expectation(encoder, _drawn(parameters(first, model), random))
    codecs = {codec.name: codec for codec in encoder.codecs}
    arrays = [
        _column(codecs[field.name], drawn, field.type, random)
        if field.name in codecs
        else pa.nulls(n, field.type)
        for field in encoder.schema.arrow
    ]
    return pa.table(arrays, names=list(encoder.schema.names))


def _drawn(found: dict[str, Any], random: Random) -> dict[str, Any]:
    """Each parameter replaced by a draw from its likelihood."""
    return {
        "mean": random.normal(found["mean"], found["deviation"]),
        "deviation": found["deviation"],
        "bits": (random.random(found["bits"].shape) < found["bits"]).astype(np.float64),
        "nulls": (random.random(found["nulls"].shape) < found["nulls"]).astype(np.float64),
        "categories": [_one_hot(chances, random) for chances in found["categories"]],
    }


def _one_hot(chances: npt.NDArray[np.float64], random: Random) -> npt.NDArray[np.float64]:
    """One drawn category of each row [n, size]; new and rare values have no text and are not drawn."""
    named = chances.copy()
    named[:, [UNSEEN, RARE]] = 0.0
    scores = np.log(np.maximum(named, 1e-300)) + random.gumbel(size=named.shape)
    drawn: npt.NDArray[np.float64] = np.eye(named.shape[1])[scores.argmax(axis=1)]
    return drawn


def _column(codec: Codec, drawn: Expectation, wanted: pa.DataType, random: Random) -> pa.Array:
    if isinstance(codec, CategoryCodec):
        chances = drawn.categories[drawn.category_place[codec.name]]
        return as_type(pa.array(codec.likeliest(chances), pa.string()), wanted)
    null = drawn.nulls[:, drawn.place[codec.name]] > 0.5
    if isinstance(codec, BooleanCodec):
        return pa.array(drawn.truth(codec.name) > 0.5, mask=null)
    values = codec.decode(drawn.parts(codec.name))
    if isinstance(codec, TimestampCodec):
        return _instants(codec, values, null, wanted, random)
    return as_type(pa.array(np.clip(values, codec.low, codec.high), mask=null), wanted)


def _instants(
    codec: TimestampCodec,
    share: npt.NDArray[np.float64],
    null: npt.NDArray[np.bool_],
    wanted: pa.DataType,
    random: Random,
) -> pa.Array:
    """Instants on random days of the training range, at the drawn times of day."""
    first, last = np.clip([codec.first, codec.last], -LAST_DAY, LAST_DAY).astype(np.int64)
    days = random.integers(first, last + 1, size=share.size)
    ticks = ((days + np.nan_to_num(share)) * MICROSECONDS_A_DAY).astype(np.int64)
    zone = getattr(value_type(wanted), "tz", None)
    return as_type(pa.array(ticks, mask=null).view(pa.timestamp("us", zone)), wanted)
