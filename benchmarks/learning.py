"""What an epoch of training costs, beside its matrix products, beside members one by one, beside PyOD.

CPU seconds on one thread, contenders in turn. The network is the reference one: 64 numbers (or 33 columns
of all kinds), a hidden layer of 128, 32 latent dimensions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from vae_core.encoding import EncodedBatch
    from vae_core.modules import VAE, MemberLinear

__all__ = ["Pair", "epoch_and_floor", "joint_and_sequential", "learning_table", "peer_and_ours"]

HIDDEN, LATENT = 128, 32
EPOCHS = 5  # of one measurement
WORDS = np.array([f"word {i}" for i in range(20)])


@dataclass(frozen=True)
class Pair:
    """CPU seconds of two contenders, one right after the other."""

    first: float
    second: float

    @property
    def ratio(self) -> float:
        """The first over the second."""
        return self.first / self.second


def learning_table(rows: int, kind: str) -> pa.Table:
    """Rows with eight hidden causes: 64 ``numbers``, or ``mixed``: 33 columns of all kinds, some null."""
    random = np.random.default_rng(0)
    causes = random.normal(size=(rows, 8))
    values = causes @ random.normal(size=(8, 64)) + random.normal(scale=0.3, size=(rows, 64))
    if kind == "numbers":
        return pa.table({f"x{i}": values[:, i] for i in range(64)})
    columns: dict[str, object] = {
        f"x{i}": pa.array(values[:, i], mask=random.random(rows) < 0.05) for i in range(24)
    }
    columns |= {f"word{i}": random.choice(WORDS, rows) for i in range(4)}
    columns |= {f"count{i}": random.integers(0, 1000, rows) for i in range(2)}
    columns["flag"] = random.random(rows) < 0.5
    columns["at"] = pa.array(random.integers(15 * 10**14, 16 * 10**14, rows), pa.timestamp("us"))
    columns["size"] = np.exp(values[:, 40] / 4)
    return pa.table(columns)


def epoch_and_floor(
    pairs: int = 5,
    rows: int = 20_480,
    batch: int = 2048,
    members: int = 1,
    kind: str = "numbers",
    variances: bool = True,
) -> list[Pair]:
    """Our training epoch, validation included, and the matrix products of its steps alone."""
    encoded, new = _network(rows, kind, variances)
    steps = math.ceil(0.9 * rows / batch)
    with _one_thread():
        products = _products(new(members), batch)
        return _in_turn(
            pairs,
            lambda: _trained(new(members), encoded, batch),
            lambda: _repeated(products, EPOCHS * steps),
        )


def joint_and_sequential(
    pairs: int = 5, rows: int = 8_192, batch: int = 512, members: int = 8, kind: str = "numbers"
) -> list[Pair]:
    """An epoch of members one after the other, and of all at once."""
    encoded, new = _network(rows, kind)

    def one_by_one() -> None:
        for _ in range(members):
            _trained(new(1), encoded, batch)

    with _one_thread():
        return _in_turn(pairs, one_by_one, lambda: _trained(new(members), encoded, batch))


def peer_and_ours(pairs: int = 3, rows: int = 8_192, batch: int = 512) -> list[Pair]:
    """Epochs of PyOD's VAE and of ours, same architecture, one member, the same rows.

    PyOD's decoder has no variances; ours is asked for none either, as in the ``textbook`` preset.
    """
    encoded, new = _network(rows, "numbers", variances=False)
    table = learning_table(rows, "numbers")
    matrix = np.stack([column.to_numpy() for column in table.columns], axis=1).astype(np.float32)
    learned = rows - rows // 10
    with _one_thread():
        return [
            Pair(_peer_seconds(matrix[:learned], batch), _seconds(lambda: _trained(new(1), encoded, batch)))
            for _ in range(pairs)
        ]


def _peer_seconds(matrix: np.ndarray[tuple[int, ...], np.dtype[np.float32]], batch: int) -> float:
    """CPU seconds of PyOD's training loop alone: neither its preparation nor its scoring counts."""
    from pyod.models.vae import VAE as Peer  # noqa: N811 - ours has the name

    peer = Peer(
        encoder_neuron_list=[HIDDEN],
        decoder_neuron_list=[HIDDEN],
        latent_dim=LATENT,
        batch_size=batch,
        epoch_num=EPOCHS,
        verbose=0,
    )
    train, spent = peer.train, [0.0]

    def timed(loader: object) -> None:
        spent[0] = _seconds(lambda: train(loader))

    peer.train = timed
    peer.fit(matrix)
    return spent[0]


