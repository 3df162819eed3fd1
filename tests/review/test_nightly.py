"""After a night: rows of verdicts are found again, and verdicts exported as the other parts read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.config import Pipeline, load_pipeline
from flows.errors import StoreError
from flows.manifest import Manifest, ManifestModel, ManifestOutput, manifest_key
from flows.storage import Store
from flows.verdicts import CONFIRMED, confirmed_rows, said_of
from review.nightly import Nightly, adopt_night, after_scoring
from review.store import RowRef, VerdictStore

NIGHT, NEXT = date(2024, 3, 1), date(2024, 3, 2)
COLUMNS = ["row_id", "row_key", "dt", "verdict", "note", "reviewer", "decided_at", "supersedes", "verdict_id"]


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Return a pipeline whose rows are named by ``id`` and by the sensitive ``name``."""
    monkeypatch.delenv("VAEWATCH_REVIEW_DB", raising=False)
    (tmp_path / "mlflow.yml").touch()
    (tmp_path / "orders.yml").write_text(
        "{version: 1, name: orders, source: {path: landing, partition: dt}, output: results, "
        "columns: {key: [id, name], sensitive: [name]}, prefix: vw_}"
    )
    return load_pipeline(tmp_path / "orders.yml")


@pytest.fixture
def store(pipeline: Pipeline) -> Iterator[VerdictStore]:
    with VerdictStore.open(f"sqlite:///{pipeline.root}/data/review/verdicts.db", "orders") as opened:
        yield opened


def key(number: int) -> str:
    return f'{{"id": {number}}}'


def score(
    pipeline: Pipeline, day: date, flagged: dict[str, int], others: dict[str, int] | None = None
) -> None:
    """Write a night as scoring does: ids of its flagged and of its other rows, by ``row_id``."""
    results = Path(pipeline.output_path)
    rows = flagged | (others or {})
    tables = {
        "flags": {"vw_row_id": list(flagged), "vw_row_key": [key(one) for one in flagged.values()]},
        "scores": {"id": list(rows.values()), "vw_row_id": list(rows)},
    }
    if others is None:
        del tables["scores"]
    outputs = []
    for name, columns in tables.items():
        path = f"{name}/dt={day}/part-0.parquet"
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), results / path)
        outputs.append(ManifestOutput(path=path, rows=len(columns["vw_row_id"]), digest="sha256:0"))
    manifest = Manifest(
        pipeline="orders",
        date=day,
        **dict.fromkeys(["files_in", "files_scored", "files_rejected", "rows_in", "rows_scored"], 0),
        rows_quarantined=0,
        rows_flagged=len(flagged),
        inputs=(),
        outputs=tuple(outputs),
        pipeline_digest="sha256:0",
        model=ManifestModel(name="orders", version="1", run_id="r"),
        decision={},
        certified=True,
        scored_at="2024-03-02T03:30:00Z",
    )
    Store.of(results).write_bytes(manifest_key(day), manifest.to_json().encode())


def decide(store: VerdictStore, verdict: str, **rows: int) -> str:
    seen = {name: one.id for name, one in store.current(NIGHT).items()}
    refs = [RowRef(NIGHT, name, key(number)) for name, number in rows.items()]
    return store.decide(refs, verdict, reviewer="ann", note="=1+1", seen=seen)


def test_where_nobody_has_settled_anything_nothing_happens(pipeline: Pipeline) -> None:
    score(pipeline, NIGHT, {"a": 1})

    assert after_scoring(pipeline, NIGHT) == Nightly()
    assert not (pipeline.root / "data").exists()
    assert not (Path(pipeline.output_path) / "verdicts").exists()


def test_verdicts_are_exported_as_training_and_gates_read_them(
    pipeline: Pipeline, store: VerdictStore
) -> None:
    """The last verdict of a row counts; one that was taken back counts no more."""
    score(pipeline, NIGHT, {"a": 1, "b": 2, "c": 3, "d": 4})
    decide(store, "anomaly", a=1, b=2)
    decide(store, "expected", b=2)
    decide(store, "data error", c=3)
    store.undo(decide(store, "anomaly", d=4), reviewer="ann")

    assert after_scoring(pipeline, NIGHT).exported == (NIGHT,)
    results = Store.of(pipeline.output_path)
    assert confirmed_rows(results, NIGHT) == {"a": key(1), "c": key(3)}
    assert said_of(results, NIGHT, NEXT, CONFIRMED).keys == {key(1), key(3)}


