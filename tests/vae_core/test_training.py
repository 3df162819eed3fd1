"""Training: when it ends, what it keeps, how it fails."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from vae_core import DivergenceError, TableSchema
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.modules import VAE
from vae_core.scoring import row_losses
from vae_core.training import EpochRecord, TrainingPlan, choose_device, evaluate, hide, train_vae
from vae_core.training import _split as split

PLAN = TrainingPlan(batch_size=32, max_epochs=8, min_steps_an_epoch=1, fewest_to_split=5)


def noise(rows: int = 300) -> tuple[VAE, EncodedBatch]:
    """Return an untrained model and rows that hold nothing to learn."""
    table = pa.table({name: np.random.default_rng(ord(name)).normal(size=rows) for name in "abcd"})
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    return VAE(encoder.layout, (32,), latent_dim=3, n_members=2, seed=1), encoder.encode(table)


def test_training_lowers_the_loss(table: pa.Table) -> None:
    """Where there is something to learn, the loss after training is well below the one before."""
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    model, rows = VAE(encoder.layout, (32,), 3, seed=1), encoder.encode(table)
    before = evaluate(model, rows, PLAN.beta)

    history = train_vae(model, rows, PLAN)

    assert history[-1].validation_loss < before - 1


def test_patience_restores_the_best_epoch() -> None:
    """The weights left in the model are those of the epoch with the least validation loss."""
    model, rows = noise()
    plan = dataclasses.replace(PLAN, learning_rate=0.2, max_epochs=40, patience=40)

    history = train_vae(model, rows, plan)

    losses = [record.validation_loss for record in history]
    assert losses[-1] > min(losses)
    assert evaluate(model, kept(rows, split(len(rows), plan)[1]), plan.beta) == pytest.approx(
        min(losses), rel=1e-6
    )


def kept(rows: EncodedBatch, places: torch.Tensor) -> EncodedBatch:
    """Return some of the rows, by number."""
    return rows.each(lambda tensor: tensor[places])


def test_without_patience_training_runs_to_its_end() -> None:
    """All epochs are run, and the weights are those of the last one."""
    model, rows = noise()
    plan = dataclasses.replace(PLAN, learning_rate=0.05, max_epochs=20)

    history = train_vae(model, rows, plan)

    held_out = kept(rows, split(len(rows), plan)[1])
    assert len(history) == 20
    assert evaluate(model, held_out, plan.beta) == pytest.approx(history[-1].validation_loss, rel=1e-6)


def test_trimming_does_not_learn_from_the_worst_rows() -> None:
    """With a fifth of each batch left out, a tenth of the rows far away stays badly explained."""
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(size=(900, 4)), random.normal(3.5, 0.1, size=(100, 4))])
    table = pa.table({name: values[:, i] for i, name in enumerate("abcd")})
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    rows = encoder.encode(table)

    def far_loss(trim: float) -> float:
        model = VAE(encoder.layout, (32,), latent_dim=3, seed=1)
        train_vae(model, rows, dataclasses.replace(PLAN, max_epochs=20, trim=trim))
        return evaluate(model, kept(rows, torch.arange(900, 1000)), 0.0)

    assert far_loss(0.2) > far_loss(0.0) + 5


def test_rare_categories_and_nulls_alone_do_not_keep_a_row_out() -> None:
    """Rows whose numbers are like all others are learned as well as without trimming."""
    random = np.random.default_rng(0)
    rare = np.arange(1000) >= 900
    table = pa.table(
        {
            "x": random.normal(size=1000),
            "word": np.where(rare, "rare", "common"),
            "y": pa.array(random.normal(size=1000), mask=rare),
        }
    )
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    rows = encoder.encode(table)

    def rare_loss(trim: float) -> float:
        model = VAE(encoder.layout, (32,), latent_dim=3, seed=1)
        train_vae(model, rows, dataclasses.replace(PLAN, max_epochs=20, trim=trim))
        return evaluate(model, kept(rows, torch.arange(900, 1000)), 0.0)

    assert rare_loss(0.2) < rare_loss(0.0) + 1


def test_a_table_without_numbers_is_not_trimmed() -> None:
    """With nothing to judge rows by, every row is learned from: the same weights as without trimming."""
    table = pa.table({"word": ["a", "b", "c", "a"] * 50, "other": ["x", "y"] * 100})
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    rows = encoder.encode(table)
    models = [VAE(encoder.layout, (16,), latent_dim=2, seed=1) for _ in range(2)]

    for model, trim in zip(models, (0.0, 0.2), strict=True):
        train_vae(model, rows, dataclasses.replace(PLAN, trim=trim))

    assert torch.equal(models[0].heads.weight, models[1].heads.weight)


def test_members_learn_from_the_rows_they_are_given() -> None:
    """A member that is kept from the second half of the rows explains it worse than one that is not."""
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(-2, 0.3, size=(300, 3)), random.normal(2, 0.3, size=(300, 3))])
    table = pa.table({name: values[:, i] for i, name in enumerate("abc")})
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    rows = encoder.encode(table)
    model = VAE(encoder.layout, (32,), latent_dim=3, n_members=2, seed=1)
    only = torch.ones((2, 600), dtype=torch.bool)
    only[0, 300:] = False

    train_vae(model, rows, PLAN, only=only)

    whole, half = row_losses(model, rows).members[:, 300:].mean(axis=1)[[1, 0]]
    assert half > whole + 5


def test_training_ends_when_patience_does() -> None:
    """Without a better epoch for as many as ``patience``, training ends early."""
    model, rows = noise()

    history = train_vae(model, rows, dataclasses.replace(PLAN, learning_rate=0.05, max_epochs=60, patience=3))

    best = min(range(len(history)), key=lambda i: history[i].validation_loss)
    assert len(history) < 60
    assert len(history) - 1 - best == 3


def test_steps_are_bounded() -> None:
    """A bound on steps ends training at the epoch that reaches it."""
    model, rows = noise()

    history = train_vae(model, rows, dataclasses.replace(PLAN, max_steps=18))  # 270 rows: 9 steps an epoch

    assert len(history) == 2


def test_same_seed_same_weights() -> None:
    """Two runs of one seed end with equal weights; another seed does not."""
    runs = []
    for seed in (3, 3, 4):
        model, rows = noise()
        train_vae(model, rows, dataclasses.replace(PLAN, max_epochs=2, seed=seed))
        runs.append(model.heads.weight.detach())

    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_the_weight_of_the_divergence_is_warmed_up() -> None:
    """Beta grows from below its value up to it and stays; the learning rate falls in the end."""
    model, rows = noise()

    history = train_vae(model, rows, dataclasses.replace(PLAN, max_epochs=10, patience=99))

    betas = [record.beta for record in history]
    assert betas[0] < PLAN.beta / 2
    assert betas == sorted(betas)
    assert betas[-1] == PLAN.beta
    assert history[-1].learning_rate < PLAN.learning_rate / 10


def test_without_warm_up_all_of_the_divergence_counts_from_the_first_step() -> None:
    """No warm-up trains otherwise than one of a single step."""
    (one, rows), (other, _) = noise(), noise()
    plan = dataclasses.replace(PLAN, warm_up=0.0, max_epochs=1, max_steps=1)

    (record,) = train_vae(one, rows, plan)
    train_vae(other, rows, dataclasses.replace(plan, warm_up=0.01))

    assert record.beta == PLAN.beta
    assert not torch.equal(one.posterior.weight, other.posterior.weight)


def test_divergence_names_the_epoch_and_the_remedy() -> None:
    """Training that leaves the finite numbers says in which epoch, and what to change."""
    model, rows = noise()

    with pytest.raises(DivergenceError, match=r"epoch 1 .*lower learning_rate \(now 1e\+30\)"):
        train_vae(model, rows, dataclasses.replace(PLAN, learning_rate=1e30))


def test_each_epoch_is_reported() -> None:
    """The callback gets every record and the greatest number of epochs."""
    model, rows = noise()
    seen: list[tuple[EpochRecord, int]] = []

    history = train_vae(model, rows, PLAN, lambda record, most: seen.append((record, most)))

    assert seen == [(record, 8) for record in history]


def test_held_out_rows_are_not_trained_on() -> None:
    """A tenth of the rows is held out, and no row is on both sides."""
    training, held_out = split(300, PLAN)

    assert (len(training), len(held_out)) == (270, 30)
    assert torch.cat([training, held_out]).sort().values.tolist() == list(range(300))


def test_small_tables_are_held_against_themselves() -> None:
    """Below the fewest rows to split, all rows are learned from and all measure the validation loss."""
    training, held_out = split(300, TrainingPlan())

    assert sorted(training.tolist()) == sorted(held_out.tolist()) == list(range(300))


def test_hidden_cells_look_absent(table: pa.Table) -> None:
    """A hidden number loses value and presence, a hidden category becomes unseen; others stay."""
    encoder = TableEncoder(TableSchema.infer(table)).fit(table)
    model, rows = VAE(encoder.layout, (8,), 2), encoder.encode(table.slice(0, 4))
    measured = torch.zeros(4, 5, dtype=torch.bool)
    measured[0, 0] = True

    hidden = hide(rows, model, measured, torch.tensor([[True], [False], [False], [False]]))

    assert hidden.numbers[0, 0] == 0
    assert hidden.present[0].tolist()[:2] == [0.0, 1.0]
    assert hidden.codes[0] == 1
    assert torch.equal(hidden.numbers[1:], rows.numbers[1:])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_cuda_where_there_is_none_is_refused() -> None:
    """Asking for CUDA on a machine without one says so."""
    with pytest.raises(ValueError, match="needs a CUDA device"):
        choose_device("cuda")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda_learns_as_on_the_cpu() -> None:
    """With products in bfloat16 the loss falls about as far as in float32."""
    last = []
    for device in ("cpu", "cuda"):
        model, rows = noise()
        last.append(train_vae(model.to(device), rows, PLAN)[-1].validation_loss)

    assert last[1] == pytest.approx(last[0], rel=0.05)
