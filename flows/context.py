"""What the flows of one pipeline share: its file, its registry, its model, its logical date."""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flows.config import Pipeline, load_tracking
from flows.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from flows.registry import ModelRef, Registry
    from vae_core import VAEDetector

__all__ = ["champion_detector", "docs_folder", "logical_date", "parse_date", "registry_of"]


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
    )


def champion_detector(pipeline: Pipeline, ref: ModelRef) -> VAEDetector:
    """The live detector, fetched once and kept under ``data/models``."""
    folder = registry_of(pipeline).download(ref, pipeline.root / "data" / "models")
    return _loaded(folder)


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
    zone = ZoneInfo(pipeline.schedule.timezone)
    at = (scheduled or datetime.now(zone)).astimezone(zone)
    return (at.replace(tzinfo=None) - pipeline.schedule.lag).date()
