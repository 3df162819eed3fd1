"""What a backfill has to do: night by night, with which model version, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

from flows.config import Pipeline
from flows.context import registry_of
from flows.due import due_at
from flows.errors import ConfigError, NoChampionError, NoDataError, StoreError
from flows.journal import Journal
from flows.manifest import Manifest, ManifestModel, read_manifest
from flows.sources import finished, model_of
from flows.storage import Store
from flows.tables import InputFile, window

if TYPE_CHECKING:
    from flows.registry import ModelRef

__all__ = ["Step", "plan"]


@dataclass(frozen=True)
class Step:
    """One night of a backfill.

    Attributes
    ----------
    day
        The logical date.
    action
        ``score``; ``keep`` what is finished; ``skip`` a night without files where ``on_missing`` says so;
        ``fail`` without a try.
    version
        Of the model; None where there is none to take.
    why
        In words; the error of a night that fails.
    """

    day: date
    action: Literal["score", "keep", "skip", "fail"]
    version: str | None
    why: str

    def report(self) -> dict[str, Any]:
        """The step as plain values."""
        return {"date": str(self.day), "action": self.action, "version": self.version, "why": self.why}


def plan(
    pipeline: Pipeline, first: date, last: date, *, version: str | None = None, as_of: bool = False
) -> list[Step]:
    """Say what is to be done for each night of a span, oldest first; nothing is done.

    Parameters
    ----------
    first, last
        Both included. Of a source of monthly files, the first days of months count.
    version
        The model version for all nights; by default the live one.
    as_of
        Take the version that was live when the night was due.

    Raises
    ------
    ConfigError
        The span is reversed, the source has no dates, or a version and ``as_of`` are given both.
    RegistryError
        There is no such version, or none is live.
    InputError
        The source is missing, or holds no Parquet file.
    """
    _check(pipeline, first, last, version, as_of)
    files = _files(pipeline, first, last)
    model = _as_of(pipeline) if as_of else _always(pipeline, version)
    return [_step(pipeline, day, files.get(day, []), model) for day in _nights(pipeline, first, last)]


def _check(pipeline: Pipeline, first: date, last: date, version: str | None, as_of: bool) -> None:
    source = pipeline.source
    if first > last:
        raise ConfigError(
            f"a first night before the last one was required, however {first} to {last} came; swap them"
        )
    if version is not None and as_of:
        raise ConfigError(
            f"one choice of the model was required, however as-of and version {version} came both; keep one"
        )
    if source.partition is None and source.date_pattern is None:
        raise ConfigError(
            f"{pipeline.file}: nights that can be told apart were required, however all files of the source"
            " are one night of any date; set `source.partition` or `source.date_pattern`"
        )


def _nights(pipeline: Pipeline, first: date, last: date) -> Iterator[date]:
    pattern = pipeline.source.date_pattern
    monthly = pattern is not None and "%d" not in pattern
    days = (first + timedelta(days=i) for i in range((last - first).days + 1))
    return (day for day in days if not monthly or day.day == 1)


def _files(pipeline: Pipeline, first: date, last: date) -> dict[date, list[InputFile]]:
    source = pipeline.source
    nights: dict[date, list[InputFile]] = {}
    try:
        found = window(
            pipeline.source_path, first, last, partition=source.partition, date_pattern=source.date_pattern
        )
    except NoDataError:
        return nights
    for file in found:
        nights.setdefault(file.date, []).append(file)
    return nights


def _always(pipeline: Pipeline, version: str | None) -> Callable[[date], ModelRef]:
    registry = registry_of(pipeline)
    ref = registry.champion() if version is None else registry.version(version)
    return lambda day: ref


def _as_of(pipeline: Pipeline) -> Callable[[date], ModelRef]:
    """The version that was live when a night was due, as the journal has it."""
    registry = registry_of(pipeline)
    journal = Journal(Store.of(pipeline.output_path))
    known = {ref.version: ref for ref in registry.models()}

    def model(day: date) -> ModelRef:
        due = due_at(pipeline.schedule, day)
        version = journal.live_version(registry.live_alias, due)
        if version is None:
            raise NoChampionError(
                f"a model that was live at {due.isoformat(timespec='minutes')}, when night {day} was due, was"
                " required, however the journal knows of none; choose one with --model VERSION"
            )
        return known[version] if version in known else registry.version(version)

    return model


def _step(pipeline: Pipeline, day: date, files: list[InputFile], model: Callable[[date], ModelRef]) -> Step:
    if not files:
        return _missing(pipeline, day)
    try:
        ref = model(day)
        known = finished(pipeline, day, files, model_of(ref))
        before = known or read_manifest(Store.of(pipeline.output_path), day)
    except (NoChampionError, StoreError) as error:
        return Step(day, "fail", None, str(error))
    if known is not None:
        return Step(day, "keep", ref.version, "finished, and nothing has changed")
    return Step(day, "score", ref.version, _why(pipeline, before, files, model_of(ref)))


def _missing(pipeline: Pipeline, day: date) -> Step:
    if pipeline.source.on_missing == "skip":
        return Step(day, "skip", None, "no file has arrived")
    return Step(
        day,
        "fail",
        None,
        f"{pipeline.source_path}: files of {day} were required, however none has arrived; bring them, or set"
        " `source.on_missing: skip`",
    )


def _why(pipeline: Pipeline, before: Manifest | None, files: list[InputFile], model: ManifestModel) -> str:
    if before is None:
        return "not scored yet"
    then, now = {one.path: one.digest for one in before.inputs}, {one.path: one.digest for one in files}
    shared = then.keys() & now.keys()
    reasons = {
        "new files": len(now.keys() - then.keys()),
        "files changed": sum(then[path] != now[path] for path in shared),
        "files gone": len(then.keys() - now.keys()),
    }
    said = [f"{count} {name}" for name, count in reasons.items() if count]
    if before.model != model:
        said.append(f"model version {before.model.version} before")
    if before.pipeline_digest != pipeline.digest():
        said.append("other settings before")
    return ", ".join(said) or "its tables are not those of its manifest"
