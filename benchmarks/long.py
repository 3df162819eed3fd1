"""Whether a year of nights leaves memory, files and run times as they were: ``make bench-long``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

# one thread a library, set before numpy and torch are loaded: other work on the machine disturbs less
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import numpy as np
from rich.console import Console

from benchmarks.gauges import children, gauge, sizes
from benchmarks.options import HERE, command, written
from benchmarks.tables import Grid, machine, markdown, shown, versions

__all__ = ["main"]

FIRST = date(2013, 1, 1)
PIPELINE = """\
version: 1
name: flights
source: {path: data/landing/flights, partition: dt}
output: data/results/flights
columns: {key: [carrier, flight, origin, time_hour], ignore: [year, month, day], categorical: [tailnum]}
training: {window: 60d, calibration: 14d, detector: {n_members: 2, max_epochs: 2}}
"""
RETENTION = "retention: {scores: 90d, flags: 180d, quarantine: 90d, monitor: 60d, docs: 60d, models: 3}\n"
MONITORED = 10  # every so many nights
PROGRAM = "from flows.cli import main; main()"
WEIGHED = """\
import atexit, pathlib
from flows.stopwatch import peak_memory
atexit.register(lambda: pathlib.Path("peak").write_text(str(peak_memory())))
"""
OURS, SERVER, CHECKER = "the process", "Prefect's server", "the checker of contracts"
CHILDREN = {SERVER: ("flows.prefect_page", "prefect"), CHECKER: ("flows.checker",)}

INTRODUCTION = """\
{nights} nights of flights from New York, scored one after the other by the flow in one process, every
tenth also monitored, with Prefect's server and MLflow's database beside it; then {cold} more nights on top of
these, each by `vaewatch score` as a process of its own. CPU-seconds of scoring are compared, not wall time:
other work went on meanwhile."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given = _parser().parse_args(arguments)
    console = Console()
    with _project(given.folder) as root:
        nights = _landed(root, given.nights, given.cold)
        figures = _run_all(root, nights, given, console)
    grids = _grids(figures)
    for grid in grids.values():
        shown(console, grid)
    given.rows = given.nights
    written("long", _page(grids, figures, given, command("long", arguments)), figures, given, console)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add("--nights", type=int, default=365, help="nights in one process, of the 365 of 2013")
    add("--cold", type=int, default=20, help="nights after these, a process each")
    add("--folder", type=Path, help="where to work, kept afterwards; by default a temporary folder")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


@contextmanager
def _project(folder: Path | None) -> Iterator[Path]:
    """A project of its own, with a pipeline and no results."""
    with tempfile.TemporaryDirectory(prefix="vaewatch-long-") as scratch:
        root = (folder or Path(scratch)).absolute()
        (root / "pipelines").mkdir(parents=True, exist_ok=True)
        (root / "mlflow.yml").write_text("experiment: long\n")
        (root / "pipelines" / "flights.yml").write_text(PIPELINE)
        yield root


def _landed(root: Path, nights: int, cold: int) -> list[date]:
    """Let the year's flights arrive; nights after its end are those of its beginning once more."""
    from flows.demo import land_flights

    landing = land_flights(root)
    days = [FIRST + timedelta(days=i) for i in range(nights + cold)]
    for day in days[365:]:
        target = landing / f"dt={day}"
        if not target.exists():
            shutil.copytree(landing / f"dt={day - timedelta(days=365)}", target)
    return days


def _run_all(root: Path, days: list[date], given: argparse.Namespace, console: Console) -> dict[str, Any]:
    from flows.config import load_pipeline
    from flows.server import api

    pipeline = load_pipeline(root / "pipelines" / "flights.yml")
    with api(root):
        _trained(pipeline)
        start = _grown(root)
        year = _in_one_process(pipeline, days[: given.nights], start, console)
    grown = _grown(root)
    cold = [_cold(root, day) for day in days[given.nights :]]
    return {
        "nights": given.nights,
        "process": year["gauges"],
        "growth": _growth(year["growth"]),
        "cold": cold,
        "size_before": start,
        "size_after": grown,
        "prune": _pruned(root, days[0]),
    }


def _trained(pipeline: Any) -> None:
    """See that a version is live; one of an earlier run in this folder will do."""
    from flows.context import registry_of
    from flows.errors import NoChampionError
    from flows.train import train

    try:
        registry_of(pipeline).champion()
    except NoChampionError:
        train(str(pipeline.file), str(FIRST + timedelta(days=89)))


# -- One process --------------------------------------------------------------------------------------------


