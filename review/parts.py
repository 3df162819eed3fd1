"""One flagged row column by column: value, what was expected, share of the loss."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.errors import StoreError
from flows.storage import Store

__all__ = ["KINDS", "Part", "Reason", "brief", "parts_of", "reasons_of"]

KINDS = {
    "value": "odd by itself",
    "combination": "does not go with the rest of the row",
    "unseen_category": "never seen before",
    "unexpected_null": "missing, though rows like this have a value",
    "out_of_support": "beyond all training values",
}
"""Kinds of reasons in words."""

HIDDEN = "(sensitive)"


@dataclass(frozen=True)
class Reason:
    """One reason as the flags hold it."""

    column: str
    kind: str
    value: str
    expected: str
    share: float


@dataclass(frozen=True)
class Part:
    """One modelled column of a flagged row; ``loss`` in nats, ``share`` of the row's loss above the usual."""

    column: str
    loss: float
    share: float
    expected: str


def reasons_of(row: Mapping[str, Any], prefix: str = "") -> list[Reason]:
    """The reasons of a flagged row, the column to blame first."""
    found = []
    for i in (1, 2, 3):
        column, kind, value, expected, share = (
            row.get(f"{prefix}reason_{i}_{part}") for part in ("column", "kind", "value", "expected", "share")
        )
        if column is not None:
            found.append(Reason(column, kind or "", value or "null", expected or "", float(share or 0)))
    return found


BRIEF = {
    "unseen_category": ", never seen",
    "out_of_support": ", beyond training",
    "combination": ", unlike the rest",
}


def brief(reason: Reason) -> str:
    """A reason in a few words: ``dest TVC, never seen; expected DTW (11%)``."""
    return f"{reason.column} {reason.value}{BRIEF.get(reason.kind, '')}; expected {reason.expected}"


def parts_of(
    store: Store, day: date, row_id: str, reasons: Collection[Reason], hidden: Collection[str] = ()
) -> list[Part]:
    """All modelled columns of a flagged row, the largest share first; none where they were not kept.

    What a reason says was expected goes before what the model made of the row as it came: it was asked of the
    rest of the row.
    """
    told = {reason.column: reason.expected for reason in reasons}
    rows = [
        Part(row["column"], row["loss"], row["share"], told.get(row["column"]) or row.get("expected") or "")
        for row in _rows(store, day, row_id)
    ]
    shown = [Part(one.column, one.loss, one.share, HIDDEN) if one.column in hidden else one for one in rows]
    return sorted(shown, key=lambda one: (-one.share, -one.loss))


def _rows(store: Store, day: date, row_id: str) -> list[dict[str, Any]]:
    key = f"contributions/dt={day}/part-0.parquet"
    try:
        with store.open_input(key) as source:
            file = pq.ParquetFile(source)
            batches = file.iter_batches(batch_size=65_536)
            found = [batch.filter(pc.equal(batch.column("row_id"), row_id)) for batch in batches]
    except (StoreError, pa.ArrowException, OSError, KeyError):
        return []
    return [row for batch in found for row in batch.to_pylist()]
