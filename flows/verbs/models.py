"""Verbs about model versions: list them, trace one back, promote, roll back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.console import AsJson, PipelineFile, app, pipeline_of, print_json, print_table
from flows.errors import RegistryError

if TYPE_CHECKING:
    from flows.config import Pipeline
    from review.precision import Share

__all__ = ["models", "promote", "rollback"]


@app.command(epilog="vaewatch models --version 2")
def models(
    pipeline: PipelineFile = None,
    version: Annotated[str | None, typer.Option(help="Show where this version comes from.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of a pipeline's model and when each was live, newest first."""
    loaded = pipeline_of(pipeline)
    if version is not None:
        from flows.lineage import lineage

        chain = lineage(loaded, version)
        print_json(chain) if as_json else _say_lineage(chain)
        return
    from flows.lifecycle import versions

    found = [{**one, "precision": said} for one, said in _with_precision(loaded, versions(loaded))]
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo(_none_yet(loaded))
        return
    heads = ["version", "aliases", "live", "gate", "confirmed of the settled", "created", "run"]
    print_table(heads, [_row(one) for one in found])


def _with_precision(
    pipeline: Pipeline, found: list[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Versions, and what people have said of the flags of each; None where they have said nothing."""
    from flows.storage import Store
    from review.precision import by_version, precisions

    shares = by_version(precisions(Store.of(pipeline.output_path)))
    return [(one, _precision(*shares[one["version"]]) if one["version"] in shares else None) for one in found]


def _precision(raw: Share, learned: Share) -> dict[str, Any]:
    return {
        name: {"value": one.value, "confirmed": one.confirmed, "settled": one.settled, "said": str(one)}
        for name, one in (("learned", learned), ("by_score", raw))
    }


@app.command(epilog="vaewatch promote --version 3")
def promote(
    pipeline: PipelineFile = None,
    version: Annotated[
        str | None, typer.Option(help="The version; by default the challenger.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option(help="Make it live whatever the gate says; journalled so.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a challenger live if it holds its own against the champion on the last nights."""
    from flows.lifecycle import promote as promote_version

    report = promote_version(pipeline_of(pipeline), version, force=force)
    print_json(report) if as_json else _say_promotion(report)
    if report["status"] == "refused":
        raise typer.Exit(1)


@app.command(epilog="vaewatch rollback")
def rollback(pipeline: PipelineFile = None, as_json: AsJson = False) -> None:
    """Make the version live again that was so before, at once."""
    from flows.context import registry_of
    from flows.lifecycle import rollback as roll_back

    loaded = pipeline_of(pipeline)
    if not registry_of(loaded).models():
        raise RegistryError(_none_yet(loaded))
    report = roll_back(loaded)
    if as_json:
        print_json(report)
        return
    now, before = report["version"], report["from_version"]
    typer.echo(f"{report['model']}: version {now} is live again, {before} no more")


def _none_yet(pipeline: Pipeline) -> str:
    return f"{pipeline.name} has no model version yet: vaewatch train --pipeline {pipeline.file}"


def _row(one: dict[str, Any]) -> list[str]:
    live = ", ".join(f"{time['from']} to {time['until'] or 'now'}" for time in one["live"])
    marks = [*one["aliases"], *(["pruned"] if one["pruned"] else [])]
    said = one["precision"]["learned"]["said"] if one["precision"] else ""
    return [one["version"], ", ".join(marks), live, one["gate"] or "", said, one["created"], one["run_id"]]


def _say_promotion(report: dict[str, Any]) -> None:
    model, version, before = report["model"], report["version"], report["from_version"]
    if report["verdict"] is not None:
        heads = ["verdict", "name", "required", "found"]
        rows = [[one[head] for head in heads] for one in report["verdict"]["criteria"]]
        print_table(["verdict", "criterion", "required", "found"], rows)
        run, page = report["evidence_run_id"], f"{report['evidence']}/verdict.html"
        typer.echo(f"The page is in MLflow: run {run}, {page}")
    forced = ", forced" if report["forced"] else ""
    said = {
        "unchanged": f"version {version} is live already",
        "refused": f"version {version} is refused, {before} stays live; --force makes it live all the same",
        "promoted": f"version {version} is live{forced}; before it {before or 'none'} was",
    }
    typer.echo(f"{model}: {said[report['status']]}")


def _say_lineage(chain: dict[str, Any]) -> None:
    data, commit = chain["data"], chain["git_commit"]
    rows = "" if data["rows"] is None else f"{data['rows']:,} rows, "
    changed = ", changed since" if chain["pipeline_changed_since"] else ""
    lines = {
        "flagged rows": f"model_version {chain['version']}, run_id {chain['run_id']}",
        "model": f"{chain['name']} {chain['version']}, {chain['created']}, {chain['detector_digest']}",
        "run": f"{chain['run_id']} in MLflow at {chain['tracking_uri']}",
        "data": f"{data['uri']}, {rows}{data['first']} to {data['last']}, {data['digest']}",
        "pipeline": f"{chain['pipeline_digest']}{changed}",
        "code": f"vaewatch {chain['code']}" + (f", commit {commit}" if commit else ""),
        "gate": f"{chain['gate']}, {chain['evidence']}" if chain["gate"] else "not asked",
    }
    for name, text in lines.items():
        typer.echo(f"{name:<14}{text}")
