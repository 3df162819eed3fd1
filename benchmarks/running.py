"""Fits, one after the other or several at once, each kept on disk: a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.digests import code_digest
from benchmarks.methods import Method
from benchmarks.protocol import Task, verdict

__all__ = ["Job", "Outcome", "outcomes_of"]

PROTOCOL_FILE = Path(__file__).parent / "protocol.py"


@dataclass(frozen=True)
class Outcome:
    """What one fit came to: AUROC and average precision in percent, CPU-seconds; ``failure`` is a reason."""

    dataset: str
    seed: int
    protocol: str
    method: str
    auroc: float
    aucpr: float
    fit_seconds: float
    score_seconds: float
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """One fit: a method on a set, under a protocol, with a seed."""

    task: Task
    seed: int
    protocol: str
    method: Method
    limit: int

    def file_name(self) -> str:
        """Name of its kept outcome: the same as long as data, settings and code are."""
        about = [self.task.digest, self.limit, self.method.token(), code_digest([PROTOCOL_FILE])]
        about += [dict(self.task.kinds)]
        digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8).hexdigest()
        method = "".join(letter if letter.isalnum() else "-" for letter in self.method.name)
        return f"{self.task.name}.{self.seed}.{self.protocol}.{method}.{digest}.json"

    def outcome(self) -> Outcome:
        """Fit and score; a method that fails is counted as chance, with the reason."""
        case = self.task.case(self.protocol, self.seed, self.limit)
        about = (self.task.name, self.seed, self.protocol, self.method.name)
        try:
            trial = self.method.tried(case, self.seed)
        except Exception as error:
            chance = 100 * float(case.labels.mean())
            return Outcome(
                *about, 50.0, chance, float("nan"), float("nan"), f"{type(error).__name__}: {error}"
            )
        broken = int((~np.isfinite(trial.scores)).sum())
        auroc, aucpr = verdict(case.labels, np.nan_to_num(trial.scores))
        failure = f"{broken} scores are not finite" if broken else None
        return Outcome(*about, auroc, aucpr, trial.fit_seconds, trial.score_seconds, failure)


def outcomes_of(jobs: Iterable[Job], cache: Path, workers: int, console: Console) -> list[Outcome]:
    """Outcomes of all jobs; those kept in ``cache`` are read, the others are fitted and kept."""
    cache.mkdir(parents=True, exist_ok=True)
    files = {job: cache / job.file_name() for job in jobs}
    missing = [job for job, file in files.items() if not file.exists()]
    console.print(f"{len(missing)} fits to do, {len(files) - len(missing)} kept from before")
    for job, outcome in _progress(missing, workers, console):
        _keep(outcome, files[job])
    return [Outcome(**json.loads(file.read_text())) for file in files.values()]


def _keep(outcome: Outcome, file: Path) -> None:
    aside = file.with_suffix(".part")
    aside.write_text(json.dumps(asdict(outcome)))
    aside.replace(file)


def _progress(jobs: list[Job], workers: int, console: Console) -> Iterator[tuple[Job, Outcome]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not jobs) as progress:
        bar = progress.add_task("fitting", total=len(jobs))
        for job, outcome in _done(jobs, workers):
            yield job, outcome
            progress.update(bar, advance=1, description=f"{job.method.name} on {job.task.name}")


def _done(jobs: list[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    if workers == 1:
        yield from ((job, job.outcome()) for job in jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        running = {pool.submit(job.outcome): job for job in jobs}
        for future in as_completed(running):
            yield running[future], future.result()
