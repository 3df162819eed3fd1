"""Whether nights come once and in order after everything was down: ``make bench-outage``."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console

from benchmarks.options import HERE, command, written
from benchmarks.tables import Grid, machine, markdown, shown, versions
from benchmarks.workshop import orders
from flows.config import Pipeline, load_pipeline
from flows.due import due_at
from flows.manifest import Manifest, read_manifest
from flows.processes import answers, free_port
from flows.server import running, url_of
from flows.storage import Store

__all__ = ["main"]

ZONE = "America/New_York"
MARK = "VAEWATCH_BENCH_OUTAGE"
PATIENCE = 900.0  # s for what has to come
LEASE = 30  # s that Prefect lets a run of a worker be silent before another one may have its place
PIPELINE = """\
version: 1
name: flights
source: {{path: landing, partition: dt}}
output: results
columns: {{key: [order]}}
decision: {{budget: 20}}
schedule: {{score: "{cron}", train: "0 0 1 1 *", monitor: "0 0 1 1 *", timezone: America/New_York}}
"""

INTRODUCTION = """\
A schedule scores one night a day. The first of five nights is scored by it. While the second is being
scored, everything is killed at once (`kill -9`): Prefect's server, whoever runs the schedules, the run.
Two more nights fall due meanwhile, and then the newest one, by its own cron line and the clock. Then all is
started again, by the same commands and on the same database, which still holds the run that was killed and
those that Prefect had made for the nights in between.

- `vaewatch up`: server and schedules are those of the stack.
- `worker`: a server of one's own, whose places outlive it (`PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE`);
  `prefect deploy --all` with the project's `prefect.yaml`; `prefect worker start --pool vaewatch`.

A **violation** is a night that is missing, that was scored twice or out of order, two runs at the same time,
or a run that did not end well."""

READING = """\
`runs after`: flow runs of the nightly schedule that ran once all was up again: those that Prefect had made,
and that of `vaewatch up`, which asks for what was missed. The first of them scores all nights that were
missed before its own, the others find theirs done. `lost`: the run that was killed. `vaewatch up` marks it as
crashed; with a worker it stays as running on Prefect's page, and its place is free when its lease ends: after
30 s here, after five minutes by default."""


@dataclass(frozen=True)
class Case:
    """A project with five nights, of which the last is due by the clock in some minutes."""

    root: Path
    pipeline: Pipeline
    nights: list[date]
    due: datetime
    port: int

    @classmethod
    def opened(cls, root: Path, minutes: int) -> Case:
        """Register a model, and choose the cron line."""
        due = (datetime.now(ZoneInfo(ZONE)) + timedelta(minutes=minutes)).replace(second=0, microsecond=0)
        (root / "pipelines").mkdir(parents=True)
        (root / "mlflow.yml").write_text("experiment: outage\n")
        file = root / "pipelines" / "flights.yml"
        file.write_text(PIPELINE.format(cron=f"{due.minute} {due.hour} * * *"))
        pipeline = load_pipeline(file)
        _register(pipeline)
        nights = [due.date() - timedelta(days=i) for i in range(5, 0, -1)]
        return cls(root, pipeline, nights, due, free_port())

    def land(self, night: date, rows: int = 2_000) -> None:
        """Let a night's file arrive."""
        import pyarrow.parquet as pq

        file = Path(self.pipeline.source_path) / f"dt={night}" / "a.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(orders(rows, night.toordinal()), file)

    def manifests(self) -> list[Manifest | None]:
        """What is known of each night."""
        return [read_manifest(Store.of(self.pipeline.output_path), night) for night in self.nights]


def _register(pipeline: Pipeline) -> None:
    """Make a model live, as training does."""
    from flows.context import registry_of
    from flows.expectations import profile, save_suite
    from vae_core import VAEDetector

    rows, folder = orders(1_000, 99), pipeline.root / "detector"
    save_suite(Path(pipeline.suite_path), profile(rows, name="orders", keys=["order"]))
    fitted = VAEDetector(max_epochs=2, n_members=1, random_state=0, kinds={"order": "key"})
    fitted.fit(rows).calibrate(orders(1_000, 98)).save(folder)
    registry = registry_of(pipeline)
    with registry.start_run("outage", {}) as run:
        registry.register(run, folder, example=rows.slice(0, 3).drop_columns(["order"]))


# -- Who runs the schedules ---------------------------------------------------------------------------------


