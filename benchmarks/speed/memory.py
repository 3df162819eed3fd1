"""Memory at its highest, of a process that scores a night: ``python -m benchmarks.speed.memory``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Peak", "main", "peak"]


@dataclass(frozen=True)
class Peak:
    """Rows scored, bytes held at most, CPU seconds."""

    rows: int
    bytes: int
    seconds: float


def peak(model: Path, files: Sequence[Path], scratch: Path, *, workers: int, times: int = 1) -> Peak:
    """Score files as one night, each ``times`` times, in a new process.

    Parameters
    ----------
    model
        Folder of a detector.
    files
        Files of the night.
    scratch
        Folder to write into.
    workers
        Row groups scored at a time.
    times
        How often each file is listed: it is read, scored and written each time.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.memory",
        "--model",
        str(model),
        "--scratch",
        str(scratch),
    ]
    command += ["--workers", str(workers), "--times", str(times), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode:
        raise RuntimeError(f"scoring in a process of its own failed: {done.stderr[-2000:]}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Score the files of the command line, print the peak as JSON."""
    options = argparse.ArgumentParser(description=str(__doc__))
    options.add_argument("--model", type=Path, required=True)
    options.add_argument("--scratch", type=Path, required=True)
    options.add_argument("--workers", type=int, required=True)
    options.add_argument("--times", type=int, required=True)
    options.add_argument("files", type=Path, nargs="+")
    given = options.parse_args()
    print(json.dumps(_scored(given)))


def _scored(given: argparse.Namespace) -> dict[str, float]:
    from benchmarks.speed.ours import NO_RULES, Ours
    from flows.engines import Threads
    from flows.stopwatch import cpu_seconds, peak_memory
    from vae_core import VAEDetector

    engine = Threads(given.workers)
    ours = Ours(VAEDetector.load(given.model), given.scratch, NO_RULES, engine=engine)
    rows = ours(*(file for _ in range(given.times) for file in given.files))
    return {"rows": rows, "bytes": peak_memory(), "seconds": cpu_seconds()}


if __name__ == "__main__":
    main()
