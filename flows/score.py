"""The nightly flow: find files, check a sample, score every row, write the flags, show the night."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment, flow_run

from flows.config import Pipeline, load_pipeline
from flows.context import champion_detector, logical_date, registry_of
from flows.errors import InputError
from flows.expectations import load_suite
from flows.ingest import ingest
from flows.manifest import Manifest, read_manifest
from flows.night import Night
from flows.report import flags_table, night_markdown, night_report, top_flags
from flows.retries import STORE_FAILED
from flows.sources import finished, model_of
from flows.storage import Store
from flows.tables import InputFile
from flows.validate import validate

if TYPE_CHECKING:
    from flows.registry import ModelRef

__all__ = ["score", "score_files"]


def score_files(
    pipeline: Pipeline, day: date, files: list[InputFile], ref: ModelRef, broken: dict[str, str]
) -> Manifest:
    """Score the files of a night and commit its tables.

    Parameters
    ----------
    broken
        Files that break the contract, with how: they are rejected unread.

    Raises
    ------
    InputError
        No file can be scored, and the night has results from before, which stay.
    """
    store = Store.of(pipeline.output_path)
    detector = champion_detector(pipeline, ref)
    with store.stage() as stage:
        night = Night(pipeline, day, detector, model_of(ref), load_suite(Path(pipeline.suite_path)), stage)
        for file in files:
            if file.path in broken:
                night.reject(file, f"{file.path}: breaks the contract: {broken[file.path]}")
        night.read([file for file in files if file.path not in broken])
        before = read_manifest(store, day)
        _keep_what_was_found(night, before)
        night.decide()
        return night.commit(store, before)


def _keep_what_was_found(night: Night, before: Manifest | None) -> None:
    """Refuse to empty a finished night because none of its files can be scored any more."""
    if before is None or not before.files_scored or any(one.status == "scored" for one in night.accounts):
        return
    reasons = "; ".join(str(one.reason) for one in night.accounts)
    raise InputError(f"{reasons}; the results that night {night.day} had before stay as they are")


score_task = task(name="score files", cache_policy=NO_CACHE, **STORE_FAILED)(score_files)


@flow(name="score", validate_parameters=False)
def score(pipeline: str, date: str | None = None, file: str | None = None) -> dict[str, Any]:
    """Score one night with the live model.

    Parameters
    ----------
    pipeline
        Path of the pipeline file.
    date
        The logical date, YYYY-MM-DD; by default the run's scheduled time in its zone, less the lag.
    file
        A single file to score as that night, in place of those of the source.

    Returns
    -------
    dict
        The night's report, see `report.night_report`.
    """
    began = perf_counter()
    loaded = load_pipeline(pipeline)
    day = logical_date(loaded, date, flow_run.scheduled_start_time)
    ref = registry_of(loaded).champion()
    files = ingest(pipeline, str(day), file, wait=deployment.id is not None)
    if not files:
        return {"date": str(day), "pipeline": loaded.name, "status": "skipped"}
    known = finished(loaded, day, files, model_of(ref))
    if known is not None:
        return night_report(known, "unchanged", perf_counter() - began, None)
    checked = validate(pipeline, str(day), file, files)
    manifest = score_task(loaded, day, files, ref, checked["broken"])
    report = night_report(manifest, "scored", perf_counter() - began, checked["report"])
    _show(loaded, report)
    return report


def _show(pipeline: Pipeline, report: dict[str, Any]) -> None:
    """The night on Prefect's page: a summary in words, and its most anomalous rows."""
    flags = top_flags(pipeline, report["date"], 20)
    key = "".join(letter if letter.isalnum() else "-" for letter in pipeline.name.lower())
    create_markdown_artifact(
        night_markdown(report, flags, pipeline.prefix), key=f"{key}-night", description=report["date"]
    )
    create_table_artifact(flags_table(flags, pipeline.prefix), key=f"{key}-flags", description=report["date"])
