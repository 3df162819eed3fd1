"""Where the rows of verdicts are after a night was scored again: found by row id and key, or by key alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Place", "rearranged"]

NO_KEYS = (None, "", "{}")


class Place(NamedTuple):
    """Where the row of a verdict was last."""

    id: int
    row_id: str
    row_key: str | None
    slot: str

    @property
    def has_key(self) -> bool:
        """Whether its table has key columns."""
        return self.row_key not in NO_KEYS


def rearranged(places: Sequence[Place], rows: pa.Table) -> list[tuple[Place, str | None]]:
    """Each place with the row id that it has now, None where its row is not among these.

    A row is the same if its id and its key are; else if its key is, and nothing else has that key.
    Where a table has no key columns, the id decides.
    """
    there = _rows(places, rows)
    found = _unmoved(places, there)
    rest = [one for one in places if one.id not in found and one.has_key]
    taken = set(found.values())
    free: dict[str | None, list[str]] = {}
    for row_id, key in there.items():
        if row_id not in taken:
            free.setdefault(key, []).append(row_id)
    wanted = Counter(one.row_key for one in rest)
    found |= {
        one.id: free[one.row_key][0]
        for one in rest
        if wanted[one.row_key] == 1 and len(free.get(one.row_key, ())) == 1
    }
    return [(one, found.get(one.id)) for one in places]


def _unmoved(places: Sequence[Place], there: dict[str, str | None]) -> dict[int, str]:
    """Row ids of the places whose row is where it was; those that have it come before orphans."""
    found: dict[str, int] = {}
    for one in sorted(places, key=lambda one: one.slot != one.row_id):
        if one.row_id in there and (not one.has_key or there[one.row_id] == one.row_key):
            found.setdefault(one.row_id, one.id)
    return {place: row_id for row_id, place in found.items()}


def _rows(places: Sequence[Place], rows: pa.Table) -> dict[str, str | None]:
    """Keys of the rows that may be one of these, by row id."""
    ids = pa.array([one.row_id for one in places], pa.string())
    keys = pa.array([one.row_key for one in places if one.has_key], pa.string())
    named = [rows[name].cast(pa.string()) for name in ("row_id", "row_key")]
    few = (
        rows.select([])
        .append_column("row_id", named[0])
        .append_column("row_key", named[1])
        .filter(pc.or_(pc.is_in(named[0], value_set=ids), pc.is_in(named[1], value_set=keys)))
    )
    return dict(zip(few["row_id"].to_pylist(), few["row_key"].to_pylist(), strict=True))
