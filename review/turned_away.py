"""What a night turned away: rows that broke a rule, files that could not be scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows.cells import plain_rows
from flows.results import BROKEN
from flows.storage import Store
from review.rows import Rows

__all__ = ["Quarantined", "rejected_files"]

SEPARATOR = "; "
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Quarantined:
    """The rows of a night that broke a row rule; ``broken`` names the rules of each."""

    rows: Rows
    broken: pa.ChunkedArray

    @staticmethod
    def open(store: Store, day: date, prefix: str = "") -> Quarantined | None:
        """Open a night's quarantine; None where nothing was turned away.

        Raises
        ------
        StoreError, InputError
            It cannot be read.
        """
        rows = Rows.open(store, f"quarantine/dt={day}/part-0.parquet")
        if rows is None:
            return None
        name = prefix + BROKEN
        parts = [batch.column(0).dictionary_encode() for batch in rows.batches([name])]
        kind = pa.dictionary(pa.int32(), pa.string())
        return Quarantined(rows, pa.chunked_array(parts, kind))

    def rules(self) -> Counter[str]:
        """How many rows broke which rules, as each row has them."""
        counts = pc.value_counts(self.broken).to_pylist()
        return Counter({one["values"] or "": one["counts"] for one in counts})

    def places(self, rule: str | None = None) -> Places:
        """Rows that broke a rule; None for all."""
        if rule is None:
            return np.arange(len(self.broken))
        same = pc.fill_null(pc.equal(self.broken.cast(pa.string()), rule), False)
        return np.flatnonzero(same.to_numpy())


def rejected_files(store: Store, day: date) -> list[dict[str, Any]]:
    """Files of a night that could not be scored: ``path``, ``size``, ``reason``.

    Raises
    ------
    StoreError, InputError
        The list cannot be read.
    """
    rows = Rows.open(store, f"rejected/dt={day}/part-0.parquet")
    if rows is None:
        return []
    return plain_rows(rows.take(np.arange(rows.count), ["path", "size", "reason"]))
