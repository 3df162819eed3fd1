"""After a night: families, ranks and marks of rules beside the flags, which stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.config import Pipeline
from flows.context import model_ref
from flows.manifest import read_manifest
from flows.scoring import score_files
from flows.sources import find_files
from flows.storage import Store
from flows.tables import file_digest
from flows.triage import FAMILIES, _worded, after_decision, triage
from flows.verdicts import CONFIRMED, NORMAL, said_of
from review.database import default_url
from review.families import Family
from review.precision import Share, by_version, precisions
from review.rules import Rule
from review.store import RowRef, VerdictStore
from review.triaging import TRIAGE, evidence_of, read_triage, rerank, triage_key

NOISY = "budget: 40"


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a database of verdicts of each test's own."""
    url = f"sqlite:///{tmp_path}/verdicts.db"
    monkeypatch.setenv("VAEWATCH_REVIEW_DB", url)
    return url


def scored(project: Any, day: date, decision: str = "budget: 6", **landing: Any) -> Pipeline:
    """Score a night of orders, some of them with an amount that is odd and some from a new shop."""
    file = project.land(day, odd=4, **landing)
    table = pq.read_table(file).to_pandas()
    table.loc[10:11, "shop"] = "Zug"
    table.to_parquet(file, index=False)
    pipeline: Pipeline = project.pipeline(decision=decision)
    score(pipeline, day)
    return pipeline


def score(pipeline: Pipeline, day: date) -> None:
    score_files(pipeline, day, find_files(pipeline, day), model_ref(pipeline), {})


def say(pipeline: Pipeline, day: date, said: dict[str, Sequence[str]]) -> None:
    """Settle rows of a night: verdicts, and the row ids that get them."""
    keys = {row["row_id"]: row["row_key"] for row in rows_of(pipeline, day)}
    with VerdictStore.open(default_url(pipeline.root), pipeline.name) as book:
        for verdict, ids in said.items():
            refs = [RowRef(day, one, keys[one]) for one in ids]
            book.decide(refs, verdict, reviewer="ann", seen=dict.fromkeys(ids))


def rows_of(pipeline: Pipeline, day: date) -> list[dict[str, Any]]:
    found = read_triage(Store.of(pipeline.output_path), day)
    assert found is not None
    rows: list[dict[str, Any]] = found.rows.to_pylist()
    return rows


def test_a_night_s_flags_get_families_and_ranks_and_stay_as_they_are(
    project: Any, days: Callable[[int], list[date]]
) -> None:
    (day,) = days(1)
    pipeline = scored(project, day)
    flags = Path(pipeline.output_path) / f"flags/dt={day}/part-0.parquet"
    before = file_digest(flags)

    report = triage(str(pipeline.file), str(day))

    rows, table = rows_of(pipeline, day), pd.read_parquet(flags)
    assert file_digest(flags) == before
    assert report["rows"] == len(rows) == len(table)
    assert report["hidden"] == 0
    assert sum(one["rows"] for one in report["families"]) == len(rows)
    assert "nights with shop Zug, never seen before, 2 rows" in {one["name"] for one in report["families"]}
    assert [row["row_id"] for row in rows] == table["row_id"].tolist()
    by_score = table["anomaly_score"].rank(ascending=False).astype(int).tolist()
    assert [row["raw_rank"] for row in rows] == [row["learned_rank"] for row in rows] == by_score
    assert {row["learned_score"] for row in rows} == {None}
    assert "to learn another one takes 30 verdicts" in report["order"]


def test_readers_see_one_table_of_triage_and_none_of_what_is_kept_beside_it(
    project: Any, days: Callable[[int], list[date]]
) -> None:
    nights = days(2)
    for day in nights:
        pipeline = scored(project, day)
        triage(str(pipeline.file), str(day))

    seen = pd.read_parquet(Path(pipeline.output_path) / "triage")

    assert list(seen.columns) == [*TRIAGE.names, "dt"]
    assert sorted(seen["dt"].astype(str).unique()) == [str(day) for day in nights]
    shops = seen[seen["family_name"].str.contains("Zug")]
    assert shops.groupby("dt", observed=True)["family_id"].first().nunique() == 1


