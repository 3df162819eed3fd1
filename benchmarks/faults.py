"""Whether nights stay whole while stores and servers fail: ``make bench-faults``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

# one thread a process, set before numpy and torch are loaded: children are forked, and threads are not
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from rich.console import Console

from benchmarks.fault_servers import SERVERS, server_faults
from benchmarks.fault_trials import HASTE, ClockFault, DiskFault, FaultTally, S3Fault, StoreFault, small_disk
from benchmarks.faulty_s3 import KINDS, faulty_s3
from benchmarks.forked import forked, warm_up
from benchmarks.options import HERE, command, written
from benchmarks.tables import Grid, machine, markdown, shown, versions
from benchmarks.workshop import Workshop

__all__ = ["main"]

NAMES = [field.name for field in fields(FaultTally)]
S3, DISK, CLOCK = tuple(f"S3 {kind}" for kind in KINDS), "disk full", "clock jumps"
FAULTS = (*S3, DISK, CLOCK, *SERVERS)

INTRODUCTION = """\
A night of {rows:,} rows in three files is scored while something fails. In half of the trials the fault is
short (0.1 to 0.5 s), in the others it lasts until all tries are used up; in half of them the night is new, in
the others it was scored before, with another model. Then the fault is lifted, and the night is scored again.

| column | trials in which |
| --- | --- |
| ridden out | the run that was struck ended well, after tries with growing waits |
| clear errors | it ended with one error of ours, one sentence |
| untouched, complete | that is what readers saw of the night afterwards |
| begun | the fault struck between the first and the last of the night's tables: each is whole, old or new |
| healed | the next run left what an undisturbed one leaves, byte for byte but for `scored_at` |
| violations | anything else: another exception, a table in pieces, a night not healed |"""

HOW = """\
Store faults strike the scoring of the files, which is tried again as the task of the nightly flow is: 1, 5
and 20 s later, here {haste} times sooner; clients of object stores try by themselves before that.
Server faults strike whole nightly flows. The S3 server is moto's behind a layer that resets connections,
stalls, answers 500 and 503, or sends half of a body; the full disk is a tmpfs of a few megabytes; the clock
is that of the modules which look at it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given = _parser().parse_args(arguments)
    console = Console()
    tallies: dict[str, FaultTally] = {}
    with tempfile.TemporaryDirectory(prefix="vaewatch-faults-") as folder:
        if set(given.faults) - set(SERVERS):
            tallies |= _stores(Path(folder) / "stores", given, console)
        servers = [name for name in given.faults if name in SERVERS]
        if servers:
            tallies |= server_faults(
                servers, Path(folder) / "servers", given.rows, given.trials, console.print
            )
    grid = _grid(tallies)
    shown(console, grid)
    figures = {name: tally.figures() for name, tally in tallies.items()}
    written("faults", _page(grid, given, command("faults", arguments)), {**figures}, given, console)
    if any(tally.violations for tally in tallies.values()):
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add("--trials", type=int, default=20, help="of each fault")
    add("--rows", type=int, default=600, help="rows of the night")
    add("--faults", nargs="+", default=list(FAULTS), choices=list(FAULTS), help="these alone")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


def _stores(folder: Path, given: argparse.Namespace, console: Console) -> dict[str, FaultTally]:
    """Trials of store faults, each fault in a process of its own, all at once."""
    folder.mkdir()
    shop = Workshop.opened(folder, given.rows)
    warm_up(lambda: shop.score(f"{folder}/warm", "1"))
    wanted = [name for name in given.faults if name not in SERVERS]
    running = {name: forked(_trials(name, shop, folder, given.trials, console.print)) for name in wanted}
    return {name: FaultTally(**child.wait()) for name, child in running.items()}


def _trials(
    name: str, shop: Workshop, folder: Path, trials: int, say: Callable[[str], None]
) -> Callable[[Callable[[], None]], dict[str, int]]:
    own = folder / name.replace(" ", "-")

    def run(_: Callable[[], None]) -> dict[str, int]:
        began = time.monotonic()
        with ExitStack() as stack:
            tally = _fault(name, shop, own, say, stack).run(trials)
        say(f"{name}: {tally} in {time.monotonic() - began:.0f} s")
        return tally.figures()

    return run


def _fault(name: str, shop: Workshop, own: Path, say: Callable[[str], None], stack: ExitStack) -> StoreFault:
    own.mkdir()
    if name == DISK:
        return DiskFault(name, shop, own, str(stack.enter_context(small_disk(own / "disk", 6))), say)
    if name == CLOCK:
        return ClockFault(name, shop, own, str(own / "trials"), say)
    server = stack.enter_context(faulty_s3())
    os.environ |= server.environment
    fault = S3Fault(name.removeprefix("S3 "), shop, own, "s3://vaewatch/trials", say)
    fault.server = server
    return fault


def _grid(tallies: dict[str, FaultTally]) -> Grid:
    heads = ["fault", *(name.replace("_", " ") for name in NAMES)]
    return [
        heads,
        *([name, *(f"{getattr(one, field):,}" for field in NAMES)] for name, one in tallies.items()),
    ]


def _page(grid: Grid, given: argparse.Namespace, line: str) -> str:
    packages = versions(("pyarrow", "obstore", "moto", "mlflow", "prefect"))
    named = ", ".join(f"{name} {number}" for name, number in packages.items())
    parts = [
        "# Stores and servers that fail",
        INTRODUCTION.format(rows=given.rows),
        markdown(grid),
        f"## How\n\n{HOW.format(haste=HASTE)}\n\n`{line}` wrote this page. {machine()}; {named}.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