def _network(rows: int, kind: str, variances: bool = True) -> tuple[EncodedBatch, Callable[[int], VAE]]:
    """Encoded rows, and a maker of untrained networks of so many members."""
    from vae_core import TableSchema
    from vae_core.encoding import TableEncoder
    from vae_core.modules import VAE

    table = learning_table(rows, kind)
    encoder = TableEncoder(TableSchema.infer(table), max_categories=64).fit(table)
    least = (0.22 if encoder.layout.is_mixed else 0.05) if variances else None
    return encoder.encode(table), lambda members: VAE(encoder.layout, (HIDDEN,), LATENT, members, least)


def _trained(model: VAE, rows: EncodedBatch, batch: int) -> None:
    """Train for some epochs as a detector with default settings does."""
    from vae_core.training import TrainingPlan, train_vae

    plan = TrainingPlan(batch_size=batch, variance_weight=0.5, min_steps_an_epoch=1)
    train_vae(model, rows, replace(plan, max_epochs=EPOCHS, fewest_to_split=0))


def _products(model: VAE, batch: int) -> Callable[[], None]:
    """The matrix products of one step of a model, forward and backward, into tensors that are there."""
    from vae_core.modules import EMBEDDING, MemberLinear

    maps = [layer for layer in model.modules() if isinstance(layer, MemberLinear)]
    embedded = EMBEDDING * len(model.layout.code_sizes)
    works = [_of_map(layer, batch, None if i else embedded) for i, layer in enumerate(maps)]

    def step() -> None:
        for work in [*works, *reversed(works)]:
            next(work)

    return step


def _of_map(layer: MemberLinear, batch: int, wanted: int | None) -> Iterator[None]:
    """Forward products of an affine map, then its backward ones, in turn for ever.

    ``wanted`` is how many inputs need a gradient; None is all.
    """
    import torch

    weight = layer.weight.detach()
    members, inputs, outputs = weight.shape
    x, y = torch.randn(members, batch, inputs), torch.empty(members, batch, outputs)
    gradient, of_weight = torch.randn(members, batch, outputs), torch.empty_like(weight)
    read = weight if wanted is None else weight[:, inputs - wanted :].contiguous()
    of_x = torch.empty(members, batch, read.shape[1])
    while True:
        torch.bmm(x, weight, out=y)
        yield
        torch.bmm(x.transpose(1, 2), gradient, out=of_weight)
        torch.bmm(gradient, read.transpose(1, 2), out=of_x)
        yield


def _repeated(work: Callable[[], None], times: int) -> None:
    for _ in range(times):
        work()


def _in_turn(pairs: int, first: Callable[[], None], second: Callable[[], None]) -> list[Pair]:
    first()  # warm
    second()
    return [Pair(_seconds(first), _seconds(second)) for _ in range(pairs)]


def _seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    """Print the medians."""
    said = {
        "epoch / products, batch 2048, 64 numbers": epoch_and_floor(),
        "epoch / products, batch 2048, 33 mixed columns": epoch_and_floor(kind="mixed"),
        "8 members one by one / jointly, batch 512": joint_and_sequential(),
        "PyOD VAE epoch / ours, batch 512": peer_and_ours(),
    }
    for name, pairs in said.items():
        print(f"{name}: {median(pair.ratio for pair in pairs):.2f}")


if __name__ == "__main__":
    main()
