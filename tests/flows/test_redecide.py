"""A night under another policy is the night that a new scoring with that policy makes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.config import Decision, Pipeline, load_pipeline
from flows.context import model_ref
from flows.errors import ConfigError, InputError
from flows.manifest import Manifest, read_manifest
from flows.redecide import policy, redecide
from flows.scoring import Scored, score_files
from flows.sources import find_files
from flows.storage import Store

TABLES = ("flags", "contributions", "scores", "quarantine")


def score(pipeline: Pipeline, day: date) -> Scored:
    return score_files(pipeline, day, find_files(pipeline, day), model_ref(pipeline), {})


def tables(pipeline: Pipeline, day: date) -> dict[str, pa.Table]:
    """Return a night's tables, without the time of scoring."""
    found = {}
    for name in TABLES:
        file = Path(pipeline.output_path) / name / f"dt={day}" / "part-0.parquet"
        if file.exists():
            table = pq.ParquetFile(file).read()
            found[name] = table.drop_columns([one for one in ("scored_at",) if one in table.schema.names])
    return found


def facts(manifest: Manifest) -> dict[str, Any]:
    """Return what a manifest says of a night, but for its past, its files, and how odd each file was."""
    left_out = {"scored_at": True, "history": True, "changes": True, "outputs": True}
    return manifest.model_dump(exclude={**left_out, "inputs": {"__all__": {"warnings"}}})


def orders(seed: int, rows: int) -> pa.Table:
    """Return ordinary orders, as the project's."""
    rng = np.random.default_rng(seed)
    amount = rng.normal(50.0, 5.0, rows)
    columns = {"id": np.arange(rows), "amount": amount, "fee": amount * 0.02 + rng.normal(0, 0.1, rows)}
    return pa.table({**columns, "shop": rng.choice(["Bern", "Basel"], rows)})


@pytest.fixture
def night(project: Any, days: Callable[[int], list[date]]) -> date:
    """Return a night of two files, one of them with a row that breaks a rule."""
    (day,) = days(1)
    first = project.land(day, rows=300, odd=4)
    second = first.with_name("b.parquet")
    table = orders(7, 150)
    ids = table.column("id").to_pylist()
    ids[7] = None
    pq.write_table(table.set_column(0, "id", pa.array(ids, pa.int64())), second, row_group_size=40)
    return day


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("contamination: 0.2", "contamination: 0.01"),
        ("contamination: 0.01", "contamination: 0.2"),
        ("budget: 50", "budget: 3"),
        ("budget: 3", "budget: 50"),
        ("contamination: 0.05", "fdr: 0.3"),
        ("fdr: 0.05", "{contamination: 0.3, budget: 20}"),
    ],
)
def test_the_tables_are_those_of_a_new_scoring(project: Any, night: date, then: str, now: str) -> None:
    """The line moves up or down; rows, reasons and contributions come in the same order."""
    moved = project.pipeline("moved", decision=then, output=project.folder / "moved")
    fresh = project.pipeline("fresh", decision=now.strip("{}"), output=project.folder / "fresh")
    before = score(moved, night).manifest
    again = score(fresh, night).manifest

    done = redecide(moved, night, fresh.decision)

    assert done.status == "redecided"
    assert tables(moved, night) == tables(fresh, night)
    assert facts(done.manifest) | {"pipeline": ""} == facts(again) | {"pipeline": ""}
    assert done.manifest.scored_at == before.scored_at
    assert done.manifest.history[-1]["decision"] == before.decision
    assert read_manifest(Store.of(moved.output_path), night) == done.manifest


@pytest.mark.parametrize(
    "second",
    [pa.array(np.arange(150) + 0.5), pa.array(np.arange(150), pa.uint64()), pa.nulls(150), None],
)
def test_a_line_moves_down_where_files_differ_in_a_column_that_the_model_does_not_know(
    project: Any, days: Callable[[int], list[date]], second: pa.Array | None
) -> None:
    """The column is carried over as a scoring does it: as text where the types have nothing in common."""
    (day,) = days(1)
    first = project.land(day, rows=300, odd=4)
    table = pq.read_table(first, partitioning=None)
    pq.write_table(table.append_column("batch", pa.array(np.arange(300))), first)
    table = orders(7, 150)
    pq.write_table(
        table if second is None else table.append_column("batch", second), first.with_name("b.parquet")
    )
    moved = project.pipeline("moved", decision="budget: 3", output=project.folder / "moved")
    fresh = project.pipeline("fresh", decision="budget: 60", output=project.folder / "fresh")
    assert score(moved, day).manifest.files_scored == score(fresh, day).manifest.files_scored == 2

    redecide(moved, day, fresh.decision)

    assert tables(moved, day) == tables(fresh, day)


