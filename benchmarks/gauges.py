"""What processes and folders have grown to, read from ``/proc`` and the disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Gauge", "children", "gauge", "sizes"]

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Gauge:
    """A process at a moment: megabytes of memory, open files, threads, CPU-seconds since its start."""

    memory: float
    files: int
    threads: int
    cpu: float


def gauge(number: int) -> Gauge:
    """Read the gauges of a process; zeros when it has ended."""
    folder = Path(f"/proc/{number}")
    try:
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        files = len(list((folder / "fd").iterdir()))
    except OSError:
        return Gauge(0.0, 0, 0, 0.0)
    cpu = (int(fields[11]) + int(fields[12])) / TICKS
    return Gauge(int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"]), cpu)


def children(number: int, module: str) -> list[int]:
    """Processes below a process whose command names a module, but for the guard that watches it."""
    found = []
    for task in Path(f"/proc/{number}/task").iterdir():
        for one in map(int, (task / "children").read_text().split()):
            words = Path(f"/proc/{one}/cmdline").read_text().split("\0")
            if module in words and "flows.processes" not in words:
                found.append(one)
            found += children(one, module)
    return found


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Bytes and files of each folder in a folder, and of the files beside them, by name."""
    return {one.name: _size(one) for one in sorted(folder.iterdir())}


def _size(path: Path) -> tuple[int, int]:
    if path.is_file():
        return path.stat().st_size, 1
    found = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return sum(found), len(found)
