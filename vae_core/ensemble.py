"""The ensemble: members that learn from all rows beside members that anomalies hardly reach.

Nobody knows whether training rows are clean. Long training on all rows is right where they are, and
copies anomalies through where they are not; short training that leaves out the worst rows of each batch
is the other way round. So both kinds vote, each trained jointly; in tables of mixed types a third kind trains
long on the rows that the second did not set aside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from vae_core.checkpoint import Checkpoint
from vae_core.cleaning import above_gap
from vae_core.encoding import EncodedBatch
from vae_core.modules import VAE
from vae_core.scoring import Reference, odd_numbers
from vae_core.training import EpochRecord, OnEpoch, TrainingPlan, train_vae

__all__ = ["Ensemble", "Members", "train_ensemble", "usual_steps"]

MANY = 50_000  # rows; of flights of half a year, 150,000, 9 of 10 diverted ones are found without, 0 with
STEPS, STEPS_OF_MANY = 800, 2400
TRIM = 0.2  # share of a batch left out by trimmed members; anomalies are seldom more
SHORT = 250  # steps of trimmed members: what is common is learned first
BATCH = 256  # rows a step of trimmed members: the worst fifth is known better in a larger batch
RATE = 2e-3


def usual_steps(rows: int, training_data: str) -> int:
    """Steps of Adam that so many rows are worth: few are soon learned by heart, many have more to teach.

    Of 52,000 flights three times the steps find twice as many planted pairs that do not go together, and
    cost more than twice the time; on tables of up to 10,000 rows they gain nothing. Where rows are said to
    be contaminated, longer training learns the anomalies, too.
    """
    return STEPS_OF_MANY if rows >= MANY and training_data != "contaminated" else STEPS


@dataclass(frozen=True)
class Members:
    """How many members learn from trimmed batches, from all rows, and from the rows that are kept."""

    trimmed: int
    every: int
    kept: int

    @classmethod
    def of(cls, total: int, training_data: str, rows: int, is_mixed: bool) -> Members:
        """Shares of ``total`` members for training rows that are ``clean``, ``contaminated`` or ``auto``.

        Of very many rows, ``auto`` trims none: what is rare there is mostly regular, and recurs often
        enough to be learned, while a short training of members that trim would learn too little. It sets
        rows aside only where some columns are categories or have nulls: in tables of numbers, ordinary rows
        of another kind lie beyond a gap as often as anomalies. A single member of ``contaminated`` rows is
        one that trims.
        """
        if training_data == "clean" or (training_data == "auto" and rows >= MANY):
            return cls(0, total, 0)
        if training_data == "contaminated":
            half = max(total // 2, 1)
            return cls(half, 0, total - half)
        trimmed = max(total // 4, min(total - 1, 1))
        kept = total // 4 if is_mixed else 0
        return cls(trimmed, total - trimmed - kept, kept)


@dataclass(frozen=True)
class Ensemble:
    """All members as one model, what each epoch brought, and which rows [n] were set aside.

    Members that trained long come first: latents and generated rows are the first one's.
    """

    model: VAE
    history: list[EpochRecord]
    set_aside: npt.NDArray[np.bool_]


def train_ensemble(
    new: Callable[[int, int], VAE],
    rows: EncodedBatch,
    plan: TrainingPlan,
    members: Members,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
    normal: npt.NDArray[np.bool_] | None = None,
) -> Ensemble:
    """Train all members.

    Parameters
    ----------
    new
        Makes an untrained model of so many members from a seed.
    rows
        Encoded training rows.
    plan
        How to train the members that train long.
    members
        How many of each kind.
    on_epoch
        Called with each record and the number of epochs of all phases.
    checkpoint
        Where training keeps its state, and goes on from.
    normal
        Rows [n] that are known to be none of the anomalies: no member sets them aside.
    """
    models: list[VAE] = []
    history: list[EpochRecord] = []
    seeds = np.random.SeedSequence(plan.seed).generate_state(2).tolist()
    long = replace(plan, seed=seeds[0])
    short = _trimmed(replace(plan, seed=seeds[1]))
    plans = [short] * bool(members.trimmed) + [long] * bool(members.every + members.kept)
    total = sum(how.lengths(len(rows))[1] for how in plans)

    def note(record: EpochRecord, _: int) -> None:
        history.append(replace(record, epoch=len(history) + 1))
        if on_epoch:
            on_epoch(history[-1], total)

    def train(how: TrainingPlan, only: npt.NDArray[np.bool_]) -> None:
        models.append(new(len(only), how.seed))
        train_vae(models[-1], rows, how, note, torch.from_numpy(only), checkpoint)

    set_aside = np.zeros(len(rows), dtype=np.bool_)
    if members.trimmed:
        train(short, np.ones((members.trimmed, len(rows)), dtype=np.bool_))
        set_aside = _set_aside(models[0], rows) if members.kept else set_aside
        set_aside &= True if normal is None else ~normal
        if not models[0].layout.is_mixed:
            # a short training knows little of variances: they help it to trim, but would excuse odd rows
            models[0].forget_variances()
    if members.every + members.kept:
        train(long, _learned(members, set_aside))
    return Ensemble(VAE.joined(models[::-1]), history, set_aside)


def _learned(members: Members, set_aside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows each long member learns from [k, n]."""
    every = np.ones((members.every, set_aside.size), dtype=np.bool_)
    return np.concatenate([every, np.tile(~set_aside, (members.kept, 1))])


def _trimmed(plan: TrainingPlan) -> TrainingPlan:
    """How members train that leave out the worst rows.

    The divergence has its full weight: what is common is told apart from noise before what is rare.
    """
    return replace(
        plan,
        phase="trimmed",
        trim=TRIM,
        variance_weight=0.0,
        beta=max(plan.beta, 1.0),
        learning_rate=min(plan.learning_rate, RATE),
        batch_size=max(plan.batch_size, BATCH),
        max_steps=min(plan.max_steps, SHORT),
    )


def _set_aside(model: VAE, rows: EncodedBatch) -> npt.NDArray[np.bool_]:
    losses = odd_numbers(model, rows)
    return above_gap(Reference.of(losses).anomaly_scores(losses))
