"""The flow that scores many nights of the past: what is finished stays, what fails holds up no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import progress
from flows.config import load_pipeline
from flows.context import parse_date
from flows.errors import VaewatchError
from flows.planning import Step, plan
from flows.retries import STORE_FAILED
from flows.score import score

__all__ = ["backfill"]

plan_task = task(name="plan nights", cache_policy=NO_CACHE, **STORE_FAILED)(plan)


@flow(name="backfill", validate_parameters=False)
def backfill(
    pipeline: str,
    first: str,
    last: str,
    version: str | None = None,
    as_of: bool = False,
    parallel: int = 1,
    newest_first: bool = False,
) -> list[dict[str, Any]]:
    """Score the nights of a span that are not finished.

    Parameters
    ----------
    pipeline
        Path of the pipeline file.
    first, last
        Dates, YYYY-MM-DD, both included.
    version
        The model version to score with; by default the live one.
    as_of
        Score each night with the version that was live when it was due.
    parallel
        Nights that are scored at once; each of them uses all cores where it can.
    newest_first
        Begin with the last night.

    Returns
    -------
    list of dict
        One report a night, oldest first, see `report.night_report`; of a night that failed, ``status`` is
        ``failed`` and ``error`` says why.
    """
    loaded = load_pipeline(pipeline)
    steps = plan_task(loaded, parse_date(first), parse_date(last), version=version, as_of=as_of)
    reports = _run(pipeline, steps[::-1] if newest_first else steps, parallel)
    return [{"pipeline": loaded.name, **reports[step]} for step in steps]


def _run(pipeline: str, steps: Sequence[Step], parallel: int) -> dict[Step, dict[str, Any]]:
    reports: dict[Step, dict[str, Any]] = {}
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=parallel)
    with runner:
        waiting: dict[PrefectFuture[Any], Step] = {
            runner.submit(night_task, {"pipeline": pipeline, "step": step}): step for step in steps
        }
        for done, future in enumerate(as_completed(list(waiting)), 1):
            reports[waiting[future]] = future.result()
            progress.advance("nights", done, len(steps))
    return reports


def _night(pipeline: str, step: Step) -> dict[str, Any]:
    """Score one night; an error is told, whatever it is, and no other night suffers from it."""
    head = {"date": str(step.day), "version": step.version, "why": step.why}
    if step.action in ("skip", "fail"):
        failed = step.action == "fail"
        return {**head, "status": "failed" if failed else "skipped", "error": step.why if failed else None}
    try:
        return {**head, **score(pipeline, str(step.day), version=step.version), "error": None}
    except VaewatchError as error:
        return {**head, "status": "failed", "error": str(error)}
    except Exception as error:  # a night that cannot even fail properly holds up no other
        return {**head, "status": "failed", "error": f"{type(error).__name__}: {error}"}


night_task = task(name="night", cache_policy=NO_CACHE, persist_result=False)(_night)
