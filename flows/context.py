"""What the flows of one pipeline share: its file, its registry, its model, its logical date."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flows.config import Pipeline, load_tracking
from flows.due import night_at
from flows.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from flows.manifest import ManifestModel
    from flows.reference import Reference
    from flows.registry import ModelRef, Registry
    from vae_core import Calibration, VAEDetector

__all__ = [
    "calibration_of",
    "champion_detector",
    "docs_folder",
    "logical_date",
    "model_ref",
    "parse_date",
    "reference_of",
    "registry_of",
]


def registry_of(pipeline: Pipeline) -> Registry:
    """The MLflow registry of a pipeline, as ``mlflow.yml`` places it."""
    from flows.registry import Registry

    tracking = load_tracking(pipeline.root)
    return Registry(
        tracking_uri=tracking.tracking_uri,
        registry_uri=tracking.registry_uri,
        artifact_location=tracking.artifact_location,
        experiment=tracking.experiment,
        model_name=tracking.model_name_for(pipeline.name),
        live_alias=tracking.aliases.live,
        candidate_alias=tracking.aliases.candidate,
        train_by=f"vaewatch train --pipeline {pipeline.file}",
    )


def model_ref(pipeline: Pipeline, version: str | None = None) -> ModelRef:
    """A version of the pipeline's model; by default the live one.

    Raises
    ------
    RegistryError
        There is no such version, or none is live.
    """
    registry = registry_of(pipeline)
    return registry.champion() if version is None else registry.version(version)


def champion_detector(pipeline: Pipeline, ref: ModelRef) -> VAEDetector:
    """The live detector, fetched once and kept under ``data/models``."""
    folder = registry_of(pipeline).download(ref, pipeline.root / "data" / "models")
    return _loaded(folder)


def reference_of(pipeline: Pipeline, ref: ModelRef) -> Reference | None:
    """What a model version's training rows were like; None where that was not kept.

    Raises
    ------
    RegistryError
        Its files are gone, or were altered.
    """
    from flows.reference import read_reference

    return read_reference(registry_of(pipeline).download(ref, pipeline.root / "data" / "models"))


def calibration_of(pipeline: Pipeline, model: ManifestModel) -> Calibration:
    """The calibration of a model version, from the local copy of it where there is one; no network is built.

    Raises
    ------
    RegistryError
        There is no such version any more, or its files were altered.
    """
    from flows.registry import cached_at
    from vae_core import ModelFileError
    from vae_core.persistence import load_calibration

    models = pipeline.root / "data" / "models"
    folder = cached_at(models, model.name, model.version, model.run_id)
    if not folder.is_dir():
        folder = registry_of(pipeline).download(model_ref(pipeline, model.version), models)
    try:
        return load_calibration(folder)
    except ModelFileError as error:
        raise RegistryError(str(error)) from error


@lru_cache(maxsize=2)
def _loaded(folder: Path) -> VAEDetector:
    from vae_core import ModelFileError, VAEDetector

    try:
        return VAEDetector.load(folder)
    except ModelFileError as error:
        raise RegistryError(str(error)) from error


def docs_folder(pipeline: Pipeline) -> Path:
    """Where the Data Docs of a pipeline lie: beside its results; in ``data/docs`` when those are remote."""
    if "://" in pipeline.output_path:
        return pipeline.root / "data" / "docs" / pipeline.name
    return Path(pipeline.output_path) / "docs"


def parse_date(text: str) -> date:
    """A date written YYYY-MM-DD.

    Raises
    ------
    ConfigError
        The text is no such date.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"a date written YYYY-MM-DD was required, however {text!r} came") from None


def logical_date(pipeline: Pipeline, asked: str | None, scheduled: datetime | None) -> date:
    """The date of a run: the one asked for, else its scheduled time in the schedule's zone, less the lag."""
    if asked is not None:
        return parse_date(asked)
    return night_at(pipeline.schedule, scheduled or datetime.now(UTC))