@contextmanager
def _started(
    case: Case, name: str, words: Sequence[str], env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of the project until the block ends; it and all that it starts carry our mark."""
    with (case.root / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=case.root, env=dict(env), stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)


def _environment(case: Case) -> dict[str, str]:
    own = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    ours = {
        MARK: str(case.root),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), own.get("PYTHONPATH", "")]),
    }
    return own | ours


def _server_of_ones_own(case: Case) -> dict[str, str]:
    """Settings that the documentation gives for such a server, and a lease that ends sooner."""
    return {
        "PREFECT_HOME": str(case.root / "data" / "prefect"),
        "PREFECT_API_URL": url_of(case.port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": str(LEASE),
        "DO_NOT_TRACK": "1",
        "PWD": str(case.root),
    }


@contextmanager
def _up(case: Case) -> Iterator[None]:
    """The stack of one machine."""
    command = ["-c", "from flows.cli import main; main()", "up", "--pipeline", str(case.pipeline.file)]
    with _started(case, "up", command, _environment(case)) as process:
        _until(lambda: process.poll() is not None or running(case.pipeline.root) is not None, "the stack")
        os.environ["PREFECT_API_URL"] = running(case.pipeline.root) or ""
        _until(lambda: _runs_of(case, "score-nightly") is not None, "the schedule")
        yield


@contextmanager
def _worker(case: Case) -> Iterator[None]:
    """A server of one's own, deployments of ``prefect.yaml``, a worker of a process pool."""
    os.environ["PREFECT_API_URL"] = url_of(case.port)
    prefect, env = ["-m", "prefect"], _environment(case) | _server_of_ones_own(case)
    with ExitStack() as stack:
        serve = ["server", "start", "--host", "127.0.0.1", "--port", str(case.port), "--no-ui"]
        stack.enter_context(_started(case, "server", [*prefect, *serve], env))
        _until(lambda: answers(f"{url_of(case.port)}/health"), "the server")
        if not (case.root / "prefect.yaml").exists():
            _deploy(case, env)
        worker = ["worker", "start", "--pool", "vaewatch"]
        stack.enter_context(_started(case, "worker", [*prefect, *worker], env))
        yield


def _deploy(case: Case, env: Mapping[str, str]) -> None:
    """The project's own ``prefect.yaml``, with the case's cron line."""
    text = (HERE.parent / "prefect.yaml").read_text()
    line = case.pipeline.schedule.score
    (case.root / "prefect.yaml").write_text(text.replace("30 3 * * *", line, 1))
    for words in (
        ["work-pool", "create", "vaewatch", "--type", "process"],
        ["--no-prompt", "deploy", "--all"],
    ):
        subprocess.run(
            [sys.executable, "-m", "prefect", *words],
            cwd=case.root,
            env=dict(env),
            check=True,
            stdout=subprocess.DEVNULL,
        )


# -- The outage ---------------------------------------------------------------------------------------------


def _outage(case: Case, way: Callable[[Case], Any], nightly: str, console: Console) -> dict[str, Any]:
    """Bring one night, kill everything in the next one, stay down, come back; what has become of it."""
    first, cut, *missed = case.nights
    case.land(first)
    case.land(cut, 400_000)
    try:
        with way(case):
            _ask(case, nightly, [first])
            _until(lambda: case.manifests()[0] is not None, "the first night")
            console.print(f"{nightly}: the first night is scored")
            _ask(case, nightly, [cut])
            _until(lambda: any((Path(case.pipeline.output_path) / ".leases").glob(f"*{cut}*")), "a run")
            _hold(case)
            _ask(case, nightly, missed[:-1])
            _kill(case)
    except subprocess.TimeoutExpired as error:
        raise SystemExit(f"a process did not die: {error}") from error
    console.print(f"{nightly}: everything is dead while night {cut} is scored")
    if datetime.now(UTC) >= case.due:
        raise SystemExit("the outage was to begin before the newest night is due; give more --minutes")
    for night in missed:
        case.land(night)
    time.sleep(max(0.0, (case.due - datetime.now(UTC)).total_seconds() + 5))
    back = time.monotonic()
    with way(case):
        _until(lambda: None not in case.manifests(), "all nights")
        took = time.monotonic() - back
        _until(lambda: _settled(case, nightly), "the end of all runs that were due")
        return _facts(case, nightly, took)


def _ask(case: Case, nightly: str, nights: Sequence[date]) -> None:
    """Make the runs of nights as Prefect's scheduler does, which makes those of a few days ahead."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Scheduled

    url = os.environ["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(_full(case, nightly))
        for night in nights:
            due: Any = Scheduled(scheduled_time=due_at(case.pipeline.schedule, night))
            client.create_flow_run_from_deployment(deployment.id, state=due)


def _full(case: Case, nightly: str) -> str:
    return f"{'score' if nightly == 'flights-nightly' else case.pipeline.name}/{nightly}"


def _runs_of(case: Case, nightly: str) -> list[Any] | None:
    """The runs of the nightly deployment that are due; None where it is not registered."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        try:
            deployment = client.read_deployment_by_name(_full(case, nightly))
        except ObjectNotFound:
            return None
        mine = DeploymentFilter.model_validate({"id": {"any_": [deployment.id]}})
        runs = client.read_flow_runs(deployment_filter=mine)
    return [run for run in runs if run.expected_start_time and run.expected_start_time <= case.due]


def _settled(case: Case, nightly: str) -> bool:
    """Whether all runs that were due have ended, but for the one that was killed."""
    left = [run for run in _runs_of(case, nightly) or [] if run.state and not run.state.is_final()]
    return all(_is_lost(case, run) for run in left)


def _is_lost(case: Case, run: Any) -> bool:
    started = run.start_time
    return run.state_name == "Running" and started is not None and started < case.due


def _processes(case: Case, word: str = "") -> list[int]:
    """The living processes of the case, by what stands in their command lines."""
    mark = f"{MARK}={case.root}"
    folders = (one for one in Path("/proc").iterdir() if one.name.isdecimal())
    ours = (one for one in folders if mark in _read(one / "environ").split("\0"))
    return [int(one.name) for one in ours if word in _read(one / "cmdline").replace("\0", " ")]


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _hold(case: Case) -> None:
    """Stop all but the server: nothing takes the next runs, nothing ends."""
    server = {
        *_processes(case, "prefect_page"),
        *_processes(case, "uvicorn"),
        *_processes(case, "server start"),
    }
    for pid in set(_processes(case)) - server:
        os.kill(pid, signal.SIGSTOP)


def _kill(case: Case) -> None:
    while pids := _processes(case):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.2)
        _reap(pids)