def test_a_new_family_of_one_row_is_named_by_that_row_s_first_reason(
    project: Any, days: Callable[[int], list[date]]
) -> None:
    """The name says what the flag says, though another cell may cost the model more."""
    (day,) = days(1)
    pipeline = scored(project, day, "budget: 1")

    (family,) = triage(str(pipeline.file), str(day))["families"]

    flags = pd.read_parquet(Path(pipeline.output_path) / f"flags/dt={day}/part-0.parquet")
    assert family["name"] == f"nights with unusual {flags['reason_1_column'][0]}, 1 row"


def test_families_of_many_rows_or_of_other_nights_keep_their_names() -> None:
    def family(name: str, first: str) -> Family:
        return Family(name, "rides with unusual miles", None, {"miles|value": 0.7}, {}, first, "2026-04-08")

    new, known, many = family("a", "2026-04-08"), family("b", "2026-04-01"), family("c", "2026-04-08")
    first = ["fare|value", "fare|value", "pay|null", None]

    worded = _worded([new, known, many], ["a", "b", "c", "c"], first, date(2026, 4, 8), "rides")

    assert [one.words for one in worded] == ["rides with unusual fare", known.words, many.words]
    assert _worded([new], ["a"], [None], date(2026, 4, 8), "rides") == [new]


def test_a_triage_that_is_up_to_date_is_left_alone_and_a_damaged_one_is_made_anew(
    project: Any, days: Callable[[int], list[date]]
) -> None:
    (day,) = days(1)
    pipeline = scored(project, day)
    file = Path(pipeline.output_path) / triage_key(day)
    first = triage(str(pipeline.file), str(day))
    before = file.stat().st_mtime_ns, file.read_bytes()

    again = triage(str(pipeline.file), str(day))
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
    assert again == first

    file.write_bytes(b"nothing")
    assert triage(str(pipeline.file), str(day)) == first
    assert file.read_bytes() == before[1]


def test_a_night_scored_again_with_other_flags_is_triaged_anew(
    project: Any, days: Callable[[int], list[date]]
) -> None:
    (day,) = days(1)
    pipeline = scored(project, day, decision="budget: 3")
    triage(str(pipeline.file), str(day))
    wider = project.pipeline(decision="budget: 8")
    score(wider, day)

    store = Store.of(wider.output_path)
    assert rerank(store, day, []) is None, "families of other flags are none"
    triage(str(wider.file), str(day))

    manifest = read_manifest(store, day)
    assert manifest is not None
    assert len(rows_of(wider, day)) == manifest.rows_flagged == 8


def test_a_night_without_flags_has_an_empty_triage(project: Any, days: Callable[[int], list[date]]) -> None:
    (day,) = days(1)
    project.land(day, odd=0)
    pipeline = project.pipeline(decision="fdr: 0.0001")
    score(pipeline, day)

    report = triage(str(pipeline.file), str(day))

    assert (report["rows"], report["families"]) == (0, [])
    assert rows_of(pipeline, day) == []


def test_a_rule_hides_a_family_on_the_nights_to_come(project: Any, days: Callable[[int], list[date]]) -> None:
    first, second = days(2)
    pipeline = scored(project, first)
    families = triage(str(pipeline.file), str(first))["families"]
    family = next(one for one in families if "Zug" in one["name"])
    with VerdictStore.open(default_url(pipeline.root), pipeline.name) as book:
        rule = book.add_rule(Rule(family_id=family["id"], until=second), author="ann")
    scored(project, second)

    report = triage(str(pipeline.file), str(second))

    hidden = [row for row in rows_of(pipeline, second) if row["hidden_by"] == rule.id]
    assert report["hidden"] == len(hidden) == 2
    assert {row["family_id"] for row in hidden} == {family["id"]}
    store = Store.of(pipeline.output_path)
    again = rerank(store, first, [rule])
    assert again is not None
    assert again.rows.num_rows - again.rows["hidden_by"].null_count == 2
    assert rerank(store, first, []) is not None
    assert {row["hidden_by"] for row in rows_of(pipeline, first)} == {None}


