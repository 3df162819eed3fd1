"""A cold ``vaewatch score`` against a running server: CPU seconds from the shell to the flags, by part.

``python -m benchmarks.speed.start ARGUMENTS`` is ``vaewatch ARGUMENTS`` with a clock at each part's door.
"""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.speed.data import Table

__all__ = ["Cold", "cold_score"]

PACKAGES = ("torch", "sklearn", "scipy", "pandas", "pyarrow", "mlflow", "sqlalchemy", "prefect")
"""Packages whose imports are told apart; what one imports first is counted as its own, these excepted."""

PIPELINE = """\
version: 1
name: cold
source: {path: landing, partition: dt}
output: results
columns: {key: [id]}
training: {window: 2d, calibration: 1d, detector: {max_steps: 60}}
"""
ROWS = 20_000
TOLD = "clock: "


@dataclass(frozen=True)
class Cold:
    """CPU seconds of one cold scoring, of us and of the process beside us, and wall seconds."""

    seconds: float
    beside: float
    wall: float
    by_part: Mapping[str, float]


@dataclass
class _Clock:
    """CPU seconds of blocks that may lie within each other: each has what its inner ones leave."""

    seconds: dict[str, float] = field(default_factory=dict)
    inner: list[float] = field(default_factory=lambda: [0.0])

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count the block, less the blocks within it."""
        began = time.process_time()
        self.inner.append(0.0)
        try:
            yield
        finally:
            spent = time.process_time() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self.inner.pop()
            self.inner[-1] += spent


def cold_score(folder: Path) -> Cold:
    """Train a small pipeline in a folder, then score a night in a new process against a running server."""
    from flows.processes import free_port
    from flows.server import prefect_server, url_of

    _write_project(folder)
    port = free_port()
    with prefect_server(folder, port, {}):
        env = {**os.environ, "PREFECT_API_URL": url_of(port)}
        _run(folder, env, "train", "--until", "2026-01-02")
        _run(folder, env, "score", "--date", "2026-01-03")  # compiles what is compiled once
        return _run(folder, env, "score", "--date", "2026-01-04")


def _write_project(folder: Path) -> None:
    source = Table(folder, ROWS).files()[0]
    for day in range(1, 5):
        night = folder / "landing" / f"dt=2026-01-0{day}"
        night.mkdir(parents=True, exist_ok=True)
        (night / "part-0.parquet").write_bytes(source.read_bytes())
    (folder / "mlflow.yml").write_text("experiment: cold\n")
    (folder / "pipelines").mkdir(exist_ok=True)
    (folder / "pipelines" / "cold.yml").write_text(PIPELINE)
    for manifest in (folder / "results" / "manifests").glob("*.json"):
        manifest.unlink()


def _run(folder: Path, env: Mapping[str, str], *arguments: str) -> Cold:
    command = [sys.executable, "-m", "benchmarks.speed.start", *arguments]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    began = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env={**env, "PYTHONPATH": path}
    )
    told = [line for line in done.stderr.splitlines() if line.startswith(TOLD)]
    if done.returncode or not told:
        raise RuntimeError(f"vaewatch {' '.join(arguments)} failed: {done.stderr[-2000:]}")
    found = json.loads(told[-1].removeprefix(TOLD))
    return Cold(found["seconds"], found["beside"], time.perf_counter() - began, found["by_part"])


# --- in the process that is measured ----------------------------------------------------------------------


def main() -> None:
    """Run the command line under the clock, and tell what it saw on stderr."""
    from flows.stopwatch import cpu_seconds

    clock = _Clock()
    _watch_imports(clock)
    _watch("flows.checker", "check_aside", "waiting for Great Expectations", clock)
    from flows import cli, context, scoring

    _watch_function(context, "model_ref", "registry", clock)
    _watch_function(scoring, "score_night", "model, rows, reasons, commit", clock)
    sys.argv = ["vaewatch", *sys.argv[1:]]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
    own = time.process_time()
    rest = own - sum(clock.seconds.values())
    _end_checker()
    by_part = {**clock.seconds, "the rest: server, artifacts, Python": rest}
    told = {"seconds": own, "beside": cpu_seconds() - time.process_time(), "by_part": by_part}
    print(f"{TOLD}{json.dumps(told)}", file=sys.stderr)


def _watch_imports(clock: _Clock) -> None:
    """Count the first import of each of `PACKAGES`."""
    original: Callable[..., Any] = builtins.__import__

    def watched(name: str, *rest: Any, **more: Any) -> Any:
        package = name.partition(".")[0]
        if package not in PACKAGES or name in sys.modules:
            return original(name, *rest, **more)
        with clock.of(f"import {package}"):
            return original(name, *rest, **more)

    builtins.__import__ = watched


def _watch(module: str, name: str, part: str, clock: _Clock) -> None:
    _watch_function(import_module(module), name, part, clock)


def _watch_function(module: Any, name: str, part: str, clock: _Clock) -> None:
    """Count what a function of a module takes."""
    original: Callable[..., Any] = getattr(module, name)

    def watched(*arguments: Any, **more: Any) -> Any:
        with clock.of(part):
            return original(*arguments, **more)

    setattr(module, name, watched)


def _end_checker() -> None:
    """End the process beside us, so that what it took is known."""
    from flows.checker import end

    end()


if __name__ == "__main__":
    main()
