"""Whether p-values are what they say and false discoveries stay rare: ``make bench-calibration``.

A detector is fitted once a table; the nights are drawn from its scores of rows it was not fitted on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from scipy.stats import kstest

from benchmarks.flown import KINDS, flights
from benchmarks.tables import Grid, machine, markdown, shown, versions
from flows.decision import Decider
from vae_core import Calibration, VAEDetector, benjamini_hochberg

__all__ = ["Scored", "Share", "distance", "main", "nights"]

Floats = npt.NDArray[np.float64]

HERE = Path(__file__).parent
LABELLED = {"kdd99_http": "kdd99_http", "nsl_kdd": "nsl_kdd_train20"}
FITTED, HELD_OUT, NIGHT = 5_000, 10_000, 1_000  # rows at most
ANOMALIES = 10  # of a night's rows
RATES = (0.05, 0.1, 0.2)
CONTAMINATIONS = (0.0, 0.001, 0.01)

INTRODUCTION = """\
A detector with default parameters is fitted once a table, on {fitted:,} normal rows. Its scores of the other
normal rows, and of the anomalies, are dealt out: to a calibration sample, fresh for each of {trials} nights,
and to a night of {night:,} rows, {anomalies} of them anomalies (of `far scores` there is a closed form:
normal rows are standard normal, anomalies lie 6 further up).
Flights have no labels: all their rows count as normal.

- **KS**: the greatest distance between the p-values' distribution on fresh normal rows and the uniform one.
- **false**: mean share of false discoveries among the flags, with its standard error; it should be at most q.
- **power**: share of the anomalies that are flagged. By ranks alone, 1 / (n + 1) is the smallest p-value.
- **tail**: the same share if the fitted tail's p-values were used instead of ranks, which is not done.
- **refused**: share of nights that are not certified. **estimated**: the contamination found."""


@dataclass(frozen=True)
class Scored:
    """Anomaly scores of one table's rows that the detector was not fitted on."""

    name: str
    normal: Floats
    anomalous: Floats


@dataclass(frozen=True)
class Share:
    """Figures of many nights at one rate and one contamination of the calibration rows; means."""

    table: str
    calibration_rows: int
    contamination: float
    q: float
    false: float
    standard_error: float
    power: float
    false_with_tail: float
    refused: float
    estimated: float

    @property
    def holds(self) -> bool:
        """False discoveries are at most q and two standard errors."""
        return bool(self.false <= self.q + 2 * self.standard_error)


def scored_tables(folder: Path) -> Iterator[Scored]:
    """Fit and score every table, the one without a detector first."""
    random = np.random.default_rng(0)
    yield Scored("far scores", random.normal(size=100_000), random.normal(size=2_000) + 6)
    for name, file in LABELLED.items():
        table = pq.read_table(folder / f"{file}.parquet")
        label = table.column("label").to_numpy() > 0.5
        yield _scored(name, table.drop_columns(["label"]), label, {})
    learned, _ = flights()
    yield _scored("flights", learned, np.zeros(learned.num_rows, dtype=np.bool_), KINDS)


def _scored(name: str, table: pa.Table, label: npt.NDArray[np.bool_], kinds: dict[str, str]) -> Scored:
    normal = np.random.default_rng(0).permutation(np.flatnonzero(~label))
    detector = VAEDetector(kinds=kinds, random_state=0).fit(table.take(pa.array(normal[:FITTED])))
    others, odd = table.take(pa.array(normal[FITTED:])), table.filter(pa.array(label))
    anomalous = -detector.score_samples(odd) if odd.num_rows else np.empty(0)
    return Scored(name, -detector.score_samples(others), anomalous)


