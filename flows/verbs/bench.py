"""The verb that tells what this machine will do with a table."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.console import AsJson, PipelineFile, app, pipeline_of, print_json, print_table, progress_bars

__all__ = ["bench"]


@app.command(epilog="vaewatch bench --rows-a-night 100000000")
def bench(
    date: Annotated[
        str | None, typer.Option(help="The night to measure, YYYY-MM-DD; by default the newest.")
    ] = None,
    pipeline: PipelineFile = None,
    rows: Annotated[int, typer.Option(min=1, help="Score at least so many of its rows.")] = 1_000_000,
    rows_a_night: Annotated[
        int | None, typer.Option(min=1, help="Reckon with a night of so many rows.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine scores the table: by stage, in memory, in hours a night."""
    from flows.bench import bench as measured

    loaded = pipeline_of(pipeline)
    with progress_bars():
        report = measured(loaded, date, rows=rows, rows_a_night=rows_a_night)
    print_json(report) if as_json else _say(report)


def _say(report: dict[str, Any]) -> None:
    from flows.report import counted

    model, files = report["model"], counted(report["files_measured"], "file")
    used = f"model {model['name']} version {model['version']}"
    if report["throw_away_model"]:
        used = "a model trained for a moment and thrown away, since none is live"
    typer.echo(
        f"{report['pipeline']}: {report['rows_measured']:,} rows in {files} "
        f"up to {report['date']}, with {used}"
    )
    stages = [
        [name, f"{one['cpu_ns_a_row']:,.0f}", f"{one['rows_a_cpu_second']:,}"]
        for name, one in report["stages"].items()
    ]
    print_table(["stage", "CPU ns a row", "rows a CPU second"], stages)
    typer.echo(
        f"All together {report['rows_a_cpu_second']:,} rows a CPU second; {report['workers']} workers: "
        f"{report['rows_a_second']:,} rows a second now, at a load of {report['load']:g}."
    )
    if report["reasons_cpu_ms_a_flag"] is not None:
        typer.echo(f"The reasons of a flagged row take {report['reasons_cpu_ms_a_flag']:g} CPU-ms more.")
    night = report["night"]
    typer.echo(
        f"A night of {night['rows']:,} rows: {_duration(night['hours'])}; "
        f"memory at most {report['peak_memory_mib']:,} MiB."
    )


def _duration(hours: float) -> str:
    for unit, seconds in (("h", 3600), ("min", 60)):
        if hours * 3600 >= seconds:
            return f"{hours * 3600 / seconds:.1f} {unit}"
    return f"{hours * 3600:.1f} s"
