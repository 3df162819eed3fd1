"""Ninety-four difficult inputs in one night: each reacts as it should, and none spoils another."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

ZOO = Path(__file__).parents[3] / "shared" / "data" / "zoo"
ENTRIES = json.loads((ZOO / "manifest.json").read_text())["entries"] if ZOO.exists() else []
ELSEWHERE = {  # only in `make zoo`, which measures the large ones, and starts a process of few rights
    "size/huge_row_group.parquet",
    "size/string_bomb.parquet",
    "place/unreadable.parquet",
}
AS_FILES = [one for one in ENTRIES if one["kind"] == "file" and one["name"] not in ELSEWHERE]

NAMED = {
    "schema/missing_column.parquet": ["price"],
    "schema/renamed_column.parquet": ["price", "unit_price"],
    "schema/case_renamed.parquet": ["price", "Price"],
    "schema/swapped_values.parquet": ["price", "amount"],
    "schema/duplicate_names.parquet": ["amount"],
    "schema/output_name_collision.parquet": ["anomaly_score", "is_anomaly"],
    "schema/missing_id.parquet": ["id"],
    "type/int_to_string_dirty.parquet": ["qty"],
    "type/ts_beyond_python.parquet": ["ts"],
    "type/uint64_overflow.parquet": ["qty"],
    "type/fixed_binary_uuid.parquet": ["uuid"],
    "type/feature_became_list.parquet": ["price"],
    "type/int_became_category.parquet": ["city"],
    "type/list.parquet": ["tags"],
    "value/all_null_numeric.parquet": ["price"],
    "value/all_null_string.parquet": ["city"],
    "value/null_rate_jump.parquet": ["discount"],
    "value/null_in_never_null.parquet": ["qty"],
    "value/extreme_float.parquet": ["price"],
    "value/constant_column.parquet": ["price"],
    "value/category_spelling.parquet": ["city"],
    "value/unit_change.parquet": ["price"],
    "value/all_anomalous.parquet": ["amount"],
    "value/non_utf8.parquet": ["city"],
    "broken/page_corrupt_zstd.parquet": ["city"],
    "crypt/encrypted_footer.parquet": ["encrypted"],
    "crypt/encrypted_columns.parquet": ["price", "city", "encrypted"],
}
"""What the sentences about an entry name, beside its file."""

pytestmark = pytest.mark.skipif(not ZOO.exists(), reason="needs the zoo of ../shared/data")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, open_shop: Callable[..., Any]) -> dict[str, Any]:
    """Score one night that all files of the zoo have landed in; return its report."""
    shop = open_shop(tmp_path_factory.mktemp("zoo"), pq.read_table(ZOO / "train.parquet"))
    for entry in AS_FILES:
        place = shop.night / entry["name"]
        place.parent.mkdir(exist_ok=True)
        if not entry.get("made"):
            shutil.copyfile(ZOO / entry["name"], place)
    shutil.copytree(ZOO / "place" / "dir_named.parquet", shop.night / "place" / "dir_named.parquet")
    os.mkfifo(shop.night / "place" / "fifo.parquet")
    report = shop.score()
    return {**report, "by_name": {one["path"].removeprefix(f"{shop.night}/"): one for one in report["files"]}}


@pytest.mark.parametrize("entry", AS_FILES, ids=lambda one: one["name"])
def test_each_entry_reacts_as_expected(night: dict[str, Any], entry: dict[str, Any]) -> None:
    """Scored, or rejected with its file and its column named; what is odd is warned of."""
    file = night["by_name"][entry["name"]]
    said = " | ".join(one for one in (file["reason"], *file["warnings"]) if one)

    if entry["expect"] != "either":
        assert file["status"] == ("rejected" if entry["expect"] == "reject" else "scored"), said
    if file["status"] == "rejected":
        assert str(Path(entry["name"]).name) in said
    if entry["expect"] in {"warn", "reject"}:
        assert said
    assert [name for name in NAMED.get(entry["name"], []) if name not in said] == []
    assert "\n" not in said


def test_the_night_accounts_for_every_file_and_row(night: dict[str, Any]) -> None:
    """However many of its files are bad."""
    files = night["files"]

    assert night["files_in"] == len(files) > 80
    assert night["files_scored"] == sum(one["status"] == "scored" for one in files) > 50
    assert night["rows_in"] == night["rows_scored"] + night["rows_quarantined"]
    assert night["by_name"]["place/dir_named.parquet"]["status"] == "rejected"
    assert night["by_name"]["place/fifo.parquet"]["status"] == "rejected"


@pytest.mark.parametrize("name", ["place/hive_special", "place/hive_int_like"])
def test_columns_of_folders_are_kept_as_text(
    tmp_path: Path, open_shop: Callable[..., Any], name: str
) -> None:
    """With decoded values; the warnings name the column."""
    shop = open_shop(tmp_path, pq.read_table(ZOO / "train.parquet"))
    shutil.copytree(ZOO / name, shop.night, dirs_exist_ok=True)
    column = "city" if "special" in name else "day"

    said = shop.said()

    assert {status for status, _ in said.values()} == {"scored"}
    assert all(column in sentences for _, sentences in said.values())
    kept = set(shop.flags()[column].to_pylist())
    assert kept <= ({"New York/NY", "01", "..", "a=b", "Øresund", "sp ace", "100%", None, "08", "09", "10"})
