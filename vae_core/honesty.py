"""Is the detector better than what a user could take instead? Counted on planted errors, and said.

Canaries are planted in held-out rows; the detector, PCA and Isolation Forest flag rows, each beyond
its own quantile of the same clean held-out rows, so that all raise as many false alarms. What share
of the canaries each finds is its power. It is a report, not an error: a detector that is behind is
still a detector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vae_core import arrays
from vae_core.canaries import KINDS, Planted, plant_each
from vae_core.exceptions import DataError
from vae_core.references import REFERENCES, References

if TYPE_CHECKING:
    from vae_core.detector import VAEDetector

__all__ = ["OURS", "Honesty", "Power", "honesty"]

OURS = "VAE"
METHODS = (OURS, *REFERENCES)
CLEAN_ROWS = 20_000  # held-out rows that thresholds are taken from
KNOWN_ROWS = 20_000  # training rows that tell what is known
ERRORS = 3.0  # standard errors; by chance alone a comparison exceeds them once in 700 times

NAMED = 3  # kinds of errors that the sentence names

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Power:
    """How many planted errors of a kind, in a column, each method found."""

    kind: str
    column: str
    planted: int
    found: dict[str, int]


@dataclass(frozen=True)
class Honesty:
    """How many planted errors the detector and its references find.

    ``powers`` holds one entry a kind and column; ``not_applicable`` the kinds that the table has no
    columns for; ``behind`` the references that find more than the detector by more than chance, and
    ``behind_in`` the same for each kind. ``contamination`` is the share of clean rows that each
    method flags.
    """

    contamination: float
    clean_rows: int
    powers: tuple[Power, ...]
    not_applicable: tuple[str, ...]
    behind: tuple[str, ...]
    behind_in: dict[str, tuple[str, ...]]

    @property
    def planted(self) -> int:
        """Number of planted errors."""
        return sum(power.planted for power in self.powers)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of errors that could be planted."""
        return tuple(dict.fromkeys(power.kind for power in self.powers))

    def share(self, method: str, kind: str | None = None) -> float:
        """Share found of all planted errors, or of one kind; 0 to 1, NaN where none was planted."""
        counted = [power for power in self.powers if kind in {None, power.kind}]
        planted = sum(power.planted for power in counted)
        return sum(power.found[method] for power in counted) / planted if planted else float("nan")

    def shares(self) -> dict[str, float]:
        """Share of all planted errors that each method finds."""
        return {method: self.share(method) for method in METHODS}

    @property
    def sentence(self) -> str:
        """The comparison in words; where the detector is behind, what to do."""
        if not self.planted:
            return "No error could be planted to try the model on: no column takes one."
        if self.behind:
            return f"{self._loss()}; {self._lags()}train it on more rows or for more steps (max_steps)."
        won = ", ".join(f"{method} {self.share(method):.0%}" for method in METHODS)
        lags = f"; {self._lags().removesuffix('; ')}" if self.behind_in else ""
        return f"Of {self.planted:,} planted errors {won} were found{lags}."

    def _loss(self) -> str:
        best = max(self.behind, key=self.share)
        others = "".join(f" and {name} ({self.share(name):.0%})" for name in self.behind if name != best)
        return (
            f"The model finds fewer planted errors than {best}: "
            f"{self.share(OURS):.0%} against {self.share(best):.0%}{others}"
        )

    def _lags(self) -> str:
        """The kinds of errors in which it is behind, the widest gaps first."""
        best = {
            kind: max(names, key=lambda name: self.share(name, kind))
            for kind, names in self.behind_in.items()
        }
        order = sorted(best, key=lambda kind: self.share(OURS, kind) - self.share(best[kind], kind))
        said = [
            f"{kind} ({self.share(OURS, kind):.0%}, {best[kind]} {self.share(best[kind], kind):.0%})"
            for kind in order[:NAMED]
        ]
        more = f" and {len(order) - NAMED} more" if len(order) > NAMED else ""
        return f"behind in {', '.join(said)}{more}; " if said else ""

    def table(self) -> pa.Table:
        """One row a kind and column: how many were planted, and what share each method found."""
        return pa.table(
            {
                "kind": pa.array([power.kind for power in self.powers], pa.string()),
                "column": pa.array([power.column for power in self.powers], pa.string()),
                "planted": pa.array([power.planted for power in self.powers], pa.int64()),
                **{
                    method: pa.array([one.found[method] / one.planted for one in self.powers], pa.float64())
                    for method in METHODS
                },
            }
        )


