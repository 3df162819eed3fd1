"""One night, file by file: what is scored, set aside, rejected and written."""

from __future__ import annotations

import json
import pydoc
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flows.casts import carrying_schema
from flows.commit import on_night
from flows.config import Pipeline, load_pipeline
from flows.engines import Engine, Threads
from flows.errors import StoreError
from flows.expectations import profile
from flows.lease import Lease
from flows.manifest import Manifest, ManifestModel
from flows.night import Night, expected_schema
from flows.results import added_names
from flows.scoring import commit_night
from flows.storage import Store
from flows.tables import night
from vae_core import VAEDetector

DAY = date(2024, 3, 1)
MODEL = ManifestModel(name="orders", version="4", run_id="0123456789abcdef")
PIPELINE = """
version: 1
name: orders
source: {{path: landing, partition: dt}}
output: results
columns: {{key: [order_id], sensitive: [{sensitive}]}}
decision: {{{decision}}}
prefix: "{prefix}"
"""


def orders(rows: int, seed: int, *, first: int = 2**62) -> pa.Table:
    """Return orders: a large key, numbers, categories, booleans, moments with a zone, decimals, nulls."""
    rng = np.random.default_rng(seed)
    amount = rng.normal(50.0, 5.0, rows)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "order_id": pa.array(first + np.arange(rows), pa.int64()),
            "amount": pa.array(amount),
            "tax": pa.array(amount * 0.2 + rng.normal(0, 0.1, rows)),
            "items": pa.array(rng.integers(1, 9, rows), pa.int64(), mask=rng.random(rows) < 0.1),
            "shop": pa.array(rng.choice(["Bern", "Basel", "Zürich"], rows)).dictionary_encode(),
            "gift": pa.array(rng.random(rows) < 0.3),
            "at": pa.array(
                [start + timedelta(minutes=int(m)) for m in rng.integers(0, 80_000, rows)],
                pa.timestamp("us", "Europe/Zurich"),
            ),
            "fee": pa.array(
                [Decimal(int(cents)) / 100 for cents in rng.integers(100, 400, rows)], pa.decimal128(9, 2)
            ),
        }
    )


