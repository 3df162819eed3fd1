"""Verbs about nights that are past: many of them, two scorings of one, another policy for one."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.console import (
    PARTIAL,
    AsJson,
    PipelineFile,
    app,
    pipeline_of,
    print_flags,
    print_json,
    print_table,
    progress_bars,
)

if TYPE_CHECKING:
    from flows.config import Pipeline

__all__ = ["backfill", "diff", "exit_code", "redecide"]


@app.command(epilog="vaewatch backfill --from 2013-07-01 --to 2013-07-31")
def backfill(
    first: Annotated[str, typer.Option("--from", help="First night, YYYY-MM-DD.")],
    last: Annotated[str, typer.Option("--to", help="Last night, YYYY-MM-DD, included.")],
    pipeline: PipelineFile = None,
    as_of: Annotated[
        bool, typer.Option("--as-of", help="Score each night with the model that was live then.")
    ] = False,
    version: Annotated[
        str | None, typer.Option("--model", help="Model version to score with; by default the live one.")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Nights scored at once.")] = 1,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin with the last night.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and why.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score the nights of a span; finished ones stay, and one that fails holds up no other."""
    loaded = pipeline_of(pipeline)
    if dry_run:
        _dry_run(loaded, first, last, version, as_of, newest_first, as_json)
        return
    options = {"version": version, "as_of": as_of, "parallel": parallel, "newest_first": newest_first}
    reports = _filled_back(loaded, first, last, options, as_json)
    _tell(loaded, reports, as_json)
    code = max((exit_code(loaded, report) for report in reports), key=_SEVERITY.index, default=0)
    if code:
        raise typer.Exit(code)


