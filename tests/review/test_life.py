"""The life of models, and what nights turned away, as the page tells them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.findings import SCHEMA
from flows.journal import Journal
from flows.storage import Store
from review.life import gate_verdict, power_of, versions_of
from review.nights import Night
from review.turned_away import Quarantined, rejected_files

DAY = date(2024, 3, 1)


def test_versions_tell_when_they_were_live_and_what_they_flagged(tmp_path: Path) -> None:
    journal = Journal(Store.of(tmp_path))
    for day, version in ((1, "9"), (5, "10"), (7, "9")):
        at = datetime(2024, 3, day, tzinfo=UTC)
        journal.append("champion", version, by="ann", how="promoted", at=at)
    night = Night(DAY, scored=100, flagged=4, version="9", run_id="r9")

    newest, oldest = versions_of(journal.moves(), [night, Night(DAY, scored=50, version="9")], "champion")

    assert (newest.version, newest.is_live, newest.nights) == ("10", False, 0)
    assert (oldest.version, oldest.is_live, oldest.nights) == ("9", True, 2)
    assert (oldest.flagged, oldest.scored, oldest.run_id) == (4, 150, "r9")
    assert [since.day for since, _ in oldest.live] == [1, 7]


def test_the_last_verdict_of_the_gate_is_read_from_the_files_of_a_run(tmp_path: Path) -> None:
    for stamp, passed in (("20240301T000000", True), ("20240302T000000", False)):
        file = tmp_path / "run1" / "artifacts" / "gate" / stamp / "verdict.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"passed": passed, "criteria": []}))
    artifacts = Store.of(tmp_path)

    assert gate_verdict(artifacts, "run1") == {"passed": False, "criteria": []}
    assert gate_verdict(artifacts, "run2") is None


def test_planted_errors_are_told_by_column_and_kind(tmp_path: Path) -> None:
    rows = [
        {
            "column": "shop",
            "metric": "power_unseen_category",
            "value": 0.9,
            "state": "ok",
            "detail": "9 of 10",
        },
        {"column": "shop", "metric": "psi", "value": 0.1, "state": "ok"},
    ]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "part-0.parquet")

    (found,) = power_of(Store.of(tmp_path), "part-0.parquet")

    assert (found["kind"], found["power"], found["detail"]) == ("unseen category", 0.9, "9 of 10")
    assert power_of(Store.of(tmp_path), "nowhere.parquet") == []


def test_rows_in_quarantine_come_by_the_rule_that_they_broke(tmp_path: Path) -> None:
    file = tmp_path / f"quarantine/dt={DAY}/part-0.parquet"
    file.parent.mkdir(parents=True)
    broken = ["id is null", "amount below 0", "id is null"]
    pq.write_table(pa.table({"id": [None, 2, None], "broken_rules": broken}), file)

    found = Quarantined.open(Store.of(tmp_path), DAY)

    assert found is not None
    assert found.rules() == {"id is null": 2, "amount below 0": 1}
    assert np.array_equal(found.places("id is null"), [0, 2])
    assert len(found.places()) == 3
    assert Quarantined.open(Store.of(tmp_path / "nowhere"), DAY) is None


def test_files_that_were_rejected_come_with_their_reason(tmp_path: Path) -> None:
    file = tmp_path / f"rejected/dt={DAY}/part-0.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"path": ["a"], "size": [3], "digest": ["x"], "reason": ["torn"]}), file)

    assert rejected_files(Store.of(tmp_path), DAY) == [{"path": "a", "size": 3, "reason": "torn"}]
    assert rejected_files(Store.of(tmp_path / "nowhere"), DAY) == []