def test_verdicts_give_another_order_and_the_score_stays(
    project: Any, days: Callable[[int], list[date]]
) -> None:
    """Odd amounts are confirmed, all else is expected: next night, odd amounts come first."""
    first, second = days(2)
    pipeline = scored(project, first, decision=NOISY, rows=600)
    triage(str(pipeline.file), str(first))
    odd = {row["row_id"] for row in _flags(pipeline, first) if row["amount"] > 300 or row["shop"] == "Zug"}
    ids = [row["row_id"] for row in rows_of(pipeline, first)]
    say(pipeline, first, {"anomaly": sorted(odd), "expected": [one for one in ids if one not in odd]})
    scored(project, second, decision=NOISY, rows=600)

    report = triage(str(pipeline.file), str(second))

    assert report["order"].startswith("The order of flags is learned from 40 verdicts")
    rows = {row["row_id"]: row for row in rows_of(pipeline, second)}
    flags = _flags(pipeline, second)
    wanted = [row["row_id"] for row in flags if row["amount"] > 300 or row["shop"] == "Zug"]
    assert sorted(rows[one]["learned_rank"] for one in wanted) == list(range(1, len(wanted) + 1))
    assert all(0 <= row["learned_score"] <= 1 for row in rows.values())
    scores = [row["anomaly_score"] for row in sorted(flags, key=lambda row: rows[row["row_id"]]["raw_rank"])]
    assert scores == sorted(scores, reverse=True)
    said = evidence_of(Store.of(pipeline.output_path))
    assert (len(said), int(said.confirmed.sum())) == (40, len(odd))


def _flags(pipeline: Pipeline, day: date) -> list[dict[str, Any]]:
    file = Path(pipeline.output_path) / f"flags/dt={day}/part-0.parquet"
    rows: list[dict[str, Any]] = pq.ParquetFile(file).read().to_pylist()
    return rows


def test_precision_is_told_per_night_and_per_version(project: Any, days: Callable[[int], list[date]]) -> None:
    (day,) = days(1)
    pipeline = scored(project, day, decision="budget: 4")
    triage(str(pipeline.file), str(day))
    ids = [row["row_id"] for row in sorted(rows_of(pipeline, day), key=lambda row: row["raw_rank"])]
    say(pipeline, day, {"anomaly": ids[:2], "data error": ids[2:3], "expected": ids[3:4]})
    triage(str(pipeline.file), str(day))

    (night,) = precisions(Store.of(pipeline.output_path))

    assert (night.dt, night.version, night.budget) == (day, "1", 4)
    assert str(night.raw) == str(night.learned) == "75 % (3 of 4)"
    assert by_version([night, night]) == {"1": (Share(6, 8), Share(6, 8))}
    assert str(Share(0, 0)) == "–"
    assert Share(0, 0).value is None


def test_families_that_cannot_be_read_are_named(project: Any, days: Callable[[int], list[date]]) -> None:
    from flows.errors import StoreError

    (day,) = days(1)
    pipeline = scored(project, day)
    Store.of(pipeline.output_path).write_bytes(FAMILIES, json.dumps({"families": [1]}).encode())

    with pytest.raises(StoreError, match=r"_families\.json: families as they were written were required"):
        triage(str(pipeline.file), str(day))