def _in_one_process(
    pipeline: Any, days: Sequence[date], start: dict[str, Any], console: Console
) -> dict[str, Any]:
    """Score each night, monitor some; what the processes weigh after each, and the folders now and then."""
    from flows.monitor import monitor
    from flows.score import score

    gauges: list[dict[str, Any]] = []
    growth: list[dict[str, Any]] = [{"nights": 0, **start}]
    for done, day in enumerate(days, 1):
        before = _weights()
        score(str(pipeline.file), str(day))
        after = _weights()
        if done % MONITORED == 0:
            monitor(str(pipeline.file), str(day))
        spent = {name: after[name]["cpu"] - before.get(name, after[name])["cpu"] for name in after}
        gauges.append({"night": done, "weights": after, "cpu": spent})
        if done % 30 == 0 or done == len(days):
            growth.append({"nights": done, **_grown(pipeline.root)})
            console.print(f"{done} nights, {after[OURS]['memory']:.0f} MB, {after[OURS]['files']} files open")
    return {"gauges": gauges, "growth": growth}


def _weights() -> dict[str, dict[str, float]]:
    """The gauges of this process, of Prefect's server, and of the process that checks contracts."""
    found = {OURS: asdict(gauge(os.getpid()))}
    for name, modules in CHILDREN.items():
        numbers = [one for module in modules for one in children(os.getpid(), module)]
        if numbers:
            found[name] = asdict(gauge(numbers[-1]))
    return found


def _grown(root: Path) -> dict[str, Any]:
    """Bytes and files of all that grows, by name."""
    data = root / "data"
    places = {
        "results": data / "results" / "flights",
        "prefect": data / "prefect",
        "mlflow": data / "mlflow",
    }
    return {place: sizes(folder) for place, folder in places.items() if folder.is_dir()}


def _growth(steps: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Kilobytes and files a night of each folder and database, and how straight the line is (R²)."""
    nights = np.array([step["nights"] for step in steps], dtype=float)
    names = {(place, name) for step in steps for place in step if place != "nights" for name in step[place]}
    found = {}
    for place, name in sorted(names):
        values = np.array([step.get(place, {}).get(name, (0, 0)) for step in steps], dtype=float)
        slope, straight = _line(nights, values[:, 0])
        if slope > 1:
            files = _line(nights, values[:, 1])[0]
            found[f"{place}/{name}"] = {"kb_a_night": slope / 1e3, "files_a_night": files, "r2": straight}
    return found


def _line(x: Any, y: Any) -> tuple[float, float]:
    """Slope of the line through points, and the share of their variance that it explains."""
    slope, offset = np.polyfit(x, y, 1)
    rest, all_ = np.square(y - slope * x - offset).sum(), np.square(y - y.mean()).sum()
    return float(slope), float(1 - rest / all_) if all_ else 1.0


# -- Cold processes, pruning --------------------------------------------------------------------------------


def _cold(root: Path, day: date) -> dict[str, float]:
    """A night by the command line: CPU-seconds, its servers' too, and the most memory of its process."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", WEIGHED + PROGRAM, "score", "--date", str(day)],
        cwd=root,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"night {day} was to be scored, however its process ended with {status}")
    return {
        "cpu": used.ru_utime + used.ru_stime,
        "seconds": time.perf_counter() - began,
        "memory": int((root / "peak").read_text()) / 2**20,
    }


def _pruned(root: Path, first: date) -> dict[str, Any]:
    """Prune by `RETENTION`, after a dry run that must say the same; the first night must stay finished."""
    file = root / "pipelines" / "flights.yml"
    file.write_text(PIPELINE + RETENTION)
    before = _total(root)
    said = _told(root, "prune", "--dry-run", "--json")
    untouched = _total(root)
    done = _told(root, "prune", "--json")
    status = _told(root, "score", "--date", str(first), "--json")["status"]
    return {
        "retention": RETENTION.strip(),
        "removed": done["removed"],
        "as_said": said["removed"] == done["removed"] and before == untouched,
        "again": _told(root, "prune", "--json")["removed"],
        "first_night": status,
        "results_before": before,
        "results_after": _total(root),
    }


def _total(root: Path) -> int:
    return sum(size for size, _ in _grown(root)["results"].values())


def _told(root: Path, *words: str) -> Any:
    run = subprocess.run([sys.executable, "-c", PROGRAM, *words], cwd=root, capture_output=True, check=False)
    if run.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {run.returncode}: {run.stderr.decode()[-400:]}")
    return json.loads(run.stdout)


