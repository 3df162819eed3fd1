"""Rows drawn evenly from many files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.casts import CastPlan
from flows.errors import InputError, NoDataError, SchemaError
from flows.sampling import PART_BYTES, sample


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write 1,000 numbered rows as files of 100, 0, 650 and 250 rows, in row groups of 90."""
    paths = []
    for first, stop in ((0, 100), (100, 100), (100, 750), (750, 1000)):
        path = tmp_path / f"{len(paths)}.parquet"
        table = pa.table(
            {"row": pa.array(range(first, stop), pa.int64()), "text": [f"t{i}" for i in range(first, stop)]}
        )
        pq.write_table(table, path, row_group_size=90)
        paths.append(path)
    return paths


def test_a_sample_has_the_asked_size_and_no_row_twice(files: list[Path]) -> None:
    """Rows keep their order, and cells of a row stay together."""
    drawn = sample(files, 300, seed=0)
    rows = drawn.column("row").to_pylist()

    assert len(rows) == len(set(rows)) == 300
    assert rows == sorted(rows)
    assert drawn.column("text").to_pylist() == [f"t{row}" for row in rows]


@pytest.mark.parametrize("rows", [1, 499, 501, 999])
def test_any_size_can_be_drawn(files: list[Path], rows: int) -> None:
    """Few rows and nearly all of them alike."""
    assert len(set(sample(files, rows, seed=3).column("row").to_pylist())) == rows


def test_all_rows_come_when_there_are_not_enough(files: list[Path]) -> None:
    """Each once, in order."""
    assert sample(files, 5000, seed=0).column("row").to_pylist() == list(range(1000))
    assert sample(files, 1000, seed=0).num_rows == 1000


def test_a_seed_draws_the_same_rows_again(files: list[Path]) -> None:
    """Another seed draws others."""
    assert sample(files, 100, seed=7).equals(sample(files, 100, seed=7))
    assert not sample(files, 100, seed=7).equals(sample(files, 100, seed=8))


@pytest.mark.parametrize("rows", [200, 800])
def test_each_row_has_the_same_chance(files: list[Path], rows: int) -> None:
    """Over 200 draws, counts of rows are those of a fair lot: chi-square within four standard deviations."""
    counts = np.zeros(1000)
    for seed in range(200):
        counts[sample(files, rows, seed=seed).column("row").to_numpy()] += 1
    share = rows / 1000
    chi_square = ((counts - 200 * share) ** 2 / (200 * share * (1 - share))).sum()

    assert abs(chi_square - 1000) < 4 * np.sqrt(2 * 1000)


def test_columns_and_types_can_be_asked_for(files: list[Path]) -> None:
    """Only those are read, and cast where nothing is lost."""
    wanted = pa.schema([("row", pa.int32())])

    assert sample(files, 10, seed=0, schema=wanted).schema == wanted


def test_files_of_differing_schemas_are_brought_together(tmp_path: Path) -> None:
    """The wider type of each column; what a file does not have is null there."""
    pq.write_table(pa.table({"a": pa.array([1, 2], pa.int32()), "b": [None, None]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"a": pa.array([2**40]), "b": [0.5], "c": ["x"]}), tmp_path / "1.parquet")
    drawn = sample([tmp_path / "0.parquet", tmp_path / "1.parquet"], 10, seed=0)

    assert drawn.to_pydict() == {"a": [1, 2, 2**40], "b": [None, None, 0.5], "c": [None, None, "x"]}
    assert drawn.schema.types == [pa.int64(), pa.float64(), pa.string()]


def test_a_file_that_cannot_be_cast_is_named(tmp_path: Path, files: list[Path]) -> None:
    """The sentence holds file, column and value."""
    pq.write_table(pa.table({"row": [2**40], "text": ["x"]}), tmp_path / "odd.parquet")
    wanted = pa.schema([("row", pa.int32())])

    with pytest.raises(
        SchemaError, match=r"odd\.parquet: column row: values that fit int32 .* 1099511627776"
    ):
        sample([*files, tmp_path / "odd.parquet"], 2000, seed=0, schema=wanted)


def test_a_corrupt_file_is_named(tmp_path: Path, files: list[Path]) -> None:
    """Training on what happens to be readable would not be what was asked."""
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")

    with pytest.raises(InputError, match=r"bad\.parquet: a Parquet file was required"):
        sample([*files, tmp_path / "bad.parquet"], 10, seed=0)


def test_no_files_are_an_error() -> None:
    """There is nothing to draw from."""
    with pytest.raises(NoDataError, match="files to draw rows from were required, however none came"):
        sample([], 10, seed=0)


def test_empty_files_have_an_empty_sample(files: list[Path]) -> None:
    """With the columns of the file."""
    assert sample([files[1]], 10, seed=0).to_pydict() == {"row": [], "text": []}


def test_what_is_thinned_is_even_and_one_row_is_left_however_large_rows_are(tmp_path: Path) -> None:
    """Every fourth row of all where that fits; of rows that none fits, one in all and not one a part."""
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table({"row": range(64), "text": [f"{i:03}" + "x" * 300_000 for i in range(64)]}), path)

    rows = sample([path], 64, seed=0, max_bytes=16 * 300_100)["row"].to_pylist()
    assert rows == list(range(0, 64, 4))
    assert sample([path], 64, seed=0, max_bytes=1)["row"].to_pylist() == [0]


def test_texts_that_repeat_are_written_out_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of kilobytes holds gigabytes of text: no more than a part of it is cast at once."""
    path, largest = tmp_path / "bomb.parquet", [0]
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"text": text}), path)
    cast = CastPlan.apply

    def watched(plan: CastPlan, batch: pa.RecordBatch) -> pa.RecordBatch:
        done = cast(plan, batch)
        largest[0] = max(largest[0], done.nbytes)
        return done

    monkeypatch.setattr(CastPlan, "apply", watched)
    wanted = pa.schema([("text", pa.string())])
    few = sample([path], 2_000, seed=0, schema=wanted, max_bytes=4_000_000)
    assert few.nbytes <= 4_000_000 < 200_000_000
    assert 30 <= few.num_rows <= 40
    assert PART_BYTES / 2 < largest[0] <= PART_BYTES * 1.1
