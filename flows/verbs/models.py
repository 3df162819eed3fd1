"""Verbs about model versions."""

from __future__ import annotations

from typing import Any

from flows.console import AsJson, PipelineFile, app, pipeline_of, print_json, print_table

__all__ = ["models"]


@app.command(epilog="vaewatch models")
def models(pipeline: PipelineFile = None, as_json: AsJson = False) -> None:
    """List the registered versions of a pipeline's model, newest first."""
    from flows.context import registry_of

    loaded = pipeline_of(pipeline)
    found: list[dict[str, Any]] = [
        {
            "name": ref.name,
            "version": ref.version,
            "aliases": list(ref.aliases),
            "created": ref.created.isoformat(timespec="seconds"),
            "run_id": ref.run_id,
        }
        for ref in registry_of(loaded).models()
    ]
    if as_json:
        print_json(found)
        return
    print_table(
        ["version", "aliases", "created", "run"],
        [[one["version"], ", ".join(one["aliases"]), one["created"], one["run_id"]] for one in found],
    )
