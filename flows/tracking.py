"""MLflow's client: reached in time, made ready, its failures turned into sentences.

The only module that imports MLflow, besides ``flows/serving.py``, which MLflow itself executes. All
goes through one explicit client: no active run, no process-wide tracking URI, no probing of git or of
installed packages. MLflow is imported on first use.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import sqlite3
import tempfile
import textwrap
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.addresses import public
from flows.errors import RegistryAwayError

__all__ = ["Stores", "files_at", "mlflow_itself"]

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing leaves the machine
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # no chatter; what fails is raised as a sentence
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # no model file runs code when it is loaded
    "MLFLOW_UV_AUTO_DETECT": "false",  # a uv project in the current folder is not the model's
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # gives up after 15 s; MLflow's own 7 take 4 minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",  # s
}
"""Environment that MLflow is imported in; what the user has set wins."""


@functools.cache
def mlflow_itself() -> Any:
    """Import MLflow (1.6 CPU-seconds), silently."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])  # who imported it first spoke up
    return mlflow


def files_at(uri: str, tracking_uri: str) -> Any:
    """MLflow's view of the files at an address, which may lie behind its server."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(uri, tracking_uri=tracking_uri)


def _failures() -> tuple[type[Exception], ...]:
    """Whatever MLflow, or a store under it, raises when it cannot do what was asked."""
    from http.client import HTTPException

    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, CommandError, HTTPException, sqlite3.Error, OSError, ImportError


@functools.cache
def _client(tracking_uri: str, registry_uri: str) -> Any:
    """Client of both stores, which are there and answer."""
    for uri in dict.fromkeys((tracking_uri, registry_uri)):
        _make_sure_of(uri)
    return mlflow_itself().MlflowClient(tracking_uri, registry_uri)


def _make_sure_of(uri: str) -> None:
    """Fail at once where MLflow would retry for minutes; make a SQLite file that is not there yet."""
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    if urlsplit(uri).scheme in {"http", "https"}:
        _knock(uri)
    elif path != uri and path not in {"", ":memory:"}:
        with _locked(Path(path)):
            _create(Path(path))
        _write_nothing(Path(path))


def _knock(server: str) -> None:
    """Raise OSError unless a server answers within 10 seconds, with a refusal if it likes."""
    try:
        urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=10).close()  # noqa: S310 - http or https
    except urllib.error.HTTPError as refusal:
        refusal.close()


@contextlib.contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Hold the lock file beside a database; the system lets go of it when the process ends."""
    import fcntl

    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _create(database: Path) -> None:
    """Let MLflow make its tables aside, then move them into place whole.

    MLflow migrates an empty file 67 times, without a lock: two processes on it crash, one that is killed
    leaves half of the tables, and every step waits for the disk (6 s; without waiting 1 s).
    """
    if database.exists() and database.stat().st_size > 0:
        return
    for killed in database.parent.glob(f".{database.name}-*"):
        shutil.rmtree(killed, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(dir=database.parent, prefix=f".{database.name}-") as scratch,
        _unsynced(),
    ):
        aside = Path(scratch) / "mlflow.db"
        mlflow_itself().MlflowClient(f"sqlite:///{aside}", f"sqlite:///{aside}")
        aside.replace(database)


@contextlib.contextmanager
def _unsynced() -> Iterator[None]:
    """Open SQLite connections that do not wait for the disk."""
    from sqlalchemy import Engine, event

    def relax(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


def _write_nothing(database: Path) -> None:
    """Raise sqlite3.Error unless the file is a SQLite database that can be written."""
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def _reason(error: Exception) -> str:
    """First line of an error, shortened, without its full stop."""
    lines = str(getattr(error, "reason", error)).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0], 240, placeholder=" …").rstrip(" .")


@dataclass(frozen=True)
class Stores:
    """Where MLflow keeps runs and versions."""

    tracking_uri: str
    registry_uri: str

    @contextlib.contextmanager
    def asked_to(self, action: str) -> Iterator[Any]:
        """Yield the client; a failure becomes the sentence that ``action`` did not work."""
        try:
            yield _client(self.tracking_uri, self.registry_uri)
        except _failures() as error:
            raise RegistryAwayError(
                f"cannot {action} in MLflow at {public(self.tracking_uri)}: {_reason(error)}; "
                "check tracking_uri in mlflow.yml, and that this place can be reached and written"
            ) from error
