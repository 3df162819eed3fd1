"""Whether verdicts on the top flags make unseen nights better: ``make bench-verdicts``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from rich.console import Console

from benchmarks.mixed import AI4I_KEYS
from benchmarks.options import HERE, command, written
from benchmarks.protocol import read_set
from benchmarks.tables import Grid, machine, markdown, shown, versions
from review.ranking import Evidence, Ranking, blended
from vae_core import VAEDetector

__all__ = ["NIGHT", "SETS", "Nights", "figures_of", "main", "tried"]

INTRODUCTION = """\
A detector is fitted on 4,000 rows without their labels. The rows after them are nights of {night} rows, of
which the {flagged} with the highest scores are flagged, and a person looks at {budget} flags a night. Of the
first half of the nights the {verdicts} top flags get a verdict each, their label; from these the order of
flags is learned. Precision and recall are those of the {budget} flags at the top of each night of the other
half, in percent: by score alone (before), and in the learned order (after). "at best" puts all anomalies
among the flags first: no order of flags can do better. Mean over {seeds} seeds, which draw rows, nights and
weights; ± is the standard deviation between seeds of the gain, "worst" the gain of the worst seed.

nsl_kdd: fitted on rows of its training file, nights of its test file, whose attacks are partly of other
kinds; attacks thinned to 5 % of the rows. kdd99_http and ai4i2020 have {http:.1f} and {ai4i:.1f} %
anomalies."""

NIGHT = 500  # rows
FLAGGED = 50  # rows a night
BUDGET = 12  # flags a night that somebody looks at
TRAINED = 4_000  # rows
VERDICTS = (50, 200)
SETS = {"nsl_kdd": 0.05, "kdd99_http": 0.0374, "ai4i2020": 0.0339}
"""Sets, and the share of anomalies that they are thinned to at most."""
ROWS = {"nsl_kdd": 9_000, "kdd99_http": 14_000, "ai4i2020": 10_000}

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Nights:
    """Rows of many nights: their scores [n], losses per column [n, c], labels [n], and rows of each night."""

    columns: tuple[str, ...]
    scores: Floats
    losses: Floats
    labels: Labels
    nights: tuple[npt.NDArray[np.int64], ...]

    @staticmethod
    def of(name: str, folder: Path, seed: int) -> Nights:
        """Fit a detector and score the nights of a set."""
        train, rows, labels = _case(name, folder, seed)
        kinds = AI4I_KEYS if name == "ai4i2020" else {}
        detector = VAEDetector(random_state=seed, kinds=kinds).fit(train)
        order = np.random.default_rng(seed).permutation(len(labels))
        nights = [order[i : i + NIGHT] for i in range(0, len(order) - NIGHT + 1, NIGHT)]
        names = tuple(map(str, detector.feature_names_in_))
        return Nights(
            names, -detector.score_samples(rows), detector.feature_scores(rows), labels, tuple(nights)
        )

    def flags(self, night: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The flagged rows of a night, the highest score first."""
        return night[np.argsort(-self.scores[night], kind="stable")[:FLAGGED]]


def _case(name: str, folder: Path, seed: int) -> tuple[pa.Table, pa.Table, Labels]:
    """Rows to fit on, rows of nights and their labels."""
    if name == "nsl_kdd":
        train, _ = _thinned(folder / "nsl_kdd_train20.parquet", seed, SETS[name], TRAINED)
        return train, *_thinned(folder / "nsl_kdd_test.parquet", seed, SETS[name], ROWS[name])
    rows, labels = _thinned(folder / f"{name}.parquet", seed, SETS[name], ROWS[name])
    return rows.slice(0, TRAINED), rows.slice(TRAINED), labels[TRAINED:]


def _thinned(file: Path, seed: int, share: float, rows: int) -> tuple[pa.Table, Labels]:
    """Rows of a file in random order, with the given share of anomalies."""
    if not file.exists():
        raise SystemExit(f"{file} is required, however it is not there; name another folder with DATA=…")
    table, labels = read_set(file)
    rng = np.random.default_rng(seed)
    odd, normal = rng.permutation(np.flatnonzero(labels)), rng.permutation(np.flatnonzero(~labels))
    some = min(odd.size, round(share * rows))
    taken = rng.permutation(np.concatenate([odd[:some], normal[: rows - some]]))
    return table.take(pa.array(taken)), labels[taken]


