"""Another order of flags, learned from verdicts: a small model over the score and the losses per column.

It only orders what is flagged, and the score itself stays as it is. Trees vote (Geurts et al. 2006, extremely
randomised), since a few dozen verdicts already tell which columns' losses matter, and a vote cannot run
away on flags that are like none of those settled; the raw order counts beside the votes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

__all__ = ["FEWEST", "FEWEST_EACH", "Evidence", "Ranking", "blended"]

FEWEST = 30
"""Verdicts below which nothing is learned."""
FEWEST_EACH = 5
"""Confirmed ones and expected ones that there must be at least."""
BESIDE = 0.3
"""Weight of the place in the raw order beside the chance.

Of 0, 0.3 and 1 it is the one with which no seed of ``make bench-verdicts`` lost precision.
"""
TREES = 200
LEAF = 2  # verdicts in a leaf at least
FOLDS = 5

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Flags that people have settled, n in all.

    Attributes
    ----------
    columns
        Names of the c columns that have a loss.
    scores
        ``anomaly_score`` [n].
    losses
        Losses per column [n, c], nats.
    confirmed
        Whether each was confirmed [n]; else it was expected.
    """

    columns: tuple[str, ...]
    scores: Floats
    losses: npt.NDArray[np.floating]
    confirmed: Bools

    def __len__(self) -> int:
        return len(self.scores)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evidence) and self.digest == other.digest

    @property
    def is_enough(self) -> bool:
        """Whether there are enough verdicts, and enough of each kind, to learn from."""
        confirmed = int(self.confirmed.sum())
        return len(self) >= FEWEST and min(confirmed, len(self) - confirmed) >= FEWEST_EACH

    @cached_property
    def digest(self) -> str:
        """Hash of the content."""
        parts = (repr(self.columns).encode(), self.scores, self.losses, self.confirmed)
        return hashlib.blake2b(b"".join(bytes(np.ascontiguousarray(p)) for p in parts)).hexdigest()

    @staticmethod
    def joined(parts: Sequence[Evidence]) -> Evidence:
        """Evidence of several nights; a column that one of them has not has no loss there."""
        columns = tuple(sorted({name for part in parts for name in part.columns}))
        empty = [np.zeros(0)]
        return Evidence(
            columns,
            np.concatenate([part.scores for part in parts] or empty),
            np.concatenate([aligned(part.columns, part.losses, columns) for part in parts])
            if parts
            else np.zeros((0, 0)),
            np.concatenate([part.confirmed for part in parts] or empty).astype(np.bool_),
        )


@dataclass(frozen=True, eq=False)
class Ranking:
    """A fitted order; see `Ranking.of`.

    Attributes
    ----------
    verdicts
        How many it was learned from.
    """

    columns: tuple[str, ...]
    model: ExtraTreesClassifier
    verdicts: int

    @staticmethod
    @lru_cache(maxsize=4)
    def of(evidence: Evidence) -> Ranking | None:
        """Learn an order; None where verdicts are too few, or where it would find no more than the score.

        The latter is tried on verdicts that were held out, by average precision.
        """
        if not evidence.is_enough:
            return None
        X, y = features(evidence.scores, evidence.losses), evidence.confirmed
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        chances = cross_val_predict(_trees(), X, y, cv=folds, method="predict_proba")[:, 1]
        tried = average_precision_score(y, blended(chances, evidence.scores))
        if tried < average_precision_score(y, evidence.scores):
            return None
        return Ranking(evidence.columns, _trees().fit(X, y), len(evidence))

    def chances(self, columns: Sequence[str], scores: Floats, losses: npt.NDArray[np.floating]) -> Floats:
        """Chance [n] in [0, 1] that a reviewer confirms each of some flags.

        Parameters
        ----------
        columns, scores, losses
            As in `Evidence`.
        """
        X = features(scores, aligned(columns, losses, self.columns))
        return np.asarray(self.model.predict_proba(X)[:, 1])


def blended(chances: Floats, scores: Floats) -> Floats:
    """What flags of one night are ordered by [n], higher first: the chance, and the place by score."""
    places = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    return np.asarray(chances + BESIDE * places / max(len(scores) - 1, 1))


def features(scores: Floats, losses: npt.NDArray[np.floating]) -> Floats:
    """Score and logarithms of the losses per column [n, 1 + c]."""
    return np.column_stack([scores, np.sign(losses) * np.log1p(np.abs(losses))])


def aligned(
    columns: Sequence[str], losses: npt.NDArray[np.floating], wanted: Sequence[str]
) -> npt.NDArray[np.floating]:
    """Losses [n, w] of the wanted columns, 0 for those that are not there."""
    place = {name: j for j, name in enumerate(columns)}
    found = np.zeros((len(losses), len(wanted)), losses.dtype)
    for j, name in enumerate(wanted):
        if name in place:
            found[:, j] = losses[:, place[name]]
    return found


def _trees() -> ExtraTreesClassifier:
    return ExtraTreesClassifier(TREES, min_samples_leaf=LEAF, random_state=0, n_jobs=1)
