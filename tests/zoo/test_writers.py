"""Files as other programs write them: read as what they mean, or refused in a sentence."""

import base64
import decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet.encryption import create_encryption_properties

from flows.decryption import KEY
from flows.errors import ConfigError


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    """Return a table with another column of this name."""
    if name in table.schema.names:
        return table.set_column(table.schema.get_field_index(name), name, values)
    return table.append_column(name, values)


@pytest.fixture
def rows(shop: Any) -> pa.Table:
    """Return the rows of the shop's good file, under other keys."""
    table = pq.read_table(shop.night / "good.parquet")
    return with_column(table, "id", pc.add(table["id"], 50_000))


def scored(shop: Any, name: str) -> str:
    """Score the night; all files must be scored, every row. Returns what is said of the file."""
    report = shop.score()
    assert {one["status"] for one in report["files"]} == {"scored"}, report["files"]
    assert report["rows_in"] == report["rows_scored"] == 100 * report["files_in"]
    file = next(one for one in report["files"] if one["path"].endswith(name))
    return " | ".join(one for one in (file["reason"], *file["warnings"]) if one)


def test_a_folder_that_spark_wrote(shop: Any, rows: pa.Table) -> None:
    """INT96 moments are read; marks, checksums and hidden folders are no data."""
    shop.land("part-00000-c000.snappy.parquet", rows, use_deprecated_int96_timestamps=True, flavor="spark")
    (shop.night / "_SUCCESS").touch()
    (shop.night / ".part-00000-c000.snappy.parquet.crc").write_bytes(b"crc\0")
    (shop.night / "_temporary" / "0").mkdir(parents=True)
    (shop.night / "_temporary" / "0" / "half.parquet").write_bytes(b"PAR1")

    assert "ts: timestamp[ns] → timestamp[us]" in scored(shop, "c000.snappy.parquet")


def test_a_file_that_polars_wrote(shop: Any, rows: pa.Table) -> None:
    """Categories, enums, arrays of a fixed size, decimals: features are read, the others carried."""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    frame.with_columns(
        pl.col("city").cast(pl.Categorical),
        pl.lit("new").cast(pl.Enum(["new", "old"])).alias("state"),
        pl.Series("pair", [[1, 2]] * frame.height, dtype=pl.Array(pl.Int8, 2)),
        pl.lit("1.50").cast(pl.Decimal(10, 2)).alias("fee"),
        pl.duration(seconds=1).alias("lasted"),
        pl.lit(None).alias("nothing"),
    ).write_parquet(shop.night / "polars.parquet")

    said = scored(shop, "polars.parquet")

    assert all(name in said for name in ("state", "pair", "fee", "lasted", "nothing"))
    assert {"state", "pair", "fee", "lasted", "nothing"} <= set(shop.flags().schema.names)


def test_a_file_that_duckdb_wrote(shop: Any, rows: pa.Table) -> None:
    """Its types of 128 bits, intervals and enums beside the features."""
    connection = duckdb.connect()
    connection.register("rows_of_night", rows)
    connection.execute(
        "COPY (SELECT *, 7::HUGEINT AS huge, INTERVAL 1 DAY AS lag, 'a'::ENUM('a', 'b') AS grade,"  # noqa: S608
        " uuid() AS token, {'x': 1} AS nested FROM rows_of_night)"
        f" TO '{shop.night / 'duckdb.parquet'}' (FORMAT parquet)"
    )

    assert "new columns" in scored(shop, "duckdb.parquet")


def test_a_file_that_fastparquet_wrote(shop: Any, rows: pa.Table) -> None:
    """With moments as Spark once wrote them, and categories of pandas."""
    fastparquet = pytest.importorskip("fastparquet")
    frame = rows.to_pandas().astype({"city": "category"})
    frame["ts"] = frame["ts"].astype("datetime64[ns]")
    fastparquet.write(str(shop.night / "fast.parquet"), frame, times="int96")

    assert "ts: timestamp[ns] → timestamp[us]" in scored(shop, "fast.parquet")


@pytest.mark.parametrize(
    "settings",
    [
        {"version": "1.0", "data_page_version": "1.0", "compression": "none"},
        {"version": "2.4", "data_page_version": "2.0", "compression": "brotli"},
        {"version": "2.6", "use_dictionary": False, "compression": "gzip", "write_page_index": True},
        {"data_page_size": 64, "dictionary_pagesize_limit": 64, "row_group_size": 7, "store_schema": False},
        {
            "use_dictionary": False,
            "use_byte_stream_split": ["price"],
            "column_encoding": {"id": "DELTA_BINARY_PACKED"},
        },
    ],
    ids=["1.0", "2.4", "2.6", "tiny pages", "encodings"],
)
def test_old_and_new_pages(shop: Any, rows: pa.Table, settings: dict[str, Any]) -> None:
    """The same rows however they are laid out."""
    shop.land("pages.parquet", rows, **settings)

    assert scored(shop, "pages.parquet") == ""


FEATURES = {
    "city": [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.json_(pa.utf8())],
    "price": [pa.float32(), pa.float16(), pa.decimal32(9, 2), pa.decimal128(38, 4), pa.decimal256(60, 4)],
    "qty": [pa.int8(), pa.uint64(), pa.float64(), pa.decimal64(10, 0), pa.dictionary(pa.int16(), pa.int64())],
    "ts": [pa.timestamp("ms", "America/New_York"), pa.timestamp("ns"), pa.timestamp("us", "Mars/Olympus")],
    "express": [pa.bool8(), pa.int8()],
}
CHANGED = [(name, kind) for name, kinds in FEATURES.items() for kind in kinds]


