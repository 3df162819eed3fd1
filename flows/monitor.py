"""The monitoring flow: is a night like the training rows, and does its model still see errors."""

from __future__ import annotations

import tempfile
from datetime import date as Date  # noqa: N812 (`date` is a parameter of the flow)
from pathlib import Path
from time import perf_counter
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows import alerts
from flows.config import Pipeline, load_pipeline
from flows.context import champion_detector, logical_date, model_ref, registry_of
from flows.errors import InputError, NoDataError
from flows.findings import Finding, table_of
from flows.manifest import Manifest, read_manifest
from flows.monitor_page import notes, page, sentences
from flows.observation import Observation, observe, scored_files
from flows.reference import read_reference
from flows.registry import Run
from flows.retries import STORE_FAILED
from flows.sources import find_files
from flows.storage import Store
from flows.tables import InputFile, PartWriter, input_file

__all__ = ["monitor", "page_key", "table_key"]

MOST_METRICS = 1000  # of one request to MLflow


def table_key(day: Date) -> str:
    """Place of a night's monitoring table below the output folder."""
    return f"monitor/dt={day}/part-0.parquet"


def page_key(day: Date) -> str:
    """Place of a night's monitoring page below the output folder."""
    return f"reports/monitor-{day}.html"


@flow(name="monitor", validate_parameters=False)
def monitor(pipeline: str, date: str | None = None) -> dict[str, Any]:
    """Hold a scored night to its model's training rows, and try the model on planted errors.

    A night that was monitored before gets a new table and page in place of the old ones.

    Parameters
    ----------
    pipeline
        Path of the pipeline file.
    date
        The logical date, YYYY-MM-DD; by default the run's scheduled time in its zone, less the lag.

    Returns
    -------
    dict
        ``date``, ``pipeline``, ``model``, ``rows``, ``sampled``, ``sentences`` (what stands out),
        ``findings`` (one entry a measure), ``page`` and ``table`` (where they lie), ``seconds``.

    Raises
    ------
    NoDataError
        The night is not scored.
    """
    began = perf_counter()
    loaded = load_pipeline(pipeline)
    day = logical_date(loaded, date, flow_run.scheduled_start_time)
    manifest = _scored(loaded, day)
    seen: Any = observe_task(loaded, manifest)  # Any: mypy takes the task for a coroutine
    text = page(seen)
    write_task(loaded, seen, text)
    log_task(loaded, seen, text)
    report = _report(loaded, seen, perf_counter() - began)
    _show(report)
    _tell(loaded, seen)
    return report


def _scored(pipeline: Pipeline, day: Date) -> Manifest:
    manifest = read_manifest(Store.of(pipeline.output_path), day)
    if manifest is None:
        reason = f"a scored night was required, however {day} is not: `vaewatch score --date {day}`"
        alerts.night_late(pipeline, day, reason)
        raise NoDataError(reason)
    if not manifest.files_scored:
        raise NoDataError(f"a night with rows was required, however no file of {day} could be scored")
    return manifest


def look(pipeline: Pipeline, manifest: Manifest) -> Observation:
    """Observe a night with the model version that scored it."""
    ref = model_ref(pipeline, manifest.model.version)
    folder = registry_of(pipeline).download(ref, pipeline.root / "data" / "models")
    files = scored_files(manifest, _files(pipeline, manifest))
    return observe(pipeline, manifest, files, champion_detector(pipeline, ref), read_reference(folder))


def _files(pipeline: Pipeline, manifest: Manifest) -> list[InputFile]:
    """The night's files of the source, and those that it was scored from though they lie elsewhere."""
    try:
        found = {file.path: file for file in find_files(pipeline, manifest.date)}
    except NoDataError:
        found = {}
    for one in manifest.inputs:
        if one.path not in found:
            found.update(_elsewhere(one.path, manifest.date))
    return list(found.values())


