"""After an outage the schedules of a whole pipeline make up for missed nights, each once, in order.

`benchmarks/outage.py` kills the server and all others for that; here a run is missing, or comes twice.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Pending, Running, Scheduled

from flows.config import Pipeline
from flows.context import model_ref
from flows.deployments import ask_for_missed, schedules, timed
from flows.due import due_at
from flows.manifest import Manifest, read_manifest
from flows.processes import child
from flows.scoring import score_files
from flows.sources import find_files
from flows.storage import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NEW_YORK = ZoneInfo("America/New_York")


def manifest(pipeline: Pipeline, night: date) -> Manifest | None:
    return read_manifest(Store.of(pipeline.output_path), night)


def last_nights(count: int) -> list[date]:
    """Return the nights until yesterday's, oldest first."""
    last = datetime.now(NEW_YORK).date() - timedelta(days=1)
    return [last - timedelta(days=i) for i in range(count - 1, -1, -1)]


def missed_nights(project: Any, pipeline: Pipeline, count: int) -> list[date]:
    """Let nights arrive of which the first one alone is scored; return all of them."""
    nights = last_nights(count)
    for night in nights:
        project.land(night)
    score_files(pipeline, nights[0], find_files(pipeline, nights[0]), model_ref(pipeline), {})
    return nights


def assert_each_was_scored_once_in_order(pipeline: Pipeline, nights: list[date]) -> None:
    found = [one for one in (manifest(pipeline, night) for night in nights) if one is not None]
    assert [one.date for one in found] == nights
    assert [one.scored_at for one in found] == sorted(one.scored_at for one in found)
    assert not any(one.history for one in found)


def runs(pipeline: Pipeline) -> list[FlowRun]:
    """Return the finished runs of a pipeline's nightly deployment."""
    nightly = DeploymentFilter.model_validate({"name": {"any_": ["score-nightly"]}})
    named = FlowFilter.model_validate({"name": {"any_": [pipeline.name]}})
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_filter=named, deployment_filter=nightly)
    return [run for run in found if run.state_name == "Completed"]


def lost_run(pipeline: Pipeline) -> UUID:
    """Return a run of the pipeline that Prefect believes to be running, and that nobody runs."""
    schedules(pipeline)[0].apply()
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"{pipeline.name}/score-nightly")
        run = client.create_flow_run_from_deployment(deployment.id)
        client.set_flow_run_state(run.id, Pending())
        client.set_flow_run_state(run.id, Running())
        assert client.read_flow_run(run.id).state_name == "Running"
    return run.id


def state(run: UUID) -> str | None:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state_name


def test_a_night_fires_by_its_cron_line_after_those_that_were_missed(
    project: Any, prefect_server: str, tmp_path: Path, until: Callable[[Callable[[], bool], float], None]
) -> None:
    """The cron line fires each minute; the first run makes up for three nights.

    With SQLAlchemy 2.1 the scheduler of Prefect 3.8 fails in silence: no run of a cron line ever appears. A
    deployment runs once at a time, so a run that its scheduler lost must not count as running.
    """
    pipeline = project.pipeline("outage", cron="* * * * *")
    lost = lost_run(pipeline)
    command = [sys.executable, "-m", "flows.deployments", str(pipeline.file)]
    with child("the scheduler", command, log=tmp_path / "log", env=os.environ) as scheduler:

        def is_buried() -> bool:
            scheduler.check()
            time.sleep(1)
            return state(lost) == "Crashed"

        def has_fired_by_cron() -> bool:
            scheduler.check()
            time.sleep(2)  # to ask costs the server more than to wait
            return any(run.auto_scheduled for run in runs(pipeline))

        until(is_buried, 300)
        nights = missed_nights(project, pipeline, 4)
        until(has_fired_by_cron, 500)

    assert_each_was_scored_once_in_order(pipeline, nights)


def fired_twice(pipeline: Pipeline, scheduled: datetime) -> list[FlowRun]:
    """Return two runs of one scheduled time: two deployments have the same flow, pipeline and cron line."""
    from flows.score import score

    timed(score, "score-again", pipeline.schedule.score, pipeline).apply()
    due_then: State[Any] = Scheduled(scheduled_time=scheduled)
    with get_client(sync_client=True) as client:
        once_more = client.read_deployment_by_name(f"{pipeline.name}/score-again")
        again = client.create_flow_run_from_deployment(once_more.id, state=due_then)
        asked = client.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"name": {"any_": [pipeline.name]}}),
            flow_run_filter=FlowRunFilter.model_validate({"expected_start_time": {"after_": scheduled}}),
            deployment_filter=DeploymentFilter.model_validate({"name": {"any_": ["score-nightly"]}}),
        )
        due = [run for run in asked if run.expected_start_time == again.expected_start_time]
        for run in (*due, again):
            client.set_flow_run_state(run.id, Pending())
        return [client.read_flow_run(run.id) for run in (*due, again)]


def run_together(fired: list[FlowRun]) -> list[dict[str, Any]]:
    """Run flow runs at the same time, as whoever takes them from the server does; return their reports."""
    from prefect.flow_engine import run_flow

    from flows.score import score

    def run(one: FlowRun) -> Any:
        return run_flow(score, flow_run=one, parameters=one.parameters)

    with ThreadPoolExecutor(len(fired)) as pool:
        return [future.result() for future in [pool.submit(copy_context().run, run, one) for one in fired]]


def test_what_was_missed_is_asked_for_and_a_night_that_fires_twice_at_once_has_one_result(
    project: Any, prefect_server: str
) -> None:
    """Two runs of one scheduled time, at the same time: each night is scored by one of them."""
    pipeline = project.pipeline("twice", cron="30 3 * * *")
    nights = missed_nights(project, pipeline, 4)
    nights = [night for night in nights if due_at(pipeline.schedule, night) <= datetime.now(NEW_YORK)]

    asked = ask_for_missed(pipeline, schedules(pipeline)[0])
    fired = fired_twice(pipeline, due_at(pipeline.schedule, nights[-1]))
    reports = run_together(fired)

    assert asked == nights[-1]
    assert len(reports) == 2
    assert [{report["date"] for report in reports}] == [{str(nights[-1])}]
    told = [[*report.get("caught_up", ()), report] for report in reports]
    scored = [one["date"] for report in told for one in report if one["status"] == "scored"]
    assert sorted(scored) == [str(night) for night in nights[1:]]
    assert {one["status"] for report in told for one in report} == {"scored", "unchanged"}
    assert {state(run.id) for run in fired} == {"Completed"}
    assert_each_was_scored_once_in_order(pipeline, nights)
    assert ask_for_missed(pipeline, schedules(pipeline)[0]) is None
