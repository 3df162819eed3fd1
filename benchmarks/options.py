"""Command-line options that the quality benchmarks share, and what follows from them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from benchmarks.figures import failures, frame_of, summary
from benchmarks.methods import Method
from benchmarks.protocol import PROTOCOLS, Task
from benchmarks.running import Job, outcomes_of
from benchmarks.tables import machine, mean_grid, shown, versions

__all__ = ["command", "measured", "parser", "published"]

HERE = Path(__file__).parent


def parser(description: str, data: str, seeds: int = 3) -> argparse.ArgumentParser:
    """The options of a benchmark on labelled tables in folder ``data``."""
    options = argparse.ArgumentParser(description=description)
    add = options.add_argument
    add("--data", type=Path, default=Path(data), help="folder of *.parquet with a 0/1 column label")
    add("--seeds", type=int, default=seeds, help="0 to one less than this many")
    add("--sets", nargs="+", default=["*"], help="names of sets; * and ? are wildcards")
    add("--protocols", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    add("--rows", type=int, default=10_000, help="most rows of a set, its share of anomalies kept")
    add("--jobs", type=int, default=1, help="fits at once, a process and a thread each")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    add("--cache", type=Path, default=HERE / "results" / "cache", help="folder of finished fits")
    return options


def command(name: str, arguments: Sequence[str] | None) -> str:
    """The line that repeats a run with these arguments."""
    return f"make bench-{name}" + (f" ARGS='{' '.join(arguments)}'" if arguments else "")


def measured(
    options: argparse.Namespace, tasks: Iterable[Task], methods: Iterable[Method], console: Console
) -> pd.DataFrame:
    """Fit every method on every task, seed by seed, and return a row an outcome."""
    tasks, methods = list(tasks), list(methods)
    if not tasks:
        raise SystemExit(f"--sets must name a set, however {' '.join(options.sets)} names none")
    jobs = [
        Job(task, seed, protocol, method, options.rows)
        for seed in range(options.seeds)
        for method in methods
        for task in tasks
        for protocol in options.protocols
    ]
    return frame_of(outcomes_of(jobs, options.cache, options.jobs, console))


def published(
    name: str, text: str, frame: pd.DataFrame, options: argparse.Namespace, console: Console
) -> None:
    """Print the means; write the page ``<name>.md`` and the figures ``results/<name>.json``."""
    shown(console, mean_grid(frame))
    for sentence in failures(frame):
        console.print(f"failed, counted as chance: {sentence}")
    written(name, text, summary(frame), options, console)


def written(
    name: str, text: str, figures: dict[str, Any], options: argparse.Namespace, console: Console
) -> None:
    """Write a page and its figures, with machine and versions, under ``--out``."""
    (options.out / "results").mkdir(parents=True, exist_ok=True)
    figures |= {"rows": options.rows, "machine": machine(), "versions": versions()}
    (options.out / "results" / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    (options.out / f"{name}.md").write_text(text)
    console.print(f"written: {options.out / name}.md and {options.out / 'results' / name}.json")
