"""What a night does with verdicts: finds their rows again, and writes ``verdicts/dt=DAY/part-0.parquet``.

The files are what training, gates, notebooks and SQL read; the database stays the truth. Each file says which
state of the night's verdicts it holds, so that only what has changed is written.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.errors import StoreError
from flows.manifest import read_manifest
from flows.results import row_keys
from flows.storage import Store
from flows.verdicts import named
from review.database import Database, default_url
from review.places import Place
from review.store import Verdict, VerdictStore

if TYPE_CHECKING:
    from flows.config import Pipeline

__all__ = [
    "SCHEMA",
    "Nightly",
    "adopt_night",
    "after_scoring",
    "export_all",
    "export_night",
    "nights_to_export",
]

STATE = b"vaewatch.verdicts"
SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("row_key", pa.string()),
        ("dt", pa.dictionary(pa.int32(), pa.string())),  # as readers of Hive folders make it: both must agree
        ("verdict", pa.string()),
        ("note", pa.string()),
        ("reviewer", pa.string()),
        ("decided_at", pa.timestamp("us", "UTC")),
        ("supersedes", pa.int64()),
        ("verdict_id", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Nightly:
    """What was done with verdicts after a night.

    Attributes
    ----------
    orphans
        Verdicts of the night whose row is no longer there; they are kept.
    exported
        Nights whose verdicts were written.
    """

    orphans: tuple[Verdict, ...] = ()
    exported: tuple[date, ...] = ()


def after_scoring(pipeline: Pipeline, day: date) -> Nightly:
    """Find the rows of a scored night's verdicts again, and export all verdicts that have changed.

    Nothing happens where nobody has ever settled anything.

    Raises
    ------
    StoreError
        The database or the results cannot be read or written.
    """
    url = default_url(pipeline.root)
    if not Database(url).is_there:
        return Nightly()
    results = Store.of(pipeline.output_path)
    with VerdictStore.open(url, pipeline.name) as verdicts:
        orphans = adopt_night(verdicts, pipeline, day)
        days = nights_to_export(verdicts, results)
        for one in days:
            export_night(verdicts, results, one)
    return Nightly(tuple(orphans), tuple(days))


def export_all(pipeline: Pipeline) -> tuple[date, ...]:
    """Export all verdicts that have changed; return their nights, none where nobody ever settled anything.

    Raises
    ------
    StoreError
        The database or the results cannot be read or written.
    """
    url = default_url(pipeline.root)
    if not Database(url).is_there:
        return ()
    results = Store.of(pipeline.output_path)
    with VerdictStore.open(url, pipeline.name) as verdicts:
        days = nights_to_export(verdicts, results)
        for one in days:
            export_night(verdicts, results, one)
    return tuple(days)


# -- Rows ---------------------------------------------------------------------------------------------------


def adopt_night(verdicts: VerdictStore, pipeline: Pipeline, day: date) -> list[Verdict]:
    """Find the rows of a night's verdicts among its flags, else among its other rows; return the orphans.

    Raises
    ------
    StoreError
        The database or the night's tables cannot be read.
    """
    spoken_of = verdicts.places(day)
    results = Store.of(pipeline.output_path)
    manifest = read_manifest(results, day) if spoken_of else None
    if manifest is None:  # a night that is being scored, or whose results are gone, tells nothing
        return verdicts.orphans(day)
    paths = [one.path for one in manifest.outputs]
    flags = [_flagged(results, path, pipeline.prefix) for path in paths if path.startswith("flags/")]
    scored = [_scored(results, path, pipeline, spoken_of) for path in paths if path.startswith("scores/")]
    return verdicts.adopt(day, pa.concat_tables([_ROWS.empty_table(), *flags, *scored]))


_ROWS = pa.schema([("row_id", pa.string()), ("row_key", pa.string())])


def _flagged(results: Store, path: str, prefix: str) -> pa.Table:
    with results.open_input(path) as source:
        table = pq.ParquetFile(source).read([prefix + name for name in _ROWS.names])
    return table.rename_columns(_ROWS.names).cast(_ROWS)


def _scored(results: Store, path: str, pipeline: Pipeline, spoken_of: Collection[Place]) -> pa.Table:
    """Rows of a table of scores that may be those that somebody has spoken of."""
    keys, sensitive = pipeline.columns.key, pipeline.columns.sensitive
    ids = pa.array([one.row_id for one in spoken_of], pa.string())
    wanted = {str(one.row_key) for one in spoken_of if one.has_key}
    found = [_ROWS.empty_table()]
    with results.open_input(path) as source:
        file = pq.ParquetFile(source)
        own = [name for name in keys if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=[*own, f"{pipeline.prefix}row_id"]):
            row_id = batch[f"{pipeline.prefix}row_id"]
            mask = pc.or_(
                pc.is_in(row_id, value_set=ids),
                pa.array(named(pa.Table.from_batches([batch]), own, sensitive, wanted)),
            )
            few = batch.filter(mask)
            columns = [few[f"{pipeline.prefix}row_id"], row_keys(few, own, sensitive)]
            found.append(pa.Table.from_arrays(columns, schema=_ROWS))
    return pa.concat_tables(found)


# -- Export -------------------------------------------------------------------------------------------------


def nights_to_export(verdicts: VerdictStore, results: Store) -> list[date]:
    """Nights whose file of verdicts is not of the database's state, or not there."""
    return [day for day, state in verdicts.tokens().items() if _exported(results, day) != state]


def export_night(verdicts: VerdictStore, results: Store, day: date) -> int:
    """Write all verdicts on a night, superseded and withdrawn ones too; return how many there are."""
    state = verdicts.tokens().get(day, "")  # first: what is said meanwhile is then exported once more
    said = verdicts.everything(day)
    table = pa.Table.from_pylist([_record(one) for one in said], SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({STATE: state.encode()}), sink)
    results.write_bytes(_key(day), bytes(sink.getvalue()))
    return len(said)


def _exported(results: Store, day: date) -> str | None:
    """The state that a night's file holds; None where there is none, or none that can be read."""
    try:
        with results.open_input(_key(day)) as source:
            metadata = pq.read_schema(source).metadata or {}
    except (StoreError, pa.ArrowException, OSError):
        return None
    return str(metadata.get(STATE, b"").decode())


def _record(one: Verdict) -> dict[str, Any]:
    own = {name: getattr(one, name) for name in SCHEMA.names if name not in ("dt", "verdict_id")}
    return {**own, "dt": str(one.dt), "verdict_id": one.id}


def _key(day: date) -> str:
    return f"verdicts/dt={day}/part-0.parquet"
