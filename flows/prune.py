"""Remove what `retention` of the pipeline file lets go; what is left says what was there.

A night that loses tables is committed anew without them, under its lease, as a scoring is: its manifest
names them in ``pruned``, so that the night stays finished and is not scored again. What a killed run has
begun is ended by the next one. Manifests, the journal and verdicts are never removed, nor are the flags of a
night that somebody has given verdicts on: the verdicts are about those rows.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from flows import progress
from flows.commit import TABLES, on_night, publish
from flows.context import docs_folder, registry_of
from flows.datadocs import write_index
from flows.errors import VaewatchError
from flows.manifest import scored_nights
from flows.retention import beyond
from flows.retirement import retire, retired
from flows.runs import Run
from flows.storage import LocalStore, Store

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.lease import Lease
    from flows.manifest import Manifest

__all__ = ["prune"]

FOLDERS = {
    "scores": ("scores",),
    "flags": ("flags", "contributions", "triage"),
    "contributions": ("contributions",),
    "quarantine": ("quarantine",),
    "history": (".history",),
    "monitor": ("monitor", "reports"),
    "docs": (),
}
"""What `retention` calls it, and the folders of results that hold a part of it for each night."""

JUDGED = ("flags", "contributions", "history")
"""What a night with verdicts keeps."""

PATIENCE = 90.0
"""Seconds to wait for a run that holds a night: longer than one that is gone is waited for."""


@dataclass
class _Night:
    """What one night loses: by what `retention` calls it, keys and bytes."""

    day: date
    files: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, what: str, files: dict[str, int]) -> None:
        """Note files that no other name of `retention` has noted."""
        known = {key for one in self.files.values() for key in one}
        new = {key: size for key, size in files.items() if key not in known}
        if new:
            self.files[what] = new


def prune(pipeline: Pipeline, judged: Collection[date] = (), *, dry_run: bool = False) -> dict[str, Any]:
    """Remove what a pipeline's `retention` lets go, oldest first; what cannot be removed holds up nothing.

    Parameters
    ----------
    judged
        Nights that somebody has given verdicts on, beside those under ``verdicts/``.
    dry_run
        Only say what would be removed.

    Returns
    -------
    dict
        ``pipeline``, ``dry_run``; ``removed``: by what `retention` calls it, ``nights``, ``first``, ``last``,
        ``files`` and ``bytes``; ``models``: versions that lose their files; ``kept``: what is as old and
        stays, with why; ``failed``: what could not be removed, with why.

    Raises
    ------
    VaewatchError
        What there is cannot be listed; nothing was removed.
    """
    store = Store.of(pipeline.output_path)
    spoken_of = set(judged) | _days(store, "verdicts").keys()
    nights, kept = _nights(pipeline, store, spoken_of)
    versions, needed = retired(pipeline)
    kept += [{"what": "models", "which": f"version {name}", "why": why} for name, why in needed.items()]
    report: dict[str, Any] = {"pipeline": pipeline.name, "dry_run": dry_run, "kept": kept, "failed": []}
    done = nights if dry_run else list(_removed(pipeline, store, nights, report["failed"]))
    gone = versions if dry_run else [ref for ref in versions if _retired(pipeline, ref, report)]
    return {**report, "removed": _summary(done), "models": [ref.version for ref in gone]}


# -- What there is to remove --------------------------------------------------------------------------------


def _nights(
    pipeline: Pipeline, store: Store, judged: Collection[date]
) -> tuple[list[_Night], list[dict[str, str]]]:
    """What each night loses, oldest first; and what nights keep on account of their verdicts."""
    scored = scored_nights(store)
    nights: dict[date, _Night] = {}
    kept: dict[str, list[date]] = {}
    for what, folders in FOLDERS.items():
        found = _found(pipeline, store, what, folders)
        for day in beyond(getattr(pipeline.retention, what), scored):
            if day not in found:
                continue
            if what in JUDGED and day in judged:
                kept.setdefault(what, []).append(day)
            else:
                nights.setdefault(day, _Night(day)).add(what, found[day])
    why = "somebody has given verdicts on them"
    return [nights[day] for day in sorted(nights)], [
        {"what": what, "which": ", ".join(map(str, days)), "why": why} for what, days in kept.items()
    ]


def _found(pipeline: Pipeline, store: Store, what: str, folders: Sequence[str]) -> dict[date, dict[str, int]]:
    """Keys and bytes of what there is, by night; nothing is looked for that is kept forever."""
    if getattr(pipeline.retention, what) == "forever":
        return {}
    if what == "docs":
        return _docs(docs_folder(pipeline))
    found: dict[date, dict[str, int]] = {}
    for folder in folders:
        for day, files in _days(store, folder).items():
            found.setdefault(day, {}).update(files)
    return found


def _days(store: Store, folder: str) -> dict[date, dict[str, int]]:
    """Files of a folder by the night in their names: ``dt=2013-07-06/…`` or ``monitor-2013-07-06.html``."""
    found: dict[date, dict[str, int]] = {}
    for one in store.list(folder):
        name = PurePosixPath(one.key).parts[folder.count("/") + 1]
        with suppress(ValueError):
            day = date.fromisoformat(name.removeprefix("dt=").removeprefix("monitor-").removesuffix(".html"))
            found.setdefault(day, {})[one.key] = one.size
    return found


def _docs(folder: Path) -> dict[date, dict[str, int]]:
    """Data Docs of nights: the run's folder lies two above its page."""
    found: dict[date, dict[str, int]] = {}
    for report in folder.glob("validations/**/report.json"):
        with suppress(ValueError, OSError):
            run = report.parent.parent
            size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
            found.setdefault(date.fromisoformat(run.name), {})[str(run)] = size
    return found


