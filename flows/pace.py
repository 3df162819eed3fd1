"""How fast each stage of a night works on this machine, seen by watching it score real shards.

Nothing is imitated: the shards are scored by the function that scores every night, under Python's profiler,
whose clock is the CPU time of the whole process. Batches are large, so that watching them costs nothing.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows.engines import Threads
from flows.errors import InputError
from flows.shards import finish_shard, score_shard, shards_of
from flows.tables import InputFile, open_table

if TYPE_CHECKING:
    from flows.flagging import Stamp
    from flows.shards import Recipe, Shard, ShardScores

__all__ = ["STAGES", "Pace", "pace_of", "reasons_of", "rows_a_second", "shards_in"]

STAGES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "read": (("reader.py", "coded_batches"), ("reader.py", "_coded")),
    "cast": (("casts.py", "coded"), ("casts.py", "misfits")),
    "rules": (("rules.py", "bad_rows"),),
    "encode and score": (("detector.py", "score_batch"),),
    "write": (("tables.py", "write"), ("tables.py", "__exit__"), ("shards.py", "_ours")),
}
"""Functions, by file and name, whose time makes each stage; none calls another one of them."""


@dataclass(frozen=True)
class Pace:
    """CPU seconds of so many rows by stage; ``total`` holds more than the stages: opening files, sums."""

    rows: int
    seconds: Mapping[str, float]
    total: float
    outcomes: tuple[ShardScores, ...]

    @property
    def nanoseconds(self) -> dict[str, float]:
        """CPU nanoseconds a row of each stage, and of the rest."""
        rest = self.total - sum(self.seconds.values())
        return {name: 1e9 * spent / self.rows for name, spent in {**self.seconds, "the rest": rest}.items()}


def shards_in(files: Sequence[InputFile], rows: int) -> list[Shard]:
    """The first shards of a night that have at least so many rows together, all where it has fewer."""
    found: list[Shard] = []
    for number, file in enumerate(files):
        with open_table(file) as reader:
            found += shards_of(number, file, reader.row_groups)
        if sum(shard.rows for shard in found) >= rows:
            break
    while found[:-1] and sum(shard.rows for shard in found[:-1]) >= rows:
        found.pop()
    return found


def pace_of(recipe: Recipe, shards: Sequence[Shard]) -> Pace:
    """Score shards one after the other, in this thread, and see what each stage costs.

    Raises
    ------
    InputError
        A file cannot be read.
    """
    profile = cProfile.Profile(time.process_time)
    began = time.process_time()
    outcomes = tuple(profile.runcall(score_shard, recipe, shard) for shard in shards)
    total = time.process_time() - began
    broken = [one.reason for one in outcomes if one.reason]
    if broken:
        raise InputError(broken[0])
    seconds = {name: _spent(profile, functions) for name, functions in STAGES.items()}
    return Pace(sum(shard.rows for shard in shards), seconds, total, outcomes)


def _spent(profile: cProfile.Profile, functions: Sequence[tuple[str, str]]) -> float:
    """CPU seconds in functions and all that they call."""
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return sum(
        float(cumulative)
        for (path, _, name), (_, _, _, cumulative, _) in stats.items()
        if (Path(path).name, name) in functions and Path(path).parent.name in ("flows", "vae_core")
    )


def rows_a_second(recipe: Recipe, shards: Sequence[Shard], workers: int) -> float:
    """Rows that so many threads score in a second of wall time; each gets a shard of its own."""
    several = [replace(shards[i % len(shards)], part=i) for i in range(max(workers, len(shards)))]
    began = time.perf_counter()
    for _ in Threads(workers).map(partial(score_shard, recipe), several):
        pass
    return sum(shard.rows for shard in several) / (time.perf_counter() - began)


def reasons_of(recipe: Recipe, stamp: Stamp, shards: Sequence[Shard]) -> tuple[int, float]:
    """Explain the flagged rows of shards that `pace_of` has scored: how many, and their CPU seconds."""
    began = time.process_time()
    for shard in shards:
        finish_shard(recipe, stamp, shard)
    spent = time.process_time() - began
    return sum(_rows(shard.staged(recipe.stage, "flags")) for shard in shards), spent


def _rows(part: Path) -> int:
    if not part.exists():
        return 0
    with open_table(part) as reader:
        return reader.num_rows
