"""Nights that hold one difficult input each, and a good file beside it, scored by a process that is watched.

The keeper lays an entry of the zoo into the landing folder of a small pipeline, and asks a worker to score
the night with the real flow. A worker that dies or does not answer costs its entry only.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import pyarrow.parquet as pq

__all__ = ["COMPANION", "FIRST", "Keeper", "Reaction", "lay", "project", "reaction_of"]

FIRST = date(2024, 4, 1)
"""The night of the first entry; each further one has the night after."""
COMPANION = "companion.parquet"
PATIENCE, START = 300.0, 1800.0  # seconds: on a busy machine, too, a slow entry is told from one that hangs
DROP_CAPABILITY, OVERRIDE, READ_SEARCH = 24, 1, 2  # of prctl(2) and capabilities(7)
PIPELINE = """\
version: 1
name: zoo
source: {path: landing, partition: dt, on_missing: skip}
output: results
columns: {key: [id]}
decision: {contamination: 0.01}
training: {detector: {max_epochs: 8}}
"""


@dataclass(frozen=True)
class Reaction:
    """What became of an entry's files in their night.

    ``status`` is ``scored``, ``rejected``, ``mixed`` (both came), ``skipped`` (nothing of it was seen),
    ``refused`` (the night failed with a sentence), ``crashed`` or ``hung``. ``said`` are the sentences of
    the report about them; ``seconds`` are of CPU, ``memory`` the peak in bytes, of the processes at work.
    """

    status: str
    said: tuple[str, ...] = ()
    others: bool = False
    rows_in: int = 0
    rows_out: int = 0
    seconds: float = 0.0
    memory: int = 0


# -- The project --------------------------------------------------------------------------------------------


def project(folder: Path, reference: Path) -> None:
    """Write a pipeline whose table is the reference, and train its model."""
    (folder / "mlflow.yml").write_text("experiment: zoo\nmodel_name: zoo\n")
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "zoo.yml").write_text(PIPELINE)
    landed = folder / "landing" / f"dt={FIRST - timedelta(days=1)}" / "train.parquet"
    landed.parent.mkdir(parents=True)
    shutil.copy(reference, landed)
    pq.write_table(pq.read_table(reference).slice(0, 300), folder / COMPANION)


def lay(entry: Mapping[str, Any], zoo: Path, folder: Path, day: date) -> Path:
    """Put an entry and a good file into the landing folder of a night; returns the entry's place there."""
    night = folder / "landing" / f"dt={day}"
    night.mkdir(parents=True)
    shutil.copy(folder / COMPANION, night / COMPANION)
    place = night / Path(entry["name"]).name
    if entry.get("made"):
        _make(place, entry["name"], zoo)
    elif (zoo / entry["name"]).is_dir():
        shutil.copytree(zoo / entry["name"], place)
    else:
        shutil.copyfile(zoo / entry["name"], place)
    return place


def _make(place: Path, name: str, zoo: Path) -> None:
    """Make what cannot live in git."""
    good = zoo / "ok" / "batch.parquet"
    match Path(name).stem:
        case "symlink_loop":
            place.mkdir()
            shutil.copy(good, place / "part.parquet")
            (place / "again").symlink_to(place)
            (place / "self.parquet").symlink_to(place / "self.parquet")
            (place / "dangling.parquet").symlink_to(place / "gone.parquet")
        case "unreadable":
            shutil.copy(good, place)
            place.chmod(0)
        case "empty_dir":
            place.mkdir()
        case "fifo":
            os.mkfifo(place)
        case other:
            raise ValueError(f"it is not known how {other} is made")


# -- The keeper ---------------------------------------------------------------------------------------------


class Keeper:
    """Hands nights to a worker process, and starts another when one dies or hangs.

    Parameters
    ----------
    folder
        Of the project.
    humble
        Have the modes of files apply to the worker even where it is root.
    """

    def __init__(self, folder: Path, *, humble: bool = False) -> None:
        self.folder = folder
        self.options = ["--humble"] if humble and os.geteuid() == 0 else []
        self.worker: subprocess.Popen[str] | None = None

    def react(self, day: date, place: Path) -> Reaction:
        """Have a night scored, and tell what became of the entry that lies at a place."""
        worker, began = self._worker(), perf_counter()
        answer = _asked(worker, {"day": str(day), "place": str(place)})
        if answer is not None:
            return Reaction(**{**answer, "said": tuple(answer["said"])})
        hung = worker.poll() is None
        self.end()
        return Reaction("hung" if hung else "crashed", seconds=perf_counter() - began)

    def train(self) -> None:
        """Have the model trained."""
        answer = _asked(self._worker(), {"train": str(FIRST - timedelta(days=1))}, START)
        if answer != {}:
            raise RuntimeError(f"the model of the zoo could not be trained: {answer}")

    def end(self) -> None:
        """End the worker, by force where it does not listen."""
        if self.worker is None:
            return
        if self.worker.stdin is not None:
            with suppress(OSError):
                self.worker.stdin.close()
        try:
            self.worker.wait(20)
        except subprocess.TimeoutExpired:
            self.worker.kill()
            self.worker.wait()
        self.worker = None

    def _worker(self) -> subprocess.Popen[str]:
        if self.worker is None:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.zoo_nights", str(self.folder), *self.options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "HOME": str(self.folder), "PREFECT_HOME": str(self.folder / "prefect")},
            )
            _asked(self.worker, {}, START)
        return self.worker


