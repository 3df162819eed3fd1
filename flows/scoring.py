"""The files of a night become its tables: once, however often and by however many it is asked. No server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows.changes import changes_of
from flows.commit import intact, on_night, output_of, part_key, publish
from flows.context import champion_detector, reference_of
from flows.errors import InputError, legible
from flows.expectations import load_suite
from flows.night import Night
from flows.sources import is_of, model_of
from flows.storage import Store, disk_refusals

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.lease import Lease
    from flows.manifest import Manifest, ManifestModel
    from flows.reference import Reference
    from flows.registry import ModelRef
    from flows.tables import InputFile
    from vae_core import VAEDetector

__all__ = ["Scored", "commit_night", "score_files", "score_night"]


@dataclass(frozen=True)
class Scored:
    """A finished night, and whether this run has finished it.

    ``unchanged``: it was finished before, from the same files, settings and model.
    """

    manifest: Manifest
    status: Literal["scored", "unchanged"]


@dataclass(frozen=True)
class _Work:
    """One run of one night."""

    pipeline: Pipeline
    day: date
    files: list[InputFile]
    model: ManifestModel
    load: Callable[[], VAEDetector]
    broken: dict[str, str]
    store: Store
    reference: Callable[[], Reference | None] = lambda: None
    flow_run_id: str | None = None

    def __call__(self, lease: Lease, before: Manifest | None) -> Scored:
        known = before is not None and is_of(before, self.pipeline, self.files, self.model)
        if before is not None and known and intact(self.store, before):
            return Scored(before, "unchanged")
        detector = self.load()
        with self.store.stage(f"dt={self.day}") as stage, disk_refusals("write", str(stage)):
            night = self._night(detector, stage)
            if before is not None and known:
                night.scored_at = datetime.fromisoformat(before.scored_at)
            night.read([file for file in self.files if file.path not in self.broken])
            _keep_what_was_found(night, before)
            night.decide()
            return Scored(commit_night(night, self.store, lease, before), "scored")

    def _night(self, detector: VAEDetector, stage: Path) -> Night:
        suite = load_suite(Path(self.pipeline.suite_path))
        night = Night(
            self.pipeline,
            self.day,
            detector,
            self.model,
            suite,
            stage,
            reference=self.reference(),
            flow_run_id=self.flow_run_id,
        )
        for file in self.files:
            if file.path in self.broken:
                night.reject(file, legible(f"{file.path}: breaks the contract: {self.broken[file.path]}"))
        return night


def score_files(
    pipeline: Pipeline,
    day: date,
    files: list[InputFile],
    ref: ModelRef,
    broken: dict[str, str],
    flow_run_id: str | None = None,
) -> Scored:
    """Score the files of a night with a registered model; see `score_night`."""
    return score_night(
        pipeline,
        day,
        files,
        model_of(ref),
        lambda: champion_detector(pipeline, ref),
        broken,
        lambda: reference_of(pipeline, ref),
        flow_run_id,
    )


def score_night(
    pipeline: Pipeline,
    day: date,
    files: list[InputFile],
    model: ManifestModel,
    load: Callable[[], VAEDetector],
    broken: dict[str, str],
    reference: Callable[[], Reference | None] = lambda: None,
    flow_run_id: str | None = None,
) -> Scored:
    """Score the files of a night and commit its tables, unless that is done already.

    Two runs of one night at once are one night: the later one waits, and then finds it finished. A run that
    was killed is ended or begun again by the next one. Tables that are no more those of their manifest are
    made anew, with the time of their first commit.

    Parameters
    ----------
    model, load
        What is said of the model, and how to get it, if it is needed.
    broken
        Files that break the contract, with how: they are rejected unread.
    reference
        How to get what the model's training rows were like, for warnings of files that differ.
    flow_run_id
        Of the run of Prefect's that asks for it, for the manifest.

    Raises
    ------
    InputError
        No file can be scored, and the night has results from before, which stay.
    BusyError
        Another run of this night has not ended in time.
    """
    store = Store.of(pipeline.output_path)
    work = _Work(pipeline, day, files, model, load, broken, store, reference, flow_run_id)
    return on_night(store, day, work)


def commit_night(night: Night, store: Store, lease: Lease, before: Manifest | None) -> Manifest:
    """Make a decided night visible; the scoring before it becomes history, unless this one repairs it."""
    parts = night.parts()
    manifest = night.manifest([output_of(key, part) for key, part in parts.items()])
    if before is not None:
        manifest = manifest.model_copy(update=_lineage(night, manifest, store, before))
    publish(store, lease, manifest, parts)
    return manifest


def _lineage(night: Night, manifest: Manifest, store: Store, before: Manifest) -> dict[str, object]:
    if manifest.origin == before.origin:
        return {"history": before.history, "changes": before.changes}
    flags = night.parts().get(part_key("flags", night.day))
    row_id = f"{night.pipeline.prefix}row_id"
    changes = changes_of(before, store, manifest.inputs, flags, row_id)
    return {"history": before.succession(), "changes": changes}


def _keep_what_was_found(night: Night, before: Manifest | None) -> None:
    """Refuse to empty a finished night because none of its files can be scored any more."""
    if before is None or not before.files_scored or any(one.status == "scored" for one in night.accounts):
        return
    reasons = "; ".join(str(one.reason) for one in night.accounts)
    raise InputError(f"{reasons}; the results that night {night.day} had before stay as they are")
