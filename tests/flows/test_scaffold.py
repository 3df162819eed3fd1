"""A folder of Parquet files becomes a pipeline file, a suite and mlflow.yml."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.casts import plan_casts
from flows.config import Alerts, Pipeline, Schedule, load_pipeline, load_tracking
from flows.dating import plan_training
from flows.errors import ConfigError, InputError, SchemaError
from flows.scaffold import scaffold
from flows.suites import load_suite
from flows.tables import discover, open_table

ROWS = 200


def orders(day: int, **more: Any) -> pa.Table:
    """Return a night of orders: a running number, codes, amounts, a moment, a date part, oddities."""
    random = np.random.default_rng(day)
    start = datetime(2024, 3, 1) + timedelta(days=day)
    columns = {
        "order_id": pa.array(range(day * ROWS, (day + 1) * ROWS)),
        "shop_code": pa.array(random.integers(100, 140, ROWS)),
        "lines": pa.array(random.integers(1, 4, ROWS)),
        "item_count": pa.array(random.integers(1, 4, ROWS)),
        "amount": pa.array(random.gamma(2, 20, ROWS)),
        "city": pa.array(random.choice(["Bonn", "Köln", "Mainz"], ROWS).tolist()),
        "note": pa.array([f"order {random.integers(1 << 60)}" for _ in range(ROWS)]),
        "paid": pa.array(random.random(ROWS) < 0.9),
        "at": pa.array([start + timedelta(minutes=int(i)) for i in range(ROWS)], pa.timestamp("us")),
        "day": pa.array([start.day] * ROWS),
        "currency": pa.array(["EUR"] * ROWS),
        "tags": pa.array([["a"]] * ROWS),
        "unused": pa.nulls(ROWS, pa.string()),
    }
    return pa.table(columns | more)


def write(file: Path, table: pa.Table) -> None:
    """Write a table where its folder may be missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


@pytest.fixture
def hive(tmp_path: Path) -> Path:
    """Return a folder of twelve nights, ``dt=2024-03-01`` to ``dt=2024-03-12``."""
    for day in range(12):
        write(tmp_path / f"landing/web orders/dt=2024-03-{day + 1:02}/part-0.parquet", orders(day))
    return tmp_path / "landing/web orders"


def init(path: Path | str, folder: Path, **options: Any) -> tuple[Pipeline, list[str]]:
    """Return the pipeline that was written and read back, and what was told."""
    said: list[str] = []
    return load_pipeline(scaffold(str(path), folder=folder, say=said.append, **options)), said


# --- real monthly files -----------------------------------------------------------------------------------


def test_taxi_trips_are_dated_by_month_and_the_newest_is_held_back(shared_data: Path, tmp_path: Path) -> None:
    """The window covers the months there are, also where a year lies between them; a share calibrates."""
    pipeline, said = init(shared_data / "taxi", tmp_path)

    assert pipeline.name == "taxi"
    assert pipeline.source.date_pattern == "green_tripdata_%Y-%m.parquet"
    assert pipeline.source_path == str((shared_data / "taxi").resolve())
    assert pipeline.training.window == timedelta(days=13 * 31)
    assert pipeline.training.calibration == timedelta(days=21)
    assert said[-2].endswith("taxi.yml --until 2023-01-31")
    assert said[-1].endswith("--date 2023-02-01")


def test_codes_of_taxi_trips_are_categories_and_measures_are_numbers(
    shared_data: Path, tmp_path: Path
) -> None:
    """Also those whole numbers that nulls have made doubles; the column without values is left out."""
    columns = init(shared_data / "taxi", tmp_path)[0].columns

    assert columns.ignore == ("ehail_fee",)
    assert {"RatecodeID", "PULocationID", "payment_type", "store_and_fwd_flag"} <= set(columns.categorical)
    assert {"passenger_count", "trip_distance", "fare_amount"} <= set(columns.numeric)
    assert columns.timestamp == ("lpep_pickup_datetime", "lpep_dropoff_datetime")
    assert columns.key == ("lpep_pickup_datetime", "lpep_dropoff_datetime", "PULocationID")


def test_the_month_whose_types_drifted_can_be_cast_to_those_trained_on(
    shared_data: Path, tmp_path: Path
) -> None:
    """What the model sees of February 2023 fits the types of January, value by value."""
    pipeline, _ = init(shared_data / "taxi", tmp_path)
    nights = discover(pipeline.source_path, date_pattern=pipeline.source.date_pattern)
    learned, drifted = (open_table(nights[date(2023, month, 1)][0].path) for month in (1, 2))
    with learned, drifted:
        modelled = [field for field in learned.schema if field.name not in pipeline.columns.ignore]
        plan = plan_casts(pa.schema(modelled), drifted.schema)
        rows = sum(plan.apply(batch).num_rows for batch in drifted.batches())

    assert len(plan.casts) == 8
    assert rows == drifted.num_rows


