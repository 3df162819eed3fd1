"""The flow that scores many nights of the past: what is finished stays, what fails holds up no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectConcurrentFuture, PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import progress
from flows.config import load_pipeline
from flows.context import parse_date
from flows.errors import VaewatchError
from flows.planning import Step, plan
from flows.retries import STORE_FAILED
from flows.score import score

__all__ = ["StoppedError", "backfill"]

plan_task = task(name="plan nights", cache_policy=NO_CACHE, **STORE_FAILED)(plan)


class StoppedError(KeyboardInterrupt):
    """Ctrl-C in the middle of a backfill: nights in progress are still worked on until the process ends.

    Parameters
    ----------
    reports
        Of the nights that are done, oldest first.
    nights
        How many there were to do.
    """

    def __init__(self, reports: list[dict[str, Any]], nights: int) -> None:
        super().__init__()
        self.reports = reports
        self.nights = nights


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
    reports: dict[Step, dict[str, Any]] = {}
    try:
        _run(pipeline, steps[::-1] if newest_first else steps, parallel, reports)
    except KeyboardInterrupt:
        raise StoppedError(_told(loaded.name, steps, reports), len(steps)) from None
    return _told(loaded.name, steps, reports)


def _told(name: str, steps: Sequence[Step], reports: Mapping[Step, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"pipeline": name, **reports[step]} for step in steps if step in reports]


def _run(pipeline: str, steps: Sequence[Step], parallel: int, reports: dict[Step, dict[str, Any]]) -> None:
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=parallel)
    with ExitStack() as stack:
        stack.enter_context(runner)
        waiting: dict[PrefectFuture[Any], Step] = {
            runner.submit(night_task, {"pipeline": pipeline, "step": step}): step for step in steps
        }
        try:
            for done, future in enumerate(as_completed(list(waiting)), 1):
                reports[waiting[future]] = future.result()
                progress.advance("nights", done, len(steps))
        except KeyboardInterrupt:
            reports.update({waiting[one]: one.result() for one in waiting if _is_done(one)})
            stack.pop_all()  # closing the runner would wait for the nights in progress
            raise


def _is_done(future: PrefectFuture[Any]) -> bool:
    """Whether a night has ended; one that has not begun never will."""
    if not isinstance(future, PrefectConcurrentFuture) or future.wrapped_future.cancel():
        return False
    return bool(future.wrapped_future.done())


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
