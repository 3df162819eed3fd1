"""What monitoring finds out about a scored night: one row a measure, with its reference, limit and state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.manifest import Manifest
    from vae_core.drift import ColumnDrift, Rate, Shift
    from vae_core.power import Detection, Sight

__all__ = [
    "SCHEMA",
    "Finding",
    "column_findings",
    "night_findings",
    "power_findings",
    "schema_findings",
    "score_findings",
    "table_of",
    "volume_finding",
]

SCHEMA = pa.schema(
    [
        ("column", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("reference", pa.float64()),
        ("threshold", pa.float64()),
        ("state", pa.string()),
        ("detail", pa.string()),
    ]
)
NIGHTS = 3  # earlier nights that volume is compared with at least
VOLUME_LIMITS = (1.5, 2.0)
"""How many times more, or fewer, rows than the median of earlier nights are watched, and are drift."""


@dataclass(frozen=True)
class Finding:
    """One measure of one column, or of the night as a whole (``column`` None).

    ``state`` is ``ok``, ``watch``, ``drift`` (moved away from the training rows), ``changed`` (columns or
    types), ``over`` (beyond a limit of the pipeline file) or ``blind`` (planted errors are not found).
    ``reference`` is what was usual, ``threshold`` the limit; null where there is none.
    """

    column: str | None
    metric: str
    value: float | None
    reference: float | None = None
    threshold: float | None = None
    state: str = "ok"
    detail: str = ""

    @property
    def is_alarming(self) -> bool:
        """Whether someone should look."""
        return self.state not in {"ok", "watch"}


def table_of(findings: Sequence[Finding]) -> pa.RecordBatch:
    """Findings as Arrow rows."""
    return pa.RecordBatch.from_pylist([asdict(one) for one in findings], schema=SCHEMA)


# -- The night as a whole -----------------------------------------------------------------------------------


def night_findings(pipeline: Pipeline, manifest: Manifest) -> Iterator[Finding]:
    """Shares of rejected files, quarantined and flagged rows, against the pipeline file's limits."""
    limits = {
        "rejected_share": (manifest.files_rejected, manifest.files_in, 0.0),
        "quarantined_share": (
            manifest.rows_quarantined,
            manifest.rows_in,
            pipeline.validation.max_quarantined_share,
        ),
        "flagged_share": (manifest.rows_flagged, manifest.rows_scored, pipeline.alerts.max_flag_share),
    }
    for metric, (some, all_of_them, limit) in limits.items():
        share = some / all_of_them if all_of_them else 0.0
        yield Finding(None, metric, share, None, limit, "over" if share > limit else "ok")


def volume_finding(rows: int, earlier: Sequence[int]) -> Finding:
    """Rows of a night beside the median of earlier nights."""
    import numpy as np

    usual = float(np.median(earlier)) if len(earlier) >= NIGHTS else None
    if usual is None:
        return Finding(None, "rows", rows, detail=f"{len(earlier)} earlier nights: too few to compare with")
    factor = max(rows, 1) / max(usual, 1)
    away = max(factor, 1 / factor)
    state = "drift" if away >= VOLUME_LIMITS[1] else "watch" if away >= VOLUME_LIMITS[0] else "ok"
    return Finding(None, "rows", rows, usual, VOLUME_LIMITS[1], state, f"{factor:.2f} times the usual")


def score_findings(shift: Shift | None) -> list[Finding]:
    """How the scores moved from those of the calibration rows."""
    return [] if shift is None else _shifted(None, shift, "score_")


# -- Columns ------------------------------------------------------------------------------------------------


def schema_findings(trained: Mapping[str, str], files: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """Columns that are missing or new, and columns of another type than the training data had.

    Parameters
    ----------
    trained
        Column to type, as learned.
    files
        File to its columns and their types.
    """
    names = dict.fromkeys([*trained, *(name for types in files.values() for name in types)])
    for name in names:
        learned = trained.get(name)
        missing = [file for file, types in files.items() if name not in types]
        others = [types[name] for types in files.values() if name in types and types[name] != learned]
        if learned is None:
            yield _schema(
                name, "new_column", len(others), files, f"{', '.join(sorted(set(others)))}, not learned"
            )
        elif missing:
            yield _schema(name, "missing_column", len(missing), files, f"not in {_listed(missing)}")
        if learned is not None and others:
            now = ", ".join(sorted(set(others)))
            yield _schema(name, "type_changed", len(others), files, f"{learned} → {now}")


def _schema(name: str, metric: str, count: int, files: Mapping[str, Any], detail: str) -> Finding:
    return Finding(name, metric, count / len(files), 0.0, 0.0, "changed", detail)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def column_findings(drifts: Iterable[ColumnDrift]) -> Iterator[Finding]:
    """Drift, shares of nulls and of unseen values of each column."""
    for one in drifts:
        if one.shift is not None:
            yield from _shifted(one.column, one.shift)
        yield _rated(one.column, "null_share", one.nulls)
        if one.unseen is not None:
            yield _rated(one.column, "unseen_share", one.unseen)


def _shifted(column: str | None, shift: Shift, prefix: str = "") -> list[Finding]:
    from vae_core.drift import CERTAIN, PSI_LIMITS

    return [
        Finding(column, f"{prefix}psi", shift.psi, 0.0, PSI_LIMITS[1], shift.state),
        Finding(column, f"{prefix}{shift.test}", shift.statistic, detail=f"{shift.rows:,} rows"),
        Finding(column, f"{prefix}p_value", shift.p_value, None, CERTAIN),
    ]


def _rated(column: str, metric: str, rate: Rate) -> Finding:
    from vae_core.drift import SHARE_LIMITS

    return Finding(column, metric, rate.value, rate.usual, SHARE_LIMITS[1], rate.state)


# -- Planted errors -----------------------------------------------------------------------------------------


def power_findings(
    detections: Sequence[Detection], sights: Sequence[Sight], then: Mapping[tuple[str, str], float]
) -> Iterator[Finding]:
    """Share of planted errors found, by kind and column, beside that share when the model was trained."""
    from vae_core.power import GROSS, HALF

    for one in detections:
        limit = HALF if one.kind in GROSS else None
        usual = then.get((one.kind, one.column))
        state, detail = "blind" if one.blind else "ok", f"{one.found} of {one.planted} found"
        yield Finding(one.column, f"power_{one.kind}", one.power, usual, limit, state, detail)
    for sight in sights:
        yield Finding(sight.column, "blind_below", sight.blind_below, detail=str(sight))