# --- nights in Hive folders -------------------------------------------------------------------------------


def test_nights_in_hive_folders_are_dated_by_their_key(hive: Path, tmp_path: Path) -> None:
    """The name is made of the folder's, and paths below the project are relative."""
    pipeline, _ = init(hive, tmp_path)

    assert pipeline.name == "web_orders"
    assert (pipeline.source.partition, pipeline.source.date_pattern) == ("dt", None)
    assert pipeline.source.path == "landing/web orders"
    assert pipeline.source_path == str(hive)
    assert (pipeline.training.window, pipeline.training.calibration) == (
        timedelta(days=11),
        timedelta(days=2),
    )


def test_each_column_gets_the_kind_that_its_values_tell(hive: Path, tmp_path: Path) -> None:
    """Running numbers, free text, constants, lists, empty columns and the date itself are ignored."""
    columns = init(hive, tmp_path)[0].columns

    assert set(columns.ignore) == {"day", "currency", "tags", "unused", "order_id", "note"}
    assert set(columns.categorical) == {"shop_code", "lines", "city"}
    assert set(columns.numeric) == {"item_count", "amount"}
    assert (columns.boolean, columns.timestamp) == (("paid",), ("at",))


def test_a_column_that_names_each_row_is_the_key(hive: Path, tmp_path: Path) -> None:
    """One column is better than several."""
    assert init(hive, tmp_path)[0].columns.key == ("order_id",)


def test_without_such_a_column_the_smallest_combination_is_the_key(tmp_path: Path) -> None:
    """Neither shop nor receipt names a row alone."""
    shop, receipt = np.divmod(np.arange(900), 30)
    amount = np.random.default_rng(0).gamma(2, 20, 900)
    write(tmp_path / "sales/a.parquet", pa.table({"amount": amount, "shop": shop, "receipt": receipt}))

    assert init(tmp_path / "sales", tmp_path)[0].columns.key == ("shop", "receipt")


def test_rows_that_nothing_tells_apart_have_no_key(tmp_path: Path) -> None:
    """The file says so."""
    random = np.random.default_rng(0)
    table = pa.table({"amount": random.normal(size=500), "shop": random.integers(5, size=500)})
    write(tmp_path / "sales/a.parquet", table)
    pipeline, said = init(tmp_path / "sales", tmp_path)

    assert pipeline.columns.key == ()
    assert any(line.startswith("columns.key: [] (no 4 columns") for line in said)


@pytest.mark.parametrize(
    ("nights", "until", "held_back", "window", "calibration"),
    [
        (365, 364, 365, 181, 28),
        (12, 11, 12, 11, 2),
        (3, 2, 3, 2, 1),
        (2, 2, None, 2, 1),
        (1, 1, None, 181, 28),
    ],
)
def test_window_and_calibration_fit_the_nights_there_are(
    nights: int, until: int, held_back: int | None, window: int, calibration: int
) -> None:
    """At most half a year and four weeks; with fewer than three nights none is held back."""
    days = [date(2023, 1, 1) + timedelta(days=number) for number in range(nights)]
    span = plan_training(days)

    assert span.until == days[until - 1]
    assert span.held_back == (days[held_back - 1] if held_back else None)
    assert (span.window, span.calibration) == (window, calibration)


def test_months_are_not_scored_before_they_are_over(tmp_path: Path) -> None:
    """With a lag of 31 days each month's first day is scored once; nights without a file are skipped."""
    for month in (1, 2, 3, 4):
        write(tmp_path / f"table/2024-{month:02}.parquet", orders(month))
    pipeline, _ = init(tmp_path / "table", tmp_path)
    runs = [date(2024, 1, 1) + timedelta(days=number) for number in range(500)]
    scored = [run for run in runs if (run - pipeline.schedule.lag).day == 1]
    months = [(run - pipeline.schedule.lag).replace(day=1) for run in scored]

    assert pipeline.source.on_missing == "skip"
    assert len(set(months)) == len(months) >= 15
    assert all(
        (run.year, run.month) != (month.year, month.month) for run, month in zip(scored, months, strict=True)
    )