def test_a_line_that_moves_up_needs_no_model_and_no_files(
    project: Any, night: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The landing folder is empty by now, and nobody may build the network."""
    pipeline = project.pipeline(decision="contamination: 0.2")
    before = score(pipeline, night).manifest
    shutil.rmtree(project.folder / "landing")
    monkeypatch.setattr("flows.redecide.champion_detector", None)

    done = redecide(pipeline, night, Decision(budget=2))

    assert (done.rows_read, done.manifest.rows_flagged) == (0, 2)
    assert done.manifest.changes is not None
    assert done.manifest.changes["flags_lost"] == before.rows_flagged - 2


def test_a_line_that_moves_down_reads_the_newly_flagged_rows_only(
    project: Any, night: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = project.pipeline(decision="budget: 5")
    score(pipeline, night)
    seen: list[int] = []
    import flows.redecide as module

    flags_of = module.flags_of
    monkeypatch.setattr(
        module,
        "flags_of",
        lambda detector, rows, *rest: (seen.append(rows.num_rows), flags_of(detector, rows, *rest))[1],
    )

    done = redecide(pipeline, night, Decision(budget=9))

    assert done.rows_read == sum(seen) == done.manifest.rows_flagged - 5 == 4


def test_the_changed_pipeline_file_decides_and_scoring_finds_nothing_to_do(project: Any, night: date) -> None:
    score(project.pipeline(decision="budget: 5"), night)
    changed = project.pipeline(decision="budget: 3")

    done = redecide(changed, night)

    assert done.manifest.rows_flagged == 3
    assert score(changed, night).status == "unchanged"
    assert redecide(changed, night).status == "unchanged"


def test_a_night_that_tripped_the_breaker_gets_all_its_flags(
    project: Any, days: Callable[[int], list[date]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a night without a breaker; it stays without a certificate, whatever policy comes next."""
    monkeypatch.setattr("flows.night.KEPT", 20)
    (day,) = days(1)
    project.land(day, rows=300, odd=90)
    tripped = project.pipeline("tripped", decision="contamination: 0.05", output=project.folder / "a")
    whole = project.pipeline("whole", decision="contamination: 0.05", output=project.folder / "b")
    whole.file.write_text(whole.file.read_text() + "alerts: {breaker_share: 1.0}\n")
    before, again = score(tripped, day).manifest, score(load_pipeline(whole.file), day).manifest

    done = redecide(tripped, day)
    later = redecide(tripped, day, Decision(fdr=0.2))

    assert before.incident is not None
    assert before.rows_flagged == 20
    assert (again.incident, done.manifest.incident) == (None, None)
    assert done.rows_read == done.manifest.rows_flagged - 20 == again.rows_flagged - 20 > 50
    assert {**done.report()}["certification"].startswith("Flagged are ")
    assert {one.manifest.not_certified for one in (done, later)} == {before.not_certified}
    assert redecide(tripped, day).manifest.rows_flagged == again.rows_flagged
    assert tables(tripped, day) == tables(whole, day)
    assert score(tripped, day).status == "unchanged"


def test_a_night_that_is_not_scored_says_how_to_score_it(project: Any, night: date) -> None:
    with pytest.raises(ConfigError, match=f"a scored night was required.+vaewatch score --date {night}"):
        redecide(project.pipeline(), night, Decision(budget=1))


def test_other_settings_than_the_policy_ask_for_a_new_scoring(project: Any, night: date) -> None:
    score(project.pipeline(decision="budget: 5"), night)
    changed = project.pipeline(decision="budget: 3")
    changed.file.write_text(changed.file.read_text().replace("key: [id]", "key: [id], sensitive: [fee]"))

    with pytest.raises(
        ConfigError, match="but for `decision` was required, however others of them have changed"
    ):
        redecide(load_pipeline(changed.file), night)


def test_a_file_that_changed_since_cannot_give_reasons(project: Any, night: date) -> None:
    """Nothing is written; the night stays as it was."""
    pipeline = project.pipeline(decision="budget: 5")
    before = score(pipeline, night).manifest
    project.land(night, rows=299)

    with pytest.raises(
        InputError, match="the file that was scored was required, however it has changed since"
    ):
        redecide(pipeline, night, Decision(budget=9))

    assert read_manifest(Store.of(pipeline.output_path), night) == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"contamination": 0.1, "fdr": 0.1},
            "a policy must be ruled by contamination or fdr, however both came",
        ),
        ({"contamination": 0.9}, "contamination must be less than or equal to 0.5, however 0.9 came"),
        ({"budget": 0}, "budget must be greater than or equal to 1, however 0 came"),
    ],
)
def test_a_policy_that_makes_no_sense_is_one_sentence(given: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        policy(given)


def test_without_a_policy_that_of_the_file_is_meant() -> None:
    assert policy({"contamination": None, "fdr": None, "budget": None}) is None
