"""The flow that shows a bounded sample of a night to Great Expectations."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.checker import check_aside
from flows.config import load_pipeline
from flows.context import logical_date
from flows.retries import STORE_FAILED
from flows.sources import find_files

__all__ = ["validate"]

check_task = task(name="check sample", cache_policy=NO_CACHE, **STORE_FAILED)(check_aside)


@flow(name="validate", validate_parameters=False)
def validate(
    pipeline: str,
    date: str | None = None,
    file: str | None = None,
    files: Any = None,
    version: str | None = None,
) -> dict[str, Any]:
    """Validate a night without scoring it: what ``vaewatch check`` runs, and the first half of scoring."""
    from flows.champion import model_task
    from flows.context import champion_detector
    from flows.night import expected_schema

    loaded = load_pipeline(pipeline)
    day = logical_date(loaded, date, None)
    found = find_files(loaded, day, file) if files is None else files
    detector = champion_detector(loaded, model_task(loaded, version))
    checked: dict[str, Any] = check_task(loaded, day, found, expected_schema(detector))
    return checked
