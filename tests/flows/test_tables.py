"""Finding, reading and writing Parquet files, good and bad."""

import errno
import gzip
import io
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.errors import InputError, NoDataError, SchemaError, StoreError
from flows.storage import Store
from flows.tables import (
    InputFile,
    PartWriter,
    TableReader,
    discover,
    file_digest,
    input_file,
    night,
    open_table,
    undated,
    window,
)

DAY = date(2013, 7, 6)
TAXI = Path(__file__).parents[3] / "shared" / "data" / "taxi"
ORDERS = pa.table({"id": [1, 2, 3], "city": ["Rome", None, "Oslo"], "price": [1.5, 2.5, None]})


def land(root: Path, *keys: str, table: pa.Table = ORDERS) -> Path:
    """Write a table under each of the keys."""
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / key)
    return root


def read(file: InputFile | Path) -> pa.Table:
    """Read a whole file through its batches."""
    with open_table(file) as reader:
        return pa.Table.from_batches(reader.batches(), reader.schema)


# ---- which files are a night's


def test_hive_folders_date_their_files(tmp_path: Path) -> None:
    """Each date has its files, oldest first, however deep they lie."""
    land(tmp_path, "dt=2013-07-07/b.parquet", "dt=2013-07-06/a.parquet", "region=eu/dt=2013-07-06/c.parquet")

    nights = discover(str(tmp_path), partition="dt")

    assert {day: [one.key for one in files] for day, files in nights.items()} == {
        date(2013, 7, 6): ["dt=2013-07-06/a.parquet", "region=eu/dt=2013-07-06/c.parquet"],
        date(2013, 7, 7): ["dt=2013-07-07/b.parquet"],
    }
    assert list(nights) == sorted(nights)


def test_names_date_their_files(tmp_path: Path) -> None:
    """A monthly file belongs to the first of its month; files that do not match are of another source."""
    land(
        tmp_path, "green_2022-01.parquet", "green_2022-02.parquet", "yellow_2022-01.parquet", "zones.parquet"
    )

    nights = discover(str(tmp_path), date_pattern="green_%Y-%m.parquet")

    assert {day: [one.key for one in files] for day, files in nights.items()} == {
        date(2022, 1, 1): ["green_2022-01.parquet"],
        date(2022, 2, 1): ["green_2022-02.parquet"],
    }


def test_a_pattern_with_folders_is_sought_in_the_whole_key(tmp_path: Path) -> None:
    """Year, month and day may be folders of their own, and are then no columns."""
    land(tmp_path, "year=2013/month=07/day=06/region=eu/a.parquet")
    files = night(str(tmp_path), DAY, date_pattern="year=%Y/month=%m/day=%d/")

    assert files[0].constants == {"region": "eu"}


def test_a_folder_without_dates_is_one_night_of_any_date(tmp_path: Path) -> None:
    """All files belong to the date that is asked for."""
    land(tmp_path, "a.parquet", "b.parquet")

    assert list(discover(str(tmp_path))) == [None]
    assert [(one.key, one.date) for one in night(str(tmp_path), DAY)] == [
        ("a.parquet", DAY),
        ("b.parquet", DAY),
    ]


def test_a_window_has_both_its_ends(tmp_path: Path) -> None:
    """Files come in order of their dates."""
    land(tmp_path, *(f"dt=2013-07-0{day}/a.parquet" for day in range(1, 8)))
    files = window(str(tmp_path), date(2013, 7, 2), date(2013, 7, 4), partition="dt")

    assert [one.date.day for one in files] == [2, 3, 4]


def test_a_night_without_files_names_the_nights_there_are(tmp_path: Path) -> None:
    """The reader of the sentence can choose one."""
    land(tmp_path, "dt=2013-07-01/a.parquet", "dt=2013-07-05/a.parquet")

    with pytest.raises(
        NoDataError, match=r"2014-01-01 were required, .* of 2013-07-01 to 2013-07-05; choose"
    ):
        night(str(tmp_path), date(2014, 1, 1), partition="dt")