def as_type(values: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Cast as a producer would; moments and prices are cut."""
    array = values.combine_chunks()
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, array.cast(kind.storage_type))
    if pa.types.is_decimal(kind):
        exact = [decimal.Decimal(str(one)) for one in array.to_pylist()]
        return pa.array(exact, kind)
    if pa.types.is_dictionary(kind):
        return array.cast(kind.value_type).dictionary_encode().cast(kind)
    return array.cast(kind, safe=False)


def test_features_of_other_types_are_read(shop: Any, rows: pa.Table) -> None:
    """One file a type, in one night; each change is named, but where only the layout on disk differs."""
    for i, (name, kind) in enumerate(CHANGED):
        shop.land(f"{i}.parquet", with_column(rows, name, as_type(rows[name], kind)))

    said = shop.said()

    assert {status for status, _ in said.values()} == {"scored"}, said
    unnamed = [
        CHANGED[i] for i in range(len(CHANGED)) if f"cast {CHANGED[i][0]}" not in said[f"{i}.parquet"][1]
    ]
    assert unnamed == [("qty", pa.dictionary(pa.int16(), pa.int64()))][: len(unnamed)]


OTHERS = {
    "view": lambda n: pa.array(["x"] * n, pa.string_view()),
    "bytes_view": lambda n: pa.array([b"x"] * n, pa.binary_view()),
    "fixed_list": lambda n: pa.array([[1, 2]] * n, pa.list_(pa.int64(), 2)),
    "list_of_views": lambda n: pa.array([["x"]] * n, pa.list_(pa.string_view())),
    "list_view": lambda n: pa.array([[1]] * n, pa.list_view(pa.int64())),
    "large_list": lambda n: pa.array([[1]] * n, pa.large_list(pa.int64())),
    "map": lambda n: pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
    "struct": lambda n: pa.array([{"a": 1, "b": "x"}] * n),
    "list_of_dictionary": lambda n: pa.ListArray.from_arrays(
        pa.array(range(n + 1), pa.int32()), pa.array(["x"] * n).dictionary_encode()
    ),
    "tensor": lambda n: pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((n, 2, 2))),
    "uuid": lambda n: pa.array([bytes(16)] * n, pa.uuid()),
    "null": pa.nulls,
    "time": lambda n: pa.array([1] * n, pa.time64("ns")),
    "duration": lambda n: pa.array([1] * n, pa.duration("us")),
    "decimal": lambda n: pa.array([decimal.Decimal(1)] * n, pa.decimal256(70, 2)),
    "far": lambda n: pa.array([2**63 - 1] * n, pa.timestamp("us")),
}


def test_columns_of_any_type_are_carried(shop: Any, rows: pa.Table) -> None:
    """They stand in the flags, which readers can read, beside rows of files that do not have them."""
    table = rows
    for name, make in OTHERS.items():
        table = with_column(table, f"x_{name}", make(len(rows)))
    shop.land("others.parquet", table)

    said = scored(shop, "others.parquet")

    assert "new columns" in said
    assert {f"x_{name}" for name in OTHERS} <= set(shop.flags().schema.names)


def test_types_with_no_room_for_each_other_are_carried_as_text(shop: Any, rows: pa.Table) -> None:
    """A column that is int64 in one file and uint64 beyond it in another; both files are scored."""
    shop.land("small.parquet", with_column(rows, "code", pa.array([-1] * 100, pa.int64())))
    shop.land("large.parquet", with_column(rows, "code", pa.array([2**64 - 1] * 100, pa.uint64())))

    assert {status for status, _ in shop.said().values()} == {"scored"}
    assert set(shop.flags()["code"].to_pylist()) <= {None, "-1", str(2**64 - 1)}


# -- Encryption ---------------------------------------------------------------------------------------------

SECRET = bytes(range(32))


def land_encrypted(shop: Any, rows: pa.Table, readable_footer: bool) -> Path:
    file = shop.night / "sealed.parquet"
    sealed = create_encryption_properties(SECRET, plaintext_footer=readable_footer)
    with pq.ParquetWriter(file, rows.schema, encryption_properties=sealed) as writer:
        writer.write_table(rows)
    return file


@pytest.mark.parametrize("readable_footer", [False, True])
def test_an_encrypted_file_needs_its_key(
    shop: Any, rows: pa.Table, monkeypatch: pytest.MonkeyPatch, readable_footer: bool
) -> None:
    """Without it, the message says what to set; with a wrong one, to check it; with it, rows come."""
    monkeypatch.delenv(KEY, raising=False)
    land_encrypted(shop, rows, readable_footer)

    status, said = shop.said()["sealed.parquet"]
    assert (status, "encrypted" in said, KEY in said) == ("rejected", True, True)

    monkeypatch.setenv(KEY, base64.b64encode(SECRET[::-1]).decode())
    status, said = shop.said()["sealed.parquet"]
    assert (status, f"check {KEY}" in said) == ("rejected", True)

    monkeypatch.setenv(KEY, base64.b64encode(SECRET).decode())
    assert scored(shop, "sealed.parquet") == ""


def test_what_is_no_key_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, shop: Any) -> None:
    """The sentence does not show it."""
    monkeypatch.setenv(KEY, "hunter2-not-a-key")

    with pytest.raises(ConfigError, match=KEY) as caught:
        shop.score()
    assert "hunter2" not in str(caught.value)
