"""What a night that is scored again has lost and gained against the scoring before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from flows.commit import part_key
from flows.errors import InputError, StoreError
from flows.manifest import Manifest, ManifestInput
from flows.reader import TableReader
from flows.storage import Store

__all__ = ["changes_of", "changes_text"]


def changes_of(
    before: Manifest, store: Store, inputs: Sequence[ManifestInput], flags: Path | None, row_id: str
) -> dict[str, Any]:
    """Compare a night in the making with the one that is visible.

    Parameters
    ----------
    before, store
        The finished night, and where its tables lie.
    inputs
        Files of the new scoring.
    flags
        Its staged flags; None when there are none.
    row_id
        Name of the column that tells rows apart.

    Returns
    -------
    dict
        ``files_added``, ``files_changed``, ``files_gone``: paths; ``flags_gained``, ``flags_lost``,
        ``flags_kept``: numbers of rows, None when the flags before cannot be read.
    """
    then, now = ({one.path: one.digest for one in files} for files in (before.inputs, inputs))
    return {
        "files_added": sorted(now.keys() - then.keys()),
        "files_changed": sorted(path for path in now.keys() & then.keys() if now[path] != then[path]),
        "files_gone": sorted(then.keys() - now.keys()),
        **_flags(_flagged_before(before, store, row_id), _flagged_now(flags, row_id)),
    }


def changes_text(changes: dict[str, Any]) -> str:
    """The changes in one sentence, for people."""
    names = {"files_added": "added", "files_changed": "changed", "files_gone": "gone"}
    files = [f"{len(changes[key])} {word}" for key, word in names.items() if changes[key]]
    said = f"scored again, files: {', '.join(files) or 'the same'}"
    if changes["flags_kept"] is None:
        return f"{said}; the flags before could not be read"
    kept, gained, lost = (changes[f"flags_{word}"] for word in ("kept", "gained", "lost"))
    return f"{said}; flags: {kept:,} kept, {gained:,} gained, {lost:,} lost"


def _flags(then: set[str] | None, now: set[str]) -> dict[str, int | None]:
    if then is None:
        return {"flags_gained": None, "flags_lost": None, "flags_kept": None}
    return {
        "flags_gained": len(now - then),
        "flags_lost": len(then - now),
        "flags_kept": len(now & then),
    }


def _flagged_before(before: Manifest, store: Store, row_id: str) -> set[str] | None:
    key = part_key("flags", before.date)
    if "flags" in before.pruned:
        return None
    if key not in {one.path for one in before.outputs}:
        return set()
    try:
        with TableReader(store.uri(key), store.open_input(key), {}) as reader:
            return _ids(reader, row_id)
    except (StoreError, InputError, KeyError):
        return None


def _flagged_now(flags: Path | None, row_id: str) -> set[str]:
    return set() if flags is None else set(pq.ParquetFile(flags).read([row_id])[row_id].to_pylist())


def _ids(reader: TableReader, row_id: str) -> set[str]:
    return {one for batch in reader.batches([row_id]) for one in batch.column(row_id).to_pylist()}
