"""Whether reasons name the wrong cells, of dirty tables and of planted errors: ``make bench-reasons``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from sklearn.metrics import roc_auc_score

from benchmarks.flown import fitted_on_flights
from benchmarks.options import HERE, command, written
from benchmarks.tables import Grid, how, markdown, shown
from vae_core import VAEDetector
from vae_core.canaries import Planted, plant_each
from vae_core.repair import Repairer
from vae_core.scoring import BLOCK

__all__ = ["main"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DIRTY = {"errors_hospital": {"index": "key"}, "errors_beers": {"index": "key", "id": "key"}}
FLAGGED = 0.1  # share of a dirty table's rows that are flagged

INTRODUCTION = """\
**Dirty tables.** The detector is fitted on all rows of a table as it is, errors and all, and scores the same
rows. `cell_auroc` is the AUROC, in percent, of the score of each cell against whether the cell is wrong, over
all cells (in brackets: over the columns in which some cells are wrong, but fewer than half).
`first_reason_hits` is in how many percent of the flagged rows (the {flagged:.0%} with the highest anomaly
scores) the first reason is a wrong cell; *wrong rows*, in how many of all rows with a wrong cell the cell of
the highest score is one. Ours ranks a cell by what its repair takes off the row's loss; *residuals* by its
own loss (`feature_scores`); *rarity* by -log of how frequent its value is in the column (numbers: |z|).

In errors_beers all cells of `ounces` are wrong, and the commonest value of `ibu` is: wrong is usual there.

**Planted errors.** One error a row in ordinary flights of July ({rows} rows a kind), the detector fitted on
January to June. *Named*: in how many percent of the rows the first reason names the column that was made
wrong; *residuals*: in how many the column whose loss lies furthest above its median; then both among the rows
that the detector flags at its default threshold, as only flagged rows are given reasons."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given = _parser().parse_args(arguments)
    console = Console()
    dirty = {name: _dirty(given.data, name, kinds) for name, kinds in DIRTY.items()}
    planted = _planted(given.rows)
    grids = [_dirty_grid(dirty), _planted_grid(planted)]
    for grid in grids:
        shown(console, grid)
    text = _page(grids, given.rows, command("reasons", arguments))
    written("reasons", text, {"dirty": dirty, "planted": planted, **_headline(dirty)}, given, console)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add(
        "--data",
        type=Path,
        default=Path("../shared/data/labelled"),
        help="folder of errors_*.parquet and meta/",
    )
    add("--rows", type=int, default=300, help="rows with a planted error, of each kind")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


# -- Dirty tables -------------------------------------------------------------------------------------------


def _dirty(folder: Path, name: str, kinds: dict[str, str]) -> dict[str, dict[str, float]]:
    """Figures of each way to rank cells, on one table."""
    table, wrong = _read(folder, name)
    detector = VAEDetector(kinds=kinds, random_state=0).fit(table)
    features = [column.name for column in detector.schema_.features]
    truth = wrong[[f"err_{column}" for column in features]].to_numpy(dtype=bool)
    flagged = np.argsort(detector.score_samples(table), kind="stable")[: round(FLAGGED * len(truth))]
    residuals = detector.feature_scores(table)[:, [one.is_feature for one in detector.schema_.columns]]
    ranks = {"ours": cell_scores(detector, table), "residuals": residuals, "rarity": _rarity(table, features)}
    found = {way: _figures(cells, truth, flagged) for way, cells in ranks.items()}
    reasons = detector.explain(table.take(pa.array(flagged)))
    first = [features.index(one[0].column) if one else -1 for one in reasons]
    hits = [place >= 0 and truth[row, place] for row, place in zip(flagged, first, strict=True)]
    found["ours"]["first_reason_hits"] = _percent(np.array(hits))
    return found


def _read(folder: Path, name: str) -> tuple[pa.Table, pd.DataFrame]:
    file, meta = folder / f"{name}.parquet", folder / "meta" / f"{name}.parquet"
    if not (file.exists() and meta.exists()):
        raise SystemExit(
            f"{file} and {meta} are required, however one is not there; name another folder with DATA=…"
        )
    return pq.read_table(file).drop_columns(["label"]), pd.read_parquet(meta)


