"""All nights at a glance: from small files, each read once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.findings import SCHEMA
from flows.storage import LocalStore, Store
from review.nights import Nights
from tests.browser.project import DAY, orders, project, write_night, write_years


def test_nights_come_newest_first_with_their_numbers(tmp_path: Path) -> None:
    pipeline = project(tmp_path)
    write_night(pipeline, orders(5), scored=100)
    write_years(pipeline, 3)

    nights = Nights(Store.of(pipeline.output_path)).all()

    assert [one.date for one in nights] == [DAY - timedelta(days=i) for i in range(4)]
    assert (nights[0].flagged, nights[0].scored, nights[0].version) == (5, 100, "3")
    assert nights[0].flag_share == pytest.approx(0.05)


def test_a_manifest_is_read_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = project(tmp_path)
    write_years(pipeline, 5)
    read: list[str] = []
    original = LocalStore.read_bytes
    monkeypatch.setattr(LocalStore, "read_bytes", lambda self, key: read.append(key) or original(self, key))
    nights = Nights(Store.of(pipeline.output_path))

    nights.all()
    nights.all()
    write_night(pipeline, orders(2), DAY - timedelta(days=2), scored=40)
    newest = nights.all()

    assert len(read) == 6
    assert newest[1].scored == 40


def test_a_torn_manifest_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    pipeline = project(tmp_path)
    write_years(pipeline, 2)
    (Path(pipeline.output_path) / f"manifests/dt={DAY}.json").write_text("{")
    (Path(pipeline.output_path) / "manifests/notes.json").write_text("{}")

    nights = Nights(Store.of(pipeline.output_path)).all()

    assert [bool(one.trouble) for one in nights] == [True, False, False]


def test_monitoring_is_told_by_columns(tmp_path: Path) -> None:
    store = Store.of(tmp_path)
    file = tmp_path / f"monitor/dt={DAY}/part-0.parquet"
    file.parent.mkdir(parents=True)
    rows = [
        {"column": "amount", "metric": "psi", "value": 0.4, "state": "drift"},
        {"column": "shop", "metric": "power_null", "value": 0.1, "state": "blind"},
        {"column": "amount", "metric": "power_null", "value": 0.9, "state": "ok"},
        {"column": None, "metric": "flagged_share", "value": 0.3, "state": "over"},
    ]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file)

    found = Nights(store).watch(DAY)

    assert found is not None
    assert (found.alarming, found.blind) == (("amount", ""), ("shop",))
    assert found.planted == pytest.approx(0.5)
    assert Nights(store).watch(DAY - timedelta(days=1)) is None