def _reap(pids: Sequence[int]) -> None:
    """Let those that were our own children go."""
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue


def _until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} was to come within {PATIENCE:.0f} s, however it did not")
        time.sleep(0.5)


# -- What has become of it ----------------------------------------------------------------------------------


def _facts(case: Case, nightly: str, took: float) -> dict[str, Any]:
    manifests = [one for one in case.manifests() if one is not None]
    runs = _runs_of(case, nightly) or []
    after = sorted((run for run in runs if run.start_time and run.start_time >= case.due), key=_start)
    overlaps = sum(later.start_time < earlier.end_time for earlier, later in pairwise(after))
    bad = [run for run in after if run.state_name != "Completed"]
    scored = [one.scored_at for one in manifests]
    twice = sum(bool(one.history) for one in manifests)
    return {
        "nights": len(manifests),
        "scored_twice": twice,
        "in_order": scored == sorted(scored),
        "runs_after": len(after),
        "at_once": overlaps,
        "not_well": len(bad),
        "lost": sum(_is_lost(case, run) or run.state_name == "Crashed" for run in runs),
        "seconds": round(took),
        "violations": len(case.nights)
        - len(manifests)
        + twice
        + (scored != sorted(scored))
        + overlaps
        + len(bad),
    }


def _start(run: Any) -> datetime:
    start: datetime = run.start_time
    return start


WAYS = {"vaewatch up": (_up, "score-nightly"), "worker": (_worker, "flights-nightly")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    given, console = _parser().parse_args(arguments), Console()
    figures = {}
    for name in given.ways:
        with tempfile.TemporaryDirectory(prefix="vaewatch-outage-") as folder:
            case = Case.opened(Path(folder).resolve(), given.minutes)
            try:
                figures[name] = _outage(case, *WAYS[name], console)
            finally:
                _kill(case)
                if given.keep:
                    shutil.copytree(case.root, given.keep / name.replace(" ", "-"), dirs_exist_ok=True)
    grid = _grid(figures)
    shown(console, grid)
    written("outage", _page(grid, command("outage", arguments)), {**figures}, given, console)
    if any(one["violations"] for one in figures.values()):
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add = options.add_argument
    add("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    add("--minutes", type=int, default=10, help="from the start to the newest night's time")
    add("--rows", type=int, default=2000, help="rows of a night")
    add("--keep", type=Path, help="folder to copy the projects to, with their logs")
    add("--out", type=Path, default=HERE, help="folder of the page; the figures go to results/ in it")
    return options


HEADS = {
    "nights": "nights scored",
    "scored_twice": "scored twice",
    "in_order": "in order",
    "runs_after": "runs after",
    "at_once": "of them at once",
    "not_well": "not completed",
    "lost": "lost",
    "violations": "violations",
}


def _grid(figures: dict[str, dict[str, Any]]) -> Grid:
    said = {True: "yes", False: "no"}
    rows = [
        [way, *(str(said.get(one[key], one[key]) if key == "in_order" else one[key]) for key in HEADS)]
        for way, one in figures.items()
    ]
    return [["schedules by", *HEADS.values()], *rows]


def _page(grid: Grid, line: str) -> str:
    named = ", ".join(f"{name} {number}" for name, number in versions(("prefect", "sqlalchemy")).items())
    parts = ["# Nights after an outage", INTRODUCTION, markdown(grid), READING, "## How"]
    parts.append(f"`{line}` wrote this page.\n\n{machine()}; {named}.")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
