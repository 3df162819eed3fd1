"""The page of a monitored night: what stands out in words, charts, all measures. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from flows import charts
from flows.findings import Finding

if TYPE_CHECKING:
    from flows.manifest import Manifest
    from flows.observation import Observation

__all__ = ["notes", "page", "sentences"]

MOST_NAMED = 12  # columns that a sentence names

TITLES = {
    "type_changed": "Types changed",
    "missing_column": "Columns missing",
    "new_column": "Columns that were not learned",
    "null_share": "Shares of nulls changed",
    "unseen_share": "Shares of values never seen changed",
    "psi": "Drifted",
    "score_psi": "The scores as a whole have drifted",
    "rows": "The number of rows is unusual",
    "rejected_share": "Files were rejected",
    "quarantined_share": "Too many rows are quarantined",
    "flagged_share": "Too many rows are flagged",
}


def notes(observation: Observation) -> list[str]:
    """What stands out in a night, and what could not be looked at."""
    incident = observation.manifest.incident
    said = [incident["sentence"] + "."] if incident else []
    said += sentences([one for one in observation.findings if one.is_alarming])
    if not observation.detections:
        said.append("No errors were planted to try the model on: no row of the sample is ordinary.")
    if not observation.referenced:
        said.append("The model has no training reference, so drift is not told: train it again.")
    return said


def sentences(findings: Sequence[Finding]) -> list[str]:
    """Findings in words, a sentence a measure, the columns named, the greatest difference first."""
    said = [
        _sentence(title, [one for one in findings if one.metric == metric])
        for metric, title in TITLES.items()
    ]
    blind = [
        f"{_kind(one)} in {one.column} ({one.value:.0%} found)" for one in findings if one.state == "blind"
    ]
    return [one for one in said if one] + ([f"Blind to plain errors: {_listed(blind)}."] if blind else [])


def _sentence(title: str, found: Sequence[Finding]) -> str:
    found = sorted(found, key=lambda one: -abs((one.value or 0.0) - (one.reference or 0.0)))
    named = [f"{one.column} ({_said(one)})" if one.column else _said(one) for one in found]
    return f"{title}: {_listed(named)}." if named else ""


def _said(one: Finding) -> str:
    """A measure in words."""
    if one.metric in {"type_changed", "new_column", "missing_column"}:
        return one.detail
    if one.metric.endswith("_share"):
        usual = "" if one.reference is None else f"{one.reference:.3%} → "
        return f"{usual}{one.value:.3%}" if one.threshold is None or usual else f"{one.value:.3%}"
    return f"index {one.value:.2f}" if one.metric.endswith("psi") else f"{one.value:,.0f}, {one.detail}"


def _kind(one: Finding) -> str:
    return one.metric.removeprefix("power_").replace("_", " ")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


@dataclass(frozen=True)
class Chart:
    """A picture with its headline and how to read it."""

    title: str
    note: str
    svg: str


def page(observation: Observation) -> str:
    """The night as one HTML document without scripts; whatever stands in the data is escaped."""
    from jinja2 import Environment

    environment = Environment(autoescape=True)
    environment.filters["figure"] = lambda value: "" if value is None else f"{value:.4g}"
    template = environment.from_string((files("flows") / "monitor_page.html").read_text(encoding="utf-8"))
    manifest = observation.manifest
    return template.render(
        pipeline=manifest.pipeline,
        date=manifest.date,
        model=f"{manifest.model.name} version {manifest.model.version}",
        rows=manifest.rows_in,
        flagged=manifest.rows_flagged,
        sampled=observation.sampled,
        sentences=notes(observation),
        charts=list(_charts(observation)),
        findings=observation.findings,
    )


def _charts(observation: Observation) -> Iterator[Chart]:
    from vae_core.drift import PSI_LIMITS

    moved = [(str(one.column), one.value or 0.0, one.state) for one in _columns(observation, "psi")]
    if moved:
        note = f"Dashed: watched from {PSI_LIMITS[0]} on, drifted from {PSI_LIMITS[1]} on."
        yield Chart("Drift of columns", note, charts.drift(moved, PSI_LIMITS))
    for metric, title in (("null_share", "Nulls"), ("unseen_share", "Values never seen")):
        pairs = [
            (str(one.column), one.reference or 0.0, one.value or 0.0) for one in _columns(observation, metric)
        ]
        pairs = [one for one in pairs if one[1] or one[2]]
        if pairs:
            yield Chart(title, "Share of the rows, then and now.", charts.shares(pairs))
    if observation.scores.size:
        picture = charts.scores(observation.usual_scores, observation.scores, observation.cut)
        yield Chart("Scores", "Rows beyond the threshold are flagged.", picture)
    yield _volume([*observation.earlier, observation.manifest])
    if observation.detections:
        yield _power(observation)


def _columns(observation: Observation, metric: str) -> list[Finding]:
    return [one for one in observation.findings if one.metric == metric and one.column is not None]


def _volume(nights: Sequence[Manifest]) -> Chart:
    flagged = [night.rows_flagged / max(night.rows_scored, 1) for night in nights]
    dates, rows = [str(night.date) for night in nights], [night.rows_in for night in nights]
    return Chart(
        "Nights", "Rows that came, and the share that was flagged.", charts.volume(dates, rows, flagged)
    )


def _power(observation: Observation) -> Chart:
    kinds = list(dict.fromkeys(one.kind for one in observation.detections))
    columns = list(dict.fromkeys(one.column for one in observation.detections))[: charts.MOST]
    found = np.full((len(columns), len(kinds)), np.nan)
    for one in observation.detections:
        if one.column in columns:
            found[columns.index(one.column), kinds.index(one.kind)] = one.power
    limits = [f"{sight}" for sight in observation.sights]
    note = "Share found of errors planted in a copy of ordinary rows. " + "; ".join(limits) + "."
    return Chart("Planted errors found", note, charts.power(kinds, columns, found))
