"""The verb that looks whether all is well."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import typer

from flows.console import AsJson, PipelineFile, app, print_json

if TYPE_CHECKING:
    from flows.diagnosis import Diagnosis

__all__ = ["doctor"]


@app.command(epilog="vaewatch doctor --json")
def doctor(pipeline: PipelineFile = None, as_json: AsJson = False) -> None:
    """Look whether all is well: versions, device, stores, model, nights, schedules, disk; with remedies."""
    from flows.diagnosis import worst
    from flows.doctor import examine
    from flows.report import counted

    began = perf_counter()
    files = [pipeline] if pipeline else sorted(Path("pipelines").glob("*.yml"))
    found = []
    for one in examine(files):
        found.append(one)
        if not as_json:
            _say(one, many=len(files) > 1)
    counts = {f"{name}s": sum(one.state == name for one in found) for name in ("failure", "warning")}
    state, seconds = worst(found), round(perf_counter() - began, 1)
    if as_json:
        checks = [asdict(one) for one in found]
        print_json({"state": state, **counts, "checks": checks, "seconds": seconds})
    else:
        both = f"{counted(counts['failures'], 'failure')}, {counted(counts['warnings'], 'warning')}"
        typer.echo(f"{both}; {seconds} s")
    if state == "failure":
        raise typer.Exit(1)


def _say(one: Diagnosis, *, many: bool) -> None:
    """One finding, and below it what to do."""
    whose = f"{one.pipeline}: " if many and one.pipeline else ""
    typer.echo(f"{one.state:<8} {one.about:<10} {whose}{one.said}")
    if one.remedy:
        typer.echo(f"{'':<20}remedy: {one.remedy}")
