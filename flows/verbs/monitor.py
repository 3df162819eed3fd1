"""Verbs about how a night and its model fare."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.console import AsJson, PipelineFile, app, flows_of, pipeline_of, print_json, print_table

__all__ = ["monitor"]


@app.command(epilog="vaewatch monitor --date 2013-07-06")
def monitor(
    date: Annotated[str, typer.Option(help="The scored night to look at, YYYY-MM-DD.")],
    pipeline: PipelineFile = None,
    as_json: AsJson = False,
) -> None:
    """Say how a scored night differs from the training rows, and which errors its model does not see."""
    loaded = pipeline_of(pipeline)
    with flows_of(loaded):
        from flows.monitor import monitor as monitor_flow

        report = monitor_flow(str(loaded.file), date)
    print_json(report) if as_json else _say(report)


def _say(report: dict[str, Any]) -> None:
    typer.echo(
        f"{report['date']}  {report['rows']:,} rows, {report['sampled']:,} of them looked at; "
        f"scored by {report['model']['name']} version {report['model']['version']}"
    )
    for sentence in report["sentences"] or ["Nothing stands out."]:
        typer.echo(sentence)
    _say_power(report)
    typer.echo(report["page"])


def _say_power(report: dict[str, Any]) -> None:
    """Share of planted errors found, a line a column, and the smallest error of a number that shows."""
    found = {
        (one["column"], one["metric"].removeprefix("power_")): one["value"]
        for one in report["findings"]
        if one["metric"].startswith("power_")
    }
    kinds = list(dict.fromkeys(kind for _, kind in found))
    rows = [
        [column, *(_percent(found.get((column, kind))) for kind in kinds), _below(report, column)]
        for column in dict.fromkeys(column for column, _ in found)
    ]
    if rows:
        typer.echo("Planted errors found, by column and kind:")
        print_table(["column", *kinds, "blind below"], rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _below(report: dict[str, Any], column: str) -> str:
    if column not in report["blind_below"]:
        return ""
    limit = report["blind_below"][column]
    return "any size" if limit is None else f"{limit:.0%}"
