"""The journal of the aliases: which version was live when, and that nobody rewrites it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.errors import StoreError
from flows.journal import Journal, carried, step_back
from flows.storage import Store

JULY = datetime(2013, 7, 1, 3, 30, tzinfo=UTC)
COLUMNS = ["alias", "version", "from_version", "at", "by", "evidence_run_id"]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return an empty journal."""
    return Journal(Store.of(tmp_path))


@pytest.fixture
def put(journal: Journal) -> Callable[..., None]:
    """Return a function that makes a version champion on a day of July 2013."""

    def write(version: str, day: int, how: str = "promoted") -> None:
        journal.append("champion", version, by="ann", how=how, at=JULY + timedelta(days=day - 1))

    return write


def files(tmp_path: Path) -> list[Path]:
    """Return the files of the journal, oldest first."""
    return sorted((tmp_path / "journal").rglob("*.parquet"), key=lambda file: file.name)


def edit(file: Path, column: str, value: str) -> None:
    """Change a value as somebody with pandas does."""
    table = pq.ParquetFile(file).read()
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, pa.array([value], pa.string())), file)


def test_each_move_is_one_row_in_the_folder_of_its_day(journal: Journal, tmp_path: Path) -> None:
    journal.append("champion", "1", by="training", how="trained", at=JULY)
    journal.append("challenger", "2", by="training", how="trained", at=JULY + timedelta(days=7))
    journal.append(
        "champion", "2", by="ann", how="promoted", evidence_run_id="4f", at=JULY + timedelta(days=8)
    )

    read = pd.read_parquet(tmp_path / "journal").sort_values("at")

    assert list(read.columns[:6]) == COLUMNS
    assert read[["alias", "version", "by"]].to_numpy().tolist() == [
        ["champion", "1", "training"],
        ["challenger", "2", "training"],
        ["champion", "2", "ann"],
    ]
    assert read["from_version"].iloc[-1] == "1"
    assert read["evidence_run_id"].iloc[-1] == "4f"
    assert read["dt"].astype(str).tolist() == ["2013-07-01", "2013-07-08", "2013-07-09"]


def test_the_journal_tells_who_was_live_at_a_time(journal: Journal, put: Callable[..., None]) -> None:
    put("1", 1)
    put("2", 15)

    assert journal.live_version("champion", JULY - timedelta(seconds=1)) is None
    assert journal.live_version("champion", JULY) == "1"
    assert journal.live_version("champion", datetime(2013, 7, 15, 3, 29, tzinfo=UTC)) == "1"
    assert journal.live_version("champion", datetime(2013, 7, 15, 3, 30, tzinfo=UTC)) == "2"
    assert journal.live_version("challenger", datetime(2013, 7, 20, tzinfo=UTC)) is None


def test_an_alias_that_was_taken_away_belongs_to_nobody(journal: Journal) -> None:
    journal.append("challenger", "2", by="training", how="trained", at=JULY)
    journal.append("challenger", None, by="ann", how="promoted", at=JULY + timedelta(days=1))

    assert journal.live_version("challenger", JULY + timedelta(days=2)) is None
    assert [version for version, _, _ in carried(journal.moves(), "challenger")] == ["2"]


def test_a_clock_that_is_behind_does_not_change_the_order(journal: Journal) -> None:
    first = journal.append("champion", "1", by="a", how="trained", at=JULY)

    second = journal.append("champion", "2", by="b", how="promoted", at=JULY - timedelta(hours=1))

    assert second.at == first.at + timedelta(microseconds=1)
    assert journal.live_version("champion", JULY + timedelta(days=1)) == "2"


def test_moves_at_once_are_all_kept(journal: Journal, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: journal.append("champion", str(i), by="x", how="promoted"), range(32)))

    assert {move.version for move in journal.moves()} == {str(i) for i in range(32)}
    assert len(files(tmp_path)) == 32


def test_a_row_that_was_edited_is_named(journal: Journal, put: Callable[..., None], tmp_path: Path) -> None:
    put("1", 1)
    put("2", 8)
    edit(files(tmp_path)[0], "version", "7")

    with pytest.raises(StoreError, match=r"dt=2013-07-01/.*with digest sha256:.* was altered; bring it back"):
        journal.moves()


def test_a_row_that_was_moved_in_time_is_named(
    journal: Journal, put: Callable[..., None], tmp_path: Path
) -> None:
    put("1", 1)
    [file] = files(tmp_path)
    file.rename(file.with_name(file.name.replace("20130701", "20130601")))

    with pytest.raises(StoreError, match=r"20130601.* was altered"):
        journal.live_version("champion", JULY)


def test_a_row_that_was_taken_out_is_missed(
    journal: Journal, put: Callable[..., None], tmp_path: Path
) -> None:
    for day in (1, 8, 15):
        put(str(day), day)
    files(tmp_path)[1].unlink()

    with pytest.raises(
        StoreError, match=r"dt=2013-07-15/.*the move before it, sha256:.*bring that file back"
    ):
        journal.moves()


def test_a_file_that_is_no_row_of_a_journal_is_named(
    journal: Journal, put: Callable[..., None], tmp_path: Path
) -> None:
    put("1", 1)
    files(tmp_path)[0].write_bytes(b"PAR1")

    with pytest.raises(StoreError, match=r"parquet: one move of an alias was required, however it holds"):
        journal.moves()


def test_a_move_of_a_year_that_there_is_not_is_named(
    journal: Journal, put: Callable[..., None], tmp_path: Path
) -> None:
    """A time that Parquet holds and Python does not."""
    put("1", 1)
    file = files(tmp_path)[0]
    table = pq.read_table(file, partitioning=None)
    late = pa.array([2**62], pa.int64()).cast(table.schema.field("at").type)
    pq.write_table(table.set_column(table.schema.get_field_index("at"), table.schema.field("at"), late), file)

    with pytest.raises(StoreError, match=r"one move of an alias was required, however it holds Overflow"):
        journal.moves()


def test_a_rollback_goes_one_version_back_and_the_next_one_further(
    journal: Journal, put: Callable[..., None]
) -> None:
    steps = []
    for day, version in enumerate(("1", "2", "3"), 1):
        put(version, day)
    for day in (4, 5):
        steps.append(step_back(journal.moves(), "champion"))
        put(str(steps[-1]), day, "rolled back")

    assert steps == ["2", "1"]
    assert step_back(journal.moves(), "champion") is None
    put("3", 6)
    assert step_back(journal.moves(), "champion") == "1"


def test_a_version_that_was_live_twice_has_two_times(journal: Journal, put: Callable[..., None]) -> None:
    for day, version in enumerate(("1", "2", "2", "1"), 1):
        put(version, day)

    times = carried(journal.moves(), "champion")

    assert [(version, start.day, end and end.day) for version, start, end in times] == [
        ("1", 1, 2),
        ("2", 2, 4),
        ("1", 4, None),
    ]
