"""The flow that finds a night's files, and waits for them when the pipeline says so."""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.config import load_pipeline
from flows.context import logical_date
from flows.retries import NIGHT_IS_LATE, STORE_FAILED
from flows.sources import find_files
from flows.tables import InputFile

__all__ = ["ingest"]

find_task = task(name="find files", cache_policy=NO_CACHE, **STORE_FAILED)(find_files)
waiting_task = task(
    name="wait for files",
    cache_policy=NO_CACHE,
    retries=NIGHT_IS_LATE["retries"],
    retry_delay_seconds=NIGHT_IS_LATE["retry_delay_seconds"],
)(find_files)


@flow(name="ingest", validate_parameters=False)
def ingest(
    pipeline: str, date: str | None = None, file: str | None = None, wait: bool = False
) -> list[InputFile]:
    """Find the files of a night; with ``wait``, and where ``on_missing`` says so, wait for a late one."""
    loaded = load_pipeline(pipeline)
    day = logical_date(loaded, date, None)
    patient = wait and loaded.source.on_missing == "wait" and file is None
    found: list[InputFile] = (waiting_task if patient else find_task)(loaded, day, file)
    return found