def honesty(
    detector: VAEDetector, train: pa.Table, held_out: pa.Table, *, rows: int = 500, seed: int = 0
) -> Honesty:
    """Count how many planted errors the detector finds, beside PCA and Isolation Forest.

    Parameters
    ----------
    detector
        Fitted.
    train
        The rows that it was fitted on; the references are fitted on a sample of them.
    held_out
        Rows that it was not fitted on: thresholds are taken and errors are planted there.
    rows
        Errors a kind.
    seed
        Same seed, same errors and references.

    Raises
    ------
    DataError
        ``train`` or ``held_out`` is empty.
    """
    if not (train.num_rows and held_out.num_rows):
        raise DataError(
            "training and held-out rows are required to plant errors in, however there are "
            f"{train.num_rows} and {held_out.num_rows}; hold rows out"
        )
    clean, known = _spread(held_out, CLEAN_ROWS), _spread(train, KNOWN_ROWS)
    planted = plant_each(clean, detector.schema_, rows=rows, sample=known, seed=seed)
    references = References(detector.schema_, train, seed)
    usual = _scores(detector, references, clean)
    cuts = {name: np.quantile(scores, 1 - detector.contamination) for name, scores in usual.items()}
    found = {
        kind: {name: s > cuts[name] for name, s in _scores(detector, references, one.table).items()}
        for kind, one in planted.items()
        if len(one)
    }
    return _compared(detector.contamination, clean.num_rows, planted, found)


def _spread(table: pa.Table, rows: int) -> pa.Table:
    """At most so many rows, evenly spaced."""
    if table.num_rows <= rows:
        return table
    return arrays.pick(table, np.linspace(0, table.num_rows - 1, rows).astype(np.int64))


def _scores(detector: VAEDetector, references: References, table: pa.Table) -> dict[str, Floats]:
    """Anomaly scores [n] by method."""
    return {OURS: -detector.score_samples(table), **references.scores(table)}


def _compared(
    contamination: float,
    clean_rows: int,
    planted: Mapping[str, Planted],
    found: Mapping[str, Mapping[str, Bools]],
) -> Honesty:
    none = np.empty(0, dtype=np.bool_)
    pooled = {name: np.concatenate([none, *(one[name] for one in found.values())]) for name in METHODS}
    behind_in = {kind: _ahead(one) for kind, one in found.items()}
    return Honesty(
        contamination=contamination,
        clean_rows=clean_rows,
        powers=tuple(power for kind in found for power in _powers(planted[kind], found[kind])),
        not_applicable=tuple(kind for kind in KINDS if kind not in found),
        behind=_ahead(pooled),
        behind_in={kind: names for kind, names in behind_in.items() if names},
    )


def _powers(planted: Planted, found: Mapping[str, Bools]) -> list[Power]:
    columns = np.array([names[0] for names in planted.columns], dtype=object)
    return [
        Power(
            planted.kind,
            column,
            int((columns == column).sum()),
            {name: int(flags[columns == column].sum()) for name, flags in found.items()},
        )
        for column in sorted(set(columns))
    ]


def _ahead(found: Mapping[str, Bools]) -> tuple[str, ...]:
    """References that find more than the detector, by more than chance (McNemar, 1947).

    Rows that both or neither find tell nothing; of the others each method would find half.
    """
    return tuple(name for name in REFERENCES if _finds_more(found[name], found[OURS]))


def _finds_more(theirs: Bools, ours: Bools) -> bool:
    won, lost = int(np.sum(theirs > ours)), int(np.sum(ours > theirs))
    return bool(won - lost > ERRORS * np.sqrt(won + lost))
