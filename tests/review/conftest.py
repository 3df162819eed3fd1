"""Databases of verdicts, empty and real: SQLite, and a PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.postgres import postgres


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[str]:
    """Run a PostgreSQL server for all tests, yield the URL of its first database."""
    folder = Path(tempfile.mkdtemp(prefix="vaewatch-pg-"))  # a short path: it holds the server's socket
    with postgres(folder) as url:
        yield url
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(_postgres_server: str) -> str:
    """Return the URL of an empty database of a real PostgreSQL server."""
    import psycopg

    name = f"test_{os.urandom(6).hex()}"
    with psycopg.connect(_postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return _postgres_server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/review/verdicts.db"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database, of each make in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))