def test_two_nights_at_once_forget_no_family(
    project: Any, days: Callable[[int], list[date]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first night places its rows, the second one is triaged from end to end."""
    import review.families

    first, second = days(2)
    for day in (first, second):
        pipeline = scored(project, day)
    place, met = review.families.placed, []

    def slow(*args: Any) -> Any:
        found = place(*args)
        if not met:
            met.append(True)
            triage(str(pipeline.file), str(second))
        return found

    monkeypatch.setattr(review.families, "placed", slow)
    triage(str(pipeline.file), str(first))

    known = json.loads(Store.of(pipeline.output_path).read_bytes(FAMILIES))["families"]
    used = {row["family_id"] for day in (first, second) for row in rows_of(pipeline, day)}
    assert used == {one["id"] for one in known}
    zug = [one for one in known if one["where"] == ["shop", "Zug"]]
    assert [(one["first"], one["last"]) for one in zug] == [(str(first), str(second))]


def test_rows_of_a_table_without_keys_are_spoken_of_by_all_that_they_hold(tmp_path: Path) -> None:
    """Anomalies and expected rows are found again in the training window; a row that differs is another."""
    day = date(2024, 3, 1)
    rows = {"amount": [1.0, None, 3.0], "shop": ["a", "b", "c"], "row_id": ["x", "y", "z"]}
    for name, table in {
        "flags": pa.table(rows),
        "verdicts": pa.table(
            {
                "row_id": ["x", "y", "z"],
                "row_key": ["{}"] * 3,
                "verdict": ["anomaly", "data error", "expected"],
                "decided_at": pd.to_datetime(["2024-03-02"] * 3, utc=True),
            }
        ),
    }.items():
        (tmp_path / f"{name}/dt={day}").mkdir(parents=True)
        pq.write_table(table, tmp_path / f"{name}/dt={day}/part-0.parquet")
    window = pa.table({"amount": [3.0, None, 1.0, 1.0], "shop": ["c", "b", "a", "b"]})

    found = {
        verdicts: said_of(Store.of(tmp_path), day, day, verdicts).among(window, [], [])
        for verdicts in (CONFIRMED, NORMAL)
    }

    assert np.flatnonzero(found[CONFIRMED]).tolist() == [1, 2]
    assert np.flatnonzero(found[NORMAL]).tolist() == [0]


def test_a_triage_that_fails_is_told_and_the_night_stands(
    project: Any, days: Callable[[int], list[date]], caplog: pytest.LogCaptureFixture
) -> None:
    (day,) = days(1)
    pipeline = scored(project, day)
    Store.of(pipeline.output_path).write_bytes(FAMILIES, b"nothing")

    report = after_decision(pipeline, day)

    assert report["error"].startswith("StoreError: ")
    assert "is scored, but not triaged: StoreError" in caplog.text
    assert read_manifest(Store.of(pipeline.output_path), day) is not None


def test_the_table_of_flags_has_families_and_both_ranks_and_hides_what_a_rule_hides(
    project: Any, days: Callable[[int], list[date]]
) -> None:
    """Verdicts are told of too, and versions of the model with what they were worth."""
    (day,) = days(1)
    pipeline = scored(project, day, decision="budget: 6")
    family = next(
        one for one in triage(str(pipeline.file), str(day))["families"] if one["name"].endswith(" 2 rows")
    )
    best = next(row["row_id"] for row in rows_of(pipeline, day) if row["raw_rank"] == 1)
    say(pipeline, day, {"anomaly": [best]})
    with VerdictStore.open(default_url(pipeline.root), pipeline.name) as book:
        book.add_rule(Rule(family_id=family["id"]), author="ann")
    triage(str(pipeline.file), str(day))

    shown = said_by("flags", "--date", str(day), "--pipeline", str(pipeline.file))
    rows = json.loads(said_by("flags", "--date", str(day), "--pipeline", str(pipeline.file), "--json"))
    versions = said_by("models", "--pipeline", str(pipeline.file))

    assert shown.count("  rank ") == 4
    assert "2 more are hidden by rules." in shown
    assert "so far there is 1 verdict (1 confirmed, 0 expected)" in shown
    assert "of the first 6: 100 % (1 of 1) in this order, 100 % (1 of 1) by score." in shown
    assert family["name"] not in shown
    assert [row["hidden_by"] for row in rows] == [None] * 4 + [1, 1]
    assert {"family_id", "family_name", "raw_rank", "learned_rank", "learned_score"} <= rows[0].keys()
    assert "100 % (1 of 1)" in versions


def said_by(*arguments: str) -> str:
    """What a verb prints."""
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return str(done.output)
