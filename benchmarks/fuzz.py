"""Whether readers of strangers' files raise anything but our errors: ``make fuzz``.

Coverage-guided by atheris where it is installed, else by mutants at random.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from rich.console import Console

from benchmarks.options import HERE, written
from benchmarks.tables import Grid, machine, markdown, shown, versions

if TYPE_CHECKING:
    from benchmarks.readers import Reader

__all__ = ["main"]

Mutant = Callable[["Reader", int], bytes]
NAMES = (
    "manifest",
    "lease",
    "pipeline",
    "mlflow.yml",
    "suite",
    "verdicts",
    "journal",
    "model.json",
    "tensors.safetensors",
)

INTRODUCTION = """\
Each reader of a file that a stranger may have written reads files for {seconds} s: bytes changed, and
contents that say something odd under right digests. A file may be read, or refused by an error of ours, in a
sentence. A **finding** is anything else: another exception, a crash, an endless error, more than 2 GB or 20 s
for one file. Files of models are not only loaded, but also used: rows are scored, explained, sampled."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz every reader with the options of a command line."""
    given = _parser().parse_args(arguments)
    if given.reader:
        _fuzz(given.reader, given.seconds, given.findings)
        return
    console, rows = Console(), []
    for name in NAMES:
        rows.append(_row(name, given))
        console.print(", ".join(rows[-1]))
    grid: Grid = [["reader", "guided by", "files", "findings"], *rows]
    shown(console, grid)
    figures = {row[0]: {"files": int(row[2].replace(",", "")), "findings": int(row[3])} for row in rows}
    given.rows = sum(one["files"] for one in figures.values())
    written("fuzz", _page(grid, given), dict(figures), given, console)
    if any(one["findings"] for one in figures.values()):
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add("--seconds", type=int, default=60, help="for each reader")
    add("--reader", choices=NAMES, help="this one alone, in this process")
    add("--findings", type=Path, default=HERE / "results" / "findings", help="folder of files that broke one")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


def _row(name: str, given: argparse.Namespace) -> list[str]:
    """Fuzz one reader in a process of its own, which a finding may end."""
    given.findings.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "benchmarks.fuzz", "--reader", name, "--seconds", str(given.seconds)]
    done = subprocess.run(  # our own command
        [*line, "--findings", str(given.findings)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    counts = re.findall(r"^(?:Done |#)(\d+)", done.stderr, re.MULTILINE)
    files = max((int(count) for count in counts), default=0)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)  # atheris tells exceptions on stdout
    return [name, "coverage" if _guided() else "chance", f"{files:,}", str(int(done.returncode != 0))]


def _guided() -> bool:
    return importlib.util.find_spec("atheris") is not None


def _fuzz(name: str, seconds: int, findings: Path) -> None:
    logging.disable()
    with _counted():
        from benchmarks import readers as made
    with tempfile.TemporaryDirectory(prefix="vaewatch-fuzz-") as folder, made.readers(Path(folder)) as known:
        reader = known[name]
        if not _guided():
            _by_chance(reader, made.mutant, seconds, findings)
        else:
            _by_coverage(reader, made.mutant, seconds, findings)


def _counted() -> AbstractContextManager[Any]:
    """Let what is ours, imported in this block, count its branches, and nobody else: torch takes minutes."""
    if not _guided():
        return nullcontext()
    import atheris

    return cast("AbstractContextManager[Any]", atheris.instrument_imports(include=["flows", "vae_core"]))


def _by_chance(reader: Reader, mutant: Mutant, seconds: int, findings: Path) -> None:
    deadline, seed = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        data = mutant(reader, seed)
        try:
            reader.survives(data)
        except BaseException:
            (findings / f"{reader.name}-{seed}").write_bytes(data)
            raise
        seed += 1
    print(f"Done {seed}", file=sys.stderr)


def _by_coverage(reader: Reader, mutant: Mutant, seconds: int, findings: Path) -> None:
    """Let atheris look for files that reach new lines; the mutator makes them from those that did."""
    import atheris

    def changed(data: bytes, most: int, seed: int) -> bytes:
        return bytes(atheris.Mutate(data, most)) if seed % 3 else mutant(reader, seed)[:most]

    def read(data: bytes) -> None:
        reader.survives(data)

    corpus = findings.parent / "corpus" / reader.name
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "good").write_bytes(reader.good)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={findings}/{reader.name}-", "-max_len=65536"]
    options += ["-rss_limit_mb=2048", "-timeout=20"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], read, custom_mutator=changed)
    atheris.Fuzz()


def _page(grid: Grid, given: argparse.Namespace) -> str:
    named = ", ".join(
        f"{name} {number}" for name, number in versions(("atheris", "pyarrow", "torch")).items()
    )
    parts = [
        "# Readers of strangers' files",
        INTRODUCTION.format(seconds=given.seconds),
        markdown(grid),
        f"## How\n\n`make fuzz SECONDS={given.seconds}` wrote this page.\n\n{machine()}; {named}.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
