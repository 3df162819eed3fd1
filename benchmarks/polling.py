"""A reader that looks at a night again and again while it is written, as anybody's script would."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.workshop import DAY, EARLIER, digest_of

__all__ = ["polled"]

PAUSE_SECONDS = 0.05
TRIES = 5


def polled(folder: Path, allowed: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Read until a file ``stop`` appears.

    Parameters
    ----------
    folder
        Holds ``now.json``, which names the output folder and the versions that score it in turn.
    allowed
        Digest of each table: of the night ``earlier``, and of the night as each version leaves it.

    Returns
    -------
    dict
        ``polls``, ``problems`` (a sentence each), ``repeated``: reads that were made again, and for which
        ``errors``.
    """
    reader, problems, polls = _Reader(allowed), [], 0
    while not (folder / "stop").exists():
        told = folder / "now.json"
        if not told.exists():
            time.sleep(PAUSE_SECONDS)
            continue
        now = json.loads(told.read_text())
        found = reader.look(now)
        if json.loads(told.read_text()) == now:  # else the folder may have been removed meanwhile
            problems += found
            polls += 1
        time.sleep(PAUSE_SECONDS)
    return {"polls": polls, "problems": problems, "repeated": reader.repeated, "errors": reader.errors}


class _Reader:
    def __init__(self, allowed: dict[str, dict[str, str]]) -> None:
        self.allowed = allowed
        self.repeated = 0
        self.errors: dict[str, int] = {}
        self.output = ""
        self.seen: dict[str, int] = {}

    def look(self, now: dict[str, Any]) -> list[str]:
        """Read all flags, then each file of the night; returns what was wrong."""
        if now["output"] != self.output:
            self.output = now["output"]
            self.seen = {} if len(now["versions"]) == 1 else dict.fromkeys(("flags", "all", "scores"), 0)
        problems = [self._again(partial(self._all_flags, now["versions"]))]
        for table in ("flags", "scores", "contributions", "quarantine"):
            problems.append(self._again(partial(self._file, table, now["versions"])))
        return [f"{self.output}: {problem}" for problem in problems if problem]

    def _again(self, look: Callable[[], str | None]) -> str | None:
        """Look; on an object store a read is several requests, and one that raises is repeated."""
        for i in range(TRIES if "://" in self.output else 1):
            self.repeated += i > 0
            try:
                return look()
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                self.errors[problem[:60]] = self.errors.get(problem[:60], 0) + 1
        return problem

    def _all_flags(self, versions: list[str]) -> str | None:
        frame = pd.read_parquet(f"{self.output}/flags")
        nights = dict(list(frame.groupby(frame["dt"].astype(str))))
        if set(nights) - {str(DAY), str(EARLIER)}:
            return f"nights {sorted(nights)}"
        earlier = nights.get(str(EARLIER))
        if earlier is None or digest_of(earlier) != self.allowed["earlier"]["flags"]:
            return "the earlier night is not what it was"
        night = nights.get(str(DAY))
        return self._judged("all", "flags", None if night is None else digest_of(night), versions)

    def _file(self, table: str, versions: list[str]) -> str | None:
        try:
            frame = _opened_once(f"{self.output}/{table}/dt={DAY}/part-0.parquet")
        except FileNotFoundError:
            return self._judged(table, table, None, versions)
        return self._judged(table, table, digest_of(frame), versions)

    def _judged(self, place: str, table: str, digest: str | None, versions: list[str]) -> str | None:
        """Say what is wrong with a table: it may be absent, then of the first version, then of the second."""
        known = [self.allowed[version][table] for version in versions]
        if digest is None:
            return f"{place}: the night is missing" if place in self.seen else None
        ranks = [i for i, one in enumerate(known) if one == digest]
        if not ranks:
            return f"{place}: neither the one scoring nor the other"
        if max(ranks) < self.seen.get(place, 0):
            return f"{place}: back to the scoring before"
        self.seen[place] = min(rank for rank in ranks if rank >= self.seen.get(place, 0))
        return None


def _opened_once(path: str) -> pd.DataFrame:
    if "://" in path:
        return pd.read_parquet(path)
    with Path(path).open("rb") as file:
        return pd.read_parquet(file)