@app.command(epilog="vaewatch diff --date 2013-07-06")
def diff(
    date: Annotated[str, typer.Option(help="The night, YYYY-MM-DD.")],
    pipeline: PipelineFile = None,
    version: Annotated[
        str | None,
        typer.Option("--model", help="Compare with what this model version makes of the night, aside."),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Show at most so many rows of each kind.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Compare two scorings of a night: the flags gained, lost and kept."""
    from flows.context import parse_date
    from flows.diff import diff as compare

    loaded = pipeline_of(pipeline)
    with progress_bars():
        found = compare(loaded, parse_date(date), version).report()
    print_json(found) if as_json else _say_difference(found, rows)


@app.command(epilog="vaewatch redecide --date 2013-07-06 --budget 50")
def redecide(
    date: Annotated[str, typer.Option(help="The night, YYYY-MM-DD.")],
    pipeline: PipelineFile = None,
    contamination: Annotated[
        float | None, typer.Option(help="Share of ordinary rows to flag, in place of the file's policy.")
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(help="Share of false alarms among the flags, in place of the file's policy."),
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Rows flagged at most; alone, or as a cap.")] = None,
    as_json: AsJson = False,
) -> None:
    """Apply a policy to the stored scores of a night: the pipeline file's, or the one given here."""
    from flows.context import parse_date
    from flows.redecide import policy
    from flows.redecide import redecide as decide
    from flows.triage import after_decision

    loaded = pipeline_of(pipeline)
    given = policy({"contamination": contamination, "fdr": fdr, "budget": budget})
    done = decide(loaded, parse_date(date), given)
    again = after_decision(loaded, parse_date(date))
    print_json({**done.report(), "triage": again}) if as_json else _say_decision(done.report())


def _filled_back(
    pipeline: Pipeline, first: str, last: str, options: dict[str, Any], as_json: bool
) -> list[dict[str, Any]]:
    """Run the flow; Ctrl-C ends all at once, as a crash would, and what is done is told."""
    from flows.processes import interruptible
    from flows.server import api

    with interruptible(), api(pipeline.root):
        from flows.backfill import StoppedError, backfill

        try:
            with progress_bars():
                reports: list[dict[str, Any]] = backfill(str(pipeline.file), first, last, **options)
        except StoppedError as stopped:
            _tell(pipeline, stopped.reports, as_json)
            said = f"stopped, {len(stopped.reports)} of {stopped.nights} nights are done"
            typer.echo(f"vaewatch: {said}; the same command goes on from here", err=True)
            sys.stdout.flush()
            os._exit(130)  # Python would wait for the threads of the nights in progress
    return reports


_SEVERITY = (0, PARTIAL, 1)
"""Exit codes, the worst one last."""


def _dry_run(
    pipeline: Pipeline,
    first: str,
    last: str,
    version: str | None,
    as_of: bool,
    newest_first: bool,
    as_json: bool,
) -> None:
    from flows.context import parse_date
    from flows.planning import plan

    steps = plan(pipeline, parse_date(first), parse_date(last), version=version, as_of=as_of)
    found = [step.report() for step in (steps[::-1] if newest_first else steps)]
    if as_json:
        print_json(found)
    else:
        rows = [[one["date"], one["action"], one["version"] or "", one["why"]] for one in found]
        print_table(["night", "to do", "model", "why"], rows)
    if any(step.action == "fail" for step in steps):
        raise typer.Exit(1)


def _say_difference(found: dict[str, Any], rows: int) -> None:
    from flows.report import flags_table, policy_text

    for side in ("before", "after"):
        one = found[side]
        typer.echo(
            f"{side:<7} {one['rows_flagged']:>7,} of {one['rows_scored']:,} rows flagged, model version "
            f"{one['model']['version']}, {policy_text(one['decision'])}, scored at {one['scored_at']}"
        )
    for kind in ("gained", "lost", "kept"):
        typer.echo(f"{kind:<7} {found[kind]:>7,}")
    for kind in ("gained", "lost"):
        if found[kind] and rows:
            typer.echo(f"\n{kind}:")
            print_flags(flags_table(found[f"rows_{kind}"][:rows]))


def _say_decision(report: dict[str, Any]) -> None:
    from flows.report import counted, policy_text

    if report["status"] == "unchanged":
        typer.echo(f"{report['date']}  this policy is the night's already")
        return
    now, before = policy_text(report["decision"]), policy_text(report["decision_before"])
    typer.echo(
        f"{report['date']}  {now} in place of {before}: "
        f"{report['rows_flagged']:,} flagged, {report['rows_flagged_before']:,} before; "
        f"{counted(report['rows_read'], 'row')} read again"
    )
    typer.echo(report["certification"])


def _tell(pipeline: Pipeline, reports: list[dict[str, Any]], as_json: bool) -> None:
    """What became of the nights; on stderr what is wrong with those that are scored, as `score` says it."""
    from flows.report import troubles_of

    print_json(reports) if as_json else _say_nights(pipeline, reports)
    for report in reports:
        for said in troubles_of(pipeline, report):
            typer.echo(f"vaewatch: {report['date']}: {said}", err=True)


def _say_nights(pipeline: Pipeline, reports: list[dict[str, Any]]) -> None:
    counts = ("rows_scored", "rows_quarantined", "rows_flagged")
    rows = [
        [
            report["date"],
            _status(pipeline, report),
            report["version"] or "",
            *(f"{report[name]:,}" if name in report else "" for name in counts),
            report["error"] or report["why"],
        ]
        for report in reports
    ]
    print_table(["night", "status", "model", "scored", "quarantined", "flagged", "why"], rows)


def _status(pipeline: Pipeline, report: dict[str, Any]) -> str:
    """What became of a night in a word; of one that is finished, what is wrong with it comes first."""
    if report["status"] == "failed":
        return "failed"
    if report.get("incident"):
        return "incident"
    wrong = {1: "rejected", PARTIAL: "partial"}
    return wrong.get(exit_code(pipeline, report), str(report["status"]))


def exit_code(pipeline: Pipeline, report: dict[str, Any]) -> int:
    """Exit code of one night: 1 when nothing could be scored, 3 when something is wrong with it."""
    from flows.report import troubles_of

    if report["status"] == "failed" or (report.get("files_rejected") and not report["files_scored"]):
        return 1
    return PARTIAL if troubles_of(pipeline, report) else 0