def distance(scored: Scored) -> tuple[int, float, float]:
    """Calibration rows, and the KS distances of p-values on fresh normal rows: with the tail, by rank."""
    rows = min(HELD_OUT, scored.normal.size // 2)
    calibration, fresh = Calibration.of(scored.normal[:rows]), scored.normal[rows:]
    with_tail, by_rank = calibration.p_values(fresh), calibration.rank_p_values(fresh)
    return rows, float(kstest(with_tail, "uniform").statistic), float(kstest(by_rank, "uniform").statistic)


def nights(scored: Scored, contamination: float, trials: int) -> list[Share]:
    """Figures of ``trials`` nights at each rate, with a fresh calibration sample each."""
    rows = min(HELD_OUT, scored.normal.size - NIGHT)
    seeds = range(trials)
    figures = np.array([_night(scored, rows, contamination, np.random.default_rng(seed)) for seed in seeds])
    means, errors = figures.mean(axis=0), figures.std(axis=0) / np.sqrt(trials)
    return [
        Share(scored.name, rows, contamination, q, means[i, 0], errors[i, 0], *means[i, 1:])
        for i, q in enumerate(RATES)
    ]


def _night(scored: Scored, rows: int, share: float, random: np.random.Generator) -> list[list[float]]:
    """Of one night, at each rate: false share, power, false share with the tail, refused, estimated."""
    normal = random.choice(scored.normal, rows + NIGHT - ANOMALIES, replace=False)
    planted = round(rows * share)
    odd = random.choice(scored.anomalous, planted + ANOMALIES, replace=planted > scored.anomalous.size // 2)
    calibration = Calibration.of(np.concatenate([normal[planted:rows], odd[:planted]]))
    tonight = np.concatenate([odd[planted:], normal[rows:]])
    return [_figures(calibration, tonight, q) for q in RATES]


def _figures(calibration: Calibration, scores: Floats, q: float) -> list[float]:
    decider = Decider.of({"fdr": q}, calibration)
    decider.candidates(scores)
    flagged = scores >= decider.threshold()
    tail = calibration.p_values(scores)
    by_tail = tail <= benjamini_hochberg(tail, q)
    refused = float(decider.doubt() is not None)
    power = float(flagged[:ANOMALIES].mean())
    return [_false(flagged), power, _false(by_tail), refused, calibration.contamination]


def _false(flagged: npt.NDArray[np.bool_]) -> float:
    return float(flagged[ANOMALIES:].sum() / max(flagged.sum(), 1))


def distance_grid(distances: dict[str, tuple[int, float, float]]) -> Grid:
    """A row a table."""
    heads = ["table", "calibration rows", "KS, p_value", "KS, by rank"]
    return [
        heads,
        *([name, f"{n:,}", f"{tail:.4f}", f"{rank:.4f}"] for name, (n, tail, rank) in distances.items()),
    ]


def night_grid(shares: Sequence[Share]) -> Grid:
    """A row a table, contamination and rate; a false share above q + 2 standard errors is marked."""
    heads = ["table", "anomalies in calibration", "q", "false", "power", "tail", "refused", "estimated"]
    return [
        heads,
        *(
            [
                one.table,
                f"{one.contamination:.1%}",
                f"{one.q:g}",
                f"{one.false:.3f} ± {one.standard_error:.3f}" + ("" if one.holds else " above q"),
                f"{one.power:.3f}",
                f"{one.false_with_tail:.3f}",
                f"{one.refused:.1%}",
                f"{one.estimated:.2%}",
            ]
            for one in shares
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    options = argparse.ArgumentParser(description=str(__doc__))
    options.add_argument("--data", type=Path, default=Path("../shared/data/labelled"))
    options.add_argument("--trials", type=int, default=200, help="nights")
    options.add_argument("--out", type=Path, default=HERE, help="folder of the page")
    given, console = options.parse_args(arguments), Console()
    tables = list(scored_tables(given.data))
    distances = {one.name: distance(one) for one in tables}
    labelled = [one for one in tables if one.anomalous.size]
    shares = [each for one in labelled for c in CONTAMINATIONS for each in nights(one, c, given.trials)]
    grids = distance_grid(distances), night_grid(shares)
    for grid in grids:
        shown(console, grid)
    _write(given.out, given.trials, grids, {"ks": distances, "nights": [_plain(one) for one in shares]})


def _plain(share: Share) -> dict[str, Any]:
    return {**vars(share), "holds": share.holds}


def _write(out: Path, trials: int, grids: Sequence[Grid], results: dict[str, Any]) -> None:
    introduction = INTRODUCTION.format(fitted=FITTED, trials=trials, night=NIGHT, anomalies=ANOMALIES)
    packages = ", ".join(f"{name} {number}" for name, number in versions(("torch", "numpy")).items())
    how = f"`make bench-calibration` wrote this page; seeds 0 to {trials - 1}. {machine()}; {packages}."
    parts = [
        "# Calibration",
        introduction,
        "## p-values",
        markdown(grids[0]),
        "## Nights",
        markdown(grids[1]),
    ]
    (out / "results").mkdir(parents=True, exist_ok=True)
    (out / "calibration.md").write_text("\n\n".join([*parts, how]) + "\n", encoding="utf-8")
    (out / "results" / "calibration.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
