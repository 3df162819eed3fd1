"""The verb that shows what the nights have found, for people to settle."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from flows.console import PipelineFile, app, pipeline_of, pipelines

__all__ = ["review"]


@app.command(epilog="vaewatch review")
def review(
    pipeline: PipelineFile = None,
    address: Annotated[
        str, typer.Option(help="Where to listen; beyond this machine a login is required.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 8501,
) -> None:
    """Show what the nights have found, on a page where people settle it, until Ctrl-C."""
    from flows.processes import free_port, interruptible, watch
    from flows.review_page import review_page

    loaded = [pipeline_of(pipeline)] if pipeline else pipelines()
    free = free_port(port)
    if free != port:
        typer.echo(f"Port {port} is taken, so the page gets {free}.")
    with contextlib.suppress(KeyboardInterrupt), interruptible(), contextlib.ExitStack() as stack:
        page = stack.enter_context(review_page(loaded, address=address, port=free))
        typer.echo(f"Review     http://{address}:{free}")
        typer.echo("Ctrl-C stops it.")
        watch([page])
    typer.echo("Stopped.")
