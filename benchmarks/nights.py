"""Whether a night is committed exactly once, whoever is killed or races: ``make bench-nights``."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

# one thread a process, set before numpy and torch are loaded: children are forked, and threads are not
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from rich.console import Console

from benchmarks.forked import forked, warm_up
from benchmarks.options import HERE, command, written
from benchmarks.s3_server import s3_server
from benchmarks.tables import Grid, machine, markdown, shown, versions
from benchmarks.trials import Tally, Trials
from benchmarks.workshop import Workshop

__all__ = ["main"]

NAMES = [field.name for field in fields(Tally)]

INTRODUCTION = """\
A night of {files} files, {rows:,} rows, is scored by a process that is killed (`kill -9`) at a random moment
of its work, then by another one; or by two or four processes at once. Half of the kills fall anywhere, half
into the commit, which is the short part. In half of the trials the night is new, in the others it was scored
before, with another model. Meanwhile a process polls: `pandas.read_parquet` of the whole folder of flags, and
of each of the night's files.

A **violation** is anything that differs from an undisturbed run, but for `scored_at`: a table, the manifest,
a file too many, a run that failed, two runs of which not exactly one scored. A **reader's violation** is a
night doubled, missing, incomplete, mixed from two scorings, gone back to the one before, or not readable."""

READING = """\
`ended by the next`: nights that were complete, but not yet visible everywhere, when their run was killed; the
next run ended them without scoring anything. `reads repeated`: on an object store a read is several requests;
when the object is replaced in between, the read raises an error, and is repeated, five times at most. On
files no read is repeated. (`pandas.read_parquet` of the path of a single file would need it: it opens the
file twice. Of a folder, and of an open file, it opens each file once.)"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given = _parser().parse_args(arguments)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="vaewatch-nights-") as folder:
        shop = Workshop.opened(Path(folder), given.rows)
        warm_up(lambda: shop.score(f"{folder}/warm", "1"))
        places = {"file": _on_files, "s3": _on_s3}
        running = {
            place: forked(partial(_figures, trials, shop, given, console)) for place, trials in places.items()
        }
        figures = {place: child.wait() for place, child in running.items()}
    grid = _grid(figures)
    shown(console, grid)
    written("nights", _page(grid, shop, command("nights", arguments)), {**figures}, given, console)
    if any(one["violations"] or one["reader_violations"] for one in figures.values()):
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add("--trials", type=int, default=200, help="kills on files; races and those on S3 are a quarter of it")
    add("--rows", type=int, default=3000, help="rows of the night")
    add("--seed", type=int, default=0, help="of the moments of the kills")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


def _figures(trials: Callable[..., Any], *arguments: Any) -> Any:
    """Figures of the trials in a forked process, which needs no word from it meanwhile."""
    return trials(*arguments[:-1])


def _on_files(shop: Workshop, given: argparse.Namespace, console: Console) -> dict[str, Any]:
    quarter = max(1, given.trials // 4)
    folder, moments = shop.folder / "file", random.Random(given.seed)  # noqa: S311
    trials = Trials(shop, folder, str(folder / "trials"), moments, console)
    return trials.run(kills=given.trials, pairs=quarter, fours=quarter).figures()


def _on_s3(shop: Workshop, given: argparse.Namespace, console: Console) -> dict[str, Any]:
    quarter = max(1, given.trials // 4)
    with s3_server() as environment:
        os.environ |= environment
        moments = random.Random(given.seed + 1)  # noqa: S311
        trials = Trials(shop, shop.folder / "s3", "s3://vaewatch/trials", moments, console)
        return trials.run(kills=quarter, pairs=quarter - quarter // 2, fours=quarter // 2).figures()


def _grid(figures: dict[str, dict[str, Any]]) -> Grid:
    heads = ["results on", *(name.replace("_", " ") for name in NAMES)]
    rows = [[place, *(f"{one[name]:,}" for name in NAMES)] for place, one in figures.items()]
    return [heads, *rows]


def _page(grid: Grid, shop: Workshop, line: str) -> str:
    packages = versions(("pyarrow", "obstore", "moto", "pandas"))
    named = ", ".join(f"{name} {number}" for name, number in packages.items())
    parts = [
        "# Nights that can be trusted",
        INTRODUCTION.format(files=len(shop.files), rows=shop.rows),
        markdown(grid),
        READING,
        "## How",
        f"`{line}` wrote this page. Workers are forked from a process that has loaded everything. The S3 "
        f"server is moto's, each request made atomic.\n\n{machine()}; {named}.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
