"""After an outage the schedules of a whole pipeline make up for missed nights, each once, in order."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowFilter
from prefect.client.schemas.objects import FlowRun
from prefect.states import Pending, Running

from flows.config import Pipeline
from flows.context import model_ref
from flows.deployments import schedules
from flows.manifest import Manifest, read_manifest
from flows.processes import child
from flows.scoring import score_files
from flows.sources import find_files
from flows.storage import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NEW_YORK = ZoneInfo("America/New_York")


def manifest(pipeline: Pipeline, night: date) -> Manifest | None:
    return read_manifest(Store.of(pipeline.output_path), night)


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


def test_missed_nights_are_scored_once_in_order_and_the_schedule_goes_on(
    project: Any, prefect_server: str, tmp_path: Path, until: Callable[[Callable[[], bool], float], None]
) -> None:
    """Three nights were missed, and the last one; the cron line fires each minute, and later runs do nothing.

    With SQLAlchemy 2.1 the scheduler of Prefect 3.8 fails in silence: no run of a cron line ever appears. A
    deployment runs once at a time, so a run that its scheduler lost must not count as running.
    """
    pipeline = project.pipeline("outage", cron="* * * * *")
    last = datetime.now(NEW_YORK).date() - timedelta(days=1)
    nights = [last - timedelta(days=i) for i in range(4, -1, -1)]
    for night in nights:
        project.land(night)
    score_files(pipeline, nights[0], find_files(pipeline, nights[0]), model_ref(pipeline), {})
    lost = lost_run(pipeline)
    command = [sys.executable, "-m", "flows.deployments", str(pipeline.file)]
    with child("the scheduler", command, log=tmp_path / "log", env=os.environ) as scheduler:

        def fired_by_cron_after_the_outage() -> bool:
            scheduler.check()
            return any(run.auto_scheduled for run in runs(pipeline)) and len(runs(pipeline)) > 1

        until(fired_by_cron_after_the_outage, 500)

        assert state(lost) == "Crashed"

    found = [one for one in (manifest(pipeline, night) for night in nights) if one is not None]
    assert [one.date for one in found] == nights
    assert [one.scored_at for one in found] == sorted(one.scored_at for one in found)
    assert not any(one.history for one in found)
