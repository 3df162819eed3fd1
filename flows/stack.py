"""The whole stack on one machine: Prefect's server, the schedules, MLflow's page, the review page."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flows import mlflow_page
from flows.addresses import public
from flows.config import Pipeline, load_tracking
from flows.errors import ConfigError, ServerError
from flows.loopback import ADDRESS
from flows.processes import Child, child, free_port, interruptible, watch
from flows.review_page import PORT as REVIEW_PORT
from flows.review_page import review_page
from flows.server import announced, environment, prefect_server, running, url_of
from review.errors import AccessError

__all__ = ["up"]

PREFECT_PORT = 4200
MLFLOW_PORT = 5000
"""Where people expect the pages."""


def up(root: Path, pipelines: Sequence[Pipeline], say: Callable[[str], None]) -> None:
    """Run Prefect's server, the schedules of `pipelines`, MLflow's page and the review page until Ctrl-C.

    No process stays behind. Logs go to ``data/logs``.

    Parameters
    ----------
    root
        The project's folder, the one of ``mlflow.yml``.
    pipelines
        Whose schedules run.
    say
        Called with each line for people.

    Raises
    ------
    ServerError
        The stack of this project is up already; or one of them does not start, or ends by itself: the
        message shows the end of its log.
    """
    already = running(root)
    if already:
        raise ServerError(f"the stack of {root} is up already, at {already}: stop that one first")
    with contextlib.suppress(KeyboardInterrupt), interruptible(), contextlib.ExitStack() as stack:
        children = _start(root, pipelines, say, stack)
        say("Ctrl-C stops them all.")
        watch(children)
    say("Stopped.")


def _start(
    root: Path, pipelines: Sequence[Pipeline], say: Callable[[str], None], stack: contextlib.ExitStack
) -> list[Child]:
    """Start all, MLflow beside the others, and say where they are."""
    port = _port(PREFECT_PORT, "Prefect", say)
    page, address = _mlflow(root, say, stack)
    server = stack.enter_context(prefect_server(root, port, {}))
    say(f"Prefect    http://127.0.0.1:{port}")
    stack.enter_context(announced(root, url_of(port)))
    schedules = stack.enter_context(_schedules(root, pipelines, url_of(port)))
    say(f"Schedules  {', '.join(pipeline.name for pipeline in pipelines)}")
    for one in page:
        one.wait_for(f"{address}/health")
    say(f"MLflow     {address}")
    review = _review(pipelines, say, stack, address, f"http://{ADDRESS}:{port}")
    return [server, schedules, *page, *review]


def _port(preferred: int, name: str, say: Callable[[str], None]) -> int:
    port = free_port(preferred)
    if port != preferred:
        say(f"Port {preferred} is taken, so {name} gets {port}.")
    return port


@contextlib.contextmanager
def _schedules(root: Path, pipelines: Sequence[Pipeline], api: str) -> Iterator[Child]:
    """Run `flows.deployments.serve` during the block, which begins when it asks Prefect for due runs.

    Without the runner's own server: any page could end the schedules by a request to it.
    """
    names = [f"{pipeline.name}/score-nightly" for pipeline in pipelines]
    before = [_last_asked(api, name) for name in names]
    command = [sys.executable, "-m", "flows.deployments", *(str(pipeline.file) for pipeline in pipelines)]
    env = {**os.environ, **environment(root), "PREFECT_RUNNER_SERVER_ENABLE": "false", "PREFECT_API_URL": api}
    with child("the scheduler", command, log=root / "data" / "logs" / "schedules.log", env=env) as schedules:
        schedules.wait_until(
            lambda: all(
                _last_asked(api, one) not in (None, then) for one, then in zip(names, before, strict=True)
            ),
            "ask Prefect for the runs that are due",
        )
        yield schedules


def _last_asked(api: str, deployment: str) -> str | None:
    """When a deployment's due runs were last asked for; None before the first time."""
    try:
        with urllib.request.urlopen(f"{api}/deployments/name/{deployment}", timeout=10) as answer:  # noqa: S310
            asked: str | None = json.load(answer)["last_polled"]
    except (OSError, ValueError):
        return None
    return asked


def _mlflow(root: Path, say: Callable[[str], None], stack: contextlib.ExitStack) -> tuple[list[Child], str]:
    """Start MLflow's page, unless ``mlflow.yml`` names a server that has one; return it and its address."""
    tracking = load_tracking(root)
    if tracking.tracking_uri.startswith("http"):
        return [], public(tracking.tracking_uri)
    port = _port(MLFLOW_PORT, "MLflow", say)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", ADDRESS, "--port", str(port)),
        *("--app-name", "vaewatch"),
        *("--workers", "1", "--default-artifact-root", tracking.artifact_location),
    ]
    env = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes that survive SIGINT
        mlflow_page.PORT: str(port),
        "MLFLOW_BACKEND_STORE_URI": tracking.tracking_uri,  # who lists processes sees no password
        "MLFLOW_REGISTRY_STORE_URI": tracking.registry_uri,
    }
    log = root / "data" / "logs" / "mlflow.log"
    return [
        stack.enter_context(child("MLflow's page", command, log=log, env=env))
    ], f"http://127.0.0.1:{port}"


def _review(
    pipelines: Sequence[Pipeline],
    say: Callable[[str], None],
    stack: contextlib.ExitStack,
    mlflow: str,
    prefect: str,
) -> list[Child]:
    """Start the review page; where it is not installed, or its login is not set up, say so and go on."""
    port = _port(REVIEW_PORT, "the review page", say)
    page = review_page(pipelines, address=ADDRESS, port=port, mlflow=mlflow, prefect=prefect)
    try:
        started = stack.enter_context(page)
    except (ConfigError, AccessError) as error:
        say(f"Review     not started: {error}")
        return []
    say(f"Review     http://{ADDRESS}:{port}")
    return [started]
