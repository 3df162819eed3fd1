"""Which files make a night, and whether they are scored already. Needs no server."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from flows.commit import intact
from flows.config import Pipeline
from flows.errors import NoDataError, VaewatchError
from flows.manifest import Manifest, ManifestModel, read_manifest
from flows.results import NIGHT
from flows.storage import Store
from flows.tables import InputFile, input_file, night, undated

if TYPE_CHECKING:
    from flows.registry import ModelRef

__all__ = ["find_files", "finished", "is_of", "model_of", "strays"]


def find_files(pipeline: Pipeline, day: date, file: str | None = None) -> list[InputFile]:
    """Describe the files of a night, or the one file asked for.

    Raises
    ------
    NoDataError
        Nothing has arrived; none is raised, and the list is empty, where ``on_missing`` is ``skip``.
    InputError
        The folder is missing, holds no Parquet, or the file is not there.
    """
    if file is not None:
        found = input_file(file if "://" in file else str(Path(file).absolute()), day)
        return [replace(found, left_out=_left_out(pipeline))]
    source = pipeline.source
    try:
        files = night(pipeline.source_path, day, partition=source.partition, date_pattern=source.date_pattern)
        return [replace(one, left_out=_left_out(pipeline)) for one in files]
    except NoDataError:
        if source.on_missing == "skip":
            return []
        raise


def _left_out(pipeline: Pipeline) -> list[str]:
    """Ignored columns that results could not hold, being called as their folders tell the night."""
    columns = pipeline.columns
    return [one for one in columns.ignore if one.lower() == NIGHT and one not in columns.key]


def strays(pipeline: Pipeline) -> list[str] | None:
    """Files of the source that belong to no night, a sentence each; None where that cannot be told."""
    source = pipeline.source
    try:
        return undated(pipeline.source_path, partition=source.partition, date_pattern=source.date_pattern)
    except VaewatchError:  # who looks for the files of a night says so
        return None


def finished(pipeline: Pipeline, day: date, files: list[InputFile], model: ManifestModel) -> Manifest | None:
    """The manifest of a night that was scored from these very files, settings and model; None otherwise.

    None also when the tables are not those of the manifest: the night is to be scored again.
    """
    store = Store.of(pipeline.output_path)
    manifest = read_manifest(store, day)
    if manifest is None or not is_of(manifest, pipeline, files, model) or not intact(store, manifest):
        return None
    return manifest


def is_of(manifest: Manifest, pipeline: Pipeline, files: list[InputFile], model: ManifestModel) -> bool:
    """Whether a night was scored from these very files, settings and model."""
    return manifest.origin == (model, pipeline.digest(), frozenset((one.path, one.digest) for one in files))


def model_of(ref: ModelRef) -> ManifestModel:
    """What a manifest says of a model version."""
    return ManifestModel(name=ref.name, version=ref.version, run_id=ref.run_id)
