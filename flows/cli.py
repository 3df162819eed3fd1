"""The command line: thin verbs over the flows. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.console import (
    AsJson,
    PipelineFile,
    app,
    flows_of,
    pipeline_of,
    pipelines,
    print_flags,
    print_json,
    progress_bars,
)
from flows.errors import VaewatchError, legible
from flows.verbs import registered
from flows.verbs.nights import exit_code

if TYPE_CHECKING:
    from flows.config import Pipeline

__all__ = ["app", "main"]


@app.command(epilog="vaewatch init data/landing/orders")
def init(
    path: Annotated[str, typer.Argument(help="Folder of Parquet files, or a URI.")],
    name: Annotated[str | None, typer.Option(help="Name of the pipeline; by default the folder's.")] = None,
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
) -> None:
    """Infer a pipeline from a Parquet folder: columns, keys, dates, contract."""
    from flows.scaffold import scaffold

    scaffold(path, name=name, folder=Path.cwd(), force=force, say=typer.echo)


@app.command(epilog="vaewatch check --date 2013-07-06")
def check(
    date: Annotated[str, typer.Option(help="The night to validate, YYYY-MM-DD.")],
    pipeline: PipelineFile = None,
    file: Annotated[str | None, typer.Option(help="One file instead of the night's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Validate a night against its contract without scoring it."""
    loaded = pipeline_of(pipeline)
    with flows_of(loaded):
        from flows.validate import validate

        checked = validate(str(loaded.file), date, file)
    report = checked["report"]
    if as_json:
        print_json(checked)
    else:
        _say_validation(checked)
    if report is None or report["contract_broken"]:
        raise typer.Exit(1)


