"""Which model versions may lose their files, and which never: live ones, and the one a rollback wants.

The record of a version, its run and its tags stay for good: flagged rows of any age lead back to the data.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.context import registry_of
from flows.journal import step_back
from flows.lifecycle import journal_of
from flows.registry import PRUNED
from flows.retention import beyond

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.registry import ModelRef, Registry

__all__ = ["retire", "retired"]


def retired(pipeline: Pipeline) -> tuple[list[ModelRef], dict[str, str]]:
    """The versions whose files `retention.models` lets go, and why others of that age are kept.

    Raises
    ------
    RegistryError, StoreError
        MLflow or the journal cannot be reached, or the journal was altered: then no version is let go.
    """
    if pipeline.retention.models == "forever":
        return [], {}
    registry = registry_of(pipeline)
    whole = [ref for ref in registry.models() if ref.tags.get(PRUNED) in {None, "begun"}]
    gone = set(beyond(pipeline.retention.models, [ref.created for ref in whole]))
    old = [ref for ref in whole if ref.created in gone or PRUNED in ref.tags]
    kept = {**_not_ours(old), **_needed(pipeline, registry)}
    stay = {ref.version: kept[ref.version] for ref in old if ref.version in kept}
    return [ref for ref in old if ref.version not in kept], stay


def _not_ours(refs: list[ModelRef]) -> dict[str, str]:
    return {ref.version: "something else than vaewatch registered it" for ref in refs if ref.digest is None}


def _needed(pipeline: Pipeline, registry: Registry) -> dict[str, str]:
    """Versions that carry an alias, by MLflow or by the journal, and the one a rollback would bring back."""
    moves = journal_of(pipeline).moves()
    back = step_back(moves, registry.live_alias)
    kept = {} if back is None else {back: "a rollback would bring it back"}
    carriers = {move.alias: move.version for move in moves}  # the last move of an alias stands
    kept |= {version: f"{alias}, says the journal" for alias, version in carriers.items() if version}
    return kept | {version: alias for alias, version in registry.aliases().items()}


def retire(pipeline: Pipeline, ref: ModelRef) -> bool:
    """Remove the files of a version, unless it has become live meanwhile; returns whether it was done."""
    return registry_of(pipeline).discard(ref, datetime.now(UTC), pipeline.root / "data" / "models")
