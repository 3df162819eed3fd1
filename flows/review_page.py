"""The review page as a process: what `vaewatch review` runs, and `vaewatch up` beside its other servers."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from flows.config import Pipeline
from flows.errors import ConfigError
from flows.processes import Child, child
from review.access import Settings, check_startup

__all__ = ["PORT", "review_page"]

PORT = 8501
"""Where people expect the page."""


@contextlib.contextmanager
def review_page(
    pipelines: Sequence[Pipeline], *, address: str, port: int, mlflow: str = "", prefect: str = ""
) -> Iterator[Child]:
    """Run the page during the block, which begins when it answers.

    Parameters
    ----------
    pipelines
        Whose nights it shows; all of them let in the same people.
    address, port
        Where it listens.
    mlflow, prefect
        Addresses of their pages, for links; empty where there are none.

    Raises
    ------
    AccessError
        It would listen beyond this machine without a login, or the login is not set up.
    ConfigError
        Streamlit is not installed, or the pipelines do not let in the same people.
    ServerError
        It ends by itself, or does not answer.
    """
    check_startup(address, _settings(pipelines))
    if find_spec("streamlit") is None:
        raise ConfigError(
            "Streamlit was required for the page, however it is not installed: install vaewatch[review]"
        )
    command = [
        *(sys.executable, "-m", "review.server", "--address", address, "--port", str(port)),
        *("--mlflow", mlflow, "--prefect", prefect),
        *(str(pipeline.file) for pipeline in pipelines),
    ]
    log = pipelines[0].root / "data" / "logs" / "review.log"
    env = {**os.environ, "DO_NOT_TRACK": "1"}
    with child("the review page", command, log=log, env=env) as page:
        page.wait_for(f"http://{_reached(address)}:{port}/_stcore/health")
        yield page


def _settings(pipelines: Sequence[Pipeline]) -> Settings:
    """Who may what; pipelines that are shown together must say the same.

    Raises
    ------
    ConfigError
        They do not.
    """
    first = Settings.of(pipelines[0].review)
    for other in pipelines[1:]:
        if Settings.of(other.review) != first:
            raise ConfigError(
                f"one section `review` was required of pipelines that share a page, however those of "
                f"{pipelines[0].file} and {other.file} differ; make them alike, or choose with --pipeline"
            )
    return first


def _reached(address: str) -> str:
    """Where a server on this machine is reached that listens at an address."""
    if address in ("", "0.0.0.0", "::"):  # noqa: S104  # nothing is bound here
        return "127.0.0.1"
    return f"[{address}]" if ":" in address else address
