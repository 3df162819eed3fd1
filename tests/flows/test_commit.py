"""A night becomes visible once and whole, whoever dies or sleeps on the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import lease as leases
from flows.commit import intact, on_night, output_of, part_key, publish, rewritten
from flows.errors import StoreError
from flows.lease import Lease, TakenOverError
from flows.manifest import Manifest, ManifestModel, manifest_key, read_manifest
from flows.storage import LocalStore, Store

DAY = date(2013, 7, 6)
CHANGING = ("commit", "write_bytes", "move", "withdraw", "discard", "swap")


class KilledError(BaseException):
    """Stands for the end of a process: nothing catches it."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take who is silent for dead at once."""
    monkeypatch.setattr(leases, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 0.05)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, impatient: None) -> str:
    """Return a folder for results, local and on a real S3 server."""
    return str(tmp_path / "results") if request.param == "local" else request.getfixturevalue("s3")


def manifest_of(night: str, outputs: Any) -> Manifest:
    """Return the manifest of a night without files."""
    names = "files_in files_scored files_rejected rows_in rows_scored rows_quarantined rows_flagged"
    return Manifest(
        pipeline="orders",
        date=DAY,
        **dict.fromkeys(names.split(), 0),
        inputs=(),
        outputs=tuple(outputs),
        pipeline_digest="sha256:0",
        model=ManifestModel(name=night, version="1", run_id="r"),
        decision={},
        certified=False,
        scored_at="2013-07-07T03:30:00+00:00",
    )


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """Return a function that commits a night of tables that each hold the night's name."""

    def commit(store: Store, lease: Lease, night: str, tables: tuple[str, ...]) -> None:
        with store.stage("dt") as stage:
            parts = {part_key(table, DAY): stage / f"{table}.parquet" for table in tables}
            for part in parts.values():
                pq.write_table(pa.table({"night": [night] * len(night)}), part)
            outputs = [output_of(key, part) for key, part in parts.items()]
            publish(store, lease, manifest_of(night, outputs), parts)

    return commit


OLD = ("old", ("flags", "scores", "quarantine"))
NEW = ("newer", ("flags", "scores", "rejected"))


def shown(place: str) -> dict[str, str]:
    """Return what a reader sees: the night that each table is of, whole."""
    store, seen = Store.of(place), {}
    for stored in store.list(suffix=".parquet"):
        with store.open_input(stored.key) as source:
            names = pq.ParquetFile(source).read()["night"].to_pylist()
        assert names == [names[0]] * len(names[0])
        seen[stored.key.partition("/")[0]] = names[0]
    manifest = read_manifest(store, DAY)
    return seen | ({} if manifest is None else {"manifest": manifest.model.name})


def whole(night: tuple[str, tuple[str, ...]]) -> dict[str, str]:
    """Return what a reader sees of a night that is committed."""
    return dict.fromkeys((*night[1], "manifest"), night[0])


