"""The command line of the benchmark, and its page."""

from __future__ import annotations

import argparse
import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.speed.goals import Part, grid, nested
from benchmarks.speed.pairs import load, timed
from benchmarks.speed.parts import PARTS, Bench
from benchmarks.tables import machine, markdown, shown, versions

__all__ = ["main"]

HERE = Path(__file__).parents[1]
PACKAGES = ("torch", "numpy", "pyarrow", "pandas", "scikit-learn", "pyod", "numba", "dask")
INTRODUCTION = """\
A table of {rows:,} rows and 33 columns (24 doubles with nulls, 4 texts, 2 integers, a truth value, a time, an
id) in zstd Parquet, row groups of 131,072 rows. All contenders of a part run in turn, A B A B, in one process
with one thread, measured in CPU seconds (user and system, children included); figures are medians of the
ratios of neighbours. The single model has hidden widths 128, 32, 128 as the peers have; the ensemble is
`VAEDetector` without arguments; a night flags 0.5 %, and writes no scores of the others. The forward floor is
the products and activations of the very network, in single precision and blocks of 1,024 rows; encoding and
losses are not in it. Reasons are left out where nothing else is said: peers give none. Peers work on fewer
rows (20,000 those that take 10 µs a row and more, else 100,000) and are compared by their cost a row.
Overheads of engines and two workers are wall seconds: on a busy machine they say little.

Nothing is faster than decode and forward, or than the matrix products of an epoch: what takes n times these
can be beaten n times at most. Our network reads 92 numbers and writes 256 (means, variances, nulls, an output
a category), the peers' 64 and 64."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given = _parser().parse_args(arguments)
    console = Console()
    bench = Bench(given.rows, given.rounds, given.cache, given.shards)
    parts = _kept(given)
    for name in given.parts:
        parts[name] = _run(name, bench, console)
        _write(given, _line(given), parts)
    shown(console, grid([figure for part in parts.values() for figure in part.figures]))
    console.print(f"written: {given.out / 'speed.md'} and {given.out / 'results' / 'speed.json'}")


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description="Speed and memory, ours beside floors and peers.")
    add = options.add_argument
    add("--rows", type=int, default=5_000_000, help="rows of the table")
    add("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), help="the others stay as they were")
    add("--rounds", type=int, default=5, help="how often each pair is measured")
    add("--shards", type=int, default=40, help="files of 500,000 rows that each engine is given")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    add("--cache", type=Path, default=HERE / "results" / "cache" / "speed", help="folder of the table")
    return options


def _run(name: str, bench: Bench, console: Console) -> Part:
    """One part; what fails is told, and the next one runs."""
    before = load()
    try:
        part, seconds = timed(lambda: PARTS[name](bench))
    except Exception as error:
        console.print(traceback.format_exc())
        return Part(notes=[f"{name} failed: {type(error).__name__}: {error}"], load=[before, load()])
    part.load = [before, load()]
    console.print(f"{name}: {seconds:.0f} CPU-seconds, load {before} to {part.load[1]}")
    for title, table in {"": grid(part.figures), **part.tables}.items():
        console.print(title)
        shown(console, table)
    return part


def _kept(given: argparse.Namespace) -> dict[str, Part]:
    """Parts of an earlier run on as many rows, where only some are to be measured again."""
    file = given.out / "results" / "speed.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    if len(given.parts) == len(PARTS) or found.get("rows") != given.rows:
        return {}
    return {name: Part.from_json(part) for name, part in found["parts"].items()}


def _line(given: argparse.Namespace) -> str:
    """The line that repeats a run, whatever parts of the page it measured anew."""
    options = {"rows": given.rows, "rounds": given.rounds, "shards": given.shards}
    usual = _parser()
    said = [f"--{name} {value}" for name, value in options.items() if value != usual.get_default(name)]
    return "make bench-speed" + (f" ARGS='{' '.join(said)}'" if said else "")


def _write(given: argparse.Namespace, line: str, parts: Mapping[str, Part]) -> None:
    (given.out / "results").mkdir(parents=True, exist_ok=True)
    ordered = {name: parts[name] for name in PARTS if name in parts}
    whole: dict[str, Any] = {
        **nested(figure for part in ordered.values() for figure in part.figures),
        "rows": given.rows,
        "machine": machine(),
        "load": {name: part.load for name, part in ordered.items()},
        "versions": versions(PACKAGES),
        "parts": {name: part.to_json() for name, part in ordered.items()},
    }
    (given.out / "results" / "speed.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    (given.out / "speed.md").write_text(_page(line, ordered, given.rows))


def _page(line: str, parts: Mapping[str, Part], rows: int) -> str:
    figures = [figure for part in parts.values() for figure in part.figures]
    texts = ["# Speed and memory", INTRODUCTION.format(rows=rows), "## Goals", markdown(grid(figures))]
    texts += [note for part in parts.values() for note in part.notes]
    for part in parts.values():
        for title, table in part.tables.items():
            texts += [f"## {title}", markdown(table)]
    loads = "; ".join(f"{name} {' to '.join(map(str, part.load))}" for name, part in parts.items())
    packages = ", ".join(f"{name} {number}" for name, number in versions(PACKAGES).items())
    texts += [
        "## How",
        f"`{line}` measures what is here, `--parts` some of it anew. Load average before and after: {loads}.",
    ]
    return "\n\n".join([*texts, f"{machine()}; {packages}."]) + "\n"
