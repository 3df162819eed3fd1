"""What the verbs of the command line share: the application, common options, printing, progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.errors import ConfigError

if TYPE_CHECKING:
    from flows.config import Pipeline

__all__ = [
    "PARTIAL",
    "AsJson",
    "PipelineFile",
    "app",
    "flows_of",
    "pipeline_of",
    "pipelines",
    "print_flags",
    "print_json",
    "print_table",
    "progress_bars",
]

PARTIAL = 3  # exit code: the night is committed, but files were rejected, too many rows bad, or most odd

app = typer.Typer(
    name="vaewatch",
    help="Every night, find the rows of a table that do not belong, and say why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

PipelineFile = Annotated[
    Path | None,
    typer.Option(
        "--pipeline", "-p", help="Pipeline file; by default the only one in pipelines/.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def pipelines() -> list[Pipeline]:
    """All pipelines of this folder."""
    from flows.config import load_pipeline

    files = sorted(Path("pipelines").glob("*.yml"))
    if not files:
        raise ConfigError(
            f"a pipeline file was required, however {Path('pipelines').absolute()} holds none;"
            " write one with `vaewatch init PATH`, or name one with --pipeline"
        )
    return [load_pipeline(file) for file in files]


def pipeline_of(file: Path | None) -> Pipeline:
    """The pipeline named, else the only one there is."""
    from flows.config import load_pipeline

    if file is not None:
        return load_pipeline(file)
    found = pipelines()
    if len(found) > 1:
        names = ", ".join(str(one.file) for one in found)
        raise ConfigError(f"one pipeline was required, however there are {names}; choose with --pipeline")
    return found[0]


@contextmanager
def flows_of(pipeline: Pipeline) -> Iterator[None]:
    """Run flows in this block: with a Prefect server, and progress on a terminal."""
    from flows.server import api

    with progress_bars(), api(pipeline.root):
        yield


@contextmanager
def progress_bars() -> Iterator[None]:
    """Bars on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from flows.progress import shown_by

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total, visible=done < total)

        with shown_by(show):
            yield


def print_json(value: Any) -> None:
    """Print a report for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_flags(rows: list[dict[str, Any]]) -> None:
    """Print flagged rows and their reasons, as `report.flags_table` gives them."""
    for row in rows:
        typer.echo(f"{row['severity']:>6}  {row['row']}")
        for i in (1, 2, 3):
            if row[f"reason {i}"]:
                typer.echo(f"        {row[f'reason {i}']}")


def print_table(heads: list[str], rows: list[list[str]]) -> None:
    """Columns wide enough for what they hold."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
