"""The account of a night, which has to add up and cannot be altered unnoticed."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.errors import StoreError
from flows.manifest import Manifest, manifest_key, read_manifest
from flows.storage import LocalStore

DAY = date(2013, 7, 6)


def content(**changes: Any) -> dict[str, Any]:
    """Return what a night of two files, one of them unreadable, amounts to."""
    return {
        "pipeline": "flights",
        "date": "2013-07-06",
        "files_in": 2,
        "files_scored": 1,
        "files_rejected": 1,
        "rows_in": 740,
        "rows_scored": 739,
        "rows_quarantined": 1,
        "rows_flagged": 4,
        "inputs": [
            {"path": "a.parquet", "size": 9, "digest": "blake2b:a", "rows": 740, "status": "scored"},
            {
                "path": "b.parquet",
                "size": 0,
                "digest": "blake2b:b",
                "rows": None,
                "status": "rejected",
                "reason": "b.parquet: a Parquet file was required, however it is empty (0 bytes)",
            },
        ],
        "outputs": [{"path": "flags/dt=2013-07-06/part-0.parquet", "rows": 4, "digest": "sha256:c"}],
        "pipeline_digest": "sha256:d",
        "model": {"name": "flights", "version": "1", "run_id": "e"},
        "decision": {"contamination": 0.005},
        "certified": True,
        "scored_at": "2013-07-07T03:30:00+00:00",
        **changes,
    }


def test_a_manifest_reads_back_as_it_was_written() -> None:
    """Its JSON has the keys that others rely on, and a digest."""
    manifest = Manifest(**content())
    written = json.loads(manifest.to_json())

    assert Manifest.from_json(manifest.to_json()) == manifest
    assert written["format_version"] == 1
    assert written["date"] == "2013-07-06"
    assert written["inputs"][1]["rows"] is None
    assert written["digest"].startswith("sha256:")
    ours = {"format_version", "not_certified", "calibration", "changes", "incident", "selection"}
    ours |= {"pruned", "history", "digest", "flow_run_id"}
    assert set(written) == {*content(), *ours}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"files_rejected": 0},
            "files_in = files_scored + files_rejected was required, however 2 and 1 came",
        ),
        ({"files_in": 3, "files_rejected": 2}, "files_in = inputs was required, however 3 and 2 came"),
        (
            {"files_scored": 2, "files_rejected": 0},
            "files_scored = inputs scored was required, however 2 and 1 came",
        ),
        (
            {"rows_scored": 740},
            "rows_in = rows_scored + rows_quarantined was required, however 740 and 741 came",
        ),
        (
            {"rows_in": 1739, "rows_scored": 1738},
            "rows_in = rows of the scored inputs was required, however 1,739",
        ),
    ],
)
def test_a_night_that_does_not_add_up_is_refused(changes: dict[str, int], said: str) -> None:
    """No file and no row is lost between what came and what was written."""
    with pytest.raises(StoreError) as caught:
        Manifest(**content(**changes))
    assert str(caught.value).startswith("night 2013-07-06 of flights: ")
    assert said in str(caught.value)


def test_a_manifest_cannot_be_changed() -> None:
    """Neither in memory, nor by a key that the format does not know."""
    with pytest.raises(ValidationError, match="frozen"):
        Manifest(**content()).rows_in = 0
    with pytest.raises(ValidationError, match="Extra inputs"):
        Manifest(**content(rows_lost=0))


def test_a_night_without_a_manifest_is_not_finished(tmp_path: Path) -> None:
    """That is no error, and neither is a folder that does not exist yet."""
    assert read_manifest(LocalStore(tmp_path / "results"), DAY) is None


def test_a_manifest_is_found_by_its_date(tmp_path: Path) -> None:
    """At the place that the design names."""
    store, manifest = LocalStore(tmp_path), Manifest(**content())
    store.write_bytes(manifest_key(DAY), manifest.to_json().encode())

    assert (tmp_path / "manifests" / "dt=2013-07-06.json").is_file()
    assert read_manifest(store, DAY) == manifest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "{}",
        "null",
        '{"digest": "sha256:0"}',
        "[" * 100_000,
        json.dumps({**content(), "digest": "sha256:0", "format_version": 2}),
        json.dumps({**content(), "format_version": 1, "history": [], "digest": "sha256:0"}),
        Manifest(**content()).to_json().replace('"rows_flagged": 4', '"rows_flagged": 5'),
        Manifest(**content()).to_json().replace("739", "738"),
        Manifest(**content()).to_json()[:-10],
    ],
    ids=range(12),
)
def test_garbage_and_altered_manifests_are_refused(tmp_path: Path, text: str) -> None:
    """The sentence names the file and the way out."""
    store = LocalStore(tmp_path)
    store.write_bytes(manifest_key(DAY), text.encode())

    with pytest.raises(
        StoreError, match=r"manifests/dt=2013-07-06\.json: .*; delete it and score the night again"
    ):
        read_manifest(store, DAY)