def _elsewhere(path: str, day: Date) -> dict[str, InputFile]:
    try:
        return {path: input_file(path, day)}
    except InputError:  # gone since
        return {}


def write(pipeline: Pipeline, seen: Observation, text: str) -> None:
    """Write the table and the page of a night, each at once, in place of earlier ones."""
    store, day = Store.of(pipeline.output_path), seen.manifest.date
    rows = table_of(seen.findings)
    with store.stage() as stage:
        with PartWriter(stage / "monitor.parquet", rows.schema, keep_empty=True) as writer:
            writer.write(rows)
        store.commit(stage / "monitor.parquet", table_key(day))
    store.write_bytes(page_key(day), text.encode())


def log(pipeline: Pipeline, seen: Observation, text: str) -> None:
    """Log a night's measures to the run that trained its model: a point a night, the day as its step."""
    day = seen.manifest.date
    run = Run(seen.manifest.model.run_id, registry_of(pipeline).stores)
    step = (day - Date(1970, 1, 1)).days
    numbers = [(f"monitor.{_name(one)}", one.value) for one in seen.findings if one.value is not None]
    for first in range(0, len(numbers), MOST_METRICS):
        run.log_history([{"epoch": step, **dict(numbers[first : first + MOST_METRICS])}])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{day}.html"
        file.write_text(text, encoding="utf-8")
        run.log_file(file, "monitor")


def _name(one: Finding) -> str:
    return one.metric if one.column is None else f"{one.metric}.{one.column}"


observe_task = task(name="observe", cache_policy=NO_CACHE, persist_result=False, **STORE_FAILED)(look)
write_task = task(name="write findings", cache_policy=NO_CACHE, **STORE_FAILED)(write)
log_task = task(name="log findings", cache_policy=NO_CACHE)(log)


def _report(pipeline: Pipeline, seen: Observation, seconds: float) -> dict[str, Any]:
    store, manifest = Store.of(pipeline.output_path), seen.manifest
    return {
        "date": str(manifest.date),
        "pipeline": manifest.pipeline,
        "model": manifest.model.model_dump(),
        "rows": manifest.rows_in,
        "sampled": seen.sampled,
        "sentences": notes(seen),
        "blind_below": {sight.column: sight.blind_below for sight in seen.sights},
        "findings": table_of(seen.findings).to_pylist(),
        "table": store.uri(table_key(manifest.date)),
        "page": store.uri(page_key(manifest.date)),
        "seconds": round(seconds, 2),
    }


def _show(report: dict[str, Any]) -> None:
    """The night on Prefect's page: what stands out in words, and the measures behind it."""
    key = "".join(letter if letter.isalnum() else "-" for letter in report["pipeline"].lower())
    said = [f"- {sentence}" for sentence in report["sentences"]] or ["Nothing stands out."]
    head = f"# {report['pipeline']}, night of {report['date']}: monitoring"
    text = "\n".join([head, "", *said, "", f"[Page]({report['page']})"])
    create_markdown_artifact(text, key=f"{key}-monitor", description=report["date"])
    loud = [one for one in report["findings"] if one["state"] != "ok"]
    create_table_artifact(loud, key=f"{key}-measures", description=report["date"])


def _tell(pipeline: Pipeline, seen: Observation) -> None:
    """Tell of drift, and of planted errors that are not found: a cause each, which lasts for nights."""
    drifted = [one for one in seen.findings if one.state in {"drift", "changed"}]
    blind = [one for one in seen.findings if one.state == "blind"]
    for kind, found in (("drift", drifted), ("canary_blindness", blind)):
        if not found:
            alerts.all_is_well(pipeline, kind, "model")
            continue
        said = " ".join(sentences(found))
        marks = "\n".join(sorted(f"{one.metric} {one.column or ''}" for one in found))
        message = f"Night {seen.manifest.date}: {said}"
        alerts.tell(pipeline, alerts.Alert(kind, "model", message, marks))
