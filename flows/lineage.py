"""Where a model comes from: data, pipeline file, code, run. Flagged rows name the version and the run."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from flows.context import registry_of
from flows.provenance import code_commit, code_version

if TYPE_CHECKING:
    from flows.config import Pipeline

__all__ = ["lineage", "lineage_tags"]

DATA, PIPELINE = "vaewatch.data_digest", "vaewatch.pipeline_digest"
CODE, COMMIT = "vaewatch.code", "vaewatch.git_commit"
DETECTOR = "vaewatch.digest"


def lineage_tags(pipeline: Pipeline, data_digest: str) -> dict[str, str]:
    """What a run and its model version are tagged with when a model is trained."""
    commit = code_commit()
    tags = {DATA: data_digest, PIPELINE: pipeline.digest(), CODE: code_version()}
    return tags if commit is None else tags | {COMMIT: commit}


def lineage(pipeline: Pipeline, version: str) -> dict[str, Any]:
    """The chain behind a model version, from the flagged rows' ``model_version`` and ``run_id`` on.

    Raises
    ------
    RegistryError
        There is no such version, or MLflow cannot be reached.
    """
    registry = registry_of(pipeline)
    ref = registry.version(version)
    params, inputs = registry.run(ref.run_id).origin()
    return {
        "name": ref.name,
        "version": ref.version,
        "created": ref.created.astimezone(UTC).isoformat(timespec="seconds"),
        "run_id": ref.run_id,
        "tracking_uri": registry.public_uri,
        "detector_digest": ref.tags.get(DETECTOR),
        "data": {
            "uri": inputs.get("uri"),
            "rows": inputs.get("rows"),
            "first": params.get("window_first"),
            "last": params.get("window_last"),
            "digest": ref.tags.get(DATA),
        },
        "pipeline_digest": ref.tags.get(PIPELINE),
        "pipeline_changed_since": ref.tags.get(PIPELINE) != pipeline.digest(),
        "code": ref.tags.get(CODE),
        "git_commit": ref.tags.get(COMMIT),
        "gate": ref.tags.get("vaewatch.gate"),
        "evidence": ref.tags.get("vaewatch.gate.evidence"),
    }