def stopping(store: Store, at: int, act: Callable[[], None]) -> Store:
    """Let something happen right before the change of that number; changes within changes do not count."""
    changes, within = iter(range(1_000)), []

    def counted(change: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if not within and next(changes) == at:
                act()
            within.append(1)
            try:
                return change(*arguments)
            finally:
                within.pop()

        return call

    for name in CHANGING:
        setattr(store, name, counted(getattr(store, name)))
    return store


def test_a_commit_replaces_a_night_and_leaves_nothing_else(place: str, put: Any) -> None:
    """Tables that the night has no more are gone, and so is what lay beside them."""
    store = Store.of(place)
    on_night(store, DAY, lambda lease, _: put(store, lease, *OLD))
    assert shown(place) == whole(OLD)
    store.write_bytes(f"flags/dt={DAY}/part-1.parquet", store.read_bytes(part_key("flags", DAY)))

    on_night(store, DAY, lambda lease, _: put(store, lease, *NEW))

    assert shown(place) == whole(NEW)
    assert store.list(".commits") == []
    manifest = read_manifest(store, DAY)
    assert manifest is not None
    assert intact(store, manifest)


@pytest.mark.usefixtures("impatient")
def test_a_run_killed_at_any_step_leaves_the_old_night_or_is_ended_by_the_next(
    tmp_path: Path, put: Any
) -> None:
    """After the rerun the night is whole, and at no time a table was missing."""
    outcomes = []
    for step in range(100):
        store = Store.of(tmp_path / str(step))
        on_night(store, DAY, lambda lease, _, store=store: put(store, lease, *OLD))
        killed = _killed_at(step, str(tmp_path / str(step)), put)
        seen = shown(str(tmp_path / str(step)))
        assert seen["flags"] in ("old", "newer")
        assert seen["manifest"] == "old" or seen == whole(NEW)

        before = on_night(store, DAY, lambda _, before: before)

        assert before is not None
        assert shown(str(tmp_path / str(step))) == whole(OLD if before.model.name == "old" else NEW)
        assert store.list(".commits") == []
        outcomes.append(before.model.name)
        if not killed:
            break
    begun = outcomes.index("newer")
    assert begun > 4  # the parts, the manifest and the lease come first
    assert outcomes == ["old"] * begun + ["newer"] * (len(outcomes) - begun)
    assert len(outcomes) > begun + 5


def _killed_at(step: int, place: str, put: Any) -> bool:
    """Commit the new night and die at a step, lease in hand; tell whether it came to that."""

    def die() -> None:
        raise KilledError

    mortal = stopping(Store.of(place), step, die)
    try:
        lease = leases._acquired(mortal, f".leases/dt={DAY}.json", "night", 60.0)
        put(mortal, lease, *NEW)
        lease.release()
    except KilledError:
        return True
    return False


def test_a_run_that_sleeps_at_any_step_does_not_disturb_its_successor(place: str, put: Any) -> None:
    """Once taken over it changes nothing, and says so."""
    third = ("a third", ("flags", "quarantine"))
    for step in range(1, 100):
        store = Store.of(f"{place}/{step}")
        on_night(store, DAY, lambda lease, _, store=store: put(store, lease, *OLD))
        slept = []

        def sleep(store: Store = store, slept: list[int] = slept) -> None:
            on_night(store, DAY, lambda mine, _: put(store, mine, *third))
            slept.append(1)

        sleeper = stopping(Store.of(f"{place}/{step}"), step, sleep)
        lease = leases._acquired(sleeper, f".leases/dt={DAY}.json", "night", 60.0)
        try:
            put(sleeper, lease, *NEW)
            lease.release()
        except TakenOverError:
            assert slept
        if not slept:
            break

        assert shown(f"{place}/{step}") == whole(third)
        on_night(store, DAY, lambda lease, _: None)
        assert shown(f"{place}/{step}") == whole(third)
    assert step > 12


def test_who_fails_because_it_was_taken_over_begins_again(place: str, put: Any) -> None:
    """Its successor has cleared its stage; any other failure is told as it is."""
    store, tries = Store.of(place), []

    def work(lease: Lease, before: Manifest | None) -> str:
        tries.append(before)
        if before is None:
            on_night(store, DAY, lambda mine, _: put(store, mine, *OLD))
            raise StoreError("cannot write the stage")
        return before.model.name

    assert on_night(store, DAY, work) == "old"
    assert len(tries) == 2

    def fail(lease: Lease, before: Manifest | None) -> None:
        raise StoreError("cannot read this")

    with pytest.raises(StoreError, match="cannot read this"):
        on_night(store, DAY, fail)


def test_a_night_is_not_intact_when_a_table_is_gone_altered_or_too_many(tmp_path: Path, put: Any) -> None:
    """A changed byte shows where files are small and local."""
    store = LocalStore(tmp_path / "results")
    on_night(store, DAY, lambda lease, _: put(store, lease, *OLD))
    manifest = read_manifest(store, DAY)
    assert manifest is not None
    flags, original = part_key("flags", DAY), store.read_bytes(part_key("flags", DAY))
    assert intact(store, manifest)

    store.write_bytes(flags, original[:-9] + b"x" + original[-8:])
    assert not intact(store, manifest)
    store.write_bytes(flags, original + b"x")
    assert not intact(store, manifest)
    store.delete(flags)
    assert not intact(store, manifest)
    store.write_bytes(flags, original)
    assert intact(store, manifest)
    store.write_bytes(f"scores/dt={DAY}/part-1.parquet", original)
    assert not intact(store, manifest)


def test_a_part_of_a_night_can_be_replaced_and_the_rest_stays(place: str, put: Any, tmp_path: Path) -> None:
    """As a new decision does with flags; the manifest before is history then."""
    store = Store.of(place)
    on_night(store, DAY, lambda lease, _: put(store, lease, *OLD))
    key, part = part_key("flags", DAY), tmp_path / "flags.parquet"

    def work(lease: Lease, before: Manifest | None) -> None:
        assert before is not None
        pq.write_table(pa.table({"night": ["newer"] * 5}), part)
        kept = [one for one in before.outputs if one.path != key]
        outputs = (*kept, output_of(key, part))
        publish(store, lease, rewritten(before, outputs=outputs, rows_flagged=5), {key: part})

    on_night(store, DAY, work)

    manifest = read_manifest(store, DAY)
    assert manifest is not None
    assert shown(place) == whole(OLD) | {"flags": "newer"}
    assert [entry["rows_flagged"] for entry in manifest.history] == [0]
    assert manifest.rows_flagged == 5
    assert intact(store, manifest)
    assert store.find(manifest_key(DAY)) is not None
