"""The whole stack on one machine: Prefect's server, the schedules, MLflow's page."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from flows.config import Pipeline, load_tracking
from flows.errors import ServerError
from flows.processes import Child, child, free_port
from flows.server import announced, environment, prefect_server, running, url_of

__all__ = ["up"]

PREFECT_PORT = 4200
MLFLOW_PORT = 5000
"""Where people expect the pages."""


def up(root: Path, pipelines: Sequence[Pipeline], say: Callable[[str], None]) -> None:
    """Run Prefect's server, the schedules of `pipelines` and MLflow's page until Ctrl-C or SIGTERM.

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
        The stack of this project is up already; or one of the three does not start, or ends by itself: the
        message shows the end of its log.
    """
    already = running(root)
    if already:
        raise ServerError(f"the stack of {root} is up already, at {already}: stop that one first")
    with contextlib.suppress(KeyboardInterrupt), _interruptible(), contextlib.ExitStack() as stack:
        children = _start(root, pipelines, say, stack)
        say("Ctrl-C stops them all.")
        _watch(children)
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
    return [server, schedules, *page]


def _watch(children: Sequence[Child]) -> NoReturn:
    while True:
        for one in children:
            one.check()
        time.sleep(0.5)


def _port(preferred: int, name: str, say: Callable[[str], None]) -> int:
    port = free_port(preferred)
    if port != preferred:
        say(f"Port {preferred} is taken, so {name} gets {port}.")
    return port


@contextlib.contextmanager
def _schedules(root: Path, pipelines: Sequence[Pipeline], api: str) -> Iterator[Child]:
    """Run `flows.deployments.serve` during the block, which begins when schedules are registered."""
    port = str(free_port())
    signs_of_life = {"ENABLE": "true", "HOST": "127.0.0.1", "PORT": port}
    settings = {f"PREFECT_RUNNER_SERVER_{name}": value for name, value in signs_of_life.items()}
    command = [sys.executable, "-m", "flows.deployments", *(str(pipeline.file) for pipeline in pipelines)]
    env = {**os.environ, **environment(root), **settings, "PREFECT_API_URL": api}
    with child("the scheduler", command, log=root / "data" / "logs" / "schedules.log", env=env) as schedules:
        schedules.wait_for(f"http://127.0.0.1:{port}/run_count")
        yield schedules


def _mlflow(root: Path, say: Callable[[str], None], stack: contextlib.ExitStack) -> tuple[list[Child], str]:
    """Start MLflow's page, unless ``mlflow.yml`` names a server that has one; return it and its address."""
    tracking = load_tracking(root)
    if tracking.tracking_uri.startswith("http"):
        return [], tracking.tracking_uri
    port = _port(MLFLOW_PORT, "MLflow", say)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--default-artifact-root", tracking.artifact_location),
        *("--backend-store-uri", tracking.tracking_uri, "--registry-store-uri", tracking.registry_uri),
    ]
    env = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes that survive SIGINT
    }
    log = root / "data" / "logs" / "mlflow.log"
    return [
        stack.enter_context(child("MLflow's page", command, log=log, env=env))
    ], f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into KeyboardInterrupt; ignore more of them while all stops."""
    signs = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> NoReturn:
        for sign in signs:
            signal.signal(sign, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(sign, interrupt) for sign in signs]
    try:
        yield
    finally:
        for sign, handler in zip(signs, before, strict=True):
            signal.signal(sign, handler)
