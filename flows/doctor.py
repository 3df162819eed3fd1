"""Is all well, and will it be tomorrow: machine, places, models, nights, schedules, disk.

Each check is a function that yields what it finds, with a remedy. None of them changes anything: what is
written to try a place is removed at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from flows import machine
from flows.catchup import missed
from flows.commit import intact
from flows.config_errors import absent_names
from flows.context import registry_of
from flows.diagnosis import Diagnosis, checked, failure, ok, warning
from flows.due import due_at, due_before, night_at
from flows.errors import InputError, StoreError
from flows.lifecycle import journal_of
from flows.manifest import Manifest, read_manifest, scored_nights
from flows.report import counted
from flows.sources import strays
from flows.storage import Store
from flows.tables import discover, open_table, window
from flows.timekeeping import schedules

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.tables import InputFile

__all__ = ["examine"]

LOOKED_AT = 7
"""Nights whose manifests are read."""
GRACE = timedelta(hours=2)
"""A night that was due within this time may still be under way."""
FEW_NIGHTS, LAST_NIGHTS = 30, 3
"""Nights that the disk has room for, below which people are warned, and below which it is a failure."""

Check = Callable[["Pipeline"], Iterable[Diagnosis]]


def examine(files: Sequence[Path]) -> Iterator[Diagnosis]:
    """Look at the machine, and at the pipelines of these files; yields what is found as it is found."""
    yield from checked("versions", machine.versions, "pip install --force-reinstall vaewatch")
    yield from checked("device", machine.device, "install torch for this machine: https://pytorch.org")
    yield from checked("settings", machine.settings, "unset the variable")
    if not files:
        said = "there is no pipeline file in pipelines/"
        yield failure("pipeline", said, "write one with `vaewatch init PATH`, or name one with --pipeline")
    for file in files:
        yield from _pipeline(file)


def _pipeline(file: Path) -> Iterator[Diagnosis]:
    from flows.config import load_pipeline

    loaded: list[Pipeline] = []
    mend = f"mend {file}; docs: Pipeline file"
    yield from checked("pipeline", lambda: _loaded(file, loaded, load_pipeline), mend)
    for pipeline in loaded:
        for about, (check, remedy) in CHECKS.items():
            for found in checked(about, partial(check, pipeline), remedy):
                yield replace(found, pipeline=pipeline.name)


def _loaded(file: Path, into: list[Pipeline], load: Callable[[Path], Pipeline]) -> Iterator[Diagnosis]:
    into.append(load(file))
    yield ok("pipeline", f"{file}: nothing to object to")


# -- Packages and places ------------------------------------------------------------------------------------


def extras(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """What this pipeline needs beyond the core is installed."""
    if "://" in pipeline.output_path:
        yield from machine.optional("s3", "obstore", f"results at {pipeline.output_path}")
    if "dask" in pipeline.engine:
        yield from machine.optional("dask", "prefect-dask", "engine: dask")


def contract(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """The suite of expectations can be read."""
    import json

    file = Path(pipeline.suite_path)
    if not file.exists():
        yield warning("contract", f"{file} is not there yet", "vaewatch init or the first training writes it")
        return
    rules = json.loads(file.read_text(encoding="utf-8"))["expectations"]
    yield ok("contract", f"{len(rules)} expectations in {file}")


def source(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """The place where the table lands can be read."""
    place = Store.of(pipeline.source_path)
    if place.is_folder():
        yield ok("source", f"{pipeline.source_path} can be read")
        left = strays(pipeline)
        if left:
            said = f"{counted(len(left), 'file')} without a night, not scored: {left[0]}"
            yield warning("source", said, "move them into the folders of their nights, or remove them")
    else:
        said = f"a folder was required at {pipeline.source_path}, however there is none"
        yield failure("source", said, "mend source.path, or let the first file arrive")


def columns(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """The newest file has the columns that the pipeline file names; those to ignore need not be there."""
    named, newest = pipeline.columns, _newest(pipeline)
    if newest is None:
        return
    seen = {name for name, kind in named.kinds.items() if kind != "ignored"}
    stake = () if named.value_at_stake is None else (named.value_at_stake,)
    with open_table(newest) as reader:
        absent = absent_names({*seen, *named.key, *named.sensitive, *stake}, reader.schema.names)
    if absent:
        said = f"{pipeline.file} names {absent}, however {newest.path} has no such column"
        yield warning("columns", said, "correct the names, or see why the file lacks them")
    else:
        yield ok("columns", f"{newest.path} has those that the pipeline file names")


def _newest(pipeline: Pipeline) -> InputFile | None:
    """The last file of the newest night; None where nothing can be found, which `source` tells of."""
    path, dated = pipeline.source_path, pipeline.source.model_dump(include={"partition", "date_pattern"})
    with contextlib.suppress(InputError):
        newest = max((day for day in discover(path, **dated) if day is not None), default=date.today())
        return window(path, newest, newest, **dated)[-1]
    return None


def output(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """A file can be written where the results go, on condition that it is new, read back and removed."""
    place, folder, word = Store.of(pipeline.output_path), f".doctor-{uuid4().hex}", uuid4().hex.encode()
    try:
        if place.swap(f"{folder}/probe", word, None) is None or place.read_bytes(f"{folder}/probe") != word:
            said = f"{place.uri(folder)}: a file was written, however it could not be read back as it was"
            yield failure("output", said, "use a store with conditional puts and consistent reads")
            return
    finally:
        with contextlib.suppress(StoreError):
            place.discard(folder)
    yield ok("output", f"{pipeline.output_path} can be written")


def local(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """Logs, runs and copies of models can be written beside the project."""
    folder = _existing(pipeline.root / "data")
    if os.access(folder, os.W_OK | os.X_OK):
        yield ok("data", f"{folder} can be written")
    else:
        yield failure("data", f"{folder} cannot be written by this user", f"chown or chmod {folder}")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


# -- The model ----------------------------------------------------------------------------------------------


def mlflow(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """MLflow can be reached and written, a version is live, and its files are as they were registered."""
    registry = registry_of(pipeline)
    for uri in {registry.tracking_uri, registry.registry_uri}:
        if uri.startswith("file:"):
            said = (
                f"a database or a server was required, however {uri} came: MLflow 3 refuses folders of files"
            )
            yield failure("mlflow", said, "set tracking_uri in mlflow.yml to sqlite:///data/mlflow/mlflow.db")
            return
    database = registry.registry_uri.removeprefix("sqlite:///")
    if database != registry.registry_uri and not Path(database).exists():
        yield warning(
            "model", f"{registry.public_uri} is not there yet, so no model is live", "vaewatch train"
        )
        return
    registry.connect()
    yield ok("mlflow", f"{registry.public_uri} can be written")
    yield from _live(pipeline)


def _live(pipeline: Pipeline) -> Iterator[Diagnosis]:
    registry = registry_of(pipeline)
    aliases = registry.aliases()
    if registry.live_alias not in aliases:
        yield warning("model", f"no version of {registry.model_name} is live", "vaewatch train")
        return
    ref = registry.champion()
    registry.download(ref, pipeline.root / "data" / "models")
    said = f"{ref.name} version {ref.version} is live, of {ref.created:%Y-%m-%d}, its files as registered"
    yield ok("model", said)


def journal(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """The journal of what was live is whole."""
    moves = journal_of(pipeline).moves()
    yield ok("journal", f"{counted(len(moves), 'move')} of aliases, none altered or missing")


# -- Nights -------------------------------------------------------------------------------------------------


def nights(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """The last nights are whole, and nothing was odd about them."""
    store = Store.of(pipeline.output_path)
    days = sorted(scored_nights(store))[-LOOKED_AT:]
    if not days:
        yield warning("nights", "none is scored yet", "vaewatch score --date D")
        return
    found = [finding for day in days for finding in _night(pipeline, store, day)]
    whole = f"whole and not odd: {counted(len(days), 'night')} up to {days[-1]}"
    yield from found or [ok("nights", whole)]
    yield from _clock(store, days[-1])


def _night(pipeline: Pipeline, store: Store, day: date) -> Iterator[Diagnosis]:
    again = f"vaewatch score --date {day}"
    manifest = read_manifest(store, day)
    if manifest is None:
        return
    if not intact(store, manifest):
        yield failure("nights", f"the tables of {day} are not those of its manifest", again)
    if manifest.files_in and not manifest.files_scored:
        yield failure(
            "nights", f"no file of {day} could be scored: {_reasons(manifest)}", f"mend them, then {again}"
        )
    elif manifest.files_rejected:
        said = (
            f"{manifest.files_rejected} of {manifest.files_in} files of {day} rejected: {_reasons(manifest)}"
        )
        yield warning("nights", said, f"mend them, then {again}")
    yield from _rows(pipeline, manifest)


def _reasons(manifest: Manifest) -> str:
    return "; ".join(one.reason or "" for one in manifest.inputs if one.status == "rejected")[:400]


def _rows(pipeline: Pipeline, manifest: Manifest) -> Iterator[Diagnosis]:
    """Most of a night was odd, or broke rules, or was flagged."""
    day, look = manifest.date, f"vaewatch monitor --date {manifest.date}"
    if manifest.incident:
        yield warning("nights", str(manifest.incident["sentence"]), look)
    elif manifest.rows_flagged > pipeline.alerts.max_flag_share * max(manifest.rows_scored, 1):
        said = f"{manifest.rows_flagged:,} of {manifest.rows_scored:,} rows of {day} are flagged"
        yield warning("nights", said, f"{look}; train anew if that is how the table is now: vaewatch train")
    if manifest.rows_quarantined > pipeline.validation.max_quarantined_share * max(manifest.rows_in, 1):
        said = f"{manifest.rows_quarantined:,} of {manifest.rows_in:,} rows of {day} broke row rules"
        yield warning("nights", said, f"vaewatch check --date {day}; see quarantine/dt={day}")


def _clock(store: Store, day: date) -> Iterator[Diagnosis]:
    manifest = read_manifest(store, day)
    if manifest is None:
        return
    ahead = datetime.fromisoformat(manifest.scored_at) - datetime.now(UTC)
    if ahead > timedelta(minutes=5):
        said = f"night {day} was scored {ahead} from now, so a clock is wrong"
        yield warning("clock", said, "set the clock of this machine, or of the one that scored it")


def due(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """Nights that are due were scored, if their files are there."""
    schedule, now = pipeline.schedule, datetime.now(UTC)
    scored = scored_nights(Store.of(pipeline.output_path))
    tomorrow = night_at(schedule, now) + timedelta(days=1)
    waiting = [day for day in missed(pipeline, tomorrow) if due_at(schedule, day) < now - GRACE]
    if waiting:
        are = "has arrived, was due, and is" if len(waiting) == 1 else "have arrived, were due, and are"
        said = f"{counted(len(waiting), 'night')} {are} not scored: {waiting[0]} to {waiting[-1]}"
        yield failure("due", said, f"vaewatch backfill --from {waiting[0]} --to {waiting[-1]}")
        return
    last = [day for day in due_before(schedule, tomorrow, 2) if due_at(schedule, day) < now - GRACE]
    if scored and last and max(scored) < last[-1]:
        said = f"{last[-1]} was due, however nothing has arrived after {max(scored)}, which is scored"
        yield warning("due", said, f"see whether files still arrive in {pipeline.source_path}")
    elif scored:
        yield ok("due", f"all that has arrived is scored, up to {max(scored)}")


# -- Room ---------------------------------------------------------------------------------------------------


def disk(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """Room for more nights, reckoned from what nights have taken so far, on each disk that they write to."""
    count = len(scored_nights(Store.of(pipeline.output_path)))
    if not count:
        return
    for folders in _by_disk(_grown(pipeline)):
        a_night = sum(map(_size, folders)) / count
        free = shutil.disk_usage(folders[0]).free
        left = int(free / max(a_night, 1))
        said = f"{free / 1e9:,.1f} GB free for {left:,} more nights of {a_night / 1e6:,.2f} MB"
        said += f" (in {', '.join(_shown(pipeline, one) for one in folders)})"
        yield _room(left, said)


def _shown(pipeline: Pipeline, folder: Path) -> str:
    """A folder as it is called from the project's."""
    return str(folder.relative_to(pipeline.root) if folder.is_relative_to(pipeline.root) else folder)


