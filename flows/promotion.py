"""The gate: may a challenger take the champion's place? Both are held to the last finished nights.

Five criteria, each with what was required and what was found. One that fails refuses the challenger; one
without evidence says so, and the others decide. Nothing is written and no alias moves here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flows.errors import SchemaError
from flows.manifest import Manifest
from flows.shadow import NightRows, Opinion, finished_nights, known_to, opinion, read_night

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.registry import ModelRef
    from vae_core import VAEDetector

__all__ = ["Contender", "Criterion", "Verdict", "gate"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

CLEAN_ROWS = 20_000  # rows of the nights in which errors are planted, and over which both models raise ALARMS
PLANTED = 500  # errors a kind
ALARMS = 20  # rows that each model flags of those at least, where the pipeline's share would be fewer
NAMED = 3  # columns that a sentence names
ERRORS = 3.0  # standard errors, as in `vae_core.honesty`
TOLERATED_LOSS = 0.05  # of the errors in a column; two trainings on the flights differ by up to 0.02
TOLERATED_DISTANCE = (
    0.1  # of p-values from uniform (Kolmogorov-Smirnov); nights differ from their past by this
)


@dataclass(frozen=True)
class Contender:
    """A model version and its detector."""

    ref: ModelRef
    detector: VAEDetector


@dataclass(frozen=True)
class Criterion:
    """What was required of the challenger, and what was found; ``passed`` is None without evidence."""

    name: str
    required: str
    found: str
    passed: bool | None

    @property
    def verdict(self) -> str:
        """``passed``, ``failed`` or ``no evidence``."""
        return {True: "passed", False: "failed", None: "no evidence"}[self.passed]


@dataclass(frozen=True)
class Verdict:
    """The gate's verdict on a challenger.

    Attributes
    ----------
    model, champion, challenger
        Name of the model, and the two versions.
    criteria
        In the order in which they are shown.
    nights
        One row a night: rows, flags of both, confirmed anomalies and how many of them were found.
    canaries
        One row a column: planted errors, and how many of them each found.
    """

    model: str
    champion: str
    challenger: str
    criteria: tuple[Criterion, ...]
    nights: tuple[dict[str, Any], ...] = field(default_factory=tuple)
    canaries: tuple[dict[str, Any], ...] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """Whether no criterion failed."""
        return all(one.passed is not False for one in self.criteria)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain values."""
        criteria = [{**asdict(one), "verdict": one.verdict} for one in self.criteria]
        return {**asdict(self), "passed": self.passed, "criteria": criteria}


def gate(pipeline: Pipeline, champion: Contender, challenger: Contender) -> Verdict:
    """Hold a challenger to the champion on the last finished nights.

    Raises
    ------
    NoDataError
        No night is finished.
    StoreError
        A manifest, flags or verdicts cannot be read.
    """
    manifests = finished_nights(pipeline, pipeline.promotion.nights)
    detectors = [champion.detector, challenger.detector]
    trials = [_trial(pipeline, one, detectors) for one in manifests]
    powers = _powers(pipeline, trials, detectors)
    return Verdict(
        challenger.ref.name,
        champion.ref.version,
        challenger.ref.version,
        (
            _columns(trials),
            _recall(pipeline.promotion.min_recall, trials),
            _churn(pipeline.promotion.max_churn, trials),
            _canaries(powers),
            _calibration(trials),
        ),
        tuple(trial.row() for trial in trials),
        tuple(asdict(one) for one in powers),
    )


# -- One night ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    """A night, and what both models say of its rows."""

    rows: NightRows
    champion: Opinion
    challenger: Opinion

    def row(self) -> dict[str, Any]:
        """The night in figures; flags are those of the even sample."""
        even = self.rows.even
        old, new = self.champion.flagged[even], self.challenger.flagged[even]
        return {
            "date": str(self.rows.day),
            "rows": int(even.sum()),
            "share": round(self.rows.share, 4),
            "flagged by champion": int(old.sum()),
            "flagged by challenger": int(new.sum()),
            "flagged by both": int((old & new).sum()),
            "confirmed": int(self.rows.confirmed.sum()),
            "confirmed found": int((self.rows.confirmed & self.challenger.flagged).sum()),
        }


def _trial(pipeline: Pipeline, manifest: Manifest, detectors: Sequence[VAEDetector]) -> _Trial:
    """What champion and challenger say of a night; the flags of both are chosen afresh, and alike."""
    rows = read_night(pipeline, manifest, detectors)
    if not rows.table.num_rows:
        nobody = Opinion(np.empty(0), np.empty(0, dtype=np.bool_))
        return _Trial(rows, nobody, nobody)
    old, new = (opinion(one, rows, pipeline.decision.model_dump()) for one in detectors)
    return _Trial(rows, old, new)


# -- Criteria -----------------------------------------------------------------------------------------------


def _columns(trials: Sequence[_Trial]) -> Criterion:
    """Whether it can read the nights at all."""
    unread = [reason for trial in trials for reason in trial.rows.unread]
    found = f"{unread[0]}; {len(unread)} in all" if unread else f"all of {len(trials)} nights"
    return Criterion("columns", "every file of the nights has the challenger's columns", found, not unread)


def _recall(least: float, trials: Sequence[_Trial]) -> Criterion:
    """Whether it finds again what people have confirmed."""
    confirmed = sum(int(trial.rows.confirmed.sum()) for trial in trials)
    found = sum(int((trial.rows.confirmed & trial.challenger.flagged).sum()) for trial in trials)
    required = f"at least {least:.0%} of the confirmed anomalies flagged"
    if not confirmed:
        return Criterion("recall", required, "no row of these nights is confirmed", None)
    return Criterion("recall", required, f"{found} of {confirmed}", found >= least * confirmed)


