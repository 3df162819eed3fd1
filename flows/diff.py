"""Two scorings of a night beside each other: which flags are gained, lost, kept.

The committed scoring is compared with the one before it, whose flags were kept aside, or with what a given
model version makes of the same files; nothing is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.cells import plain_rows
from flows.commit import part_key
from flows.context import champion_detector, model_ref
from flows.errors import ConfigError, InputError
from flows.expectations import load_suite
from flows.manifest import read_manifest
from flows.night import Night
from flows.sources import find_files, model_of
from flows.storage import Store

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.manifest import Manifest

__all__ = ["Difference", "diff"]

SHOWN = ("row_id", "row_key", "anomaly_score", "p_value", "severity", "threshold")
REASONS = tuple(f"reason_{i}_{part}" for i in (1, 2, 3) for part in ("column", "kind", "value", "expected"))


@dataclass(frozen=True)
class Difference:
    """Two scorings of a night.

    Attributes
    ----------
    day
        The night.
    before, after
        Model, decision and time of each: what is said of them in the manifest.
    gained, lost, kept
        Flagged rows, most anomalous first: those flagged after and not before, before and not after, and both
        (as they are after).
    """

    day: date
    before: dict[str, Any]
    after: dict[str, Any]
    gained: list[dict[str, Any]]
    lost: list[dict[str, Any]]
    kept: list[dict[str, Any]]

    def report(self) -> dict[str, Any]:
        """The difference as plain values: counts first, then rows."""
        counts = {name: len(getattr(self, name)) for name in ("gained", "lost", "kept")}
        rows = {f"rows_{name}": getattr(self, name) for name in counts}
        return {"date": str(self.day), "before": self.before, "after": self.after, **counts, **rows}


def diff(pipeline: Pipeline, day: date, version: str | None = None) -> Difference:
    """Compare the flags of a night with those of its scoring before, or with those of a model version.

    Parameters
    ----------
    version
        Score the night's files with this version, aside, and compare the committed flags with these; by
        default the earlier scoring comes first and the committed one second.

    Raises
    ------
    ConfigError
        The night is not scored, or was scored once only.
    InputError
        The flags of the earlier scoring are gone, or no file can be scored with the version.
    """
    store = Store.of(pipeline.output_path)
    manifest = read_manifest(store, day)
    if manifest is None:
        raise ConfigError(f"a scored night was required, however {day} is not: vaewatch score --date {day}")
    committed = _committed(store, manifest), _facts(manifest.model_dump(mode="json"))
    if version is None:
        return _compared(pipeline, day, _earlier(store, manifest), committed)
    return _compared(pipeline, day, committed, _aside(pipeline, day, version, store))


_Scoring = tuple[pa.Table, dict[str, Any]]


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        name: manifest[name] for name in ("scored_at", "model", "decision", "rows_scored", "rows_flagged")
    }


def _committed(store: Store, manifest: Manifest) -> pa.Table:
    if "flags" in manifest.pruned:
        raise InputError(
            f"the flags of {manifest.date} were required, however `vaewatch prune` removed them at "
            f"{manifest.pruned['flags']}; choose a later night"
        )
    key = part_key("flags", manifest.date)
    return _read(store, key) if key in {one.path for one in manifest.outputs} else pa.table({})


def _read(store: Store, key: str) -> pa.Table:
    with store.open_input(key) as source:
        return pq.ParquetFile(source).read()


def _earlier(store: Store, manifest: Manifest) -> _Scoring:
    """The scoring before the committed one."""
    day = manifest.date
    if not manifest.history:
        raise ConfigError(
            f"two scorings of night {day} were required, however there is one; compare it with that of a"
            f" model: vaewatch diff --date {day} --model VERSION"
        )
    entry = manifest.history[-1]
    flags = entry.get("flags")
    if flags is None and not entry["rows_flagged"]:
        return pa.table({}), _facts(entry)
    if flags is None or not store.exists(flags["path"]):
        raise InputError(
            f"the flags of the scoring of {entry['scored_at']} were required, however they were not kept;"
            f" compare with a model: vaewatch diff --date {day} --model {entry['model']['version']}"
        )
    return _read(store, flags["path"]), _facts(entry)


def _aside(pipeline: Pipeline, day: date, version: str, store: Store) -> _Scoring:
    """What a model version makes of the night's files; the stage is thrown away."""
    ref = model_ref(pipeline, version)
    suite = load_suite(Path(pipeline.suite_path))
    with store.stage(f"diff-{day}") as stage:
        night = Night(pipeline, day, champion_detector(pipeline, ref), model_of(ref), suite, stage)
        night.read(find_files(pipeline, day))
        night.decide()
        if not (stage / "flags.parquet").exists():
            raise InputError("; ".join(str(one.reason) for one in night.accounts))
        facts = _facts(night.manifest([]).model_dump(mode="json"))
        return pq.ParquetFile(stage / "flags.parquet").read(), facts


def _compared(pipeline: Pipeline, day: date, before: _Scoring, after: _Scoring) -> Difference:
    prefix = pipeline.prefix
    then, now = _ids(before[0], prefix), _ids(after[0], prefix)
    return Difference(
        day,
        before[1],
        after[1],
        gained=_rows(after[0], prefix, now - then),
        lost=_rows(before[0], prefix, then - now),
        kept=_rows(after[0], prefix, now & then),
    )


def _ids(flags: pa.Table, prefix: str) -> set[str]:
    name = f"{prefix}row_id"
    return set(flags.column(name).to_pylist()) if name in flags.schema.names else set()


def _rows(flags: pa.Table, prefix: str, ids: set[str]) -> list[dict[str, Any]]:
    """Flagged rows by their ids: our columns, under their own names."""
    if not ids:
        return []
    names = [name for name in (*SHOWN, *REASONS) if prefix + name in flags.schema.names]
    table = flags.select([prefix + name for name in names]).rename_columns(names)
    found = table.filter(pc.is_in(table.column("row_id"), pa.array(sorted(ids))))
    return plain_rows(found.sort_by([("anomaly_score", "descending"), ("row_id", "ascending")]))
