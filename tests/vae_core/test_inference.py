"""The scoring pass on a CPU says what torch's own operations say."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import pyarrow as pa
import pytest
import torch

from vae_core import VAEDetector
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.losses import column_losses
from vae_core.modules import VAE
from vae_core.schema import TableSchema
from vae_core.scoring import device_losses, reconstruct, row_losses, table_losses


def encoded(table: pa.Table) -> tuple[TableEncoder, EncodedBatch]:
    encoder = TableEncoder(TableSchema.infer(table), max_categories=3).fit(table)
    return encoder, encoder.encode(table)


def untrained(encoder: TableEncoder, hidden: tuple[int, ...], members: int, scale: float | None) -> VAE:
    """A model with weights large enough for losses to differ."""
    model = VAE(encoder.layout, hidden, 5, members, scale, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return model


COLUMNS = [
    ["x", "double", "shop", "open", "at", "discount"],
    ["x", "double"],
    ["shop"],
    ["open"],
    ["shop", "x", "kind", "open", "colour", "size", "place"],
]


@pytest.mark.parametrize("names", COLUMNS, ids=len)
@pytest.mark.parametrize(
    ("hidden", "members", "scale"), [((), 1, None), ((7,), 1, 0.05), ((32, 16), 3, 0.2), ((64, 64), 8, None)]
)
def test_losses_are_those_of_the_model(
    table_of: Callable[..., pa.Table],
    names: list[str],
    hidden: tuple[int, ...],
    members: int,
    scale: float | None,
) -> None:
    """Losses of members and of cells agree with the model's and the likelihoods', for any network."""
    encoder, rows = encoded(_more_words(table_of(1500)).select(names))
    model = untrained(encoder, hidden, members, scale)

    found = row_losses(model, rows)

    with torch.inference_mode():
        expected = column_losses(rows, reconstruct(model, rows), model.layout).double()
    np.testing.assert_allclose(found.members, expected.sum(dim=-1), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.columns, expected.mean(dim=0), rtol=1e-6, atol=1e-5)


def _more_words(table: pa.Table) -> pa.Table:
    """The table with more categorical columns, some with nulls, some with one value only."""
    random = np.random.default_rng(5)
    for name, values in {
        "kind": ["a", "b", None],
        "colour": list("rgbcmyk"),
        "size": ["one"],
        "place": [None],
    }.items():
        drawn = [values[i] for i in random.integers(0, len(values), table.num_rows)]
        table = table.append_column(name, pa.array(drawn, pa.string()))
    return table


def test_a_row_loses_the_same_wherever_it_stands(
    detector: VAEDetector, table_of: Callable[..., pa.Table]
) -> None:
    """Not the last bit depends on a row's place in its block, on its batch, or on what is asked for."""
    rows = table_of(9000, 3)
    straight = detector.score_batch(rows, columns=False)
    order = np.random.default_rng(0).permutation(rows.num_rows)

    shuffled = detector.score_batch(rows.take(pa.array(order)), columns=False)
    sliced = [detector.score_batch(rows.slice(start, 700)) for start in range(0, rows.num_rows, 700)]

    assert np.array_equal(shuffled.anomaly_score, straight.anomaly_score[order])
    assert np.array_equal(np.concatenate([s.anomaly_score for s in sliced]), straight.anomaly_score)
    assert np.array_equal(
        np.concatenate([s.reconstruction_loss for s in sliced]), straight.reconstruction_loss
    )


def test_cells_cost_nothing_unless_they_are_asked_for(detector: VAEDetector, fresh: pa.Table) -> None:
    """Without columns the same scores come, and no losses of cells."""
    whole, short = detector.score_batch(fresh), detector.score_batch(fresh, columns=False)

    assert short.column_losses.shape == (fresh.num_rows, 0)
    assert np.array_equal(short.reconstruction_loss, whole.reconstruction_loss)
    assert np.array_equal(short.p_value, whole.p_value)


def test_encoded_rows_lose_what_their_table_loses(detector: VAEDetector, fresh: pa.Table) -> None:
    """Whether rows are encoded before or on the way does not matter."""
    model, encoder = detector.model_, detector.encoder_

    on_the_way, before = table_losses(model, encoder, fresh), row_losses(model, encoder.encode(fresh))

    assert np.array_equal(on_the_way.members, before.members)
    assert np.array_equal(on_the_way.columns, before.columns)


def test_threads_score_side_by_side(detector: VAEDetector, table_of: Callable[..., pa.Table]) -> None:
    """Four threads with one detector give each batch the scores that it has alone."""
    batches = [table_of(3000, seed) for seed in range(12)]
    alone = [detector.score_batch(batch) for batch in batches]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.score_batch, batches))

    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.anomaly_score, other.anomaly_score)
        assert np.array_equal(one.column_losses, other.column_losses)


def test_scoring_leaves_the_number_of_threads_alone(detector: VAEDetector, fresh: pa.Table) -> None:
    """Threads that score use one thread each, and others keep what they had."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(detector.score_batch, repeat(fresh, 8)))

        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_blocks_of_torch_give_the_same_losses(detector: VAEDetector, fresh: pa.Table) -> None:
    """What other devices do, done on a CPU, agrees with the scoring pass."""
    rows = detector.encoder_.encode(fresh)

    by_torch = device_losses(detector.model_, rows)

    np.testing.assert_allclose(
        row_losses(detector.model_, rows).members, by_torch.members, rtol=1e-6, atol=1e-5
    )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_losses(detector: VAEDetector, table_of: Callable[..., pa.Table]) -> None:
    """Large blocks that are copied ahead on a stream of their own agree with the CPU's."""
    rows = detector.encoder_.encode(table_of(100_000))
    expected = row_losses(detector.model_, rows)

    found = row_losses(VAE.joined([detector.model_]).to("cuda"), rows)

    np.testing.assert_allclose(found.members, expected.members, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.columns, expected.columns, rtol=1e-5, atol=1e-4)
