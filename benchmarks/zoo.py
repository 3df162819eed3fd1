"""Difficult inputs through the nightly flow, and how it reacts to each: ``make zoo``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

# one thread, set before anything loads: memory and seconds are those of the smallest machine
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.tables import Grid, machine, markdown, shown, versions
from benchmarks.zoo_nights import FIRST, Keeper, Reaction, lay, project

__all__ = ["Trial", "main", "mismatch"]

HERE = Path(__file__).parent
DATA = HERE.parent.parent / "shared" / "data" / "zoo"
MOST_SECONDS, MOST_MEMORY = 30.0, 1.5e9
BY_COMMAND = 12
"""Entries that are also scored by the command line itself."""

INTRODUCTION = """\
Each entry is one night of a small table: the entry, and a good file beside it. A model is trained on
`train.parquet`; then the nights go through the scoring flow, with Prefect, Great Expectations and MLflow, in
a process that is watched. As expected is

- **ok**: the entry is scored, and no row of it is lost;
- **warn**: it is scored, no row is lost, and the night's report names the column that is odd;
- **reject**: it is not scored, and the night's report names the file, and the column where there are any;
- **skip**: it is no part of the night;
- **either**: any of these;

and always that the good file is scored, and that no entry takes more than 30 s of CPU or 1.5 GB of memory
(the flow's process and the one of Great Expectations together, what they hold already included)."""


@dataclass(frozen=True)
class Trial:
    """An entry and what became of it; ``why_not`` is empty where that is as expected.

    ``command`` is what the command line did: its exit code; None where it was not tried.
    """

    name: str
    expect: str
    reaction: Reaction
    why_not: str
    command: str | None = None

    def row(self) -> dict[str, Any]:
        """The trial as plain values."""
        return {
            "name": self.name,
            "expect": self.expect,
            "reaction": self.reaction.status,
            "as_expected": not self.why_not,
            "why_not": self.why_not,
            "said": list(self.reaction.said),
            "rows_in": self.reaction.rows_in,
            "cpu_seconds": round(self.reaction.seconds, 2),
            "peak_mb": round(self.reaction.memory / 1e6),
            "command": self.command,
        }


def mismatch(expect: str, reaction: Reaction, file: str, columns: Sequence[str]) -> str:
    """Why a reaction is not what was expected; empty where it is.

    Parameters
    ----------
    expect
        ``ok``, ``warn``, ``reject``, ``skip`` or ``either``.
    file
        Name of the entry's file or folder, which a rejection names.
    columns
        Names of columns, one of which a warning or a rejection names; none where the file has none.
    """
    said = " ".join(reaction.said)
    named = not columns or any(name in said for name in columns)
    wanted = {"ok": {"scored"}, "warn": {"scored"}, "reject": {"rejected"}, "skip": {"skipped"}}
    faults = {
        f"it was {reaction.status}": reaction.status
        not in wanted.get(expect, {"scored", "rejected", "mixed", "skipped"}),
        "rows were lost": reaction.status == "scored" and reaction.rows_in != reaction.rows_out,
        "another file of its night was not scored": not reaction.others,
        "nothing was said": expect in {"warn", "reject"} and not said,
        "no column was named": expect in {"warn", "reject"} and not named,
        "the file was not named": expect == "reject" and file not in said,
        f"it took {reaction.seconds:.0f} s": reaction.seconds > MOST_SECONDS,
        f"it took {reaction.memory / 1e9:.1f} GB": reaction.memory > MOST_MEMORY,
    }
    return "; ".join(fault for fault, found in faults.items() if found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given = _parser().parse_args(arguments)
    console = Console()
    entries = json.loads((given.zoo / "manifest.json").read_text())["entries"]
    with tempfile.TemporaryDirectory(prefix="vaewatch-zoo-") as folder:
        trials = _tried(entries, given, Path(folder), console)
    grid = _grid(trials)
    shown(console, grid)
    right = sum(not one.why_not for one in trials)
    console.print(f"{right} of {len(trials)} entries as expected")
    _write(given.out, trials, right, grid, console)
    if right < len(trials):
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add("--zoo", type=Path, default=DATA, help="folder with manifest.json and train.parquet")
    add("--only", nargs="+", default=[""], help="parts of the names of entries; by default all")
    add("--commands", type=int, default=BY_COMMAND, help="entries scored by the command line, too")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


# -- Trials -------------------------------------------------------------------------------------------------


def _tried(
    entries: list[dict[str, Any]], given: argparse.Namespace, folder: Path, console: Console
) -> list[Trial]:
    chosen = [one for one in entries if any(part in one["name"] for part in given.only)]
    by_command = {one["name"] for one in _spread(chosen, given.commands)}
    project(folder, given.zoo / "train.parquet")
    keepers = {False: Keeper(folder), True: Keeper(folder, humble=True)}
    try:
        keepers[False].train()
        keepers[False].end()  # what training holds is not the entries'
        trials = []
        for i, entry in enumerate(chosen):
            trials.append(_trial(entry, i, given.zoo, keepers["unreadable" in entry["name"]], by_command))
            console.print(
                f"{entry['name']}: {trials[-1].why_not or trials[-1].reaction.status}", highlight=False
            )
        return trials
    finally:
        for keeper in keepers.values():
            keeper.end()


def _spread(entries: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many entries, those that must be rejected and must be warned of first, evenly."""
    order = sorted(entries, key=lambda one: ["reject", "warn", "ok"].count(one["expect"]) == 0)
    return order[:: max(1, len(order) // max(count, 1))][:count] if count else []


def _trial(entry: Mapping[str, Any], i: int, zoo: Path, keeper: Keeper, by_command: set[str]) -> Trial:
    day = FIRST + timedelta(days=i)
    place = lay(entry, zoo, keeper.folder, day)
    columns = _columns(zoo, entry)
    reaction = keeper.react(day, place)
    why_not = mismatch(entry["expect"], reaction, place.name, columns)
    command = None
    if entry["name"] in by_command and not keeper.options:
        command, wrong = _commanded(entry["expect"], keeper.folder, place, str(day))
        why_not = "; ".join(filter(None, (why_not, wrong)))
    return Trial(entry["name"], entry["expect"], reaction, why_not, command)


def _columns(zoo: Path, entry: Mapping[str, Any]) -> list[str]:
    """Names that a sentence about an entry may use: of columns of its own, its folders, the reference."""
    place = zoo / entry["name"]
    folders = {part.partition("=")[0] for path in place.rglob("*") for part in path.parts if "=" in part}
    reference = pq.read_schema(zoo / "train.parquet").names
    if place.is_dir() and any(place.rglob("*.parquet")):
        return [*folders, *reference]
    try:
        return [*pq.read_schema(place).names, *reference]
    except (OSError, pa.ArrowException):
        return []


def _commanded(expect: str, folder: Path, place: Path, day: str) -> tuple[str, str]:
    """Score by the command line: what it did, and what of that is wrong.

    What is rejected is scored as a single file, so that the exit code is its own; of others the night is
    repeated, which must say the same again.
    """
    alone = ["--file", str(place)] if expect == "reject" else []
    asked = str(FIRST + timedelta(days=5_000)) if alone else day
    done = subprocess.run(
        [Path(sys.executable).parent / "vaewatch", "score", "--date", asked, *alone],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(folder)},
    )
    codes = {"reject": {1}, "ok": {0, 3}, "warn": {0, 3}}.get(expect, {0, 1, 3})
    faults = {
        f"the command ended with {done.returncode}": done.returncode not in codes,
        "the command printed a traceback": "Traceback" in done.stderr,
        "the command did not name the file": expect in {"reject", "warn"}
        and place.name not in done.stderr + done.stdout,
    }
    return f"exit {done.returncode}", "; ".join(fault for fault, found in faults.items() if found)


# -- Pages --------------------------------------------------------------------------------------------------


def _grid(trials: Sequence[Trial]) -> Grid:
    heads = ["entry", "expected", "reaction", "as expected", "command", "CPU-s", "MB", "what the report says"]
    return [heads, *(_cells(one) for one in trials)]


def _cells(trial: Trial) -> list[str]:
    row = trial.row()
    said = "; ".join(_without_place(one, trial) for one in trial.reaction.said[:2])
    return [
        trial.name,
        trial.expect,
        trial.reaction.status,
        trial.why_not or "yes",
        trial.command or "",
        f"{row['cpu_seconds']:.1f}",
        f"{row['peak_mb']:,}",
        _safe(said if len(said) <= 300 else f"{said[:299]}…"),
    ]


def _without_place(sentence: str, trial: Trial) -> str:
    """A sentence without the temporary folder that it speaks of."""
    file = Path(trial.name).name
    before, found, after = sentence.partition(f"/{file}")
    return f"{before[: before.rfind(' ') + 1]}{file}{after}" if found else sentence


def _safe(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def _page(trials: Sequence[Trial], right: int, grid: Grid) -> str:
    most_s = max(one.reaction.seconds for one in trials)
    most_mb = max(one.reaction.memory for one in trials) / 1e6
    named = ", ".join(
        f"{name} {number}" for name, number in versions(("pyarrow", "pandas", "prefect")).items()
    )
    commands = sum(one.command is not None for one in trials)
    parts = [
        "# Difficult inputs",
        INTRODUCTION,
        f"**{right} of {len(trials)}** entries react as expected. The most that one took: {most_s:.1f} s of "
        f"CPU, {most_mb:,.0f} MB. {commands} were also scored by `vaewatch score` itself; what must be "
        "rejected is given to it as a single file, and ends with exit code 1.",
        markdown(grid),
        "## How",
        f"`make zoo` wrote this page.\n\n{machine()}; {named}.",
    ]
    return "\n\n".join(parts) + "\n"


def _write(out: Path, trials: Sequence[Trial], right: int, grid: Grid, console: Console) -> None:
    figures = {"entries": len(trials), "as_expected": right, "rows": [one.row() for one in trials]}
    (out / "results").mkdir(parents=True, exist_ok=True)
    figures |= {"machine": machine(), "versions": versions(("pyarrow", "pandas", "prefect"))}
    (out / "results" / "zoo.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "zoo.md").write_text(_page(trials, right, grid))
    console.print(f"written: {out / 'zoo.md'} and {out / 'results' / 'zoo.json'}")


if __name__ == "__main__":
    main(sys.argv[1:])
