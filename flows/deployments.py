"""When flows run: nightly scoring, weekly training, daily monitoring, by the cron lines of a pipeline file.

`deploy` registers them for a work pool, whose workers may run anywhere; `serve` runs them on this machine. A
run loads its flow from the installed package and the pipeline file by its absolute path, so the folder that
it starts in does not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.catchup import missed
from flows.config import Pipeline, load_pipeline
from flows.due import due_at, night_at
from flows.errors import ServerError
from flows.server import api, standing

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State
    from prefect.deployments.runner import RunnerDeployment
    from prefect.flows import Flow

__all__ = ["POOL", "ask_for_missed", "deploy", "run_nights", "schedules", "serve", "timed"]

POOL = "vaewatch"
"""The work pool that `deploy` registers for: ``prefect worker start --pool vaewatch`` runs it."""


def schedules(pipeline: Pipeline) -> list[RunnerDeployment]:
    """Return the deployments ``score-nightly``, ``train-weekly`` and ``monitor-daily`` of a pipeline."""
    from flows.monitor import monitor
    from flows.score import score
    from flows.train import train

    return [
        timed(score, "score-nightly", pipeline.schedule.score, pipeline),
        timed(train, "train-weekly", pipeline.schedule.train, pipeline),
        timed(monitor, "monitor-daily", pipeline.schedule.monitor, pipeline),
    ]


def timed(flow: Flow[..., Any], name: str, cron: str, pipeline: Pipeline) -> RunnerDeployment:
    """Return the deployment that runs a flow of a pipeline at the times of a cron line.

    Parameters
    ----------
    flow
        A Prefect flow of an importable module; its parameter ``pipeline`` is the path of the pipeline file.
    name
        Of the deployment; its full name begins with the pipeline's.
    cron
        Five fields, meant in the pipeline's time zone.
    pipeline
        Whose name, time zone and file are taken.
    """
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    return RunnerDeployment.from_flow(
        flow.with_options(name=pipeline.name),
        name,
        schedule=Cron(cron, timezone=pipeline.schedule.timezone),
        parameters={"pipeline": str(pipeline.file.absolute())},
        concurrency_limit=1,  # a second run waits for the first
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def deploy(pipeline: Pipeline) -> list[str]:
    """Register a pipeline's schedules for the work pool `POOL` of a Prefect server; make the pool if missing.

    Returns
    -------
    The full names of the deployments.

    Raises
    ------
    ServerError
        There is no server that stays to keep them.
    """
    if standing(pipeline.root) is None:
        raise ServerError(
            "schedules need a Prefect server that stays, however none runs:"
            " name yours in PREFECT_API_URL, or run `vaewatch up`, which brings one"
        )
    with api(pipeline.root):
        _make_pool()
        registered = schedules(pipeline)
        for deployment in registered:
            deployment.apply(work_pool_name=POOL)
    return [deployment.full_name for deployment in registered]


def serve(deployments: Sequence[RunnerDeployment]) -> None:
    """Register deployments and run on this machine what they ask for, until SIGINT.

    Runs that fell due while nobody served are made up for: each scores the night that it was meant for.
    """
    import prefect

    _bury_lost_runs(deployments)
    prefect.serve(*deployments, pause_on_shutdown=False, print_starting_message=False)


def run_nights(pipelines: Sequence[Pipeline]) -> None:
    """Serve the schedules of pipelines; nights that were missed are asked for at once.

    Prefect has made runs for the next few times only, so a longer outage leaves nights without any.
    """
    deployments = {pipeline.name: schedules(pipeline) for pipeline in pipelines}
    for pipeline in pipelines:
        ask_for_missed(pipeline, deployments[pipeline.name][0])
    serve([one for some in deployments.values() for one in some])


def ask_for_missed(pipeline: Pipeline, nightly: RunnerDeployment) -> date | None:
    """Let the last night that was missed run now; its run makes up for those before it.

    Returns
    -------
    date or None
        That night; None where none was missed.
    """
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    today = night_at(pipeline.schedule, datetime.now(UTC))
    nights = [day for day in missed(pipeline, today + timedelta(days=1)) if _is_due(pipeline, day)]
    if not nights:
        return None
    nightly.apply()
    due: State[Any] = Scheduled(scheduled_time=due_at(pipeline.schedule, nights[-1]))
    once = f"{nightly.full_name} {nights[-1]}, missed, asked for at {datetime.now(UTC):%Y-%m-%d %H}"
    with get_client(sync_client=True) as client:
        registered = client.read_deployment_by_name(nightly.full_name)
        client.create_flow_run_from_deployment(registered.id, state=due, idempotency_key=once)
    return nights[-1]


def _is_due(pipeline: Pipeline, day: date) -> bool:
    return due_at(pipeline.schedule, day) <= datetime.now(UTC)


def _bury_lost_runs(deployments: Sequence[RunnerDeployment]) -> None:
    """Mark runs as crashed that an earlier `serve` took with it: they would hold up all later ones."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, FlowFilter, FlowRunFilter
    from prefect.states import Crashed

    with get_client(sync_client=True) as client:
        lost = client.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"name": {"any_": [one.flow_name for one in deployments]}}),
            deployment_filter=DeploymentFilter.model_validate(
                {"name": {"any_": [one.name for one in deployments]}}
            ),
            flow_run_filter=FlowRunFilter.model_validate(
                {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
            ),
        )
        for run in lost:
            client.set_flow_run_state(run.id, Crashed(message="The scheduler ended during this run."))


def _make_pool() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template)
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(pool)
        except ObjectAlreadyExists:
            return


if __name__ == "__main__":
    run_nights([load_pipeline(file) for file in sys.argv[1:]])
