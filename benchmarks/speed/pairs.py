"""Contenders measured in turn, A B A B: what disturbs the machine disturbs both of a pair."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

from flows.stopwatch import cpu_seconds

__all__ = ["Contender", "Rounds", "interleaved", "load", "timed"]

Contender = Callable[[Path], int]
"""Works on one file, and says how many rows that were."""

T = TypeVar("T")


@dataclass
class Rounds:
    """CPU seconds a row of each contender, a number a round."""

    costs: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, name: str, *others: str) -> float:
        """Median over rounds of one contender's cost over the sum of others'."""
        below = [sum(costs) for costs in zip(*(self.costs[other] for other in others), strict=True)]
        return float(median(above / one for above, one in zip(self.costs[name], below, strict=True)))

    def rate(self, name: str) -> float:
        """Median rows a CPU second."""
        return 1.0 / float(median(self.costs[name]))


def interleaved(contenders: Mapping[str, Contender], files: Sequence[Path], warm: Path) -> Rounds:
    """Let every contender work on every file, file by file; before that, once on a small one."""
    rounds = Rounds({name: [] for name in contenders})
    for work in contenders.values():
        work(warm)
    for file in files:
        for name, work in contenders.items():
            rows, seconds = timed(lambda work=work, file=file: work(file))  # type: ignore[misc]
            rounds.costs[name].append(seconds / rows)
    return rounds


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What work returns, and its CPU seconds, children included."""
    began = cpu_seconds()
    result = work()
    return result, cpu_seconds() - began


def walled(work: Callable[[], T]) -> tuple[T, float]:
    """What work returns, and its wall seconds."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def load() -> float:
    """Processes that wanted a core, mean over the last minute."""
    return round(os.getloadavg()[0], 2)
