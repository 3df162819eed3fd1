"""The flow that finds a night's files, and waits for them when the pipeline says so."""

from __future__ import annotations

from datetime import date as Date  # noqa: N812 (`date` is a parameter of the flow)

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import alerts
from flows.config import Pipeline, load_pipeline
from flows.context import logical_date
from flows.errors import NoDataError, VaewatchError
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
    if patient:
        _tell_if_late(loaded, day)
    found: list[InputFile] = (waiting_task if patient else find_task)(loaded, day, file)
    return found


def _tell_if_late(pipeline: Pipeline, day: Date) -> None:
    """Tell that a night has not come when it should, before it is waited for."""
    try:
        find_files(pipeline, day)
    except NoDataError as error:
        alerts.night_late(pipeline, day, str(error))
    except VaewatchError:  # the task says so
        return