def test_only_what_has_changed_is_exported(pipeline: Pipeline, store: VerdictStore) -> None:
    score(pipeline, NIGHT, {"a": 1})
    decide(store, "anomaly", a=1)
    store.decide([RowRef(NEXT, "x", key(7))], "expected", reviewer="ann", seen={})
    results = Store.of(pipeline.output_path)

    assert store.changed_since(results) == [NIGHT, NEXT]
    assert store.export(results, NIGHT) == 1
    assert after_scoring(pipeline, NIGHT).exported == (NEXT,)
    assert after_scoring(pipeline, NIGHT).exported == ()
    decide(store, "expected", a=1)
    assert after_scoring(pipeline, NEXT).exported == (NIGHT,)
    (Path(pipeline.output_path) / f"verdicts/dt={NEXT}/part-0.parquet").write_bytes(b"torn")
    assert after_scoring(pipeline, NEXT).exported == (NEXT,)


def test_pandas_polars_arrow_and_duckdb_read_the_export_with_the_same_columns(
    pipeline: Pipeline, store: VerdictStore
) -> None:
    decide(store, "anomaly", a=1)
    decide(store, "expected", a=1)
    store.decide([RowRef(NEXT, "x", key(7))], "anomaly", reviewer="ann", seen={})
    results = Store.of(pipeline.output_path)
    for day in store.changed_since(results):
        store.export(results, day)
    folder = f"{pipeline.output_path}/verdicts"

    frame = pd.read_parquet(folder)
    assert frame.columns.tolist() == COLUMNS
    assert frame["dt"].astype(str).tolist() == ["2024-03-01", "2024-03-01", "2024-03-02"]
    assert frame["supersedes"].tolist()[1] == frame["verdict_id"][0]
    assert pl.read_parquet(f"{folder}/**/*.parquet").columns == COLUMNS
    assert pq.read_table(f"{folder}/dt={NIGHT}/part-0.parquet").column_names == COLUMNS
    duck = duckdb.sql(f"SELECT dt, count(*) FROM '{folder}/*/*.parquet' GROUP BY dt ORDER BY dt").fetchall()  # noqa: S608
    assert duck == [(NIGHT, 2), (NEXT, 1)]


def test_a_row_is_found_again_after_the_night_was_scored_anew(
    pipeline: Pipeline, store: VerdictStore
) -> None:
    decide(store, "anomaly", a=1, b=2)
    score(pipeline, NIGHT, {"b": 1, "z": 9, "a": 2})

    assert after_scoring(pipeline, NIGHT).orphans == ()
    assert confirmed_rows(Store.of(pipeline.output_path), NIGHT) == {"b": key(1), "a": key(2)}


def test_a_row_that_is_flagged_no_more_is_found_among_the_others(
    pipeline: Pipeline, store: VerdictStore
) -> None:
    """It must count where a gate asks whether confirmed anomalies are found again."""
    decide(store, "anomaly", a=1, b=2)
    score(pipeline, NIGHT, {"z": 9}, {"a": 1, "c": 2, "b": 5})

    assert after_scoring(pipeline, NIGHT).orphans == ()
    assert confirmed_rows(Store.of(pipeline.output_path), NIGHT) == {"a": key(1), "c": key(2)}


def test_the_verdict_of_a_row_that_is_gone_is_kept_and_names_no_other(
    pipeline: Pipeline, store: VerdictStore
) -> None:
    decide(store, "anomaly", a=1)
    score(pipeline, NIGHT, {"a": 8}, {"b": 2})

    [orphan] = after_scoring(pipeline, NIGHT).orphans
    assert (orphan.row_key, orphan.verdict) == (key(1), "anomaly")
    results = Store.of(pipeline.output_path)
    assert confirmed_rows(results, NIGHT) == {orphan.row_id: key(1)}
    assert orphan.row_id != "a", "another row has that id now"
    assert said_of(results, NIGHT, NIGHT, CONFIRMED).keys == {key(1)}, (
        "what is known of it is learned from all the same"
    )


def test_a_night_whose_results_are_gone_makes_no_orphans(pipeline: Pipeline, store: VerdictStore) -> None:
    decide(store, "anomaly", a=1)

    assert adopt_night(store, pipeline, NIGHT) == []
    assert store.current(NIGHT)["a"].verdict == "anomaly"


def test_a_database_that_is_away_is_a_sentence(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEWATCH_REVIEW_DB", "postgresql://ann:hush@127.0.0.1:1/verdicts")

    with pytest.raises(StoreError, match="cannot read the verdicts in postgresql") as caught:
        after_scoring(pipeline, NIGHT)
    assert "hush" not in str(caught.value)


def test_verdicts_go_to_object_stores_too(pipeline: Pipeline, store: VerdictStore, s3: str) -> None:
    decide(store, "anomaly", a=1)
    results = Store.of(s3)

    assert store.changed_since(results) == [NIGHT]
    store.export(results, NIGHT)
    assert store.changed_since(results) == []
    assert confirmed_rows(results, NIGHT) == {"a": key(1)}
