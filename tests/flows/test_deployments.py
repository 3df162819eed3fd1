"""What is scheduled is registered with its cron line, appears on time, and completes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import Pending, Running

from flows.config import Pipeline, load_pipeline
from flows.deployments import POOL, deploy, timed
from flows.errors import ServerError
from flows.processes import child

PIPELINE = """
version: 1
name: {name}
source: {{path: landing, partition: dt}}
output: results
schedule: {{score: "{score}", train: "0 2 * * 0", timezone: America/New_York}}
"""
NIGHTLY = """
from pathlib import Path
from prefect import flow
from prefect.runtime import flow_run

@flow
def nightly(pipeline: str) -> None:
    Path(pipeline).with_suffix(".scheduled").write_text(str(flow_run.scheduled_start_time))
"""
SERVE = """
import sys
from flows.config import load_pipeline
from flows.deployments import serve, timed
from nightly import nightly
pipeline = load_pipeline(sys.argv[1])
serve([timed(nightly, "score-nightly", pipeline.schedule.score, pipeline)])
"""


def _pipeline(folder: Path, name: str, score: str) -> Pipeline:
    file = folder / f"{name}.yml"
    file.write_text(PIPELINE.format(name=name, score=score))
    return load_pipeline(file)


def _read(full_name: str) -> DeploymentResponse:
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(full_name)


@pytest.mark.usefixtures("prefect_server")
def test_deploy_registers_both_schedules_for_the_work_pool(tmp_path: Path) -> None:
    pipeline = _pipeline(tmp_path, "registered", "30 3 * * *")
    names = deploy(pipeline)
    nightly, weekly = map(_read, names)

    assert names == ["registered/score-nightly", "registered/train-weekly"]
    for found, cron, entrypoint in (
        (nightly, "30 3 * * *", "flows.score.score"),
        (weekly, "0 2 * * 0", "flows.train.train"),
    ):
        assert [one.schedule for one in found.schedules] == [
            CronSchedule(cron=cron, timezone="America/New_York")
        ]
        assert found.entrypoint == entrypoint
        assert found.parameters == {"pipeline": str(tmp_path / "registered.yml")}
        assert found.work_pool_name == POOL
        assert found.global_concurrency_limit is not None
        assert found.global_concurrency_limit.limit == 1


@pytest.mark.usefixtures("prefect_server")
def test_deploying_again_changes_the_schedule(tmp_path: Path) -> None:
    before = [_read(name).id for name in deploy(_pipeline(tmp_path, "moved", "30 3 * * *"))]
    after = [_read(name) for name in deploy(_pipeline(tmp_path, "moved", "15 4 * * *"))]

    assert [one.id for one in after] == before
    assert [one.schedule.cron for one in after[0].schedules] == ["15 4 * * *"]


@pytest.mark.usefixtures("prefect_server")
def test_the_work_pool_runs_processes(tmp_path: Path) -> None:
    deploy(_pipeline(tmp_path, "pooled", "30 3 * * *"))
    with get_client(sync_client=True) as client:
        pool = client.read_work_pool(POOL)

    assert pool.type == "process"
    assert "job_configuration" in pool.base_job_template


def test_schedules_are_not_left_with_a_temporary_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    with pytest.raises(ServerError, match="schedules need a Prefect server that stays, however none runs"):
        deploy(_pipeline(tmp_path, "homeless", "30 3 * * *"))


@pytest.fixture
def minutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Return a pipeline that scores each minute, and whose flow is in the importable module ``nightly``."""
    (tmp_path / "nightly.py").write_text(NIGHTLY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return _pipeline(tmp_path, "minutely", "* * * * *")


@pytest.fixture
def lost_run(minutely: Pipeline, prefect_server: str) -> UUID:
    """Return a run of the pipeline that Prefect believes to be running, and that nobody runs."""
    flow = importlib.import_module("nightly").nightly
    deployment = timed(flow, "score-nightly", "0 0 1 1 *", minutely).apply()
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment)
        for state in (Pending(), Running()):
            client.set_flow_run_state(run.id, state)
        assert client.read_flow_run(run.id).state_name == "Running", prefect_server
    return run.id


@pytest.mark.slow
def test_a_run_scheduled_by_cron_appears_and_completes(
    minutely: Pipeline, lost_run: UUID, tmp_path: Path, until: Callable[[Callable[[], bool], float], None]
) -> None:
    """With SQLAlchemy 2.1 the scheduler of Prefect 3.8 fails in silence: no scheduled run ever appears.

    A deployment runs once at a time, so a run that its scheduler lost must not count as running.
    """
    command = [sys.executable, "-c", SERVE, str(minutely.file)]
    with (
        child("the scheduler", command, log=tmp_path / "log", env=os.environ) as scheduler,
        get_client(sync_client=True) as client,
    ):

        def completed() -> bool:
            scheduler.check()
            states = {run.state_name for run in client.read_flow_runs() if run.auto_scheduled}
            return "Completed" in states

        until(completed, 150)
        assert client.read_flow_run(lost_run).state_name == "Crashed"

    assert minutely.file.with_suffix(".scheduled").read_text().endswith(":00+00:00")