def _asked(
    worker: subprocess.Popen[str], request: dict[str, str], patience: float = PATIENCE
) -> dict[str, Any] | None:
    """Return the worker's answer; None when it ended or did not answer in time."""
    answers: list[str] = []

    def exchange() -> None:
        with suppress(OSError, ValueError):
            print(json.dumps(request), file=worker.stdin, flush=True)
            answers.append(worker.stdout.readline() if worker.stdout else "")

    waiting = threading.Thread(target=exchange, daemon=True)
    waiting.start()
    waiting.join(patience)
    line = answers[0] if answers else ""
    return json.loads(line) if line else None


# -- The worker ---------------------------------------------------------------------------------------------


def reaction_of(report: Mapping[str, Any], place: Path) -> Reaction:
    """What a night's report says of the files at a place, and whether all others were scored."""
    files = report.get("files", ())
    ours = [one for one in files if Path(one["path"]) == place or place in Path(one["path"]).parents]
    states = {one["status"] for one in ours}
    others = [one for one in files if one not in ours]
    said = [sentence for one in ours for sentence in (one["reason"], *one.get("warnings", ())) if sentence]
    return Reaction(
        "skipped" if not states else "mixed" if len(states) > 1 else states.pop(),
        tuple(said),
        bool(others) and all(one["status"] == "scored" for one in others),
        sum(one["rows"] or 0 for one in ours),
        report.get("rows_scored", 0)
        + report.get("rows_quarantined", 0)
        - sum(one["rows"] or 0 for one in others),
    )


def _night(pipeline: Path, day: str, place: Path) -> dict[str, Any]:
    from flows.errors import VaewatchError
    from flows.score import score

    _forget_peaks()
    began = _cpu_seconds()
    try:
        reaction = reaction_of(score(str(pipeline), day), place)
    except VaewatchError as error:
        reaction = Reaction("refused", (str(error),))
    except Exception as error:  # what must never happen is told, and counted
        reaction = Reaction("crashed", (f"{type(error).__name__}: {error}",))
    return {**asdict(reaction), "seconds": _cpu_seconds() - began, "memory": _peak()}


def _cpu_seconds() -> float:
    """CPU time so far of all processes at work."""
    fields = [(one / "stat").read_text().rpartition(")")[2].split() for one in _at_work()]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def _at_work() -> Iterator[Path]:
    """Yield this process and the one that asks Great Expectations; not Prefect's server."""
    yield Path("/proc/self")
    for child in Path("/proc/self/task").glob("*/children"):
        for number in child.read_text().split():
            with suppress(OSError):
                if "flows.checker" in Path(f"/proc/{number}/cmdline").read_text():
                    yield Path(f"/proc/{number}")


def _forget_peaks() -> None:
    for process in _at_work():
        with suppress(OSError):
            (process / "clear_refs").write_text("5")


def _peak() -> int:
    """Peak memory in bytes since `_forget_peaks`, of all processes at work together."""
    lines = [line for one in _at_work() for line in (one / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _answer(pipeline: Path, request: dict[str, str]) -> dict[str, Any]:
    if not request:  # whether it has started
        return {}
    if "train" in request:
        from flows.train import train

        train(str(pipeline), request["train"])
        return {}
    return _night(pipeline, request["day"], Path(request["place"]))


def _serve(folder: Path, requests: IO[str], answers: IO[str]) -> None:
    from flows.server import api

    pipeline = folder / "pipelines" / "zoo.yml"
    with api(folder):
        for request in requests:
            print(json.dumps(_answer(pipeline, json.loads(request))), file=answers, flush=True)


@contextmanager
def _own_output() -> Iterator[IO[str]]:
    """Yield the standard output for answers; what else is printed goes to standard error."""
    with os.fdopen(os.dup(1), "w") as own:
        os.dup2(2, 1)
        yield own


def _without_privilege(arguments: list[str]) -> None:
    """Become the same process without root's right to read what modes forbid."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (OVERRIDE, READ_SEARCH):
        if libc.prctl(DROP_CAPABILITY, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "cannot give up root's rights")
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.zoo_nights", *arguments])  # noqa: S606


if __name__ == "__main__":
    if "--humble" in sys.argv:
        _without_privilege(sys.argv[1:2])
    with _own_output() as output:
        _serve(Path(sys.argv[1]), sys.stdin, output)