# -- The page -----------------------------------------------------------------------------------------------


def _grids(figures: dict[str, Any]) -> dict[str, Grid]:
    grids = {"process": _process_grid(figures["process"]), "growth": _growth_grid(figures["growth"])}
    if figures["cold"]:
        grids["cold"] = _cold_grid(figures["cold"])
    grids["prune"] = _prune_grid(figures["prune"])
    return grids


def _process_grid(gauges: list[dict[str, Any]]) -> Grid:
    """Memory, files and threads after the first tenth, in the middle, at the end; CPU-seconds a night."""
    marks = [max(1, len(gauges) // 10), len(gauges) // 2, len(gauges)]
    at = [f"night {mark}" for mark in marks]
    rows = []
    for name in gauges[-1]["weights"]:
        for what, unit in (("memory", "MB"), ("files", ""), ("threads", "")):
            cells = [f"{gauges[mark - 1]['weights'].get(name, {}).get(what, 0):,.0f}" for mark in marks]
            rows.append([name, f"{what} {unit}".strip(), *cells])
        rows.append([name, "CPU-s a night, median of 30", *(_median(gauges, name, mark) for mark in marks)])
    return [["of", "", *at], *rows]


def _median(gauges: list[dict[str, Any]], name: str, mark: int) -> str:
    spent = [one["cpu"][name] for one in gauges[max(0, mark - 30) : mark] if name in one["cpu"]]
    return f"{np.median(spent):.2f}"


def _growth_grid(growth: dict[str, dict[str, float]]) -> Grid:
    rows = [
        [name, f"{one['kb_a_night']:,.1f}", f"{one['files_a_night']:.2f}", f"{one['r2']:.4f}"]
        for name, one in sorted(growth.items(), key=lambda item: -item[1]["kb_a_night"])
    ]
    total = sum(one["kb_a_night"] for one in growth.values())
    files = sum(one["files_a_night"] for one in growth.values())
    return [
        ["folder or file", "kB a night", "files a night", "R²"],
        *rows,
        ["all", f"{total:,.1f}", f"{files:.2f}", ""],
    ]


def _cold_grid(cold: list[dict[str, float]]) -> Grid:
    half = max(1, len(cold) // 2)
    labels = {"cpu": "CPU-s with its servers, median", "memory": "most memory of the process, MB, median"}
    rows = [
        [label, *(f"{np.median([one[what] for one in part]):,.1f}" for part in (cold[:half], cold[-half:]))]
        for what, label in labels.items()
    ]
    return [["a process a night", f"first {half}", f"last {half}"], *rows]


def _prune_grid(prune: dict[str, Any]) -> Grid:
    rows = [
        [
            what,
            f"{one['nights']:,}",
            one["first"],
            one["last"],
            f"{one['files']:,}",
            f"{one['bytes'] / 1e6:,.2f}",
        ]
        for what, one in prune["removed"].items()
    ]
    return [["removed", "nights", "from", "to", "files", "MB"], *rows]


def _page(grids: dict[str, Grid], figures: dict[str, Any], given: argparse.Namespace, line: str) -> str:
    packages = versions(("prefect", "mlflow", "pyarrow", "great-expectations"))
    named = ", ".join(f"{name} {number}" for name, number in packages.items())
    prune = figures["prune"]
    told = "just what the dry run had said" if prune["as_said"] else "NOT what the dry run had said"
    parts = [
        "# A year of nights",
        INTRODUCTION.format(nights=figures["nights"], cold=len(figures["cold"])),
        "## One process",
        markdown(grids["process"]),
        "## What grows",
        "Straight lines through sizes after every 30 nights; R² is 1 where growth is linear.",
        markdown(grids["growth"]),
        *(["## Cold processes", markdown(grids["cold"])] if "cold" in grids else []),
        "## `vaewatch prune`",
        f"With `{prune['retention']}`: {told}. The results shrank from {prune['results_before'] / 1e6:,.1f} "
        f"to {prune['results_after'] / 1e6:,.1f} MB; a second run removed {prune['again'] or 'nothing'}; "
        f"scoring the first night again: {prune['first_night']}.",
        markdown(grids["prune"]),
        "## How",
        f"`{line}` wrote this page. The model is small (2 members, 2 epochs): how well it finds is measured "
        "elsewhere. It is not trained anew: from June on its time stamps are out of support, so that each "
        "night is one incident of the breaker with all of its rows flagged; that is the step in CPU seconds "
        f"and in the sizes of flags.\n\n{machine()}; {named}.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
