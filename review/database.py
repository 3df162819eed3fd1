"""The database behind the store of verdicts: SQLite by default, PostgreSQL by its URL.

A URL may hold a password: it comes from the environment, and no message shows it.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from review.errors import DatabaseError

__all__ = ["VARIABLE", "Database", "default_url"]

VARIABLE = "VAEWATCH_REVIEW_DB"
LOCK_SECONDS = 30
TRIES = 20  # of a write that met another one
_MET_ANOTHER = {
    *("40001", "40P01", "23505"),  # PostgreSQL: could not serialize, deadlock, not unique
    *("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"),
}

T = TypeVar("T")


def default_url(root: Path) -> str:
    """The database of verdicts: the environment's, else a SQLite file under the folder of ``mlflow.yml``."""
    return os.environ.get(VARIABLE) or f"sqlite:///{root.absolute() / 'data/review/verdicts.db'}"


class Database:
    """Connections to one database, opened when needed.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.

    Raises
    ------
    DatabaseError
        The URL is none, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.shown = self.url.render_as_string(hide_password=True)
        self._engine = _engine(self.url)
        self._writing = self._engine.execution_options(write=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def is_there(self) -> bool:
        """Whether there is anything to open: a server is taken to be, a file is looked for."""
        return not self.is_sqlite or Path(self.url.database or "").is_file()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection to read with, in a transaction of its own.

        Raises
        ------
        DatabaseError
            The database cannot be read.
        """
        with self._refusals("read"), self._engine.connect() as connection, connection.begin():
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns; all of its writes are there, or none.

        It is called again when another writer was faster, so it must read what it decides upon itself.

        Raises
        ------
        DatabaseError
            The database cannot be written.
        """
        with self._refusals("write"):
            for attempt in range(TRIES):
                try:
                    with self._writing.begin() as connection:
                        return work(connection)
                except DBAPIError as error:
                    if attempt == TRIES - 1 or not _met_another(error):
                        raise
                time.sleep(random.uniform(0, 0.02 * (attempt + 1)))  # noqa: S311 (no secret)
        raise AssertionError("unreachable")

    def prepare(self) -> None:
        """Make the folder of a SQLite file, and let its readers not wait for writers.

        Raises
        ------
        DatabaseError
            The file cannot be written, or is no database.
        """
        if not self.is_sqlite:
            return
        file = Path(self.url.database or "")
        with self._refusals("open"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)  # SQLite gives its other files the rights of this one
            _retried(lambda: _write_ahead(file))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _refusals(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise DatabaseError(
                f"cannot {verb} the verdicts in {self.shown}: {_reason(error)}; check that the database is "
                f"there and may be written, or set {VARIABLE}"
            ) from error


def _checked(url: str) -> URL:
    """The URL with a driver; PostgreSQL's short names are taken."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseError(  # the value is not shown: it may hold a password
            f"{VARIABLE}: sqlite:///FILE or postgresql://USER@HOST/NAME was required, however something else "
            "came; mend the variable"
        ) from None
    name = parsed.drivername.partition("+")[0]
    if name in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if name != "sqlite" or not parsed.database:
        raise DatabaseError(
            f"{VARIABLE}: sqlite:///FILE or postgresql://USER@HOST/NAME was required, however a URL of "
            f"{name or 'nothing'} came; mend the variable"
        )
    return parsed


def _engine(url: URL) -> Engine:
    try:
        engine = (
            create_engine(url, poolclass=NullPool, connect_args={"timeout": LOCK_SECONDS})
            if url.get_backend_name() == "sqlite"
            else create_engine(
                url.update_query_dict({"connect_timeout": "10"} | dict(url.query)),
                pool_pre_ping=True,
                isolation_level="READ COMMITTED",
                connect_args={"prepare_threshold": None},  # poolers such as PgBouncer keep no statements
            )
        )
    except (ImportError, NoSuchModuleError):
        raise DatabaseError(
            f"a driver for {url.drivername} was required, however none is installed; "
            "install vaewatch[postgres]"
        ) from None
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
    return engine


def _write_ahead(file: Path) -> None:
    with closing(sqlite3.connect(file, timeout=LOCK_SECONDS)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _retried(work: Callable[[], None]) -> None:
    """Turning to write-ahead needs the file for itself, and does not wait for it."""
    for attempt in range(TRIES):
        try:
            work()
        except sqlite3.OperationalError as error:
            if attempt == TRIES - 1 or "locked" not in str(error):
                raise
        else:
            return
        time.sleep(random.uniform(0, 0.05 * (attempt + 1)))  # noqa: S311 (no secret)


def _prepare(connection: Any, _: Any) -> None:
    """Set up a connection to SQLite: transactions are ours to begin."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # what was settled survives a power cut


def _begin(connection: Connection) -> None:
    """Begin as what it will be: a reader that turns writer could not wait for another one."""
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _met_another(error: DBAPIError) -> bool:
    names = {getattr(error.orig, one, None) for one in ("sqlstate", "sqlite_errorname")}
    return bool(names & _MET_ANOTHER)


def _reason(error: Exception) -> str:
    """The first line of what a driver says, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0].rstrip(".")[:300]
