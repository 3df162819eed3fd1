"""The nightly flow: find files, check a sample, score every row, write the flags, show the night."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from datetime import date as Date  # noqa: N812 (`date` is a parameter of the flow)
from time import perf_counter
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment, flow_run

from flows import alerts
from flows.catchup import missed
from flows.champion import model_task
from flows.checker import warm_up
from flows.config import Pipeline, load_pipeline
from flows.context import logical_date
from flows.errors import VaewatchError, legible
from flows.ingest import ingest
from flows.report import flags_table, night_markdown, night_report, top_flags
from flows.retries import STORE_FAILED
from flows.scoring import score_files
from flows.sources import finished, model_of, strays
from flows.timelimit import time_limit
from flows.triage import after_night
from flows.validate import validate

__all__ = ["score", "score_files"]

_log = logging.getLogger(__name__)

score_task = task(name="score files", cache_policy=NO_CACHE, **STORE_FAILED)(score_files)


@flow(
    name="score", validate_parameters=False, on_failure=[alerts.flow_failed], on_crashed=[alerts.flow_failed]
)
def score(
    pipeline: str, date: str | None = None, file: str | None = None, version: str | None = None
) -> dict[str, Any]:
    """Score one night; a scheduled run first scores the nights before it that were missed.

    Parameters
    ----------
    pipeline
        Path of the pipeline file.
    date
        The logical date, YYYY-MM-DD; by default the run's scheduled time in its zone, less the lag.
    file
        A single file to score as that night, in place of those of the source.
    version
        The model version to score with; by default the live one.

    Returns
    -------
    dict
        The night's report, see `report.night_report`, with ``triage``, see `triage.triage`; ``caught_up``
        are the reports of missed nights, where there were any.
    """
    loaded = load_pipeline(pipeline)
    day = logical_date(loaded, date, flow_run.scheduled_start_time)
    if date is not None or deployment.id is None:
        return _night(loaded, day, file, version, wait=False)
    caught_up = _caught_up(loaded, day)
    with _limited(loaded, day):
        report = _night(loaded, day, file, version, wait=True)
    return {**report, "caught_up": caught_up} if caught_up else report


def _caught_up(pipeline: Pipeline, day: Date) -> list[dict[str, Any]]:
    """Score the missed nights before one; where they cannot even be found, that is their one report."""
    try:
        nights = missed(pipeline, day)
    except Exception as error:  # tonight is scored all the same
        return [_failed(pipeline, None, error)]
    return [_made_up_for(pipeline, one) for one in nights]


def _made_up_for(pipeline: Pipeline, day: Date) -> dict[str, Any]:
    """Score a missed night; when that fails, the nights after it are scored all the same."""
    try:
        with _limited(pipeline, day):
            return score(str(pipeline.file), str(day))
    except Exception as error:  # whatever it is, it holds up no other night
        return _failed(pipeline, day, error)


def _failed(pipeline: Pipeline, day: Date | None, error: Exception) -> dict[str, Any]:
    """Tell, and log, that a night could not be made up for; without a date, that none could be found."""
    said = str(error) if isinstance(error, VaewatchError) else legible(f"{type(error).__name__}: {error}")
    _log.warning("missed night %s of %s: %s", day or "(any)", pipeline.name, said)
    return {
        "date": None if day is None else str(day),
        "pipeline": pipeline.name,
        "status": "failed",
        "error": said,
    }


def _limited(pipeline: Pipeline, day: Date) -> AbstractContextManager[None]:
    return time_limit(pipeline.schedule.time_limit, f"scoring night {day} of {pipeline.name}")


def _night(
    pipeline: Pipeline, day: Date, file: str | None, version: str | None, *, wait: bool
) -> dict[str, Any]:
    began, path = perf_counter(), str(pipeline.file)
    warm_up(pipeline, day)
    ref = model_task(pipeline, version)
    files = ingest(path, str(day), file, wait=wait)
    if not files:
        return {"date": str(day), "pipeline": pipeline.name, "status": "skipped"}
    left = [] if file else _told_of_strays(pipeline)
    known = finished(pipeline, day, files, model_of(ref))
    if known is not None:
        alerts.night_scored(pipeline, known)
        report = night_report(known, "unchanged", perf_counter() - began, None, left)
        return {**report, "triage": after_night(pipeline, day)}
    checked = validate(path, str(day), file, files, version)
    scored = score_task(pipeline, day, files, ref, checked["broken"], flow_run.id)
    report = night_report(scored.manifest, scored.status, perf_counter() - began, checked["report"], left)
    _show(pipeline, report)
    alerts.night_scored(pipeline, scored.manifest)
    return {**report, "triage": after_night(pipeline, day)}


def _told_of_strays(pipeline: Pipeline) -> list[str]:
    """Files that belong to no night; people are told of them."""
    found = strays(pipeline)
    if found is not None:
        alerts.files_undated(pipeline, found)
    return found or []


def _show(pipeline: Pipeline, report: dict[str, Any]) -> None:
    """The night on Prefect's page: a summary in words, and its most anomalous rows."""
    flags = top_flags(pipeline, report["date"], 20)
    key = "".join(letter if letter.isalnum() else "-" for letter in pipeline.name.lower())
    create_markdown_artifact(
        night_markdown(report, flags, pipeline.prefix), key=f"{key}-night", description=report["date"]
    )
    create_table_artifact(flags_table(flags, pipeline.prefix), key=f"{key}-flags", description=report["date"])
