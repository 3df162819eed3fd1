"""Brings a database of verdicts to this release's tables, and refuses one that a newer release has made."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from review.database import VARIABLE, Database
from review.errors import MigrationError

__all__ = ["HEAD", "VERSION_TABLE", "migrate", "standing"]

HEAD = "0001"
"""The newest step in ``migrations/versions``."""
VERSION_TABLE = "review_version"  # MLflow, whose database this may be, has Alembic's own name
_LOCK = 0x7661655F72657677  # an advisory lock of PostgreSQL, ours alone


def migrate(database: Database) -> None:
    """Make the tables where there are none, and bring older ones up to date; two at once wait for each other.

    Raises
    ------
    MigrationError
        The database was made by a newer release.
    DatabaseError
        It cannot be opened.
    """
    if database.is_there:
        with database.read() as connection:
            if _revision(connection) == HEAD:
                return
    database.prepare()
    database.write(lambda connection: _upgrade(connection, database.shown))


def standing(database: Database) -> str | None:
    """The step that a database is at, found by one who may write it; None before the first.

    Raises
    ------
    MigrationError
        The database was made by a newer release.
    DatabaseError
        It cannot be written.
    """
    there = database.write(_revision)
    _refuse_newer(there, database.shown)
    return there


def _upgrade(connection: Connection, shown: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:name)"), {"name": _LOCK})
    there = _revision(connection)
    if there == HEAD:  # somebody else was faster
        return
    _refuse_newer(there, shown)
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    command.upgrade(config, HEAD)


def _refuse_newer(there: str | None, shown: str) -> None:
    known = {file.stem[1:5] for file in (_scripts() / "versions").glob("v*.py")}
    if there is not None and there not in known:
        raise MigrationError(
            f"{shown}: tables of version {HEAD} or older were required, however those of {there} came, of a "
            f"newer release; install that one, or have {VARIABLE} name another database"
        )


def _revision(connection: Connection) -> str | None:
    """The step that a database is at; None before the first."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608


def _scripts() -> Path:
    return Path(__file__).parent / "migrations"
