"""Whether a value never seen counts against its row, and is named as the reason: ``make bench-unseen``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.flown import fitted_on_flights
from benchmarks.options import HERE, command, written
from benchmarks.tables import Grid, how, markdown, shown
from vae_core import VAEDetector
from vae_core.canaries import plant

__all__ = ["main"]

INTRODUCTION = """\
In {rows:,} ordinary rows one categorical cell is replaced by a value that never occurred. In how many percent
of the rows the p-value falls, in how many the first reason is `unseen_category` of that column (goal 99), in
how many the detector flags the row at its default threshold, and how many it flags of the rows as they were.
kdd99_http: fitted on half of its normal rows, tested on others; flights: fitted on January to June, tested
on July. By column: a new tail number is no surprise where new ones come every week."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given = _parser().parse_args(arguments)
    console = Console()
    figures = {
        "kdd99_http": _tested(*_http(given.data), given.rows),
        "flights": _tested(*_flights(), given.rows),
    }
    grid = _grid(figures)
    shown(console, grid)
    text = _page(grid, given.rows, command("unseen", arguments))
    written("unseen", text, {"tables": figures}, given, console)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add("--data", type=Path, default=Path("../shared/data/labelled"), help="folder of kdd99_http.parquet")
    add("--rows", type=int, default=1000, help="rows with an unseen value, of each table")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


def _http(folder: Path) -> tuple[VAEDetector, pa.Table, pa.Table]:
    file = folder / "kdd99_http.parquet"
    if not file.exists():
        raise SystemExit(f"{file} is required, however it is not there; name another folder with DATA=…")
    table = pq.read_table(file)
    normal = table.filter(pa.array(table["label"].to_numpy() == 0)).drop_columns(["label"])
    shuffled = normal.take(pa.array(np.random.default_rng(0).permutation(len(normal))))
    half = len(shuffled) // 2
    learned, held_out = shuffled.slice(0, half), shuffled.slice(half)
    detector = VAEDetector(random_state=0).fit(learned)
    detector.calibrate(held_out.slice(len(held_out) // 2))
    return detector, learned, held_out.slice(0, len(held_out) // 2)


def _flights() -> tuple[VAEDetector, pa.Table, pa.Table]:
    return fitted_on_flights()


def _tested(
    detector: VAEDetector, learned: pa.Table, ordinary: pa.Table, rows: int
) -> dict[str, dict[str, float]]:
    """Figures of all rows, and of those with the unseen value in each column."""
    drawn = np.random.default_rng(1).choice(len(ordinary), min(rows, len(ordinary)), replace=False)
    before = ordinary.take(pa.array(np.sort(drawn)))
    planted = plant(before, detector.schema_, "unseen_category", sample=learned)
    frame = _outcomes(detector, before.take(pa.array(planted.rows)), planted.table)
    frame["column"] = [names[0] for names in planted.columns]
    first = [(one[0].kind, one[0].column) if one else ("", "") for one in detector.explain(planted.table)]
    frame["first_reason"] = [
        ("unseen_category", name) == one for name, one in zip(frame["column"], first, strict=True)
    ]
    groups = {"all": frame, **{str(name): group for name, group in frame.groupby("column")}}
    return {name: _percentages(group.drop(columns="column")) for name, group in groups.items()}


def _outcomes(detector: VAEDetector, before: pa.Table, after: pa.Table) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "p_falls": detector.p_values(after) < detector.p_values(before),
            "flagged": detector.predict(after) < 0,
            "flagged_before": detector.predict(before) < 0,
        }
    )


def _percentages(frame: pd.DataFrame) -> dict[str, float]:
    return {"rows": float(len(frame))} | {str(key): 100 * float(share) for key, share in frame.mean().items()}


def _grid(figures: dict[str, dict[str, dict[str, float]]]) -> Grid:
    heads = ["table", "column", "rows", "p-value falls", "first reason", "flagged", "flagged before"]
    keys = ("p_falls", "first_reason", "flagged", "flagged_before")
    rows = [
        [name, column, f"{one['rows']:.0f}", *(f"{one[key]:.1f}" for key in keys)]
        for name, columns in figures.items()
        for column, one in columns.items()
    ]
    return [heads, *rows]


def _page(grid: Grid, rows: int, line: str) -> str:
    parts = ["# Values never seen", INTRODUCTION.format(rows=rows), markdown(grid)]
    return "\n\n".join([*parts, "## How", how(line, pd.DataFrame({"seed": [0]}))]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
