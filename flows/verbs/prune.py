"""The verb that removes what the pipeline file says is not to be kept."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.console import AsJson, PipelineFile, app, pipeline_of, print_json, print_table, progress_bars

if TYPE_CHECKING:
    from flows.config import Pipeline

__all__ = ["prune"]


@app.command(epilog="vaewatch prune --dry-run")
def prune(
    pipeline: PipelineFile = None,
    dry_run: Annotated[bool, typer.Option(help="List what would be done, and why; do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove results and model files older than `retention` of the pipeline file keeps."""
    from flows.prune import prune as prune_pipeline

    loaded = pipeline_of(pipeline)
    with progress_bars():
        report = prune_pipeline(loaded, _judged(loaded), dry_run=dry_run)
    print_json(report) if as_json else _say(loaded, report)
    if report["failed"]:
        raise typer.Exit(1)


def _judged(pipeline: Pipeline) -> set[date]:
    """Nights with verdicts in the database: those that no longer stand and whose row is gone count too."""
    from review.database import Database, default_url
    from review.store import VerdictStore

    if not Database(default_url(pipeline.root)).is_there:
        return set()
    with VerdictStore.open(default_url(pipeline.root), pipeline.name) as verdicts:
        return {*verdicts.settled(), *(one.dt for one in verdicts.orphans())}


def _say(pipeline: Pipeline, report: dict[str, Any]) -> None:
    rows = [
        [
            what,
            f"{one['nights']:,}",
            one["first"],
            one["last"],
            f"{one['files']:,}",
            f"{one['bytes'] / 1e6:,.2f}",
        ]
        for what, one in report["removed"].items()
    ]
    if rows:
        print_table(["what", "nights", "from", "to", "files", "MB"], rows)
    if report["models"]:
        typer.echo(f"Files of model versions {', '.join(report['models'])}; their records stay.")
    for one in report["kept"]:
        typer.echo(f"Kept: {one['what']} of {one['which']}: {one['why']}")
    for one in report["failed"]:
        typer.echo(f"vaewatch: {one['what']}: {one['why']}", err=True)
    if not rows and not report["models"]:
        typer.echo(f"Nothing is older than `retention` of {pipeline.file.name} keeps.")
    elif report["dry_run"]:
        typer.echo("Nothing is done yet: run it without --dry-run.")
    else:
        typer.echo("All of this is removed.")
