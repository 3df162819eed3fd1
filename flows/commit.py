"""How a night becomes visible: all of it, once, whoever is killed on the way.

1. The night's tables and its manifest are put, whole and flushed, into a hidden folder of the results.
2. The lease of the night takes down the folder's name, by one compare-and-swap. Before this nothing has
   happened; after it the commit will be ended, by this run or by whoever gets the lease next.
3. Each table is moved into the place of the one before in one step, what the night no longer has is
   withdrawn, the manifest is moved last. A reader sees the old table or the new one.
4. The folder is removed, the lease freed.

A run that was taken over while it slept cannot pass step 2, since the lease has changed; and in step 3 it
finds nothing to move any more, since its folder is gone before the next commit begins.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq

from flows.errors import StoreError, UnreadableError
from flows.lease import PATIENCE_SECONDS, Lease, TakenOverError, night_lease
from flows.manifest import Manifest, ManifestOutput, manifest_key, read_manifest
from flows.storage import LocalStore, Store
from flows.tables import file_digest

__all__ = ["TABLES", "intact", "on_night", "output_of", "part_key", "publish", "rewritten", "settled"]

TABLES = ("flags", "contributions", "scores", "quarantine", "rejected")
"""The tables of a night that a commit replaces."""

_CHEAP_BYTES = 64 * 1024 * 1024
_TRIES = 5
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def on_night(
    store: Store,
    day: date,
    work: Callable[[Lease, Manifest | None], _T],
    patience: float = PATIENCE_SECONDS,
) -> _T:
    """Do something to a night while no other run may commit it.

    Parameters
    ----------
    work
        Is given the lease, and the night's manifest (None when the night is not finished); it is called
        again when the lease was taken over meanwhile.
    patience
        Seconds to wait for another run that holds the night.

    Raises
    ------
    BusyError
        Another run holds the night for too long.
    TakenOverError
        The lease was lost time after time.
    """
    for i in range(_TRIES):
        try:
            with night_lease(store, day, patience) as lease, _taken_over_told(lease):
                return work(lease, settled(store, lease, day))
        except TakenOverError as error:
            if i == _TRIES - 1:
                raise
            _log.warning("%s", error)
    raise AssertionError("the last try returns or raises")


@contextmanager
def _taken_over_told(lease: Lease) -> Iterator[None]:
    """Where a run fails since its stage was cleared by who took over, say that."""
    try:
        yield
    except TakenOverError:
        raise
    except StoreError:
        lease.beat()
        raise


def settled(store: Store, lease: Lease, day: date) -> Manifest | None:
    """End the commit that an interrupted run has begun, remove what else it left; return the manifest."""
    if lease.pending is not None:
        _end(store, lease)
    folders = {"/".join(one.key.split("/")[:2]) for one in store.list(".commits")}
    for folder in folders:
        if folder.startswith(f".commits/dt={day}-"):
            store.discard(folder)
    store.clear_stages(f"dt={day}")
    return read_manifest(store, day)


def publish(store: Store, lease: Lease, manifest: Manifest, parts: Mapping[str, Path]) -> None:
    """Commit a night.

    Parameters
    ----------
    lease
        The lease of this night, held.
    manifest
        Its outputs are all files that the night's tables consist of afterwards.
    parts
        Staged files of those that change, by key; the others stay as they lie.

    Raises
    ------
    TakenOverError
        Another run has the night by now; this one has changed nothing, or exactly what was to change.
    """
    _keep_flags(store, manifest)
    folder = f".commits/dt={manifest.date}-{lease.name}"
    for key, part in parts.items():
        store.commit(part, f"{folder}/{key}")
    store.write_bytes(f"{folder}/{manifest_key(manifest.date)}", manifest.to_json().encode())
    lease.begin(folder)
    _end(store, lease)


def _keep_flags(store: Store, manifest: Manifest) -> None:
    """Copy the flags of the scoring that this one replaces aside, to be compared with later."""
    entry = manifest.history[-1].get("flags") if manifest.history else None
    if entry is None or store.exists(entry["path"]):
        return
    with store.stage(f"dt={manifest.date}") as folder, suppress(UnreadableError):
        copy = folder / "flags.parquet"
        with store.open_input(part_key("flags", manifest.date)) as source, copy.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        if file_digest(copy) == entry["digest"]:
            store.commit(copy, entry["path"])


def intact(store: Store, manifest: Manifest) -> bool:
    """Return whether a night's tables are those of its manifest.

    All files are there, none is left over, and their sizes are right; those of a small night on a local
    folder are read, and their digests compared.
    """
    found = {one.key: one.size for one in _files(store, manifest.date)}
    sizes = {one.path: found.get(one.path) if one.size is None else one.size for one in manifest.outputs}
    if found != sizes:
        return False
    if not isinstance(store, LocalStore) or sum(found.values()) > _CHEAP_BYTES:
        return True
    return all(file_digest(Path(store.uri(one.path))) == one.digest for one in manifest.outputs)


def part_key(table: str, day: date) -> str:
    """Return where a table's part of a night lies below the output folder."""
    return f"{table}/dt={day}/part-0.parquet"


def output_of(key: str, part: Path) -> ManifestOutput:
    """Describe a staged file as the manifest does."""
    rows = pq.read_metadata(part).num_rows
    return ManifestOutput(path=key, rows=rows, digest=file_digest(part), size=part.stat().st_size)


def rewritten(before: Manifest, **changes: Any) -> Manifest:
    """Return a manifest with changes, the one before added to its history."""
    values = {name: getattr(before, name) for name in Manifest.model_fields}
    return Manifest(**(values | {"history": before.succession()} | changes))


def _end(store: Store, lease: Lease) -> None:
    folder = lease.pending
    if folder is None:
        return
    _make_visible(store, folder)
    store.discard(folder)
    lease.end()


def _make_visible(store: Store, folder: str) -> None:
    """Move what a commit's folder holds to its places; what is gone from there was moved before."""
    sources = {one.key.removeprefix(f"{folder}/"): one.key for one in store.list(folder)}
    last = next((key for key in sources if key.startswith("manifests/")), None)
    if last is None:
        return
    with _unless_gone(store, sources[last]):
        manifest = Manifest.from_json(store.read_bytes(sources[last]))
        _move_tables(store, folder, manifest, sources)
        store.move(sources[last], last)


def _move_tables(store: Store, folder: str, manifest: Manifest, sources: Mapping[str, str]) -> None:
    wanted = {one.path for one in manifest.outputs}
    for key in wanted & sources.keys():
        with _unless_gone(store, sources[key]):
            store.move(sources[key], key)
    for stored in _files(store, manifest.date):
        if stored.key not in wanted:
            with _unless_gone(store, stored.key):
                store.withdraw(stored.key, folder)


def _files(store: Store, day: date) -> list[Any]:
    return [one for table in TABLES for one in store.list(f"{table}/dt={day}", ".parquet")]


@contextmanager
def _unless_gone(store: Store, key: str) -> Iterator[None]:
    """Pass over that a file is gone: another run was faster; other troubles stay."""
    try:
        yield
    except UnreadableError:
        if store.exists(key):
            raise
