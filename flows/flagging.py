"""From candidates to flags: reasons, keys and lineage of rows beyond the line, and their contributions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows import results
from flows.casts import plan_casts
from flows.results import type_of
from flows.stake import RANK

if TYPE_CHECKING:
    from vae_core import VAEDetector

__all__ = ["CONTRIBUTIONS", "UNLIKE_SHARES", "Stamp", "expected_schema", "flagged_schema", "flags_of"]

CONTRIBUTIONS = pa.schema(
    [
        ("row_id", pa.string()),
        ("column", pa.string()),
        ("loss", pa.float64()),
        ("share", pa.float64()),
        ("expected", pa.string()),
    ]
)
UNLIKE_SHARES = ("loss", "share")


@dataclass(frozen=True)
class Stamp:
    """What all flags of a night have in common."""

    threshold: float
    model_name: str
    model_version: str
    run_id: str
    scored_at: datetime
    is_anomaly: bool = True
    shown_from: float = -np.inf
    """Score below which nothing is flagged, for a night that tripped the breaker."""
    line: float = -np.inf
    """Rank below which nothing is flagged, where a budget ranks rows by what is at stake."""

    def flags(self, rows: pa.RecordBatch, called: Callable[[str], str]) -> pa.BooleanArray:
        """Which rows are flagged; ``called`` says what the columns that we add are called."""
        flagged = pc.greater_equal(rows.column(called("anomaly_score")), self.threshold)
        if called(RANK) not in rows.schema.names:
            return flagged
        return pc.and_(flagged, pc.greater_equal(rows.column(called(RANK)), self.line))


def expected_schema(detector: VAEDetector) -> tuple[pa.Schema, list[str]]:
    """Columns that a file must have for a detector, and those among them that may be missing (keys)."""
    from vae_core import ColumnKind

    wanted = [column for column in detector.schema_.columns if column.kind is not ColumnKind.IGNORED]
    schema = pa.schema([(column.name, column.arrow_type) for column in wanted])
    return schema, [column.name for column in wanted if not column.is_feature]


def flagged_schema(schema: pa.Schema) -> pa.Schema:
    """A table's columns, then ours under their staged names."""
    return pa.schema(
        [*schema, *((results.staged_name(name), type_of(name)) for name in results.added_names())]
    )


def flags_of(
    detector: VAEDetector,
    rows: pa.RecordBatch,
    schema: pa.Schema,
    stamp: Stamp,
    keys: Sequence[str],
    sensitive: Collection[str],
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Explain rows that are flagged.

    Parameters
    ----------
    detector
        That scored them.
    rows
        A table's own columns, then the staged ones.
    schema
        The table's own columns.
    stamp
        What all flags of the night have in common.
    keys, sensitive
        Names of such columns.

    Returns
    -------
    flags, contributions
        With the columns of `flagged_schema`, and those of `CONTRIBUTIONS`.
    """
    original = rows.select(schema.names)
    expected, optional = expected_schema(detector)
    cast = plan_casts(expected, schema, optional).apply(original)
    columns = {name: rows.column(results.staged_name(name)) for name in results.STAGED}
    columns |= results.flag_columns(detector.explain(cast, results.REASONS), sensitive)
    columns["row_key"] = results.row_keys(cast, keys, sensitive)
    columns |= _constants(stamp, rows.num_rows)
    added = [columns[name].cast(type_of(name)) for name in results.added_names()]
    flags = pa.RecordBatch.from_arrays([*original.columns, *added], schema=flagged_schema(schema))
    return flags, _shares(detector, columns["row_id"], cast, sensitive)


def _constants(stamp: Stamp, rows: int) -> dict[str, pa.Array]:
    names = ("is_anomaly", "threshold", *results.LINEAGE)
    return {name: pa.repeat(pa.scalar(getattr(stamp, name), type_of(name)), rows) for name in names}


def _shares(
    detector: VAEDetector, row_id: pa.Array, cast: pa.RecordBatch, sensitive: Collection[str]
) -> pa.RecordBatch:
    losses = detector.score_batch(cast).column_losses
    over = np.maximum(losses - detector.usual_losses_, 0.0)
    share = over / np.maximum(over.sum(axis=1, keepdims=True), 1e-12)
    names = [one.name for one in detector.schema_.features]
    lines = results.contributions(row_id, names, losses, share)
    expected = _expected(detector, cast, names, sensitive)
    return pa.RecordBatch.from_arrays([*lines.columns, expected], schema=CONTRIBUTIONS)


def _expected(
    detector: VAEDetector, cast: pa.RecordBatch, names: Sequence[str], sensitive: Collection[str]
) -> pa.Array:
    """What the model made of each cell [n * c], in words, row by row."""
    from vae_core.expectation import expect

    encoder = detector.encoder_
    found = expect(detector.model_, encoder, encoder.encode(pa.Table.from_batches([cast])))
    hidden = [results.HIDDEN] * cast.num_rows
    texts = [hidden if name in sensitive else found.text(name, cast.column(name)) for name in names]
    return pa.array([text for row in zip(*texts, strict=True) for text in row], pa.string())
