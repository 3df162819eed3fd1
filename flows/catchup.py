"""Which nights a schedule has missed: they were due, their files are there, and nobody scored them."""

from __future__ import annotations

from datetime import date

from flows.config import Pipeline
from flows.due import due_before
from flows.errors import InputError
from flows.manifest import scored_nights
from flows.storage import Store
from flows.tables import discover

__all__ = ["missed"]


def missed(pipeline: Pipeline, day: date) -> list[date]:
    """Return the nights before ``day`` to score first, oldest first.

    Of the last ``schedule.catch_up`` nights that were due, those without results whose files have arrived.
    Before the first night with results nothing was missed. A source without dates holds one night only.
    """
    scored = scored_nights(Store.of(pipeline.output_path))
    if not scored:
        return []
    due = due_before(pipeline.schedule, day, pipeline.schedule.catch_up)
    waiting = [one for one in due if one not in scored and one > min(scored)]
    arrived = _arrived(pipeline) if waiting else set()
    return [one for one in waiting if one in arrived]


def _arrived(pipeline: Pipeline) -> set[date]:
    source = pipeline.source
    try:
        nights = discover(pipeline.source_path, partition=source.partition, date_pattern=source.date_pattern)
    except InputError:
        return set()
    return {day for day in nights if day is not None}
