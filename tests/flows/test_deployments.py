"""What is scheduled is registered with its cron line; see test_outage for what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule

from flows.config import Pipeline, load_pipeline
from flows.deployments import POOL, deploy
from flows.errors import ServerError

PIPELINE = """
version: 1
name: {name}
source: {{path: landing, partition: dt}}
output: results
schedule: {{score: "{score}", train: "0 2 * * 0", timezone: America/New_York}}
"""


def _pipeline(folder: Path, name: str, score: str) -> Pipeline:
    file = folder / f"{name}.yml"
    file.write_text(PIPELINE.format(name=name, score=score))
    return load_pipeline(file)


def _read(full_name: str) -> DeploymentResponse:
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(full_name)


@pytest.mark.usefixtures("prefect_server")
def test_deploy_registers_all_schedules_for_the_work_pool(tmp_path: Path) -> None:
    pipeline = _pipeline(tmp_path, "registered", "30 3 * * *")
    names = deploy(pipeline)
    nightly, weekly, daily = map(_read, names)

    assert names == ["registered/score-nightly", "registered/train-weekly", "registered/monitor-daily"]
    for found, cron, entrypoint in (
        (nightly, "30 3 * * *", "flows.score.score"),
        (weekly, "0 2 * * 0", "flows.train.train"),
        (daily, "30 5 * * *", "flows.monitor.monitor"),
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