def test_a_missing_or_empty_folder_is_an_error(tmp_path: Path) -> None:
    """What is there instead is named."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").touch()

    with pytest.raises(
        InputError, match=r"gone: a folder of Parquet files was required, however none is there"
    ):
        discover(str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"empty: files named \*.parquet were required, however it is empty"):
        discover(str(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"however it holds notes.txt; let some arrive"):
        discover(str(tmp_path / "texts"))


def test_files_without_the_asked_dates_are_an_error(tmp_path: Path) -> None:
    """A wrong key or pattern does not pass as a night without files."""
    land(tmp_path, "dt=2013-07-06/a.parquet")

    with pytest.raises(
        InputError, match=r"dated by day=YYYY-MM-DD were required, however dt=2013-07-06/a.parquet"
    ):
        discover(str(tmp_path), partition="day")
    with pytest.raises(InputError, match=r"dated by x_%Y-%m were required, however dt=2013-07-06/a.parquet"):
        discover(str(tmp_path), date_pattern="x_%Y-%m")


@pytest.mark.parametrize(
    "value", ["2013-7-6", "20130706", "2013-02-30", "__HIVE_DEFAULT_PARTITION__", "today"]
)
def test_a_folder_that_names_no_date_is_told_and_holds_up_no_night(tmp_path: Path, value: str) -> None:
    """Its rows are not scored: not without a word, and not at the cost of the others."""
    land(tmp_path, f"dt={value}/a.parquet")
    said = r"a date such as 2013-07-06 was required, however dt=.* came; rename"
    with pytest.raises(InputError, match=said):
        discover(str(tmp_path), partition="dt")
    land(tmp_path, "dt=2013-07-06/a.parquet")

    (told,) = undated(str(tmp_path), partition="dt")

    assert list(discover(str(tmp_path), partition="dt")) == [DAY]
    assert re.search(said, told)


def test_a_file_beside_the_folders_of_dates_is_told(tmp_path: Path) -> None:
    land(tmp_path, "dt=2013-07-06/a.parquet", "late.parquet", "dt=/odd.parquet")

    told = undated(str(tmp_path), partition="dt")

    assert [one.partition(": ")[0].rpartition("/")[2] for one in told] == ["odd.parquet", "late.parquet"]
    assert all("a folder such as dt=2013-07-06 was required around it" in one for one in told)


def test_a_file_name_with_an_impossible_date_is_told(tmp_path: Path) -> None:
    """Digits that match and name no day are not passed over; what does not match is of another table."""
    land(tmp_path, "a_2013-02-30.parquet")
    with pytest.raises(InputError, match=r"a_2013-02-30.parquet came"):
        discover(str(tmp_path), date_pattern="%Y-%m-%d")
    land(tmp_path, "a_2013-07-06.parquet", "notes.parquet")

    (told,) = undated(str(tmp_path), date_pattern="%Y-%m-%d")

    assert list(discover(str(tmp_path), date_pattern="%Y-%m-%d")) == [DAY]
    assert "a_2013-02-30.parquet came" in told


def test_in_a_source_without_dates_every_file_has_its_night(tmp_path: Path) -> None:
    land(tmp_path, "a.parquet", "dt=today/b.parquet")

    assert undated(str(tmp_path)) == []


def test_a_link_that_loops_is_not_followed(tmp_path: Path) -> None:
    """Each file is found once; Arrow's own discovery finds the same rows some forty times."""
    land(tmp_path, "a.parquet")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    files = night(str(tmp_path), DAY)

    assert [one.key for one in files] == ["a.parquet", "gone.parquet"]
    assert read(files[0]).num_rows == 3
    with pytest.raises(InputError, match="No such file or directory"):
        open_table(files[1])


# ---- what identifies a file


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    """The same bytes have one digest wherever they lie; one changed value has another."""
    land(tmp_path, "a.parquet", "b.parquet")
    land(tmp_path, "c.parquet", table=ORDERS.set_column(0, "id", pa.array([1, 2, 4])))
    a, b, c = night(str(tmp_path), DAY)

    assert a.digest == b.digest
    assert a.digest != c.digest
    assert a.size == (tmp_path / "a.parquet").stat().st_size


