"""The columns that we add: scores, reasons, and the names of rows. Arrow in, Arrow out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flows.cells import plain_rows
from flows.errors import SchemaError

if TYPE_CHECKING:
    from vae_core import Reason, Scores

__all__ = [
    "BROKEN",
    "LINEAGE",
    "NIGHT",
    "STAGED",
    "UNLIKE",
    "added_names",
    "contributions",
    "flag_columns",
    "identity_columns",
    "is_staged",
    "refuse_clashes",
    "row_keys",
    "score_columns",
    "staged_name",
    "type_of",
]

REASONS = 3
SCORES = ("reconstruction_loss", "anomaly_score", "p_value", "severity")
DECISION = ("is_anomaly", "threshold")
REASON_PARTS = ("column", "kind", "value", "expected", "share")
IDENTITY = ("row_id", "row_key", "batch_file", "row_number")
LINEAGE = ("model_name", "model_version", "run_id", "scored_at")
HIDDEN = "(sensitive)"
BROKEN = "broken_rules"
NIGHT = "dt"
"""What the folders of results tell their night by: ``dt=2013-07-06``."""
STAGED = {name: pa.float64() for name in SCORES} | {
    "row_id": pa.string(),
    "batch_file": pa.string(),
    "row_number": pa.int64(),
}
"""What is known of a row before the night's line is drawn, and its types."""
UNLIKE = (*SCORES, "row_id", "row_number")
"""Columns whose values hardly repeat."""


def staged_name(name: str) -> str:
    """Name of a staged column beside a table's own, where any name may be taken."""
    return f"\x00{name}"


def is_staged(name: str) -> bool:
    """Whether a name is one of `staged_name`."""
    return name.startswith("\x00")


def type_of(name: str) -> pa.DataType:
    """Type of a column that we add."""
    if name in STAGED:
        return STAGED[name]
    if name == "scored_at":
        return pa.timestamp("us", "UTC")
    if name == "is_anomaly":
        return pa.bool_()
    return pa.float64() if name == "threshold" or name.endswith("_share") else pa.string()


def added_names(prefix: str = "") -> list[str]:
    """Names of all columns that flags have beside the table's own."""
    reasons = [f"reason_{i}_{part}" for i in range(1, REASONS + 1) for part in REASON_PARTS]
    return [prefix + name for name in (*SCORES, *DECISION, *reasons, *IDENTITY, *LINEAGE)]


def refuse_clashes(names: Sequence[str], prefix: str) -> None:
    """Refuse a table that has columns of the names that we add, whatever their case (DuckDB knows none).

    Nor may a column be called as the folders of results tell their night, ``dt``: who reads them all would
    get two of it. Nor may a name hold a NUL, by which we tell our columns from a table's own meanwhile.

    Raises
    ------
    SchemaError
        The message names them and the setting that avoids them.
    """
    with_nul = [name for name in names if "\0" in name]
    if with_nul:
        raise SchemaError(
            f"names of columns without NUL were required, however {', '.join(with_nul[:5])} came; rename them"
        )
    nights = [name for name in names if name.lower() == NIGHT]
    if nights:
        raise SchemaError(
            f"columns of other names than {NIGHT} were required, by which the folders of results tell their"
            f" night, however {', '.join(nights)} came; rename it, or list it under `columns: ignore`: the"
            " results then leave it out"
        )
    ours = {name.lower() for name in (*added_names(prefix), prefix + BROKEN)}
    clashes = sorted(name for name in names if name.lower() in ours)
    if clashes:
        raise SchemaError(
            f"columns of other names than ours were required, however {', '.join(clashes)} came;"
            " set `prefix` in the pipeline file, for example to vw_"
        )


def score_columns(scores: Scores, rows: np.ndarray[Any, Any]) -> dict[str, pa.Array]:
    """Score columns of the rows in a mask [n]."""
    chosen = scores.of(rows)
    return {name: pa.array(getattr(chosen, name)) for name in SCORES}


def identity_columns(file_key: str, numbers: np.ndarray[Any, Any]) -> dict[str, pa.Array]:
    """Row id, file and number of rows, numbers [n] counted from 0 in their file."""
    return {
        "row_id": row_ids(file_key, numbers),
        "batch_file": pa.repeat(pa.scalar(file_key), len(numbers)),
        "row_number": pa.array(numbers, pa.int64()),
    }


def row_ids(file_key: str, numbers: np.ndarray[Any, Any]) -> pa.Array:
    """16 hexadecimal digits a row: a hash of its file's name, mixed with its number (splitmix64)."""
    seed = int.from_bytes(hashlib.blake2b(file_key.encode(), digest_size=8).digest(), "big")
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    digits = (x ^ (x >> np.uint64(31))).astype(">u8").tobytes().hex().encode()
    offsets = np.arange(0, len(digits) + 1, 16, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(numbers), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(digits)]
    )


def row_keys(batch: pa.RecordBatch, keys: Sequence[str], sensitive: Collection[str]) -> pa.Array:
    """JSON of the key columns of each row, without sensitive ones."""
    named = [name for name in keys if name in batch.schema.names and name not in sensitive]
    rows = plain_rows(batch.select(named)) if named else [{}] * batch.num_rows
    return pa.array([json.dumps(row, default=str, ensure_ascii=False) for row in rows], pa.string())


def flag_columns(reasons: Sequence[Sequence[Reason]], sensitive: Collection[str]) -> dict[str, pa.Array]:
    """Columns ``reason_1_column`` … ``reason_3_share``; null where a row has fewer reasons."""
    columns: dict[str, pa.Array] = {}
    for i in range(REASONS):
        picked = [row[i] if i < len(row) else None for row in reasons]
        for part in REASON_PARTS:
            values = [_part(reason, part, sensitive) for reason in picked]
            columns[f"reason_{i + 1}_{part}"] = pa.array(
                values, pa.float64() if part == "share" else pa.string()
            )
    return columns


def _part(reason: Reason | None, part: str, sensitive: Collection[str]) -> Any:
    if reason is None:
        return None
    if part in ("value", "expected") and reason.column in sensitive:
        return HIDDEN
    return getattr(reason, part)


def contributions(
    row_id: pa.Array, columns: Sequence[str], losses: np.ndarray[Any, Any], shares: np.ndarray[Any, Any]
) -> pa.RecordBatch:
    """Long table of the losses [n, c] in nats and shares [n, c] of rows."""
    repeated = row_id.take(pa.array(np.repeat(np.arange(len(row_id)), len(columns))))
    names = pa.array(list(columns) * len(row_id), pa.string())
    return pa.RecordBatch.from_arrays(
        [repeated, names, pa.array(losses.ravel()), pa.array(shares.ravel())],
        ["row_id", "column", "loss", "share"],
    )