# --- dates in names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["trips_2024-03-01.parquet", "trips_2024-03-02.parquet"], "trips_%Y-%m-%d.parquet"),
        (["20240301.parquet", "20240302.parquet"], "%Y%m%d.parquet"),
        (["part-0-2024_03_01.parquet", "part-1-2024_03_01.parquet"], "%Y_%m_%d.parquet"),
        (["a-2024-03-01-0.parquet", "a-2024-03-01-1.parquet"], "a-%Y-%m-%d"),
        (["2024/03/01/x.parquet", "2024/03/02/x.parquet"], "%Y/%m/%d/"),
        (["year=2024/month=03/x.parquet", "year=2024/month=04/x.parquet"], "year=%Y/month=%m/"),
        (["id1234567890.parquet", "b.parquet"], None),
    ],
)
def test_dates_are_found_in_names_of_files_and_folders(
    tmp_path: Path, names: list[str], pattern: str | None
) -> None:
    """Numbers of parts do not belong to the pattern, longer numbers are no dates."""
    for number, name in enumerate(names):
        write(tmp_path / "table" / name, orders(number))
    pipeline, _ = init(tmp_path / "table", tmp_path)

    assert pipeline.source.date_pattern == pattern


def test_of_several_tables_in_a_folder_the_one_with_most_files_is_taken(tmp_path: Path) -> None:
    """The others are named, as is how to have them."""
    for month in (1, 2, 3):
        write(tmp_path / f"all/green_2024-{month:02}.parquet", orders(month))
    write(tmp_path / "all/yellow_2024-01.parquet", pa.table({"x": [1.0, 2.0]}))
    pipeline, said = init(tmp_path / "all", tmp_path)

    assert pipeline.source.date_pattern == "green_%Y-%m.parquet"
    assert any("other names are left out: yellow_… (1)" in line for line in said)


# --- what is written --------------------------------------------------------------------------------------


def test_every_choice_is_told_and_stands_with_its_reason_in_the_file(hive: Path, tmp_path: Path) -> None:
    """Each line told is a line of the file, value and comment."""
    pipeline, said = init(hive, tmp_path)
    text = pipeline.file.read_text()
    choices = [line for line in said if line.startswith(("source.", "columns.", "training.", "schedule."))]

    assert len(choices) >= 24
    for choice in choices:
        value, reason = choice.partition(": ")[2].removesuffix(")").split(" (", 1)
        assert any(value in line and line.endswith(f"# {reason}") for line in text.splitlines()), choice


def test_alerts_go_where_the_documented_variable_says(hive: Path, tmp_path: Path) -> None:
    """What the file sets is what a file without the section has."""
    pipeline, said = init(hive, tmp_path)

    assert pipeline.alerts == Alerts()
    assert pipeline.alerts.notify == ("VAEWATCH_ALERTS",)
    assert pipeline.schedule.monitor == Schedule().monitor
    assert "monitor: " in pipeline.file.read_text()
    assert any(line.startswith("all else: the defaults; those in the file") for line in said)


def test_the_suite_knows_the_key_and_nothing_of_ignored_columns(hive: Path, tmp_path: Path) -> None:
    """It is read from where the pipeline file points."""
    suite = load_suite(init(hive, tmp_path)[0].suite_path)
    named = {entry["kwargs"].get("column") for entry in suite["expectations"]}

    assert suite["name"] == "web_orders"
    assert {"order_id", "amount", "city"} <= named
    assert not named & {"note", "tags", "unused", "currency"}


def test_mlflow_is_set_up_as_in_this_project_unless_it_is_already(hive: Path, tmp_path: Path) -> None:
    """A file of the user's own is never touched."""
    init(hive, tmp_path / "new")
    (tmp_path / "mlflow.yml").write_text("experiment: mine\n")
    init(hive, tmp_path)

    ours = Path(__file__).parents[2] / "mlflow.yml"
    assert (tmp_path / "new/mlflow.yml").read_text() == ours.read_text()
    assert load_tracking(tmp_path).experiment == "mine"


def test_names_that_yaml_or_our_columns_would_misread_are_kept(tmp_path: Path) -> None:
    """Quotes where they are needed; a prefix where the table has a column of ours."""
    odd = ["a: b # c", "yes", "1", 'q"\\', "tab\there", "naïve – 日本 🚕", "p_value"]
    random = np.random.default_rng(0)
    write(tmp_path / "odd: #1/a.parquet", pa.table({name: random.normal(size=50) for name in odd}))
    pipeline, _ = init(tmp_path / "odd: #1", tmp_path)

    assert pipeline.columns.numeric == tuple(odd)
    assert pipeline.prefix == "vw_"
    assert pipeline.source.path == "odd: #1"


