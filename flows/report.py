"""A night in words: for the terminal, for Prefect's page, for whoever asks for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from flows.breaker import SHIFTED
from flows.cells import plain_rows
from flows.changes import changes_text
from flows.decision import calibration_sentence
from flows.errors import legible
from flows.manifest import Manifest
from flows.storage import Store

if TYPE_CHECKING:
    from flows.config import Pipeline

__all__ = [
    "certification_text",
    "counted",
    "epochs_text",
    "flagged_ids",
    "flags_of",
    "flags_table",
    "night_line",
    "night_markdown",
    "night_report",
    "policy_text",
    "reason_text",
    "remarks_of",
    "selection_text",
    "top_flags",
    "troubles_of",
]


MOST_UNDATED = 20
"""Files that belong to no night and are named in a report."""


def epochs_text(report: dict[str, Any]) -> str:
    """How many epochs a training report counts, and how many of them an interrupted training had left."""
    left = report["epochs_resumed"]
    return counted(report["epochs"], "epoch") + (
        f", {left} of them left by an interrupted training" if left else ""
    )


def counted(number: int, what: str) -> str:
    """A number of things: ``1 file``, ``1,200 files``."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def policy_text(decision: dict[str, Any]) -> str:
    """A policy in words: ``contamination 0.5 %, budget 200``."""
    shares = {name: decision.get(name) for name in ("contamination", "fdr")}
    said = [f"{name} {100 * share:g} %" for name, share in shares.items() if share is not None]
    budget = decision.get("budget")
    return ", ".join(said if budget is None else [*said, f"budget {budget:,}"])


def night_report(
    manifest: Manifest,
    status: str,
    seconds: float,
    validation: dict[str, Any] | None,
    undated: Sequence[str] = (),
) -> dict[str, Any]:
    """The night as plain values.

    ``status`` is ``scored`` or ``unchanged``; ``files`` name what was cast or rejected and why, ``undated``
    the first of the files that belong to no night.
    """
    names = (
        "files_in",
        "files_scored",
        "files_rejected",
        "rows_in",
        "rows_scored",
        "rows_quarantined",
        "rows_flagged",
    )
    return {
        "date": str(manifest.date),
        "pipeline": manifest.pipeline,
        "status": status,
        "seconds": round(seconds, 2),
        **{name: getattr(manifest, name) for name in names},
        "files": [one.model_dump() for one in manifest.inputs],
        "model": manifest.model.model_dump(),
        "decision": manifest.decision,
        "certified": manifest.certified,
        "not_certified": manifest.not_certified,
        "calibration": manifest.calibration,
        "selection": manifest.selection,
        "scored_at": manifest.scored_at,
        "changes": manifest.changes,
        "incident": manifest.incident,
        "pruned": manifest.pruned,
        "validation": validation,
        "undated": list(undated[:MOST_UNDATED]),
    }


def remarks_of(file: dict[str, Any]) -> list[str]:
    """What a night's report says of one file: why it was rejected or what was cast, and what is odd."""
    return [said for said in (file["reason"], *file["warnings"]) if said]


def troubles_of(pipeline: Pipeline, report: dict[str, Any]) -> list[str]:
    """What is wrong with a night, a sentence a matter: rejected files, too many bad rows, an incident."""
    said = [one["reason"] for one in report.get("files", ()) if one["status"] == "rejected"]
    limit, bad = pipeline.validation.max_quarantined_share, report.get("rows_quarantined", 0)
    if bad > limit * max(report.get("rows_in", 0), 1):
        said.append(
            f"at most {limit:.0%} of rows may break row rules, however {bad:,} of {report['rows_in']:,} did; "
            f"see {pipeline.output_path}/quarantine"
        )
    return [*said, report["incident"]["sentence"]] if report.get("incident") else said


def top_flags(pipeline: Pipeline, day: date | str, rows: int | None = None) -> list[dict[str, Any]]:
    """The flags of a night, most anomalous first, at most ``rows`` of them; no others are kept in memory."""
    return flags_of(pipeline, day, flagged_ids(pipeline, day)[:rows])


