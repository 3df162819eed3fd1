"""Nightly flows whose servers go away and come back: MLflow's, Prefect's, MLflow's database of one file."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from benchmarks.fault_trials import HASTE, FaultTally, answer_of, judged
from benchmarks.gate import Gate, gate
from benchmarks.workshop import DAY, PIPELINE, Workshop, state_of
from flows.processes import Child, child, free_port
from flows.server import api, environment

__all__ = ["SERVERS", "server_faults"]

MLFLOW, PREFECT, LOCKED = "MLflow's server away", "Prefect's server away", "SQLite locked"
SERVERS = (MLFLOW, PREFECT, LOCKED)

SETTINGS = {
    "PREFECT_CLIENT_MAX_RETRIES": "2",  # 6 s of waits in place of 60
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Limits of the clients' own tries, which would only make trials longer."""


def server_faults(
    names: list[str], folder: Path, rows: int, trials: int, say: Callable[[str], None]
) -> dict[str, FaultTally]:
    """Run so many trials of each fault."""
    os.environ |= SETTINGS
    with ExitStack() as stack:
        stand = _Stand(folder, rows, stack)
        return {name: _trials(stand, name, trials, say) for name in names}


class _Stand:
    """A project with two model versions, and its servers behind gates."""

    def __init__(self, folder: Path, rows: int, stack: ExitStack) -> None:
        from flows.context import registry_of
        from flows.server import url_of

        folder.mkdir()
        self.shop = Workshop.opened(folder, rows)
        self.root = folder
        self.database = folder / "runs.db"
        (folder / "mlflow.yml").write_text(f"tracking_uri: sqlite:///{self.database}\nmodel_name: orders\n")
        registry = registry_of(self.shop.pipeline)
        for version, detector in self.shop.detectors.items():
            detector.save(folder / f"detector-{version}")
            with registry.start_run(version, {}) as run:
                registry.register(run, folder / f"detector-{version}", example=self.shop.example())
        self.mlflow = stack.enter_context(gate(self._mlflow_server(stack)))
        port = free_port()
        stack.enter_context(self._prefect_server(port))
        self.prefect = stack.enter_context(gate(port))
        os.environ["PREFECT_API_URL"] = url_of(self.prefect.port)
        stack.callback(self.prefect.open)
        stack.callback(self.mlflow.open)

    def _mlflow_server(self, stack: ExitStack) -> int:
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}"]
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = stack.enter_context(child("MLflow", command, log=self.root / "mlflow.log", env=env))
        server.wait_for(f"http://127.0.0.1:{port}/health")
        return port

    def _prefect_server(self, port: int) -> AbstractContextManager[Any]:
        """Prefect's server as people run it themselves: ours answers nobody who comes through a gate."""
        command = [
            sys.executable,
            "-m",
            "prefect",
            "server",
            "start",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        server = child(
            "Prefect", command, log=self.root / "prefect.log", env={**os.environ, **environment(self.root)}
        )
        return _answering(server, f"http://127.0.0.1:{port}/api/health")

    def score(self, output: str, version: str) -> str:
        """Run the nightly flow as the command line does; returns ``scored`` or ``unchanged``."""
        file = self.root / f"{Path(output).name}.yml"
        file.write_text(
            PIPELINE.replace("output: results", f"output: {output}").replace(
                "decision:", f"validation: {{suite: {self.shop.pipeline.suite_path}}}\ndecision:"
            )
        )
        with api(self.root):
            return str(_flow()(str(file), str(DAY), None, version)["status"])


@contextlib.contextmanager
def _answering(server: AbstractContextManager[Child], url: str) -> Iterator[Child]:
    with server as running:
        running.wait_for(url)
        yield running


def _flow() -> Any:
    """The nightly flow, whose tasks wait ``HASTE`` times shorter between tries."""
    import logging

    from flows import champion, ingest, score, validate

    logging.disable()
    for module, name in (
        (score, "model_task"),
        (score, "score_task"),
        (ingest, "find_task"),
        (validate, "check_task"),
        (champion, "model_task"),
    ):
        task = getattr(module, name)
        waits = task.retry_delay_seconds
        if max(waits) >= 20:  # not yet shortened
            setattr(module, name, task.with_options(retry_delay_seconds=[wait / HASTE for wait in waits]))
    return score.score


def _trials(stand: _Stand, name: str, trials: int, say: Callable[[str], None]) -> FaultTally:
    began, tally = time.monotonic(), FaultTally()
    uri = f"http://127.0.0.1:{stand.mlflow.port}" if name == MLFLOW else f"sqlite:///{stand.database}"
    os.environ["VAEWATCH_TRACKING_URI"] = uri
    chance = random.Random(name)  # noqa: S311
    folder = stand.root / name.replace(" ", "-").replace("'", "")
    expected = [_undisturbed(stand, f"{folder}-undisturbed-{again}", again) for again in range(2)]
    seconds = _timed(lambda: stand.score(f"{folder}-timed", "1"))
    for number in range(trials):
        again, lasting = number % 2, number // 2 % 2
        output, version = f"{folder}-{number}", str(1 + again)
        if again:
            stand.score(output, "1")
        with _struck(stand, name, chance.uniform(0, seconds), 3600 if lasting else chance.uniform(0.2, 1)):
            answer = answer_of(lambda: stand.score(output, version))  # noqa: B023
        judged(tally, name, answer, state_of(output), *expected[again], say)
        healed = answer_of(lambda: stand.score(output, version))  # noqa: B023
        fine = "result" in healed and state_of(output) == expected[again][1]
        tally.healed += fine
        tally.trials += 1
        if not fine:
            tally.violations += 1
            say(f"violation: {name}, trial {number}: not healed: {healed}")
    say(f"{name}: {tally} in {time.monotonic() - began:.0f} s")
    return tally


def _undisturbed(stand: _Stand, output: str, again: int) -> tuple[Any, Any]:
    if again:
        stand.score(output, "1")
    before = state_of(output)
    stand.score(output, str(1 + again))
    return before, state_of(output)


def _timed(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


@contextlib.contextmanager
def _struck(stand: _Stand, name: str, after: float, seconds: float) -> Iterator[None]:
    """Let the fault come after a while, and pass after another, or with the end of the block."""
    over = threading.Event()

    def strike() -> None:
        if over.wait(after):
            return
        with (
            _locked(stand.database)
            if name == LOCKED
            else _shut(stand.mlflow if name == MLFLOW else stand.prefect)
        ):
            over.wait(seconds)

    striking = threading.Thread(target=strike)
    striking.start()
    try:
        yield
    finally:
        over.set()
        striking.join()


@contextlib.contextmanager
def _shut(door: Gate) -> Iterator[None]:
    door.shut()
    try:
        yield
    finally:
        door.open()


@contextlib.contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Hold a database as somebody does who writes and never ends."""
    with contextlib.closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")
