"""What work costs: CPU seconds by stage, and memory at its highest."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Stopwatch", "cpu_seconds", "peak_memory"]


@dataclass
class Stopwatch:
    """CPU seconds of named stages, all threads of the process together; stages do not overlap.

    Attributes
    ----------
    seconds
        CPU seconds of each stage, in the order of their first appearance.
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what the block costs to a stage."""
        began = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began


def cpu_seconds() -> float:
    """User and system seconds of this process, and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_memory() -> int:
    """Bytes that this process has held in memory at most since it started.

    Of Linux's own account of the process: what ``getrusage`` says begins with the peak of the parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # kilobytes everywhere but there
