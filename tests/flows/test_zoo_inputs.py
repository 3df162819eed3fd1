"""Ninety-four difficult inputs: each opens and streams, or is refused in one sentence."""

import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flows.casts import plan_casts
from flows.errors import InputError
from flows.tables import InputFile, input_file, night, open_table

ZOO = Path(__file__).parents[3] / "shared" / "data" / "zoo"
DAY = date(2024, 3, 1)
ENTRIES = json.loads((ZOO / "manifest.json").read_text())["entries"] if ZOO.exists() else []

pytestmark = pytest.mark.skipif(not ZOO.exists(), reason="needs the zoo of ../shared/data")


def rows_of(file: InputFile) -> int:
    """Stream a file, cast as the training data is, less the rows with misfits."""
    with open_table(ZOO / "train.parquet") as reference:
        expected = reference.schema
    with open_table(file) as reader:
        plan = plan_casts(expected, reader.schema)
        fitting = (batch.filter(pc.invert(plan.misfits(batch))) for batch in reader.batches())
        return sum(plan.apply(batch).num_rows for batch in fitting)


def outcome(file: InputFile) -> tuple[int | None, str]:
    """Return the rows that were read, or None and the sentence that refuses the file."""
    try:
        return rows_of(file), ""
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize(
    "entry",
    [one for one in ENTRIES if not one.get("made") and one["kind"] == "file"],
    ids=lambda one: one["name"],
)
def test_a_difficult_file_is_read_or_refused(entry: dict[str, Any]) -> None:
    """What is expected to be scored is read; what is expected to be rejected is refused; nothing escapes."""
    rows, sentence = outcome(input_file(str(ZOO / entry["name"]), DAY))

    assert (rows is None) == (entry["expect"] == "reject") or entry["expect"] == "either", sentence
    assert "\n" not in sentence
    assert rows is None or rows >= 0.99 * pq.read_metadata(ZOO / entry["name"]).num_rows


@pytest.mark.parametrize(("name", "files"), [("place/hive_special", 8), ("place/hive_int_like", 3)])
def test_columns_of_folders_complete_the_table(name: str, files: int) -> None:
    """With them, each file has what was trained on."""
    found = night(str(ZOO / name), DAY)

    assert len(found) == files
    assert all(rows_of(file) > 0 for file in found)


def test_a_folder_named_like_a_file_is_refused() -> None:
    """As a source it holds no table, and as a file it is none."""
    with pytest.raises(InputError, match=r"dir_named\.parquet: files named \*\.parquet were required"):
        night(str(ZOO / "place" / "dir_named.parquet"), DAY)
    with pytest.raises(InputError, match="it is a folder"):
        open_table(input_file(str(ZOO / "place" / "dir_named.parquet"), DAY))


def made(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Make the places that cannot live in git."""
    (tmp_path / "fifo").mkdir()
    os.mkfifo(tmp_path / "fifo" / "fifo.parquet")
    yield "named pipe", tmp_path / "fifo"
    (tmp_path / "empty_dir").mkdir()
    yield "it is empty", tmp_path / "empty_dir"


def test_the_places_that_git_cannot_hold(tmp_path: Path) -> None:
    """A pipe and an empty folder are refused; a folder that contains itself has its one file once."""
    for look, folder in made(tmp_path):
        with pytest.raises(InputError, match=look):
            [rows_of(file) for file in night(str(folder), DAY)]

    loop = tmp_path / "symlink_loop"
    loop.mkdir()
    (loop / "part.parquet").write_bytes((ZOO / "ok" / "batch.parquet").read_bytes())
    (loop / "again").symlink_to(loop)
    (loop / "self").symlink_to(loop / "self")
    (loop / "dangling").symlink_to(loop / "gone")

    assert [rows_of(file) for file in night(str(loop), DAY)] == [300]