# -- Removing -----------------------------------------------------------------------------------------------


def _removed(
    pipeline: Pipeline, store: Store, nights: Sequence[_Night], failed: list[dict[str, str]]
) -> Iterator[_Night]:
    """Remove what the nights lose; yield those where it went well."""
    for done, night in enumerate(nights, 1):
        try:
            _remove(pipeline, store, night)
        except VaewatchError as error:
            failed.append({"what": f"night {night.day}", "why": str(error)})
        else:
            yield night
        progress.advance("pruning", done, len(nights))
    if any("docs" in night.files for night in nights):
        write_index(docs_folder(pipeline))


def _remove(pipeline: Pipeline, store: Store, night: _Night) -> None:
    for folder in night.files.get("docs", ()):
        shutil.rmtree(folder, ignore_errors=True)
    if set(night.files) - {"docs"}:
        on_night(
            store, night.day, lambda lease, before: _cut(pipeline, store, lease, before, night), PATIENCE
        )


def _cut(pipeline: Pipeline, store: Store, lease: Lease, before: Manifest | None, night: _Night) -> None:
    """Commit a night without what it loses, then remove what is no part of its manifest."""
    if before is None:  # its manifest was deleted meanwhile: it is to be scored again
        return
    after = _without(before, night.files)
    if after != before:
        publish(store, lease, after, {})
    if "monitor" in night.files:  # the copy in MLflow first: what is still here is found again
        Run(before.model.run_id, registry_of(pipeline).stores).discard_file(f"monitor/{night.day}.html")
    for what in set(night.files) - {"docs"}:
        for key in night.files[what]:
            if PurePosixPath(key).parts[0] not in TABLES:
                store.delete(key)
        _tidy(store, what, night.day)


def _without(before: Manifest, whats: Collection[str]) -> Manifest:
    """The manifest of a night that loses tables: they are no outputs any more, ``pruned`` says since when."""
    tables = {folder for what in whats for folder in FOLDERS[what] if folder in TABLES}
    lost = {PurePosixPath(one.path).parts[0] for one in before.outputs} & tables
    now = datetime.now(UTC).isoformat(timespec="seconds")
    changes: dict[str, Any] = {
        "outputs": tuple(one for one in before.outputs if PurePosixPath(one.path).parts[0] not in lost),
        "pruned": {**before.pruned, **dict.fromkeys(sorted(lost), now)},
    }
    if "history" in whats:
        changes["history"] = tuple({**entry, "flags": None} for entry in before.history)
    return before.model_copy(update=changes)


def _tidy(store: Store, what: str, day: date) -> None:
    """Remove the folders of a night that are empty now; object stores have none."""
    if isinstance(store, LocalStore):
        for folder in FOLDERS[what]:
            with suppress(OSError):  # not empty, or not there
                Path(store.uri(f"{folder}/dt={day}")).rmdir()


def _retired(pipeline: Pipeline, ref: Any, report: dict[str, Any]) -> bool:
    try:
        done = retire(pipeline, ref)
    except VaewatchError as error:
        report["failed"].append({"what": f"model version {ref.version}", "why": str(error)})
        return False
    if not done:
        why = "it carries an alias by now, or shares its files"
        report["kept"].append({"what": "models", "which": f"version {ref.version}", "why": why})
    return done


def _summary(nights: Sequence[_Night]) -> dict[str, dict[str, Any]]:
    """Nights, files and bytes by what `retention` calls them."""
    counts, sizes = Counter[str](), Counter[str]()
    days: dict[str, list[date]] = {}
    for night in nights:
        for what, files in night.files.items():
            days.setdefault(what, []).append(night.day)
            counts[what] += len(files)
            sizes[what] += sum(files.values())
    return {
        what: {
            "nights": len(found),
            "first": str(found[0]),
            "last": str(found[-1]),
            "files": counts[what],
            "bytes": sizes[what],
        }
        for what, found in days.items()
    }
