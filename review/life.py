"""The life of a pipeline's models as the results tell it: versions, who was live, what the gate said.

From the journal, the manifests and the files of MLflow's runs; neither MLflow nor the model is asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.errors import StoreError
from flows.journal import Move, carried
from flows.storage import Store
from review.nights import Night

__all__ = ["Version", "gate_verdict", "power_of", "versions_of"]


@dataclass(frozen=True)
class Version:
    """A model version: when it was live, and what it flagged."""

    version: str
    run_id: str
    live: tuple[tuple[datetime, datetime | None], ...]
    nights: int
    flagged: int
    scored: int

    @property
    def is_live(self) -> bool:
        """Whether it scores the coming nights."""
        return any(until is None for _, until in self.live)


def versions_of(moves: Sequence[Move], nights: Sequence[Night], alias: str) -> list[Version]:
    """All versions that the journal or a manifest knows, the newest first."""
    spans = carried(moves, alias)
    known = {move.version for move in moves if move.version} | {one.version for one in nights if one.version}
    return [_version(name, spans, nights) for name in sorted(known, key=_number, reverse=True)]


def _version(
    name: str, spans: Sequence[tuple[str, datetime, datetime | None]], nights: Sequence[Night]
) -> Version:
    mine = [one for one in nights if one.version == name]
    return Version(
        version=name,
        run_id=mine[0].run_id if mine else "",
        live=tuple((since, until) for version, since, until in spans if version == name),
        nights=len(mine),
        flagged=sum(one.flagged for one in mine),
        scored=sum(one.scored for one in mine),
    )


def _number(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isascii() and version.isdecimal() else (-1, version)


def gate_verdict(artifacts: Store, run_id: str) -> dict[str, Any] | None:
    """The last verdict of the gate on a run's version, as `flows.evidence` logged it; None without one."""
    try:
        files = artifacts.list(f"{run_id}/artifacts/gate", "verdict.json")
        found = json.loads(artifacts.read_bytes(files[-1].key)) if files else None
    except (StoreError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def power_of(store: Store, key: str) -> list[dict[str, Any]]:
    """Share of planted errors found, by column and kind, of a monitored night."""
    try:
        with store.open_input(key) as source:
            rows = pq.ParquetFile(source).read(["column", "metric", "value", "state", "detail"]).to_pylist()
    except (StoreError, pa.ArrowException, OSError, KeyError):
        return []
    return [
        {
            "column": row["column"],
            "kind": row["metric"].removeprefix("power_").replace("_", " "),
            "power": row["value"],
            "state": row["state"],
            "detail": row["detail"],
        }
        for row in rows
        if row["metric"].startswith("power_") and row["value"] is not None
    ]