def _churn(most: float, trials: Sequence[_Trial]) -> Criterion:
    """Whether it flags other rows: the share of both models' flags that the other one does not raise."""
    old = sum(int(trial.champion.flagged[trial.rows.even].sum()) for trial in trials)
    new = sum(int(trial.challenger.flagged[trial.rows.even].sum()) for trial in trials)
    both = sum(
        int((trial.champion.flagged & trial.challenger.flagged)[trial.rows.even].sum()) for trial in trials
    )
    required = f"at most {most:.0%} of the flags changed"
    if not old + new:
        return Criterion("churn", required, "neither flags a row of these nights", None)
    churn = 1 - 2 * both / (old + new)
    said = f"{churn:.1%}: {both} flags kept, {old - both} lost, {new - both} new"
    return Criterion("churn", required, said, churn <= most)


def _calibration(trials: Sequence[_Trial]) -> Criterion:
    """Whether its p-values are uniform on the nights' rows: their Kolmogorov-Smirnov distance."""
    old = np.concatenate([trial.champion.p_values[trial.rows.even] for trial in trials])
    new = np.concatenate([trial.challenger.p_values[trial.rows.even] for trial in trials])
    required = f"p-values within {TOLERATED_DISTANCE} of uniform, or as near as the champion's"
    if not new.size:
        return Criterion("calibration", required, "no row was scored", None)
    theirs, ours = _distance(old), _distance(new)
    noise = 1.36 / np.sqrt(new.size)  # exceeded once in 20 times
    passed = ours <= max(TOLERATED_DISTANCE, theirs + noise)
    return Criterion("calibration", required, f"{ours:.3f} (champion {theirs:.3f})", bool(passed))


def _distance(p_values: Floats) -> float:
    """Largest distance between the distribution of p-values [n] and the uniform one, 0 to 1."""
    ordered, n = np.sort(p_values), p_values.size
    above, below = np.arange(1, n + 1) / n - ordered, ordered - np.arange(n) / n
    return float(max(above.max(), below.max()))


# -- Planted errors -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Power:
    """How many errors planted in a column each model finds, and how many only one of them does."""

    column: str
    planted: int
    champion: int
    challenger: int
    lost: int
    won: int

    @property
    def loss(self) -> float:
        """Share of the errors that the challenger finds less; negative where it finds more."""
        return (self.lost - self.won) / self.planted

    @property
    def behind(self) -> bool:
        """Whether it finds fewer, by more than two trainings of one model differ and than chance explains.

        Rows that both or neither find tell nothing (McNemar, 1947).
        """
        noise = ERRORS * np.sqrt(self.lost + self.won) / self.planted
        return bool(self.loss > TOLERATED_LOSS + noise)


def _powers(pipeline: Pipeline, trials: Sequence[_Trial], detectors: Sequence[VAEDetector]) -> list[_Power]:
    """Plant errors in the nights' rows; both models raise as many alarms on the rows as they were."""
    from vae_core.canaries import plant_each

    tables = [trial.rows.table.filter(pa.array(trial.rows.even)) for trial in trials]
    clean = _spread(pa.concat_tables(tables), CLEAN_ROWS)
    if not clean.num_rows:
        return []
    planted = plant_each(clean, detectors[0].schema_, rows=PLANTED)
    errors = [one for one in planted.values() if len(one)]
    if not errors:
        return []
    columns = np.array([names[0] for one in errors for names in one.columns], dtype=object)
    share = min(0.5, max(pipeline.decision.contamination or 0.005, ALARMS / clean.num_rows))
    try:
        old, new = (_found(one, clean, [error.table for error in errors], share) for one in detectors)
    except SchemaError:  # said by the criterion of the columns
        return []
    return [_power(str(name), old[columns == name], new[columns == name]) for name in sorted(set(columns))]


def _found(detector: VAEDetector, clean: pa.Table, errors: Sequence[pa.Table], share: float) -> Bools:
    """Which planted errors [n] score beyond all but a share of the clean rows."""
    cut = np.quantile(detector.score_samples(known_to(detector, clean)), share)
    scores = [detector.score_samples(known_to(detector, one)) for one in errors]
    return np.concatenate(scores) < cut


def _power(column: str, old: Bools, new: Bools) -> _Power:
    lost, won = int((old & ~new).sum()), int((new & ~old).sum())
    return _Power(column, old.size, int(old.sum()), int(new.sum()), lost, won)


def _canaries(powers: Sequence[_Power]) -> Criterion:
    required = "planted errors found at least as well as by the champion, in every column"
    if not powers:
        return Criterion("canaries", required, "no error could be planted", None)
    behind = sorted((one for one in powers if one.behind), key=lambda one: -one.loss)
    if behind:
        names = [
            f"{one.column} {one.challenger / one.planted:.0%} (champion {one.champion / one.planted:.0%})"
            for one in behind[:NAMED]
        ]
        more = f" and {len(behind) - NAMED} more" if len(behind) > NAMED else ""
        return Criterion("canaries", required, f"behind in {', '.join(names)}{more}", False)
    planted, old, new = (
        sum(getattr(one, k) for one in powers) for k in ("planted", "champion", "challenger")
    )
    said = f"{new / planted:.0%} of {planted:,} (champion {old / planted:.0%}), behind in no column"
    return Criterion("canaries", required, said, True)


def _spread(table: pa.Table, rows: int) -> pa.Table:
    """At most so many rows, evenly spaced."""
    if table.num_rows <= rows:
        return table
    return table.take(pa.array(np.linspace(0, table.num_rows - 1, rows).astype(np.int64)))