def flagged_ids(pipeline: Pipeline, day: date | str) -> list[str]:
    """The ``row_id`` of each flag of a night, most anomalous first."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    store, key = Store.of(pipeline.output_path), f"flags/dt={day}/part-0.parquet"
    if not store.exists(key):
        return []
    score, row_id = (f"{pipeline.prefix}{name}" for name in ("anomaly_score", "row_id"))
    with store.open_input(key) as source:
        table = pq.ParquetFile(source).read(columns=[score, row_id])
    order = pc.sort_indices(table, sort_keys=[(score, "descending")])
    found: list[str] = table[row_id].take(order).to_pylist()
    return found


def flags_of(pipeline: Pipeline, day: date | str, row_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Those flags of a night, in this order; ids that the night does not have are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from flows.tables import open_table

    if not row_ids:
        return []
    wanted, name = pa.array(row_ids, pa.string()), f"{pipeline.prefix}row_id"
    key = f"flags/dt={day}/part-0.parquet"
    with open_table(Store.of(pipeline.output_path).uri(key)) as reader:
        few = (one.filter(pc.is_in(one.column(name), value_set=wanted)) for one in reader.batches())
        found = {row[name]: row for batch in few for row in plain_rows(batch)}
    return [found[one] for one in row_ids if one in found]


def reason_text(row: dict[str, Any], i: int, prefix: str = "") -> str:
    """Reason ``i`` of a flagged row in words, empty where it has none."""
    column = row.get(f"{prefix}reason_{i}_column")
    if column is None:
        return ""
    kind, value = row[f"{prefix}reason_{i}_kind"], row[f"{prefix}reason_{i}_value"]
    said = {"unseen_category": " (never seen before)", "out_of_support": " (beyond all training values)"}
    return legible(f"{column} {value}{said.get(kind, '')}, expected {row[f'{prefix}reason_{i}_expected']}")


def flags_table(flags: list[dict[str, Any]], prefix: str = "") -> list[dict[str, Any]]:
    """Flags as the rows of a small table for people."""
    return [
        {
            "severity": round(row[prefix + "severity"], 1),
            "row": legible(row[prefix + "row_key"]),
            **{f"reason {i}": reason_text(row, i, prefix) for i in (1, 2, 3)},
        }
        for row in flags
    ]


def night_markdown(report: dict[str, Any], flags: list[dict[str, Any]], prefix: str = "") -> str:
    """The night as Markdown: counts, files that were odd, the most anomalous rows."""
    lines = [
        f"# {report['pipeline']}, night of {report['date']}",
        "",
        f"**{report['rows_flagged']:,}** of {report['rows_scored']:,} rows flagged, "
        f"{report['rows_quarantined']:,} quarantined; {report['files_scored']} of {report['files_in']} files "
        f"scored with {report['model']['name']} version {report['model']['version']}.",
        "",
        f"{selection_text(report)} {certification_text(report)}".strip(),
        "",
        *([f"**{report['incident']['sentence']}.**", ""] if report.get("incident") else []),
        *([f"{changes_text(report['changes'])}.", ""] if report.get("changes") else []),
        *(f"- {_cell(one['path'])}: {_cell(said)}" for one in report["files"] for said in remarks_of(one)),
        *(f"- Belongs to no night: {_cell(said)}" for said in report.get("undated", ())),
        "",
        "| severity | row | first reason | second reason |",
        "| --- | --- | --- | --- |",
    ]
    for row in flags:
        reasons = (reason_text(row, 1, prefix), reason_text(row, 2, prefix))
        cells = [f"{row[prefix + 'severity']:.1f}", row[prefix + "row_key"], *reasons]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def selection_text(report: dict[str, Any]) -> str:
    """How many flags are expected to be noise, and how many rows a budget left out; empty without flags.

    Of a night that has shifted as a whole nobody knows: its ordinary rows are not like the calibration rows.
    """
    how, flagged = report.get("selection"), report["rows_flagged"]
    if not how:
        return ""
    if report.get("incident") or report.get("not_certified") == SHIFTED:
        return f"Flagged are {flagged:,} of the {how['selected']:,} rows that the policy selects."
    if not flagged:
        return ""
    said = f"About {how['noise_expected']:,.0f} of the {flagged:,} flags are expected to be noise"
    if how["noise_expected"] < 0.5:
        said = f"Hardly any of the {flagged:,} flags is expected to be noise"
    left_out = how["left_out"]
    return f"{said}; the budget left out {left_out:,} rows." if left_out else f"{said}."


def certification_text(report: dict[str, Any]) -> str:
    """Whether the night's false-discovery rate is certified, why not, and what it rests on."""
    if report["certified"]:
        q = report["decision"]["fdr"]
        said = f"Certified: of the flags at most {100 * q:g} % are expected to be false discoveries"
    else:
        reason = report.get("not_certified")
        said = f"Not certified: {reason}" if reason else "Not certified"
    known = report.get("calibration")
    return f"{said}. {calibration_sentence(known)}." if known else f"{said}."


def _cell(text: str) -> str:
    """Text that can break neither a table nor a page."""
    plain = legible(text.replace("\n", " ").replace("\r", " "))
    for sign in "\\|[]`":  # no table, no picture from elsewhere, no link
        plain = plain.replace(sign, f"\\{sign}")
    return plain.replace("<", "&lt;").replace(">", "&gt;")


def night_line(report: dict[str, Any]) -> str:
    """One night in one line."""
    if report["status"] == "skipped":
        return f"{report['date']}  nothing has arrived, skipped"
    return (
        f"{report['date']}  {report['rows_in']:>9,} rows  {report['rows_quarantined']:>5,} quarantined  "
        f"{report['rows_flagged']:>5,} flagged  "
        + ("already scored" if report["status"] == "unchanged" else f"{report['seconds']:.1f} s")
    )
