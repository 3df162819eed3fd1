"""What others would do: pandas reads and encodes, a detector scores, pandas writes the flagged rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.speed.data import TEXTS, schema

__all__ = ["PEERS", "Frames", "Peer", "fitted_peers"]

Matrix = npt.NDArray[np.float32]
Score = Callable[[Matrix], npt.NDArray[Any]]

FLAGGED = 0.01
PEERS = (
    "PyOD VAE, batch 32",
    "PyOD VAE, batch 8192",
    "PyOD AE, batch 32",
    "PyOD AE, batch 8192",
    "isolation forest",
    "pandas + eager torch",
)
DAY_IN_SECONDS = 86_400.0


@dataclass
class Frames:
    """33 columns of a data frame to 64 numbers, column by column, as is usual with pandas.

    24 doubles standardised, whether each is null, the 4 texts as ranks and whether each is null, integers,
    the truth value, sine and cosine of time of day and of week, and the time itself; one number is spare.
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        self.numbers = [name for name in schema().names if name.startswith("x")] + ["items", "cents"]
        self.means, self.scales = self.frame[self.numbers].mean(), self.frame[self.numbers].std()
        self.ranks = {name: self._ranks(name) for name in TEXTS}

    def _ranks(self, name: str) -> pd.Series[Any]:
        values = self.frame[name].value_counts().index
        return pd.Series(np.linspace(-1.0, 1.0, len(values)), index=values)

    def matrix(self, frame: pd.DataFrame) -> Matrix:
        """The rows of a frame as [n, 64]."""
        columns: list[Any] = []
        for name in self.numbers:
            columns.append(((frame[name] - self.means[name]) / self.scales[name]).fillna(0.0))
            if name.startswith("x"):
                columns.append(frame[name].isna())
        for name, ranks in self.ranks.items():
            columns += [frame[name].map(ranks).fillna(0.0), frame[name].isna()]
        columns += [frame["online"], *self._times(frame["at"])]
        return np.column_stack([np.asarray(column, dtype=np.float32) for column in columns])

    @staticmethod
    def _times(at: pd.Series[Any]) -> list[Any]:
        seconds = (at - pd.Timestamp("2023-01-01")).dt.total_seconds()
        days = [2 * np.pi * seconds / (DAY_IN_SECONDS * cycle) for cycle in (1, 7)]
        return [f(day) for day in days for f in (np.sin, np.cos)]


@dataclass
class Peer:
    """A way of scoring a matrix, from Parquet to flagged Parquet, as a contender.

    It works on a file of its own, of fewer rows: cost a row is what counts.
    """

    frames: Frames
    score: Score
    file: Path
    out: Path

    def __call__(self, _: Path) -> int:
        """Read, encode, score, write the hundredth with the highest scores."""
        frame = pd.read_parquet(self.file)
        scores = self.score(self.frames.matrix(frame))
        frame[scores > np.quantile(scores, 1 - FLAGGED)].to_parquet(self.out, compression="zstd")
        return len(frame)


def fitted_peers(sample: Path, small: Path, large: Path, out: Path) -> dict[str, Peer]:
    """All peers, fitted on a sample; ``small`` is the file of those that take 10 µs a row and more."""
    frames = Frames(pd.read_parquet(sample))
    matrix = frames.matrix(frames.frame)
    scores = {
        **_autoencoders(matrix),
        "isolation forest": _forest(matrix),
        "pandas + eager torch": _eager(matrix),
    }
    slow = ("PyOD VAE, batch 32", "PyOD AE, batch 32", "isolation forest")
    return {
        name: Peer(frames, score, small if name in slow else large, out) for name, score in scores.items()
    }


def _autoencoders(matrix: Matrix) -> dict[str, Score]:
    """PyOD's, widths 64-128-32-128-64, one epoch; batches of 32 rows are their default."""
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.vae import VAE

    shared = {"epoch_num": 1, "batch_size": 512, "verbose": 0, "device": "cpu"}
    widths = {"encoder_neuron_list": [128], "decoder_neuron_list": [128], "latent_dim": 32}
    fitted = {
        "VAE": VAE(**widths, **shared).fit(matrix),
        "AE": AutoEncoder(hidden_neuron_list=[128, 32], **shared).fit(matrix),
    }
    return {
        f"PyOD {name}, batch {rows}": _in_batches(detector, rows)
        for name, detector in fitted.items()
        for rows in (32, 8192)
    }


def _in_batches(detector: Any, rows: int) -> Score:
    return lambda matrix: np.asarray(detector.decision_function(matrix, batch_size=rows))


def _forest(matrix: Matrix) -> Score:
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(random_state=0).fit(matrix)
    return lambda rows: -np.asarray(forest.score_samples(rows))


def _eager(matrix: Matrix) -> Score:
    """The same network as a plain torch module, all rows of a batch of 8,192 through it."""
    import torch
    from torch import nn

    widths = (matrix.shape[1], 128, 32, 128, matrix.shape[1])
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    network = nn.Sequential(*layers[:-1]).eval()

    @torch.no_grad()
    def score(rows: Matrix) -> npt.NDArray[Any]:
        parts = torch.split(torch.from_numpy(rows), 8192)
        return torch.cat([(network(part) - part).square().sum(dim=1) for part in parts]).numpy()

    return score