@app.command(epilog="vaewatch train --until 2013-06-30")
def train(
    until: Annotated[str | None, typer.Option(help="Last date of the window, YYYY-MM-DD.")] = None,
    pipeline: PipelineFile = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on the window that ends at a date, and register it in MLflow."""
    loaded = pipeline_of(pipeline)
    with flows_of(loaded):
        from flows.train import train as train_flow

        report = train_flow(str(loaded.file), until)
    print_json(report) if as_json else _say_training(report)


@app.command(epilog="vaewatch score --date 2013-07-06")
def score(
    date: Annotated[str, typer.Option(help="The logical date of the night, YYYY-MM-DD.")],
    pipeline: PipelineFile = None,
    file: Annotated[str | None, typer.Option(help="Score this one file as the night.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score one night with the live model and write its flags."""
    from flows.checker import warm_up
    from flows.context import parse_date

    loaded = pipeline_of(pipeline)
    warm_up(loaded, parse_date(date))
    with flows_of(loaded):
        from flows.score import score as score_flow

        report = score_flow(str(loaded.file), date, file)
    print_json(report) if as_json else _say_night(loaded, report)
    _exit_by(loaded, report)


@app.command(epilog="vaewatch schema > pipeline.schema.json")
def schema() -> None:
    """Print the JSON schema of pipeline files, for editors."""
    from flows.config import json_schema

    print_json(json_schema())


@app.command(epilog="vaewatch deploy --pipeline pipelines/flights.yml")
def deploy(pipeline: PipelineFile = None) -> None:
    """Register scoring, training and monitoring on a Prefect server, for a work pool."""
    from flows.deployments import POOL
    from flows.deployments import deploy as deploy_pipeline

    loaded = pipeline_of(pipeline)
    for name in deploy_pipeline(loaded):
        typer.echo(f"{name}: registered, {loaded.schedule.timezone} time")
    typer.echo(f"A worker runs them: prefect worker start --pool {POOL}")


@app.command(epilog="vaewatch up")
def up(pipeline: PipelineFile = None) -> None:
    """Run Prefect's server, the schedules, MLflow's and the review page on this machine until Ctrl-C."""
    from flows.stack import up as start

    loaded = [pipeline_of(pipeline)] if pipeline else pipelines()
    start(loaded[0].root, loaded, typer.echo)


@app.command(epilog="vaewatch demo")
def demo() -> None:
    """Train on half a year of real flights, score the 31 nights of July, show what was found."""
    from flows.demo import land_flights
    from flows.tour import tour

    loaded = (
        pipeline_of(None)
        if not Path("pipelines/flights.yml").exists()
        else pipeline_of(Path("pipelines/flights.yml"))
    )
    with progress_bars():
        land_flights(loaded.root)
    with progress_bars():
        tour(loaded, typer.echo, print_flags)


registered()


def main() -> None:
    """Run the command line; an error that a user can mend is one sentence on stderr."""
    try:
        app(standalone_mode=True)
    except VaewatchError as error:
        typer.echo(f"vaewatch: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("vaewatch: stopped", err=True)
        raise SystemExit(130) from None


def _exit_by(pipeline: Pipeline, report: dict[str, Any]) -> None:
    """Exit 1 when no file could be scored, 3 when some could not, or most rows broke rules or are odd."""
    from flows.report import troubles_of

    for said in troubles_of(pipeline, report):
        typer.echo(f"vaewatch: {said}", err=True)
    if code := exit_code(pipeline, report):
        raise typer.Exit(code)


def _say_training(report: dict[str, Any]) -> None:
    from flows.decision import calibration_sentence
    from flows.report import epochs_text

    model = report["model"]
    typer.echo(
        f"{report['pipeline']}: model {model['name']} version {model['version']} "
        f"({', '.join(model['aliases']) or 'no alias'}), {report['first']} to {report['until']}"
    )
    typer.echo(
        f"{report['rows_fitted']:,} rows fitted, {report['rows_calibrated']:,} held out, "
        f"{report['rows_set_aside']:,} set aside by rules, "
        f"{report['rows_cleaned']:,} by self-cleaning; {epochs_text(report)}; {report['seconds']} s"
    )
    typer.echo(f"{calibration_sentence(report['calibration'])}.")
    typer.echo(report["honesty"]["sentence"])
    if report["promotion"] is not None:
        typer.echo(
            f"Automatic promotion: {report['promotion'].get('error') or report['promotion']['status']}"
        )


def _say_night(pipeline: Pipeline, report: dict[str, Any]) -> None:
    from flows.changes import changes_text
    from flows.report import (
        certification_text,
        flags_table,
        night_line,
        remarks_of,
        selection_text,
        top_flags,
    )

    typer.echo(night_line(report))
    if report["status"] == "skipped":
        return
    if not report["incident"] and report["rows_flagged"] > pipeline.alerts.max_flag_share * max(
        report["rows_scored"], 1
    ):
        share = report["rows_flagged"] / report["rows_scored"]
        typer.echo(
            f"{share:.1%} of the rows are flagged: the night as a whole is odd, or the model is out of date"
        )
    typer.echo(f"{selection_text(report)} {certification_text(report)}".strip())
    if report["status"] == "scored" and report["changes"]:
        typer.echo(changes_text(report["changes"]))
    if report["pruned"]:
        typer.echo(f"Removed by `vaewatch prune`: {', '.join(report['pruned'])}")
    for one in report["files"]:
        for said in remarks_of(one) if one["status"] == "scored" else ():
            typer.echo(f"{legible(one['path'])}: {said}")
    for said in report["undated"]:
        typer.echo(f"Belongs to no night: {said}")
    print_flags(flags_table(top_flags(pipeline, report["date"], 5), pipeline.prefix))


def _say_validation(checked: dict[str, Any]) -> None:
    for said in checked["rejected"].values():
        typer.echo(f"vaewatch: {said}", err=True)
    report = checked["report"]
    if report is None:
        return
    failed = report["failed"]
    typer.echo(
        f"{report['evaluated'] - len(failed)} of {report['evaluated']} expectations hold; "
        f"{report['docs_url']}"
    )
    for one in failed:
        typer.echo(f"{one['role']}: {one['message']}")