def tried(nights: Nights, verdicts: int) -> dict[str, float]:
    """Precision and recall at the budget on the second half of the nights, before and after verdicts."""
    half = len(nights.nights) // 2
    asked = np.concatenate([nights.flags(night) for night in nights.nights[:half]])
    asked = asked[np.argsort(-nights.scores[asked], kind="stable")[:verdicts]]
    said = Evidence(nights.columns, nights.scores[asked], nights.losses[asked], nights.labels[asked])
    ranking, unseen = Ranking.of(said), [nights.flags(night) for night in nights.nights[half:]]
    ordered = {
        "before": [nights.scores[flags] for flags in unseen],
        "after": [_order(nights, flags, ranking) for flags in unseen],
        "best": [nights.labels[flags].astype(float) for flags in unseen],
    }
    there = sum(int(nights.labels[night].sum()) for night in nights.nights[half:])
    found: dict[str, float] = {"learned": float(ranking is not None)}
    for when, orders in ordered.items():
        hits = sum(_hits(nights.labels[flags], one) for flags, one in zip(unseen, orders, strict=True))
        found[f"precision_{when}"] = 100 * hits / (BUDGET * len(unseen))
        found[f"recall_{when}"] = 100 * hits / max(there, 1)
    return found


def _order(nights: Nights, flags: npt.NDArray[np.int64], ranking: Ranking | None) -> Floats:
    if ranking is None:
        return nights.scores[flags]
    chances = ranking.chances(nights.columns, nights.scores[flags], nights.losses[flags])
    return blended(chances, nights.scores[flags])


def _hits(labels: Labels, order: Floats) -> int:
    return int(labels[np.argsort(-order, kind="stable")[:BUDGET]].sum())


def figures_of(frame: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Means over seeds, and the gain in precision with its spread, of each set and count of verdicts."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (name, verdicts), part in frame.groupby(["set", "verdicts"], sort=False):
        gains = part["precision_after"] - part["precision_before"]
        figures = {str(key): float(value) for key, value in part.drop(columns=["set", "seed"]).mean().items()}
        spread = float(gains.std(ddof=0))
        figures |= {"gain": float(gains.mean()), "gain_sd": spread, "gain_worst": float(gains.min())}
        found.setdefault(str(name), {})[str(verdicts)] = figures
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given = _parser().parse_args(arguments)
    console = Console()
    frame = pd.DataFrame(_outcomes(given.data, given.seeds, console))
    figures = figures_of(frame)
    grid = _grid(figures)
    shown(console, grid)
    text = _page(grid, given.seeds, command("verdicts", arguments))
    written("verdicts", text, {"sets": figures, "seeds": given.seeds}, given, console)


def _outcomes(folder: Path, seeds: int, console: Console) -> Iterator[dict[str, Any]]:
    for name in SETS:
        for seed in range(seeds):
            nights = Nights.of(name, folder, seed)
            for verdicts in VERDICTS:
                one = tried(nights, verdicts)
                yield {"set": name, "seed": seed, "verdicts": verdicts, **one}
                before, after = one["precision_before"], one["precision_after"]
                console.print(f"{name} seed {seed}, {verdicts} verdicts: {before:.1f} -> {after:.1f}")


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add("--data", type=Path, default=Path("../shared/data/labelled"), help="folder of the labelled tables")
    add("--seeds", type=int, default=5, help="0 to one less than this many")
    add("--rows", type=int, default=NIGHT, help=argparse.SUPPRESS)  # of a night, for the figures' file
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


def _grid(figures: dict[str, dict[str, dict[str, float]]]) -> Grid:
    heads = ["set", "verdicts", *(f"{one}: {when}" for one in ("precision", "recall") for when in _WHEN)]
    rows = [
        [
            name,
            verdicts,
            *(f"{one[f'{figure}_{when}']:.1f}" for figure in ("precision", "recall") for when in _KEYS),
            f"{one['gain']:+.1f} ± {one['gain_sd']:.1f}",
            f"{one['gain_worst']:+.1f}",
        ]
        for name, counts in figures.items()
        for verdicts, one in counts.items()
    ]
    return [[*heads, "gain in precision", "worst"], *rows]


_WHEN = ("before", "after", "at best")
_KEYS = ("before", "after", "best")


def _page(grid: Grid, seeds: int, line: str) -> str:
    introduction = INTRODUCTION.format(
        night=NIGHT,
        flagged=FLAGGED,
        budget=BUDGET,
        verdicts=" or ".join(map(str, VERDICTS)),
        seeds=seeds,
        http=100 * SETS["kdd99_http"],
        ai4i=100 * SETS["ai4i2020"],
    )
    return (
        "\n\n".join(["# What verdicts teach", introduction, markdown(grid), "## How", _how(seeds, line)])
        + "\n"
    )


def _how(seeds: int, line: str) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in versions().items() if name != "pyod")
    return f"`{line}` wrote this page; seeds 0 to {seeds - 1}.\n\n{machine()}; {packages}."


if __name__ == "__main__":
    main(sys.argv[1:])