def test_the_digest_of_a_file_being_written_changes_when_it_is_done(tmp_path: Path) -> None:
    """A rejected night is scored again as soon as its file is whole."""
    land(tmp_path, "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-20])
    partly = input_file(str(tmp_path / "a.parquet"), DAY)
    (tmp_path / "a.parquet").write_bytes(whole)

    assert partly.digest != input_file(str(tmp_path / "a.parquet"), DAY).digest


def test_a_file_that_changed_since_it_was_found_is_refused(tmp_path: Path) -> None:
    """The manifest would otherwise vouch for bytes that were not read."""
    land(tmp_path, "a.parquet")
    found = input_file(str(tmp_path / "a.parquet"), DAY)
    land(tmp_path, "a.parquet", table=ORDERS.slice(1))

    with pytest.raises(InputError, match="a finished file was required, however it changed just now"):
        open_table(found)


def test_a_single_file_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suffix is needed only to find files in folders; relative paths start here."""
    land(tmp_path, "orders")
    monkeypatch.chdir(tmp_path)

    assert read(input_file("orders", DAY)).equals(ORDERS)
    with pytest.raises(InputError, match="gone: a Parquet file was required, however nothing is there"):
        input_file("gone", DAY)


def test_the_digest_of_an_output_is_that_of_its_bytes(tmp_path: Path) -> None:
    """As `sha256sum` prints it."""
    (tmp_path / "a").write_bytes(b"abc")

    assert file_digest(tmp_path / "a") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


# ---- reading


def test_a_file_comes_back_in_batches(tmp_path: Path) -> None:
    """All rows, in order, in batches of at most the asked size, across row groups."""
    table = pa.table({"id": range(1000), "city": [f"c{i % 7}" for i in range(1000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=300)
    with open_table(tmp_path / "a.parquet") as reader:
        batches = list(reader.batches(max_rows=128))

    assert reader.num_rows == 1000
    assert max(batch.num_rows for batch in batches) == 128
    assert pa.Table.from_batches(batches).equals(table)


def test_columns_come_in_the_asked_order(tmp_path: Path) -> None:
    """Those that were not asked for are not read."""
    land(tmp_path, "a.parquet")
    with open_table(tmp_path / "a.parquet") as reader:
        batch = next(reader.batches(["price", "id"]))

    assert batch.schema.names == ["price", "id"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b", None] * 400),
        pa.array(["a", "b", None] * 400, pa.large_string()),
        pa.array([f"distinct {i}" for i in range(1200)]),
        pa.array(["a", "", None] * 400).dictionary_encode(),
        pa.array([b"\xff", b"", None] * 400),
        pa.array([b"\xff\xfe", b"ab", None] * 400, pa.binary(2)),
        pa.array([2**63 - 1, -(2**63), None] * 400),
        pa.array([2**64 - 1, 0, None] * 400, pa.uint64()),
        pa.array([1, 2, None] * 400, pa.timestamp("us", "America/New_York")),
        pa.array([2**62, -(2**62), None] * 400, pa.timestamp("us")),
        pa.array([[1], [], None] * 400),
        pa.array([{"a": "x"}, {"a": None}, None] * 400),
        pa.array([None, None, None] * 400),
        pa.array([1.5, float("inf"), None] * 400, pa.float16()),
    ],
    ids=lambda column: str(column.type),
)
def test_types_and_values_come_back_untouched(tmp_path: Path, column: pa.Array) -> None:
    """Whatever the writer meant: nulls, 64-bit ids, zones, dictionaries."""
    table = pa.table({"x": column, "y": range(len(column))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=500)
    back = read(tmp_path / "a.parquet")

    assert back.schema.field("x").type == column.type
    assert back.column("x").equals(pa.chunked_array([column]))


@pytest.mark.parametrize(
    ("kind", "workable"),
    [
        (pa.string_view(), pa.large_string()),
        (pa.binary_view(), pa.large_binary()),
        (pa.list_(pa.string(), 1), pa.list_(pa.string())),
        (pa.struct([("a", pa.string_view())]), pa.struct([("a", pa.large_string())])),
    ],
    ids=str,
)
def test_types_that_arrow_cannot_work_with_come_as_their_like(
    tmp_path: Path, kind: pa.DataType, workable: pa.DataType
) -> None:
    """It cannot pick rows of views, nor read back nulls among lists of a fixed size; the values stay."""
    value = {"a": "x"} if pa.types.is_struct(kind) else ["x"] if pa.types.is_fixed_size_list(kind) else "x"
    pq.write_table(pa.table({"x": pa.array([value] * 9, kind)}), tmp_path / "a.parquet")

    back = read(tmp_path / "a.parquet")

    assert back.schema.field("x").type == workable
    assert back["x"].to_pylist() == pa.array([value] * 9, kind).to_pylist()


def test_metadata_of_the_writer_is_left_behind(tmp_path: Path) -> None:
    """Broken pandas metadata would break whoever reads the results with pandas."""
    broken = ORDERS.replace_schema_metadata({b"pandas": b"{broken", b"zeros": bytes(60_000)})
    land(tmp_path, "a.parquet", table=broken)

    assert read(tmp_path / "a.parquet").schema.metadata is None


def test_columns_of_folders_are_columns_of_the_rows(tmp_path: Path) -> None:
    """Hive values are decoded, stay text, and null stays null; the date's own folder is no column."""
    table = ORDERS.drop_columns("city")
    keys = ("01", "New%20York%2FNY", "__HIVE_DEFAULT_PARTITION__", "%C3%98resund", "..")
    land(tmp_path, *(f"dt=2013-07-06/city={value}/p.parquet" for value in keys), table=table)
    tables = [read(one) for one in night(str(tmp_path), DAY, partition="dt")]

    assert {table.column("city")[0].as_py() for table in tables} == {
        "01",
        "New York/NY",
        None,
        "Øresund",
        "..",
    }
    assert {tuple(table.column_names) for table in tables} == {("id", "price", "city")}


def test_a_column_of_the_file_wins_over_its_folder(tmp_path: Path) -> None:
    """Some writers keep the partition column in the file."""
    land(tmp_path, "city=Bonn/a.parquet")

    assert read(night(str(tmp_path), DAY)[0]).equals(ORDERS)


def test_a_column_of_folders_can_be_read_alone(tmp_path: Path) -> None:
    """Its batches have the file's number of rows."""
    land(tmp_path, "region=eu/a.parquet")
    with open_table(night(str(tmp_path), DAY)[0]) as reader:
        batch = next(reader.batches(["region"]))

    assert batch.to_pydict() == {"region": ["eu"] * 3}


def test_no_rows_are_no_batches(tmp_path: Path) -> None:
    """An empty file has a schema, and no row group need be there."""
    land(tmp_path, "a.parquet", table=ORDERS.slice(0, 0))
    pq.ParquetWriter(tmp_path / "b.parquet", ORDERS.schema).close()

    for name in ("a.parquet", "b.parquet"):
        assert read(tmp_path / name).equals(ORDERS.slice(0, 0))


@pytest.mark.parametrize("length", [100, 40_000])
@pytest.mark.parametrize("dictionary", [True, False])
def test_long_text_comes_in_smaller_batches(tmp_path: Path, length: int, dictionary: bool) -> None:
    """A batch stays near 64 MiB, decoded, whether its text repeats on disk or not."""
    rows = 20_000 if dictionary else 4_000
    text = pa.array(["x" * length, None, "short"]).take(pa.array([0, 1, 2, 0] * (rows // 4)))
    pq.write_table(
        pa.table({"t": text}), tmp_path / "a.parquet", use_dictionary=dictionary, compression="zstd"
    )
    with open_table(tmp_path / "a.parquet") as reader:
        sizes = [(batch.num_rows, batch.nbytes) for batch in reader.batches()]

    assert sum(rows for rows, _ in sizes) == rows
    assert max(size for _, size in sizes) < 70 * 2**20


def test_memory_is_bounded_by_batches_and_not_by_row_groups(tmp_path: Path) -> None:
    """Four million rows in one row group are read within 150 MB beyond the imports."""
    x = pa.array(range(4_000_000))
    pq.write_table(
        pa.table({f"x{i}": x for i in range(8)}), tmp_path / "a.parquet", row_group_size=4_000_000
    )  # 256 MB decoded
    code = (
        "import sys; from flows.stopwatch import peak_memory; from flows.tables import open_table\n"
        "before = peak_memory(); rows = sum(b.num_rows for b in open_table(sys.argv[1]).batches())\n"
        "print(rows, peak_memory() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.parquet"], capture_output=True, text=True, check=True
    )
    rows, grown = map(int, done.stdout.split())

    assert rows == 4_000_000
    assert 0 < grown < 150_000_000


# ---- what is not Parquet, or not quite


def parquet_bytes(table: pa.Table = ORDERS, **options: object) -> bytes:
    """Return a Parquet file's bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


WHOLE = parquet_bytes()


@pytest.mark.parametrize(
    ("content", "look"),
    [
        (b"", r"it is empty \(0 bytes\); write it again"),
        (b"PAR1PAR1", "it is cut short or still being written; let its writer finish"),
        (WHOLE[:-1], "it is cut short or still being written"),
        (WHOLE[: len(WHOLE) // 2], "it is cut short or still being written"),
        (WHOLE[:-4] + b"PARX", "it is cut short or still being written"),
        (WHOLE[:-8] + b"\xff\xff\xff\x7fPAR1", "its footer of 2,147,483,647 bytes is cut off"),
        (WHOLE[:-4] + b"PARE", "it is encrypted Parquet; set VAEWATCH_PARQUET_KEY"),
        (b"id,city\n1,Rome\n", r"it is text that begins with 'id,city\\n1,Rome\\n'; convert it to Parquet"),
        (gzip.compress(WHOLE), "it is gzip data; unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer; run `git lfs pull`"),
        (b"PK\x03\x04" + bytes(30), "it is a zip archive"),
        (b"ARROW1\0\0" + bytes(30), "it is an Arrow IPC file"),
        (b"SQLite format 3\0" + bytes(30), "it is a SQLite database"),
        (bytes(40), "it is something that begins with 00 00 00 00"),
        (WHOLE + WHOLE, "one Parquet file was required, however two are joined"),
        (WHOLE[:-8] + b"\x08\x00\x00\x00PAR1", "valid Parquet was required"),
    ],
)
def test_what_is_no_parquet_is_told_by_its_looks(tmp_path: Path, content: bytes, look: str) -> None:
    """One sentence: the file, what it looks like, what to do."""
    (tmp_path / "a.parquet").write_bytes(content)

    with pytest.raises(InputError, match=rf"{tmp_path}/a\.parquet: .*{look}"):
        open_table(input_file(str(tmp_path / "a.parquet"), DAY))


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    """A pipe among the files of a night is refused at once, and its neighbours are read."""
    os.mkfifo(tmp_path / "fifo.parquet")
    land(tmp_path, "good.parquet")
    fifo, good = night(str(tmp_path), DAY)

    with pytest.raises(InputError, match="it is a named pipe"):
        open_table(fifo)
    with pytest.raises(InputError, match="it is a folder"):
        open_table(tmp_path)
    assert read(good).num_rows == 3


def test_a_file_without_rights_is_refused(tmp_path: Path) -> None:
    """The sentence says that rights are missing, not that the file is corrupt."""
    land(tmp_path, "a.parquet")
    found = input_file(str(tmp_path / "a.parquet"), DAY)
    (tmp_path / "a.parquet").chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match=r"a\.parquet: Permission denied; check the path, its rights"):
            open_table(found)
    finally:
        if is_root:
            os.seteuid(0)


def test_a_corrupt_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    """Whole batches before it are yielded; the sentence names the column and the place."""
    table = pa.table({"a": range(200_000), "b": [float(i % 1000) for i in range(200_000)]})
    content = bytearray(
        parquet_bytes(
            table, row_group_size=100_000, write_page_checksum=True, compression="none", use_dictionary=["b"]
        )
    )
    content[len(content) // 2 + 400_000] ^= 1  # in a page of the second row group
    (tmp_path / "a.parquet").write_bytes(content)
    with open_table(tmp_path / "a.parquet") as reader:
        batches = reader.batches(max_rows=50_000)
        good = list(itertools.islice(batches, 2))
        with pytest.raises(
            InputError, match=r"reading failed after row 100,000, column a \(.*checksum"
        ) as caught:
            list(batches)

    assert pa.Table.from_batches(good).equals(table.slice(0, 100_000))
    assert str(tmp_path / "a.parquet") in str(caught.value)


@pytest.mark.parametrize("text", [[b"Rome", b"Os\xfflo"] * 3, [b"Os\xfflo %d" % i for i in range(2000)]])
def test_text_that_is_no_utf8_is_refused(tmp_path: Path, text: list[bytes]) -> None:
    """Arrow would hand it on, and whoever decodes it later would fall."""
    raw = pa.array(text, pa.binary())
    table = pa.table({"city": pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())})
    land(tmp_path, "a.parquet", table=table)

    with pytest.raises(InputError, match=r"text in UTF-8\) were required, however column city holds others"):
        read(tmp_path / "a.parquet")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """No reader could tell which one is meant."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"])
    land(tmp_path, "a.parquet", table=table)

    with pytest.raises(SchemaError, match=r"a\.parquet: each column once was required, however a came twice"):
        open_table(tmp_path / "a.parquet")


def test_a_table_without_columns_is_refused(tmp_path: Path) -> None:
    """There is nothing to score."""
    land(tmp_path, "a.parquet", table=pa.table({}))

    with pytest.raises(InputError, match=r"a\.parquet: "):
        open_table(tmp_path / "a.parquet")


FLIP_BITS = """
import sys
from flows.errors import InputError
from flows.tables import open_table
whole, copy = open(sys.argv[1], "rb").read(), sys.argv[1] + ".copy"
for position in range(4, len(whole) - 8, len(whole) // 400 + 1):
    corrupt = bytearray(whole)
    corrupt[position] ^= 1 << (position % 8)
    open(copy, "wb").write(corrupt)
    try:
        with open_table(copy) as reader:
            print("read", sum(batch.num_rows for batch in reader.batches()))
    except InputError as error:
        print("refused", str(error).startswith(copy))
"""


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}])
def test_a_flipped_bit_never_ends_in_a_crash(tmp_path: Path, options: dict[str, object]) -> None:
    """Some 400 corrupt files each are read or refused, where pyarrow's own metadata may end the process."""
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(ORDERS, **options))
    done = subprocess.run(
        [sys.executable, "-c", FLIP_BITS, tmp_path / "a.parquet"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.splitlines()) == {"read 3", "refused True"}


# ---- writing


def test_batches_become_one_file(tmp_path: Path) -> None:
    """Small batches are gathered into row groups; types and dictionaries stay."""
    table = ORDERS.append_column("kind", pa.array(["a", "b", None]).dictionary_encode())
    with PartWriter(tmp_path / "part.parquet", table.schema) as writer:
        for batch in [*table.to_batches(), *table.slice(1).to_batches()]:
            writer.write(batch)

    assert writer.rows == 5
    assert pq.ParquetFile(tmp_path / "part.parquet").num_row_groups == 1
    assert read(tmp_path / "part.parquet").equals(pa.concat_tables([table, table.slice(1)]))


def test_dictionaries_may_differ_from_batch_to_batch(tmp_path: Path) -> None:
    """As they do when batches come from several files."""
    values = (["a", "b"], ["b", "c"], [None])
    kinds = [pa.array(texts, pa.string()).dictionary_encode() for texts in values]
    with PartWriter(tmp_path / "part.parquet", pa.schema([("kind", kinds[0].type)])) as writer:
        for kind in kinds:
            writer.write(pa.record_batch({"kind": kind}))

    assert read(tmp_path / "part.parquet").column("kind").to_pylist() == ["a", "b", "b", "c", None]


def test_row_groups_have_at_most_131072_rows(tmp_path: Path) -> None:
    """A reader's memory is bounded by them."""
    batch = pa.record_batch({"id": pa.array(range(100_000))})
    with PartWriter(tmp_path / "part.parquet", batch.schema) as writer:
        for _ in range(3):
            writer.write(batch)
    metadata = pq.read_metadata(tmp_path / "part.parquet")
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    assert sum(sizes) == 300_000
    assert max(sizes) <= 131_072


def test_nothing_written_is_no_file_unless_asked(tmp_path: Path) -> None:
    """A night without flags still has a table, with columns and no rows."""
    with PartWriter(tmp_path / "none.parquet", ORDERS.schema):
        pass
    with PartWriter(tmp_path / "empty.parquet", ORDERS.schema, keep_empty=True):
        pass

    assert not (tmp_path / "none.parquet").exists()
    assert pd.read_parquet(tmp_path / "empty.parquet").columns.tolist() == ["id", "city", "price"]


def test_an_error_leaves_no_file_behind(tmp_path: Path) -> None:
    """Neither the caller's own error nor one of the writer."""
    group = pa.record_batch({"id": pa.array(range(131_072))})

    def fail_after(batches: int) -> None:
        with PartWriter(tmp_path / "part.parquet", group.schema) as writer:
            for _ in range(batches):
                writer.write(group)
            raise RuntimeError("elsewhere")

    for batches in (0, 1, 2):
        with pytest.raises(RuntimeError, match="elsewhere"):
            fail_after(batches)
    assert list(tmp_path.iterdir()) == []


def write_orders(path: Path, schema: pa.Schema) -> None:
    """Write the orders with a schema."""
    with PartWriter(path, schema) as writer:
        writer.write(ORDERS.to_batches()[0])


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_orders(folder / "gone" / "part.parquet", ORDERS.schema),
        lambda folder: write_orders(folder / "part.parquet", ORDERS.schema.remove(0)),
        lambda folder: write_orders(
            folder / "part.parquet", pa.schema([("a", pa.month_day_nano_interval())])
        ),
    ],
    ids=["no folder", "other columns", "a type that Parquet has not"],
)
def test_what_cannot_be_written_is_one_sentence(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """The sentence names the file; nothing half-written stays."""
    with pytest.raises(StoreError, match=r"cannot write .*part\.parquet: .*; check column types and disk"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """Whenever it is noticed, be it when the footer goes out."""
    (tmp_path / "part.parquet").symlink_to("/dev/full")

    with pytest.raises(StoreError, match=r"cannot write .*part\.parquet: .*No space left on device"):
        write_orders(tmp_path / "part.parquet", ORDERS.schema)
    assert list(tmp_path.iterdir()) == []


# ---- real data


@pytest.mark.skipif(not TAXI.exists(), reason="needs the taxi files of ../shared/data")
def test_real_monthly_files_are_found_and_read() -> None:
    """Five months of New York taxi trips, whatever their codec."""
    nights = discover(str(TAXI), date_pattern="green_tripdata_%Y-%m.parquet")
    rows = {day: read(Path(files[0].path)).num_rows for day, files in nights.items()}

    assert rows == {
        date(2022, 1, 1): 62_495,
        date(2022, 2, 1): 69_399,
        date(2022, 3, 1): 78_537,
        date(2023, 1, 1): 68_211,
        date(2023, 2, 1): 64_809,
    }


# ---- a store that is away is no bad file


def test_a_store_that_is_away_rejects_no_file(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is the file's trouble; what cannot be reached is worth another try."""
    sink = pa.BufferOutputStream()
    pq.write_table(ORDERS, sink)
    Store.of(s3).write_bytes("a.parquet", sink.getvalue().to_pybytes())
    file = input_file(f"{s3}/a.parquet", DAY)
    assert read(file).num_rows == 3
    with pytest.raises(InputError, match="Path does not exist"):
        open_table(f"{s3}/b.parquet")

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(StoreError, match=rf"cannot read {s3}/a.parquet: .*NETWORK_CONNECTION"):
        open_table(file)


class Failing(io.BytesIO):
    """A file whose store goes away after so many reads."""

    def __init__(self, content: bytes, reads: int, error: OSError) -> None:
        super().__init__(content)
        self.reads, self.error = reads, error

    def read(self, size: int | None = -1) -> bytes:
        """Read, or fail."""
        self.reads -= 1
        if self.reads < 0:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize(
    "error",
    [
        OSError("When reading: AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 56"),
        OSError(errno.EIO, "Input/output error"),
    ],
)
def test_a_store_that_goes_away_while_a_file_is_read_rejects_no_file(error: OSError) -> None:
    """At whatever read it happens."""
    sink = pa.BufferOutputStream()
    pq.write_table(ORDERS, sink)
    content = sink.getvalue().to_pybytes()
    needed = 100 - _rows_and_left(Failing(content, 100, error))[1]

    assert needed > 3
    for reads in range(needed):
        with pytest.raises(StoreError, match=r"^cannot read a\.parquet: "):
            _rows_and_left(Failing(content, reads, error))


def _rows_and_left(file: Failing) -> tuple[int, int]:
    """Read a file to its end; return its rows, and how many reads it would still have stood."""
    with TableReader("a.parquet", pa.PythonFile(file, mode="r"), {}) as reader:
        return sum(batch.num_rows for batch in reader.batches()), file.reads