def _room(left: int, said: str) -> Diagnosis:
    remedy = (
        "vaewatch prune --dry-run shows what `retention` of the pipeline file would free; or a larger disk"
    )
    if left < LAST_NIGHTS:
        return failure("disk", said, remedy)
    return warning("disk", said, remedy) if left < FEW_NIGHTS else ok("disk", said)


def _grown(pipeline: Pipeline) -> list[Path]:
    """Local folders that grow by the night: results, input, runs of Prefect and MLflow."""
    places = [pipeline.output_path, pipeline.source_path]
    local = [Path(place) for place in places if "://" not in place]
    kept = [pipeline.root / "data" / name for name in ("prefect", "mlflow")]
    return [folder for folder in (*local, *kept) if folder.is_dir()]


def _by_disk(folders: Sequence[Path]) -> list[list[Path]]:
    disks: dict[int, list[Path]] = {}
    for folder in folders:
        disks.setdefault(folder.stat().st_dev, []).append(folder)
    return list(disks.values())


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; those that vanish meanwhile count nothing."""
    total = 0
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            total += _size(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else entry.stat().st_size
    return total


# -- People -------------------------------------------------------------------------------------------------


def verdicts(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """The database of verdicts can be reached and written, and no newer release has made it."""
    from review.database import Database, default_url
    from review.migrate import HEAD, standing

    with contextlib.closing(Database(default_url(pipeline.root))) as base:
        if not base.is_there:
            yield ok("verdicts", "none given yet: the first visit of `vaewatch review` makes their database")
            return
        there = standing(base)
        said = "" if there == HEAD else "; the next visit of `vaewatch review` brings its tables up to date"
        yield ok("verdicts", f"{base.shown} can be written{said}")


def alerts(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """Somebody is told when a night fails."""
    told = [name for name in pipeline.alerts.notify if os.environ.get(name, "").strip()]
    if told:
        yield ok("alerts", f"told to the addresses in {', '.join(told)}")
    else:
        first = "" if pipeline.alerts.notify else "set alerts.notify to [VAEWATCH_ALERTS], and "
        names = ", ".join(pipeline.alerts.notify) or "that environment variable"
        said = "nobody is told when a night fails, but for Prefect's events"
        yield warning("alerts", said, f"{first}put an Apprise address into {names}, such as mailto://…")


WRITABLE = "check that the place is there, that it can be reached, and that this user may write it"
CHECKS: dict[str, tuple[Check, str]] = {
    "versions": (extras, "pip install 'vaewatch[s3,dask]'"),
    "contract": (contract, "bring the suite back, or write it anew: vaewatch init --force"),
    "source": (source, "check source.path, the address, the rights and the network"),
    "columns": (columns, "write the file again, or correct `columns` of the pipeline file"),
    "output": (output, WRITABLE),
    "data": (local, WRITABLE),
    "mlflow": (
        mlflow,
        "check tracking_uri in mlflow.yml, start its server; vaewatch train makes a new version",
    ),
    "journal": (journal, "bring the file back from a backup"),
    "nights": (nights, "delete the manifest that is named, and score that night again"),
    "due": (due, "check source.path and output"),
    "schedules": (schedules, "start the server: vaewatch up; or mend PREFECT_API_URL"),
    "disk": (disk, "check the disk: df -h"),
    "verdicts": (verdicts, WRITABLE),
    "alerts": (alerts, "check alerts.notify of the pipeline file"),
}
"""What is looked at of a pipeline, in this order, and what to do where the check itself fails."""
