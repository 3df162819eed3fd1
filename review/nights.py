"""All nights of a pipeline at a glance, read from manifests and monitored states alone.

Years of nights are some thousand small files: each is read once, and again only when it has changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from flows.errors import StoreError
from flows.storage import Store, Stored

__all__ = ["QUIET", "Night", "Nights", "Watch"]

MOST_KEPT = 20_000
"""Files of which the content is kept in memory, some hundred bytes each."""

QUIET = frozenset({"ok", "watch"})
"""States of a measure that nobody has to look at."""

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Night:
    """What a manifest says of a night; ``trouble`` is why it could not be read, else empty."""

    date: date
    rows: int = 0
    scored: int = 0
    flagged: int = 0
    quarantined: int = 0
    files: int = 0
    rejected: int = 0
    model: str = ""
    version: str = ""
    run_id: str = ""
    scored_at: str = ""
    incident: str = ""
    rescored: int = 0
    """How many scorings came before."""
    trouble: str = ""

    @property
    def flag_share(self) -> float:
        """Share of the scored rows that is flagged."""
        return self.flagged / self.scored if self.scored else 0.0


@dataclass(frozen=True)
class Watch:
    """What monitoring said of a night, in names of columns.

    ``alarming`` are columns that drifted or changed (an empty name for the night as a whole), ``blind``
    those in which planted errors are not found.
    """

    alarming: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    planted: float | None = None
    """Mean share of planted errors that were found; None where none were planted."""


@dataclass
class Nights:
    """The nights under a folder of results."""

    store: Store
    _kept: dict[str, tuple[tuple[int, float], Any]] = field(default_factory=dict)

    def all(self) -> list[Night]:
        """All nights with a manifest, newest first."""
        found = [self._fresh(one, _night) for one in self.store.list("manifests", ".json")]
        return sorted((one for one in found if one is not None), key=lambda night: night.date, reverse=True)

    def one(self, day: date) -> Night | None:
        """One night, None when it is not finished."""
        stored = self.store.find(f"manifests/dt={day}.json")
        return None if stored is None else self._fresh(stored, _night)

    def watch(self, day: date) -> Watch | None:
        """What monitoring said of a night, None when it was not monitored or cannot be read."""
        stored = self.store.find(f"monitor/dt={day}/part-0.parquet")
        return None if stored is None else self._fresh(stored, _watch)

    def _fresh(self, stored: Stored, read: Callable[[Store, Stored], Kept]) -> Kept:
        """What a file holds, from memory as long as its size and time are the same."""
        version = (stored.size, stored.modified)
        known = self._kept.get(stored.key)
        if known is not None and known[0] == version:
            return known[1]  # type: ignore[no-any-return]
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        found = read(self.store, stored)
        self._kept[stored.key] = (version, found)
        return found


def _night(store: Store, stored: Stored) -> Night | None:
    """A night of a manifest; None for a file that is named otherwise."""
    try:
        day = date.fromisoformat(PurePosixPath(stored.key).stem.removeprefix("dt="))
    except ValueError:
        return None
    try:
        return _told(day, json.loads(store.read_bytes(stored.key)))
    except (StoreError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return Night(day, trouble=f"its manifest cannot be read: {type(error).__name__}")


def _told(day: date, content: dict[str, Any]) -> Night:
    model, incident = content["model"], content.get("incident")
    return Night(
        date=day,
        rows=int(content["rows_in"]),
        scored=int(content["rows_scored"]),
        flagged=int(content["rows_flagged"]),
        quarantined=int(content["rows_quarantined"]),
        files=int(content["files_in"]),
        rejected=int(content["files_rejected"]),
        model=str(model["name"]),
        version=str(model["version"]),
        run_id=str(model["run_id"]),
        scored_at=str(content["scored_at"]),
        incident=str(incident["sentence"]) if incident else "",
        rescored=len(content.get("history", ())),
    )


def _watch(store: Store, stored: Stored) -> Watch | None:
    try:
        with store.open_input(stored.key) as source:
            rows = pq.ParquetFile(source).read(["column", "metric", "value", "state"]).to_pylist()
    except (StoreError, pa.ArrowException, OSError, KeyError):
        return None
    powers = [row["value"] for row in rows if row["metric"].startswith("power_") and row["value"] is not None]
    return Watch(
        alarming=_columns(row for row in rows if row["state"] not in {*QUIET, "blind"}),
        blind=_columns(row for row in rows if row["state"] == "blind"),
        planted=sum(powers) / len(powers) if powers else None,
    )


def _columns(rows: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row["column"] or "" for row in rows))