def with_value(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    """Return a table with one cell changed."""
    kind = table.schema.field(column).type
    values = table.column(column).to_pylist()
    values[row] = value
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    changed = pa.array(values, plain).cast(kind) if plain != kind else pa.array(values, kind)
    return table.set_column(table.schema.get_field_index(column), column, changed)


def odd(table: pa.Table, *rows: int) -> pa.Table:
    """Return a table whose given rows have an amount that nobody has seen."""
    for row in rows:
        table = with_value(table, "amount", row, 5_000.0 + row)
    return table


@pytest.fixture(scope="session")
def detector() -> VAEDetector:
    """Return a detector that has learned ordinary orders, roughly."""
    fitted = VAEDetector(max_epochs=3, n_members=1, random_state=0, kinds={"order_id": "key"})
    return fitted.fit(orders(2_000, 1)).calibrate(orders(2_000, 2))


@pytest.fixture(scope="session")
def suite() -> dict[str, Any]:
    """Return the contract of ordinary orders."""
    return profile(orders(2_000, 1), name="orders", keys=["order_id"])


@pytest.fixture
def pipeline(tmp_path: Path) -> Callable[..., Pipeline]:
    """Return a function that writes and loads a pipeline."""

    def write(decision: str = "contamination: 0.001", prefix: str = "", sensitive: str = "") -> Pipeline:
        file = tmp_path / "orders.yml"
        (tmp_path / "mlflow.yml").touch()
        file.write_text(PIPELINE.format(decision=decision, prefix=prefix, sensitive=sensitive))
        return load_pipeline(file)

    return write


@pytest.fixture
def land(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that lets files of the night arrive."""

    def write(table: pa.Table, name: str = "a.parquet", **options: Any) -> Path:
        file = tmp_path / "landing" / f"dt={DAY}" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file, **options)
        return file

    return write


@pytest.fixture
def score(detector: VAEDetector, suite: dict[str, Any]) -> Callable[..., Manifest]:
    """Return a function that scores the night as the flow does, without the flow."""

    def run(
        loaded: Pipeline, rejected: dict[str, str] | None = None, engine: Engine | None = None
    ) -> Manifest:
        store = Store.of(loaded.output_path)
        files = night(loaded.source_path, DAY, partition="dt")

        def work(lease: Lease, before: Manifest | None) -> Manifest:
            with store.stage() as stage:
                made = Night(loaded, DAY, detector, MODEL, suite, stage, engine)
                for file in files:
                    if file.key in (rejected or {}):
                        made.reject(file, (rejected or {})[file.key])
                made.read([file for file in files if file.key not in (rejected or {})])
                made.decide()
                return commit_night(made, store, lease, before)

        return on_night(store, DAY, work)

    return run


def table_of(loaded: Pipeline, table: str) -> pa.Table:
    """Return a table of the night, in the types that are on disk."""
    return pq.ParquetFile(Path(loaded.output_path) / table / f"dt={DAY}" / "part-0.parquet").read()


def files_of(loaded: Pipeline) -> set[str]:
    """Return the names of everything that the output folder shows."""
    return {stored.key for stored in Store.of(loaded.output_path).list()}


def break_late(file: Path) -> None:
    """Flip bytes in the last row group, so that reading fails after most rows have come."""
    last = pq.read_metadata(file).row_group(pq.read_metadata(file).num_row_groups - 1)
    offset = last.column(1).data_page_offset
    content = bytearray(file.read_bytes())
    for i in range(offset + 40, offset + 200):
        content[i] ^= 0xFF
    file.write_bytes(bytes(content))


def test_files_and_rows_add_up(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline()
    land(odd(orders(400, 3), 5, 9))
    land(with_value(orders(300, 4, first=0), "order_id", 7, None), "b.parquet")
    land(orders(10, 5), "c.parquet").write_bytes(b"PK\x03\x04 this is a zip")

    manifest = score(loaded)

    assert (manifest.files_in, manifest.files_scored, manifest.files_rejected) == (3, 2, 1)
    assert (manifest.rows_in, manifest.rows_scored, manifest.rows_quarantined) == (700, 699, 1)
    assert manifest.rows_flagged == table_of(loaded, "flags").num_rows >= 2
    assert {one.path: one.rows for one in manifest.outputs} == {
        f"{table}/dt={DAY}/part-0.parquet": table_of(loaded, table).num_rows
        for table in ("flags", "contributions", "scores", "quarantine", "rejected")
    }


def test_flags_are_the_table_and_then_our_columns(pipeline: Any, land: Any, score: Any) -> None:
    loaded, table = pipeline(), odd(orders(200, 3), 5)
    land(table)

    score(loaded)

    flags = table_of(loaded, "flags")
    assert flags.schema.names == [*table.schema.names, *added_names()]
    row = next(row for row in flags.to_pylist() if row["row_number"] == 5)
    assert row["batch_file"] == f"dt={DAY}/a.parquet"
    assert row["row_key"] == f'{{"order_id": {2**62 + 5}}}'
    assert row["reason_1_column"] == "amount"
    assert row["reason_1_kind"] == "out_of_support"
    assert row["reason_1_value"] == "5005"
    assert row["anomaly_score"] >= row["threshold"]
    assert row["severity"] == pytest.approx(min(100, -10 * np.log10(row["p_value"])))
    assert (row["model_name"], row["model_version"], row["run_id"]) == ("orders", "4", "0123456789abcdef")


def test_the_table_s_own_columns_are_carried_untouched(pipeline: Any, land: Any, score: Any) -> None:
    """Ids near 2^63, nulls, zones, dictionaries and decimals come out as they went in."""
    loaded, table = pipeline("budget: 50"), orders(50, 3, first=2**63 - 60)
    land(table)

    score(loaded)

    flags = table_of(loaded, "flags")
    original = flags.select(table.schema.names).take(pc.sort_indices(flags.column("row_number")))
    kept = original.column("order_id").to_pylist()
    expected = table.filter(pc.is_in(table.column("order_id"), pa.array(kept)))
    assert flags.num_rows == 50
    assert original.schema.types == table.schema.types
    assert original.to_pylist() == expected.to_pylist()


def test_a_file_found_corrupt_late_is_rejected_alone(pipeline: Any, land: Any, score: Any) -> None:
    """Its rows appear nowhere, and the other files have the flags that they have without it."""
    loaded = pipeline("budget: 5")
    land(odd(orders(400, 3), 5, 9), "b.parquet")
    score(loaded)
    alone = table_of(loaded, "flags").select(["row_id", "anomaly_score", "threshold"]).to_pylist()
    first = odd(orders(70_000, 6), *range(20))
    break_late(
        land(
            first,
            "a.parquet",
            row_group_size=66_000,
            use_dictionary=False,
            compression="none",
            write_page_checksum=True,
        )
    )

    manifest = score(loaded)

    assert (manifest.files_scored, manifest.files_rejected) == (1, 1)
    assert (manifest.rows_in, manifest.rows_scored) == (400, 400)
    assert manifest.inputs[0].status == "rejected"
    assert (
        "a.parquet: readable pages were required, however reading failed after row"
        in manifest.inputs[0].reason
    )
    assert table_of(loaded, "flags").select(["row_id", "anomaly_score", "threshold"]).to_pylist() == alone
    assert table_of(loaded, "scores").num_rows == 400
    assert table_of(loaded, "rejected").to_pylist()[0]["reason"] == manifest.inputs[0].reason


def test_a_file_rejected_unread_leaves_the_flags_of_the_others(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline()
    land(odd(orders(300, 3), 1))
    land(odd(orders(200, 4), 2), "b.parquet")

    manifest = score(loaded, rejected={f"dt={DAY}/a.parquet": "a.parquet: breaks the contract"})

    assert (manifest.files_scored, manifest.rows_scored) == (1, 200)
    flags = table_of(loaded, "flags").to_pylist()
    assert (f"dt={DAY}/b.parquet", 2) in {(row["batch_file"], row["row_number"]) for row in flags}
    assert {row["batch_file"] for row in flags} == {f"dt={DAY}/b.parquet"}
    assert table_of(loaded, "scores").num_rows == 200


def test_a_row_that_breaks_a_rule_is_set_aside_with_the_reason_and_its_own_types(
    pipeline: Any, land: Any, score: Any
) -> None:
    loaded, table = pipeline(), with_value(orders(100, 3), "order_id", 7, None)
    land(table)

    score(loaded)

    quarantine = table_of(loaded, "quarantine")
    assert quarantine.select(table.schema.names).schema.types == table.schema.types
    assert quarantine.select(table.schema.names).to_pylist() == table.slice(7, 1).to_pylist()
    assert "order_id" in quarantine.column("broken_rules")[0].as_py()
    assert quarantine.column("batch_file").to_pylist() == [f"dt={DAY}/a.parquet"]
    assert 7 not in table_of(loaded, "scores").column("row_number").to_pylist()


def test_a_value_that_does_not_fit_its_type_sets_the_row_aside(pipeline: Any, land: Any, score: Any) -> None:
    """Integers came as fractions: 2.0 is the number 2, 2.5 is none."""
    loaded, table = pipeline(), orders(100, 3)
    items = [2.0] * 99 + [2.5]
    land(table.set_column(3, "items", pa.array(items, pa.float64())))

    manifest = score(loaded)

    assert manifest.rows_quarantined == 1
    assert manifest.inputs[0].reason == "cast items: double → int64"
    assert table_of(loaded, "quarantine").column("items").to_pylist() == [2.5]
    assert table_of(loaded, "quarantine").column("broken_rules").to_pylist() == ["items must fit int64"]
    assert manifest.inputs[0].warnings[0] == "rows in quarantine: items must fit int64 (1)"


@pytest.mark.parametrize(
    ("column", "kind", "texts"),
    [
        ("at", pa.timestamp("us", "UTC"), ["2024-01-19 01:01:00.000000"] * 2),
        ("at", pa.timestamp("us"), ["2024-01-19 01:01:00.000000"] * 2),
        ("gift", pa.int8(), ["false", "0"]),
    ],
    ids=str,
)
def test_rows_set_aside_from_files_of_unlike_types_are_kept_as_text(
    pipeline: Any, land: Any, score: Any, column: str, kind: pa.DataType, texts: list[str]
) -> None:
    """Each file is cast for the model; a value set aside may fit no type that the files share."""
    loaded, table = pipeline(), with_value(orders(100, 3), "order_id", 7, None)
    place = table.schema.get_field_index(column)
    land(table)
    land(table.set_column(place, column, table.column(column).cast(kind)), "b.parquet")

    manifest = score(loaded)

    quarantine = table_of(loaded, "quarantine")
    assert (manifest.files_rejected, manifest.rows_quarantined) == (0, 2)
    assert quarantine.column(column).to_pylist() == texts
    assert quarantine.schema.field("amount").type == pa.float64()


@pytest.mark.parametrize("decimal", [pa.decimal32, pa.decimal64])
def test_decimals_of_few_bits_are_decimals_like_others(
    pipeline: Any, land: Any, score: Any, decimal: Callable[..., pa.DataType]
) -> None:
    """As integers they are cast where they are whole; among extra columns they may lie in lists."""
    loaded, table, kind = pipeline(), orders(100, 3), decimal(6, 2)
    items = [Decimal(2)] * 99 + [Decimal("2.5")]
    drifted = table.set_column(3, "items", pa.array(items, kind))
    land(drifted.append_column("rates", pa.array([[Decimal("1.25")], None] * 50, pa.list_(kind))))
    land(table, "b.parquet")

    manifest = score(loaded)

    quarantine = table_of(loaded, "quarantine")
    assert [one.status for one in manifest.inputs] == ["scored", "scored"]
    assert manifest.inputs[0].reason == "cast items: decimal128(6, 2) → int64"
    assert quarantine.column("items").to_pylist() == [Decimal("2.50")]
    assert quarantine.column("broken_rules").to_pylist() == ["items must fit int64"]


@pytest.mark.parametrize("where", ["flows.shards.bad_rows", "flows.night.planned"])
def test_a_file_that_arrow_cannot_work_with_is_rejected_alone(
    pipeline: Any, land: Any, score: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The reason says what Arrow said of it; the other files are scored."""
    loaded, asked = pipeline(), pydoc.locate(where)

    def first_fails(*arguments: Any) -> Any:
        monkeypatch.setattr(where, asked)
        return pc.unique(pa.array([Decimal(1)], pa.decimal64(3, 1)))

    monkeypatch.setattr(where, first_fails)
    file = land(orders(100, 3))
    land(orders(100, 4, first=0), "b.parquet")

    manifest = score(loaded, engine=Threads(1))

    assert [one.status for one in manifest.inputs] == ["rejected", "scored"]
    assert manifest.inputs[0].reason.startswith(f"{file}: columns that Arrow works with were required")
    assert "decimal64(3, 1)" in manifest.inputs[0].reason


def test_files_of_equal_schemas_are_compared_once(
    pipeline: Any, land: Any, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night of thousands of files is settled in the time of a few; the table of flags takes one more."""
    loaded, compared = pipeline(), []

    def carrying(schemas: Any) -> pa.Schema:
        compared.append(len(schemas))
        return carrying_schema(schemas)

    monkeypatch.setattr("flows.night.carrying_schema", carrying)
    for i in range(8):
        land(orders(20, i, first=100 * i), f"{i}.parquet")

    manifest = score(loaded)

    assert manifest.files_scored == 8
    assert compared == [1, 1]


def test_files_of_two_compatible_schemas_make_one_table_of_flags(
    pipeline: Any, land: Any, score: Any
) -> None:
    loaded, table = pipeline("budget: 300"), orders(100, 3)
    land(table)
    drifted = table.set_column(4, "shop", table.column("shop").cast(pa.large_string()))
    drifted = drifted.set_column(3, "items", table.column("items").cast(pa.int32()))
    drifted = drifted.set_column(6, "at", table.column("at").cast(pa.timestamp("ns", "UTC")))
    drifted = drifted.append_column("note", pa.array(["new"] * 100))
    land(drifted, "b.parquet")

    manifest = score(loaded)

    flags = table_of(loaded, "flags")
    assert manifest.files_rejected == 0
    assert flags.num_rows == 200
    assert flags.schema.field("items").type == pa.int64()
    assert flags.schema.field("at").type == pa.timestamp("us", "Europe/Zurich")
    by_file = {
        name: flags.filter(pc.equal(flags.column("batch_file"), f"dt={DAY}/{name}"))
        for name in ("a.parquet", "b.parquet")
    }
    columns = ["order_id", "items", "shop", "at"]
    assert (
        by_file["a.parquet"].select(columns).to_pylist() == by_file["b.parquet"].select(columns).to_pylist()
    )
    assert set(by_file["a.parquet"].column("note").to_pylist()) == {None}
    assert set(by_file["b.parquet"].column("note").to_pylist()) == {"new"}


def test_a_file_whose_new_column_fits_none_of_the_other_files_is_rejected(
    pipeline: Any, land: Any, score: Any
) -> None:
    loaded, table = pipeline(), orders(100, 3)
    land(table.append_column("note", pa.array(range(100))))
    land(table.append_column("note", pa.array(["text"] * 100)), "b.parquet")

    manifest = score(loaded)

    assert [one.status for one in manifest.inputs] == ["scored", "rejected"]
    assert "note" in manifest.inputs[1].reason


def test_a_clash_of_names_rejects_the_file_and_names_the_setting(
    pipeline: Any, land: Any, score: Any
) -> None:
    loaded = pipeline()
    file = land(orders(50, 3).append_column("severity", pa.array([1] * 50)))

    manifest = score(loaded)

    assert manifest.files_rejected == 1
    assert manifest.inputs[0].reason.startswith(f"{file}: columns of other names than ours were required")
    assert "severity" in manifest.inputs[0].reason
    assert "set `prefix`" in manifest.inputs[0].reason
    assert files_of(loaded) == {f"rejected/dt={DAY}/part-0.parquet", f"manifests/dt={DAY}.json"}


def test_with_a_prefix_both_names_are_there(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline("budget: 5", prefix="vw_")
    taken = {"severity": [7] * 50, "batch_file": ["theirs"] * 50, "broken_rules": ["none"] * 50}
    table = with_value(orders(50, 3), "order_id", 7, None)
    for name, values in taken.items():
        table = table.append_column(name, pa.array(values))
    land(table)

    score(loaded)

    flags, quarantine = table_of(loaded, "flags"), table_of(loaded, "quarantine")
    assert flags.schema.names == [*table.schema.names, *added_names("vw_")]
    assert set(flags.column("severity").to_pylist()) == {7}
    assert max(flags.column("vw_severity").to_pylist()) > 7
    assert quarantine.column("batch_file").to_pylist() == ["theirs"]
    assert quarantine.column("vw_batch_file").to_pylist() == [f"dt={DAY}/a.parquet"]
    assert "vw_row_id" in table_of(loaded, "scores").schema.names


def test_an_empty_file_makes_an_empty_table_with_all_columns(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline()
    land(orders(0, 3))

    manifest = score(loaded)

    flags = table_of(loaded, "flags")
    assert (manifest.rows_in, manifest.rows_flagged, flags.num_rows) == (0, 0, 0)
    assert flags.schema.names == [*orders(0, 3).schema.names, *added_names()]
    assert flags.schema.field("scored_at").type == pa.timestamp("us", "UTC")
    assert table_of(loaded, "scores").num_rows == table_of(loaded, "contributions").num_rows == 0


def test_a_budget_flags_so_many_rows_of_all_files(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline("budget: 3")
    land(odd(orders(200, 3), 1, 2))
    land(odd(orders(200, 4), 3), "b.parquet")

    manifest = score(loaded)

    flags = table_of(loaded, "flags").to_pylist()
    assert manifest.rows_flagged == 3
    assert {(row["batch_file"][-9:], row["row_number"]) for row in flags} == {
        ("a.parquet", 1),
        ("a.parquet", 2),
        ("b.parquet", 3),
    }


def test_a_rate_of_false_discoveries_flags_what_is_hardly_chance(
    pipeline: Any, land: Any, score: Any
) -> None:
    loaded = pipeline("fdr: 0.05")
    land(odd(orders(500, 3), *range(10)))

    score(loaded)

    found = set(table_of(loaded, "flags").column("row_number").to_pylist())
    assert set(range(10)) <= found
    assert len(found) <= 12


def test_sensitive_columns_stay_out_of_row_keys_scores_and_reasons(
    pipeline: Any, land: Any, score: Any
) -> None:
    loaded = pipeline("budget: 5", sensitive="order_id, amount")
    land(odd(orders(100, 3), 1))

    score(loaded)

    row = next(row for row in table_of(loaded, "flags").to_pylist() if row["row_number"] == 1)
    assert row["row_key"] == "{}"
    assert (row["reason_1_column"], row["reason_1_value"]) == ("amount", "(sensitive)")
    assert row["reason_1_expected"] == "(sensitive)"
    assert "order_id" not in table_of(loaded, "scores").schema.names


def test_scores_and_flags_agree(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline("contamination: 0.02")
    land(odd(orders(500, 3), 1, 2))

    score(loaded)

    scores, flags = table_of(loaded, "scores").to_pandas(), table_of(loaded, "flags").to_pandas()
    anomalous = scores[scores.is_anomaly]
    assert len(scores) == scores.row_id.nunique() == 500
    assert sorted(scores.row_number) == list(range(500))
    assert set(anomalous.row_id) == set(flags.row_id)
    assert set(scores.threshold) == set(flags.threshold)
    assert (scores.is_anomaly == (scores.anomaly_score >= scores.threshold)).all()
    assert flags.is_anomaly.all()
    assert set(anomalous.anomaly_score) == set(flags.anomaly_score)


def test_contributions_of_a_row_sum_to_its_loss_and_name_its_reasons(
    pipeline: Any, land: Any, score: Any
) -> None:
    loaded = pipeline("contamination: 0.02")
    land(odd(orders(500, 3), 1, 2))

    score(loaded)

    shares, flags = table_of(loaded, "contributions").to_pandas(), table_of(loaded, "flags").to_pandas()
    assert np.allclose(shares.groupby("row_id").share.sum(), 1.0)
    cells = set(zip(shares.row_id, shares.column, strict=True))
    assert set(zip(flags.row_id, flags.reason_1_column, strict=True)) <= cells
    assert flags.reason_1_share.between(0, 1, inclusive="right").all()
    losses = shares.groupby("row_id").loss.sum()
    assert np.allclose(losses.loc[flags.row_id], flags.reconstruction_loss)


def test_a_row_s_scores_do_not_depend_on_its_file(
    pipeline: Any, land: Any, score: Any, detector: VAEDetector
) -> None:
    loaded, table = pipeline(), orders(300, 3)
    land(table)
    score(loaded)
    together = table_of(loaded, "scores").column("anomaly_score").to_pylist()

    one_by_one = detector.score_batch(
        table.select(expected_schema(detector)[0].names).slice(17, 1)
    ).anomaly_score

    assert one_by_one.tolist() == [together[17]]


def test_scoring_again_replaces_and_never_doubles(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline("budget: 5")
    land(odd(orders(200, 3), 1))
    first = score(loaded)
    before = pd.read_parquet(Path(loaded.output_path) / "flags")

    again = score(loaded)

    after = pd.read_parquet(Path(loaded.output_path) / "flags")
    assert len(after) == after.row_id.nunique() == 5
    pd.testing.assert_frame_equal(before.drop(columns="scored_at"), after.drop(columns="scored_at"))
    assert again.history == first.history == ()


def test_a_table_that_a_night_has_no_more_is_removed(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline()
    land(with_value(orders(50, 3), "order_id", 7, None))
    score(loaded)
    assert f"quarantine/dt={DAY}/part-0.parquet" in files_of(loaded)

    land(orders(50, 3))
    score(loaded)

    assert f"quarantine/dt={DAY}/part-0.parquet" not in files_of(loaded)


def test_a_night_of_rejected_files_only_keeps_no_flags_of_before(
    pipeline: Any, land: Any, score: Any
) -> None:
    loaded = pipeline("budget: 5")
    file = land(orders(50, 3))
    score(loaded)

    file.write_text("order_id,amount\n1,2\n")
    manifest = score(loaded)

    assert (manifest.files_rejected, manifest.rows_in, manifest.rows_flagged) == (1, 0, 0)
    assert files_of(loaded) == {f"rejected/dt={DAY}/part-0.parquet", f"manifests/dt={DAY}.json"}


def test_a_missing_key_column_is_no_reason_to_reject(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline("budget: 2")
    table = orders(50, 3)
    land(table)
    land(table.drop_columns(["order_id"]), "b.parquet")

    manifest = score(loaded)

    assert manifest.files_in == 2
    assert manifest.rows_in == manifest.rows_scored + manifest.rows_quarantined


def test_the_manifest_is_the_last_thing_written(pipeline: Any, land: Any, score: Any) -> None:
    """Without a place for the manifest there is no finished night."""
    loaded = pipeline()
    land(orders(50, 3))
    (Path(loaded.output_path)).mkdir()
    (Path(loaded.output_path) / "manifests").write_text("a file where the folder should be")

    with pytest.raises(StoreError, match="manifests"):
        score(loaded)

    assert pq.read_metadata(Path(loaded.output_path) / "flags" / f"dt={DAY}" / "part-0.parquet").num_rows >= 0


def test_a_manifest_is_json_that_names_the_model_and_the_decision(
    pipeline: Any, land: Any, score: Any
) -> None:
    loaded = pipeline("budget: 5")
    land(orders(50, 3))

    score(loaded)

    manifest = json.loads((Path(loaded.output_path) / f"manifests/dt={DAY}.json").read_text())
    assert manifest["model"] == {"name": "orders", "version": "4", "run_id": "0123456789abcdef"}
    assert manifest["decision"] == {"budget": 5}
    assert not manifest["certified"]
    assert manifest["not_certified"] == "the decision is a budget: no false-discovery claim"
    assert manifest["calibration"]["rows"] == 2_000
    assert manifest["pipeline_digest"] == loaded.digest()
    assert manifest["inputs"][0]["digest"].startswith("blake2b:")


def in_shards(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Cut files into shards of so few rows."""
    monkeypatch.setattr("flows.shards.SHARD_ROWS", rows)
    monkeypatch.setattr("flows.night.SHARD_ROWS", rows)


def tables_of(loaded: Pipeline, manifest: Manifest) -> dict[str, pa.Table]:
    """Return all tables of a night as the manifest lists them, without the time of the commit."""
    found = {}
    for output in manifest.outputs:
        table = pq.ParquetFile(Path(loaded.output_path) / output.path).read()
        found[output.path] = table.drop_columns([name for name in table.schema.names if name == "scored_at"])
    return found


@pytest.mark.parametrize(
    "decision", ["contamination: 0.02", "fdr: 0.2", "budget: 9", "{fdr: 0.2, budget: 3}"]
)
def test_a_night_is_the_same_whoever_scores_its_shards(
    pipeline: Any, land: Any, score: Any, monkeypatch: pytest.MonkeyPatch, decision: str
) -> None:
    """With one thread or three, with a file cut into shards or whole: the same rows in the same order."""
    loaded = pipeline(decision.strip("{}"))
    land(odd(orders(900, 3), 5, 9, 400), row_group_size=100)
    land(with_value(odd(orders(350, 4, first=0), 1), "order_id", 7, None), "b.parquet", row_group_size=50)
    land(odd(orders(20, 5), 2), "c.parquet")
    one = score(loaded, engine=Threads(1))
    whole = tables_of(loaded, one)

    in_shards(monkeypatch, 200)
    several = [tables_of(loaded, score(loaded, engine=Threads(workers))) for workers in (1, 3)]

    assert several[0] == several[1]
    assert [path for path in several[0] if "scores" in path] == [
        f"scores/dt={DAY}/part-{i}.parquet" for i in range(6)
    ]
    scores = [table for path, table in several[0].items() if "scores" in path]
    assert pa.concat_tables(scores) == whole[f"scores/dt={DAY}/part-0.parquet"]
    for path in ("flags", "contributions", "quarantine"):
        key = f"{path}/dt={DAY}/part-0.parquet"
        assert several[0][key] == whole[key]


def test_a_file_of_which_one_shard_is_bad_is_rejected_whole(
    pipeline: Any, land: Any, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = pipeline("budget: 5")
    in_shards(monkeypatch, 100)
    plain = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    break_late(land(odd(orders(500, 6), *range(20)), "a.parquet", row_group_size=100, **plain))
    land(odd(orders(300, 3), 5, 9), "b.parquet", row_group_size=100)

    manifest = score(loaded, engine=Threads(2))

    assert [one.status for one in manifest.inputs] == ["rejected", "scored"]
    assert "reading failed after row 400" in manifest.inputs[0].reason
    assert set(table_of(loaded, "flags").column("batch_file").to_pylist()) == {f"dt={DAY}/b.parquet"}
    assert sum(len(table) for path, table in tables_of(loaded, manifest).items() if "scores" in path) == 300


def test_scores_that_are_not_kept_are_not_written(pipeline: Any, land: Any, score: Any) -> None:
    loaded = pipeline("budget: 5")
    land(orders(100, 3))
    with_scores = score(loaded)
    flags = table_of(loaded, "flags").drop_columns(["scored_at"])
    loaded.file.write_text(loaded.file.read_text() + "retention: {scores: none}\n")

    manifest = score(load_pipeline(loaded.file))

    assert manifest.rows_scored == with_scores.rows_scored == 100
    assert not [one for one in manifest.outputs if one.path.startswith("scores/")]
    assert not (Path(loaded.output_path) / "scores" / f"dt={DAY}" / "part-0.parquet").exists()
    assert table_of(loaded, "flags").drop_columns(["scored_at"]) == flags
