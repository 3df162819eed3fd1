"""Databases of verdicts: made, brought up to date, refused when a newer release has made them."""

from __future__ import annotations

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import review.migrations
from flows.errors import StoreError
from review.database import Database, default_url
from review.errors import DatabaseError, MigrationError
from review.migrate import HEAD, VERSION_TABLE
from review.store import RowRef, VerdictStore
from review.tables import METADATA

NIGHT = date(2013, 7, 6)


def version_of(url: str) -> list[str]:
    with closing(Database(url)) as database, database.read() as connection:
        return list(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars())  # noqa: S608


def set_version(url: str, version: str) -> None:
    sentence = text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'")  # noqa: S608
    with closing(Database(url)) as database:
        database.write(lambda connection: connection.execute(sentence))


def test_an_empty_database_gets_the_newest_tables(url: str) -> None:
    VerdictStore.open(url, "flights").close()

    assert version_of(url) == [HEAD]
    with closing(Database(url)) as database, database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == [], "the steps lead to what the code expects"


def test_the_newest_step_is_the_one_that_is_asked_for() -> None:
    assert ScriptDirectory(str(Path(review.migrations.__file__).parent)).get_heads() == [HEAD]


def test_many_may_open_an_empty_database_at_once(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        for store in pool.map(lambda _: VerdictStore.open(url, "flights"), range(8)):
            store.close()

    assert version_of(url) == [HEAD]


def test_a_database_of_a_newer_release_is_refused_and_left_alone(url: str) -> None:
    with VerdictStore.open(url, "flights") as store:
        store.decide([RowRef(NIGHT, "a", None)], "anomaly", reviewer="ann", seen={})
    set_version(url, "0099")

    with pytest.raises(
        MigrationError, match=f"tables of version {HEAD} or older were required, however.*0099"
    ):
        VerdictStore.open(url, "flights")
    assert version_of(url) == ["0099"]
    set_version(url, HEAD)
    with VerdictStore.open(url, "flights") as store:
        assert len(store.current(NIGHT)) == 1


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "verdicts.db").write_text("dear diary, " * 100)

    with pytest.raises(DatabaseError, match=r"cannot .* the verdicts in sqlite:.*not a database"):
        VerdictStore.open(f"sqlite:///{tmp_path}/verdicts.db", "flights")


def test_tables_of_our_names_that_somebody_else_has_made_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE review_rules (id INTEGER)")
    connection.close()

    with pytest.raises(DatabaseError, match="table review_rules already exists"):
        VerdictStore.open(f"sqlite:///{file}", "flights")
    connection = sqlite3.connect(file)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert names == {"review_rules"}, "a step is taken whole or not at all"


def test_a_server_that_is_away_is_a_sentence_without_the_password() -> None:
    with pytest.raises(
        StoreError, match=r"cannot read the verdicts in postgresql.*127\.0\.0\.1:1/verdicts"
    ) as caught:
        VerdictStore.open("postgresql://ann:hush@127.0.0.1:1/verdicts", "flights")
    assert "hush" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")

    with pytest.raises(DatabaseError, match="cannot open the verdicts in sqlite:"):
        VerdictStore.open(f"sqlite:///{tmp_path}/data/review/verdicts.db", "flights")


def test_a_database_that_vanishes_meanwhile_is_a_sentence(sqlite_url: str) -> None:
    with VerdictStore.open(sqlite_url, "flights") as store:
        Path(str(store.database.url.database)).unlink()
        with pytest.raises(DatabaseError, match="cannot read the verdicts in sqlite"):
            store.current(NIGHT)


def test_the_default_lies_under_the_project_and_the_environment_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAEWATCH_REVIEW_DB", raising=False)
    assert default_url(tmp_path) == f"sqlite:///{tmp_path}/data/review/verdicts.db"
    monkeypatch.setenv("VAEWATCH_REVIEW_DB", "postgresql://ann@db/verdicts")
    assert default_url(tmp_path) == "postgresql://ann@db/verdicts"


def test_only_its_owner_may_read_a_new_file(sqlite_url: str) -> None:
    with VerdictStore.open(sqlite_url, "flights") as store:
        file = Path(str(store.database.url.database))
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
