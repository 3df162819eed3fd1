"""What this machine will do with a table: rows a second by stage, memory, hours for a night."""

from __future__ import annotations

import os
import platform
import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.context import champion_detector, parse_date, registry_of
from flows.engines import Threads, usable_cores
from flows.errors import NoChampionError
from flows.flagging import Stamp
from flows.manifest import ManifestModel
from flows.night import Night
from flows.pace import Pace, pace_of, reasons_of, rows_a_second, shards_in
from flows.sources import find_files, model_of
from flows.stopwatch import peak_memory
from flows.suites import load_suite
from flows.tables import InputFile, discover

if TYPE_CHECKING:
    from flows.config import Pipeline
    from vae_core import VAEDetector

__all__ = ["bench"]

THROW_AWAY = ManifestModel(name="throw-away", version="0", run_id="")
SAMPLED = 20_000  # rows that a throw-away model is fitted on
MOST_NIGHTS = 100  # that are looked through for rows
STEPS = 60  # of its training: how fast a model scores does not depend on how good it is


def bench(pipeline: Pipeline, day: str | None, *, rows: int, rows_a_night: int | None) -> dict[str, Any]:
    """Score the rows of a night aside, in a temporary folder, and measure it.

    Parameters
    ----------
    pipeline
        Whose table it is.
    day
        The night, YYYY-MM-DD; by default the newest.
    rows
        Rows to score at least, in whole shards; where the night has fewer, those of nights before it, too.
    rows_a_night
        Size of the night to reckon with; by default that of the night measured.

    Raises
    ------
    NoDataError, InputError
        There is no such night, or it cannot be read.
    """
    days = _days(pipeline, parse_date(day) if day else date.max)
    files = find_files(pipeline, days[0])
    size = rows_a_night or _rows_of(files)
    for earlier in days[1:MOST_NIGHTS]:
        if _rows_of(files) >= rows:
            break
        files += find_files(pipeline, earlier)
    detector, model = _model(pipeline, files)
    with tempfile.TemporaryDirectory(prefix="vaewatch-bench-") as stage:
        night = Night(pipeline, days[0], detector, model, _suite(pipeline), Path(stage), Threads(1))
        return _report(night, files, rows, size)


def _days(pipeline: Pipeline, last: date) -> list[date]:
    """Nights of the source up to ``last``, newest first; that day itself where there are none."""
    source = pipeline.source
    nights = discover(pipeline.source_path, partition=source.partition, date_pattern=source.date_pattern)
    found = [day for day in reversed(nights) if day is not None and day <= last]
    return found or [min(last, date.today())]


def _rows_of(files: list[InputFile]) -> int:
    return sum(shard.rows for shard in shards_in(files, 2**62))


def _suite(pipeline: Pipeline) -> dict[str, Any]:
    path = Path(pipeline.suite_path)
    return load_suite(path) if path.exists() else {"name": pipeline.name, "expectations": []}


def _model(pipeline: Pipeline, files: list[InputFile]) -> tuple[VAEDetector, ManifestModel]:
    """The live model; where there is none, one that is trained for a moment on the night itself."""
    try:
        ref = registry_of(pipeline).champion()
        return champion_detector(pipeline, ref), model_of(ref)
    except NoChampionError:
        return _throw_away(pipeline, files), THROW_AWAY


def _throw_away(pipeline: Pipeline, files: list[InputFile]) -> VAEDetector:
    from flows.sampling import sample
    from flows.train import TrainingRows, fit_detector

    settings = {**pipeline.training.detector, "max_steps": STEPS}
    hasty = pipeline.training.model_copy(update={"detector": settings})
    drawn = sample(files, SAMPLED, seed=0)
    half = drawn.num_rows // 2
    day = files[0].date
    rows = TrainingRows(drawn.slice(0, half), drawn.slice(half), tuple(files), day, day, 0)
    return fit_detector(pipeline.model_copy(update={"training": hasty}), rows)


def _report(night: Night, files: list[InputFile], rows: int, asked: int) -> dict[str, Any]:
    shards = shards_in(files, rows)
    pace_of(night.recipe, shards[:1])  # what is compiled or filled at the first call is not measured
    pace = pace_of(night.recipe, shards)
    for outcome in pace.outcomes:
        night.decider.take(outcome.tally)
    model, workers = night.model, _workers(night.pipeline)
    stamp = Stamp(night.decider.threshold(), model.name, model.version, model.run_id, night.scored_at)
    flagged, spent = reasons_of(night.recipe, stamp, shards)
    speed = rows_a_second(night.recipe, shards, workers)
    explaining = asked * flagged / pace.rows * (spent / max(flagged, 1)) / workers
    return {
        "pipeline": night.pipeline.name,
        "date": str(night.day),
        "model": model.model_dump(),
        "throw_away_model": model is THROW_AWAY,
        "rows_measured": pace.rows,
        "files_measured": len({shard.number for shard in shards}),
        "stages": _stages(pace),
        "rows_a_cpu_second": round(pace.rows / pace.total),
        "workers": workers,
        "rows_a_second": round(speed),
        "flagged_rows": flagged,
        "reasons_cpu_ms_a_flag": round(1e3 * spent / flagged, 3) if flagged else None,
        "peak_memory_mib": round(peak_memory() / 2**20),
        "night": {"rows": asked, "hours": round((asked / speed + explaining) / 3600, 4)},
        "machine": f"{platform.machine()}, {usable_cores()} cores",
        "load": round(os.getloadavg()[0], 2),
    }


def _stages(pace: Pace) -> dict[str, dict[str, float]]:
    return {
        name: {"cpu_ns_a_row": round(cost, 1), "rows_a_cpu_second": round(1e9 / cost) if cost > 0 else 0}
        for name, cost in pace.nanoseconds.items()
    }


def _workers(pipeline: Pipeline) -> int:
    """Threads that the pipeline asks for; those of a cluster are not ours to measure."""
    setting = pipeline.engine
    threads = setting.get("threads") if isinstance(setting, dict) else None
    return int(threads or usable_cores())
