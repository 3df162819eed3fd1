"""Prefect's server: the one that is there, or a temporary one.

`api` is what every command runs its flows in. It takes the server that ``PREFECT_API_URL`` names, else the
one that ``vaewatch up`` has started for this project, else it starts one for the time of the command. In the
last two cases the runs are kept in ``data/prefect``.

Measured on two cores: a server starts in 5 to 8 s, the very first time in 10 to 15 s; a flow costs 0.2 s.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.errors import ServerError, VaewatchError
from flows.loopback import ADDRESS, origins
from flows.processes import Child, answers, child, free_port

__all__ = ["announced", "api", "environment", "prefect_server", "running", "standing", "url_of"]

UNNEEDED = (
    *("SCHEDULER", "LATE_RUNS", "FOREMAN", "TRIGGERS"),
    *("CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "REPOSSESSOR"),
)
"""Services that schedule, watch workers or tidy up: nothing that the runs of one command wait for."""

TEMPORARY = {"PREFECT_SERVER_UI_ENABLED": "false"} | {
    f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in UNNEEDED
}
"""Settings of a server that only records the runs of one command."""

QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""Settings of a command: logs go to the run's page; people get progress, and errors as a sentence."""


@contextlib.contextmanager
def api(root: Path) -> Iterator[str]:
    """Run flows in this block; yields the URL of the API that records them.

    Import modules that hold flows inside the block: Prefect sets up its logging when it is first imported.

    Parameters
    ----------
    root
        The project's folder, the one of ``mlflow.yml``.

    Raises
    ------
    ServerError
        The server that ``PREFECT_API_URL`` names does not answer, a temporary one cannot be started, or the
        server went away during the block, for longer than Prefect's client asks again.
    """
    with (
        _environ(QUIET | environment(root)),
        _server(root) as url,
        _environ({"PREFECT_API_URL": url}),
        _client(url),
        _away_told(url),
    ):
        yield url


def environment(root: Path) -> dict[str, str]:
    """Return the settings of a project's Prefect as environment variables; what the user has set stays."""
    ours = {
        "PREFECT_HOME": str(root / "data" / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    return {name: os.environ.get(name, value) for name, value in ours.items()}


@contextlib.contextmanager
def prefect_server(root: Path, port: int, settings: Mapping[str, str]) -> Iterator[Child]:
    """Run Prefect's server on 127.0.0.1 during the block, which begins when it answers.

    It answers requests of this machine and of its own page alone, see `flows.loopback`.

    Parameters
    ----------
    root
        The project's folder.
    port
        Where to listen.
    settings
        More of Prefect's settings, as environment variables.

    Raises
    ------
    ServerError
        The server ends, or does not answer in time; the message shows the end of its log.
    """
    address = {
        "PREFECT_SERVER_API_HOST": ADDRESS,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins(port)),  # by default those of any page
        "PREFECT_SERVER_UI_API_URL": url_of(port),  # the page asks this address, by default always port 4200
    }
    env = {
        name: value for name, value in os.environ.items() if name not in QUIET and name != "PREFECT_API_URL"
    }
    with contextlib.ExitStack() as stack:
        with _one_at_a_time(root):
            server = stack.enter_context(
                child(
                    "Prefect's server",
                    [sys.executable, "-m", "flows.prefect_page"],
                    log=root / "data" / "logs" / "prefect.log",
                    env=env | environment(root) | address | dict(settings),
                )
            )
            server.wait_for(f"{url_of(port)}/health")
        yield server


def url_of(port: int) -> str:
    """Return the URL of the API of a Prefect server on this machine."""
    return f"http://{ADDRESS}:{port}/api"


@contextlib.contextmanager
def announced(root: Path, url: str) -> Iterator[None]:
    """Let other commands of this project find the server at `url` during the block."""
    file = _announcement(root)
    file.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def _server(root: Path) -> Iterator[str]:
    url = standing(root)
    if url:
        yield url
        return
    port = free_port()
    with prefect_server(root, port, TEMPORARY):
        yield url_of(port)


def standing(root: Path) -> str | None:
    """Return the API's URL of the user's own server or of this project's stack, None when there is neither.

    Raises
    ------
    ServerError
        The server that ``PREFECT_API_URL`` names does not answer.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named and not answers(f"{named}/health"):
        raise ServerError(
            f"PREFECT_API_URL names {named}, however nothing answers there:"
            " start that server, or unset the variable"
        )
    return named or running(root)


def running(root: Path) -> str | None:
    """Return the URL of the server that a living ``vaewatch up`` has announced, else None."""
    try:
        found = json.loads(_announcement(root).read_text())
        os.kill(found["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found["url"]) if answers(f"{found['url']}/health") else None


def _announcement(root: Path) -> Path:
    return root / "data" / "prefect" / "server.json"


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Let servers of a project start one after the other: the first one makes the tables."""
    folder = root / "data" / "prefect"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "starting.lock").open("w")
    except OSError as error:
        raise ServerError(
            f"the folder of Prefect's runs cannot be written: {error}; check its permissions"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _environ(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables during the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _away_told(url: str) -> Iterator[None]:
    """Tell that the server went away, where that is why flows failed."""
    try:
        yield
    except VaewatchError:
        raise
    except Exception as error:
        if answers(f"{url}/health"):
            raise
        raise ServerError(
            f"Prefect's server was to answer at {url}, however it went away during the run"
            f" ({type(error).__name__}); start it, and run again: what is finished stays"
        ) from error


@contextlib.contextmanager
def _client(url: str) -> Iterator[None]:
    """Point Prefect's client at `url`, also when Prefect was imported before.

    Without heartbeats: the end of a run would wait 1 s for them.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        try:
            yield
        finally:
            _send_what_waits()


def _send_what_waits() -> None:
    """Send the logs and events that wait: without a server they would keep Python alive for 1 min."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)