def test_of_a_wide_table_only_the_exceptions_are_listed(tmp_path: Path) -> None:
    """The file stays one that people read."""
    random = np.random.default_rng(0)
    columns = {f"x{i}": random.normal(size=50) for i in range(400)} | {"shop_code": [1, 2] * 25}
    write(tmp_path / "wide/a.parquet", pa.table(columns))
    pipeline, _ = init(tmp_path / "wide", tmp_path)

    assert pipeline.columns.numeric == ()
    assert pipeline.columns.categorical == ("shop_code",)
    assert len(pipeline.file.read_text().splitlines()) < 60


def test_a_column_that_only_some_files_have_is_ignored(tmp_path: Path) -> None:
    """A model that needed it would refuse the others."""
    write(tmp_path / "table/2024-03-01.parquet", orders(0))
    write(tmp_path / "table/2024-03-02.parquet", orders(1, discount=pa.array(np.arange(ROWS) / 7)))
    pipeline, said = init(tmp_path / "table", tmp_path)

    assert "discount" in pipeline.columns.ignore
    assert "columns.ignore: discount (only in 1 of 2 files)" in said


def test_a_file_that_cannot_be_read_is_passed_over_by_name(hive: Path, tmp_path: Path) -> None:
    """One bad night does not keep a pipeline from being made."""
    bad = hive / "dt=2024-03-05/part-1.parquet"
    bad.write_text("a,b\n1,2\n")
    _, said = init(hive, tmp_path)

    assert any(line.startswith(f"passed over {bad}") for line in said)


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["pipelines/mine.yml", "pipelines/mine.expectations.json"])
def test_a_file_that_is_there_is_never_overwritten(hive: Path, tmp_path: Path, there: str) -> None:
    """Unless told to; and nothing else is written either."""
    file = tmp_path / there
    file.parent.mkdir()
    file.write_text("mine")

    with pytest.raises(ConfigError, match=rf"{file.name} is there already; .* --force"):
        init(hive, tmp_path, name="mine")

    assert file.read_text() == "mine"
    assert [one for one in tmp_path.rglob("*") if one.suffix in (".yml", ".json")] == [file]
    assert init(hive, tmp_path, name="mine", force=True)[0].name == "mine"


def refused(folder: Path, tmp_path: Path, kind: type[Exception], sentence: str) -> None:
    """Assert that a folder is refused with a sentence, and that nothing is written."""
    with pytest.raises(kind, match=sentence) as caught:
        init(folder, tmp_path / "project")

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "project").exists()


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    """Missing, a file, empty, of other files, of files without rows."""
    refused(tmp_path / "no", tmp_path, InputError, r"no: a folder of Parquet files .* there is none")
    write(tmp_path / "none/a.parquet", orders(0).slice(0, 0))
    refused(tmp_path / "none/a.parquet", tmp_path, InputError, "it is a file")
    refused(tmp_path / "none", tmp_path, InputError, "rows were required, however its files have none")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path, InputError, "it is empty")
    (tmp_path / "empty/a.csv").write_text("a,b\n")
    refused(tmp_path / "empty", tmp_path, InputError, r"it holds a\.csv")


def test_files_of_several_tables_are_refused(tmp_path: Path) -> None:
    """Both files' columns are named; types that have nothing in common are refused as well."""
    write(tmp_path / "mixed/a.parquet", orders(0))
    write(tmp_path / "mixed/b.parquet", pa.table({"x": [1.0], "y": [2.0]}))
    refused(tmp_path / "mixed", tmp_path, SchemaError, "however .* came; give each table a folder of its own")
    write(tmp_path / "types/a.parquet", pa.table({"x": [1.0], "y": [2.0]}))
    write(tmp_path / "types/b.parquet", pa.table({"x": ["one"], "y": [2.0]}))
    refused(tmp_path / "types", tmp_path, SchemaError, "one type in all files")


def test_a_table_of_which_nothing_can_be_modelled_is_refused(tmp_path: Path) -> None:
    """A constant teaches nothing."""
    write(tmp_path / "flat/a.parquet", pa.table({"x": [1] * 50, "tags": [["a"]] * 50}))
    refused(tmp_path / "flat", tmp_path, SchemaError, "can be modelled was required, however x, tags came")


def test_a_name_that_a_pipeline_cannot_have_is_refused(hive: Path, tmp_path: Path) -> None:
    """It becomes the name of files and of a model."""
    with pytest.raises(ConfigError, match=r"however '\.\./x' came; see --name"):
        init(hive, tmp_path, name="../x")