def cell_scores(detector: VAEDetector, table: pa.Table) -> Floats:
    """What the repair of each cell takes off its row's loss [n, features]."""
    repairer = Repairer(detector.model_, detector.encoder_, detector.usual_losses_)
    rows, width = detector.encoder_.encode(table), len(detector.usual_losses_)
    step = max(BLOCK // width, 1)
    blocks = [rows.take(slice(i, i + step)) for i in range(0, len(rows), step)]
    every = [np.tile(np.arange(width), (len(block), 1)) for block in blocks]
    return np.concatenate(
        [repairer.falls(block, columns) for block, columns in zip(blocks, every, strict=True)]
    )


def _rarity(table: pa.Table, features: Sequence[str]) -> Floats:
    """-log of the share of rows with the cell's value, |z| of numbers [n, features]."""
    frame = table.to_pandas()
    return np.stack([_odd(frame[name]) for name in features], axis=1)


def _odd(column: pd.Series[Any]) -> Floats:
    if pd.api.types.is_numeric_dtype(column):
        return np.asarray(((column - column.mean()) / column.std()).abs().fillna(0), dtype=np.float64)
    words = column.astype(object).where(column.notna(), None).map(repr)
    return np.asarray(-np.log(words.map(words.value_counts(normalize=True))), dtype=np.float64)


def _figures(cells: Floats, truth: Bools, flagged: npt.NDArray[np.int64]) -> dict[str, float]:
    partly = (truth.mean(axis=0) > 0) & (truth.mean(axis=0) < 0.5)
    first = truth[np.arange(len(truth)), cells.argmax(axis=1)]
    return {
        "cell_auroc": 100 * float(roc_auc_score(truth.ravel(), cells.ravel())),
        "cell_auroc_partly": 100 * float(roc_auc_score(truth[:, partly].ravel(), cells[:, partly].ravel())),
        "first_reason_hits": _percent(first[flagged]),
        "wrong_rows": _percent(first[truth.any(axis=1)]),
    }


def _percent(hits: npt.NDArray[Any]) -> float:
    return 100 * float(np.mean(hits)) if len(hits) else float("nan")


# -- Planted errors -----------------------------------------------------------------------------------------


def _planted(rows: int) -> dict[str, dict[str, float]]:
    """Figures of each kind of planted error, and of all."""
    detector, learned, ordinary = fitted_on_flights()
    planted = plant_each(ordinary, detector.schema_, rows=rows, sample=learned)
    found = {kind: _named(detector, one) for kind, one in planted.items() if len(one)}
    mean = pd.DataFrame(found).mean(axis=1)
    return {**found, "mean": {str(key): float(value) for key, value in mean.items()}}


def _named(detector: VAEDetector, planted: Planted) -> dict[str, float]:
    table = planted.table
    reasons = [found[0].column if found else "" for found in detector.explain(table)]
    residuals = detector.feature_scores(table) - _usual(detector)
    largest = [detector.schema_.names[j] for j in residuals.argmax(axis=1)]
    hits, smeared = (
        np.array([name in names for name, names in zip(first, planted.columns, strict=True)])
        for first in (reasons, largest)
    )
    flagged = detector.predict(table) < 0
    return {
        "rows": float(len(planted)),
        "first_reason_hits": _percent(hits),
        "flagged": _percent(flagged),
        "first_reason_hits_flagged": _percent(hits[flagged]),
        "residuals": _percent(smeared),
        "residuals_flagged": _percent(smeared[flagged]),
    }


def _usual(detector: VAEDetector) -> Floats:
    wide = np.full(len(detector.schema_.columns), np.inf)
    wide[[column.is_feature for column in detector.schema_.columns]] = detector.usual_losses_
    return wide


# -- Tables -------------------------------------------------------------------------------------------------


def _headline(dirty: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """The two figures of each table, with those of the baselines."""
    return {
        key: {name: {way: one[key] for way, one in ways.items()} for name, ways in dirty.items()}
        for key in ("cell_auroc", "first_reason_hits")
    }


def _dirty_grid(dirty: dict[str, dict[str, dict[str, float]]]) -> Grid:
    heads = ["table", "cells ranked by", "cell_auroc", "first_reason_hits", "wrong rows"]
    rows = [
        [
            name,
            way,
            f"{one['cell_auroc']:.1f} ({one['cell_auroc_partly']:.1f})",
            f"{one['first_reason_hits']:.1f}",
            f"{one['wrong_rows']:.1f}",
        ]
        for name, ways in dirty.items()
        for way, one in ways.items()
    ]
    return [heads, *rows]


def _planted_grid(planted: dict[str, dict[str, float]]) -> Grid:
    heads = [
        "error",
        "rows",
        "named",
        "residuals",
        "flagged",
        "named where flagged",
        "residuals where flagged",
    ]
    keys = ["first_reason_hits", "residuals", "flagged", "first_reason_hits_flagged", "residuals_flagged"]
    return [
        heads,
        *(
            [kind, f"{one['rows']:.0f}", *(f"{one[key]:.0f}" for key in keys)]
            for kind, one in planted.items()
        ),
    ]


def _page(grids: Sequence[Grid], rows: int, line: str) -> str:
    introduction = INTRODUCTION.format(flagged=FLAGGED, rows=rows)
    heads = ("## Dirty tables", "## Planted errors, percent")
    parts = [part for head, grid in zip(heads, grids, strict=True) for part in (head, markdown(grid))]
    about = how(line, pd.DataFrame({"seed": [0]}))
    return "\n\n".join(["# Reasons", introduction, *parts, "## How", about]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
