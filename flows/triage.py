"""After a night: its flags fall into families, verdicts and rules order them; ``flags/`` stays as it is."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import date as Date  # noqa: N812 (`date` is a parameter of the flow)
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.casts import plan_casts
from flows.config import Pipeline, load_pipeline
from flows.context import champion_detector, model_ref, parse_date
from flows.errors import BusyError, StoreError
from flows.flagging import expected_schema
from flows.manifest import Manifest, read_manifest
from flows.storage import Store
from flows.tables import open_table

if TYPE_CHECKING:
    from review.families import Family
    from review.looks import Looks
    from review.rules import Rule
    from review.triaging import Triage
    from vae_core import VAEDetector

__all__ = ["FAMILIES", "after_decision", "after_night", "triage"]

FAMILIES = "triage/_families.json"
"""What is known of families, below the output folder; readers of tables pass over an underscore."""
BLOCK = 20_000  # rows that the model places at once
ORDINARY = 512  # rows drawn from the model: how far they are apart is the measure of distances
TRIES = 20  # of writing the families while other nights do
_log = logging.getLogger(__name__)


def triage(pipeline: str, date: str) -> dict[str, Any]:
    """Find the families of a scored night, and order its flags by what verdicts and rules say.

    Verdicts find their rows again first, and are exported. A triage that is up to date is left alone.

    Parameters
    ----------
    pipeline
        Path of the pipeline file.
    date
        The logical date, YYYY-MM-DD.

    Returns
    -------
    dict
        ``date``, ``pipeline``, ``rows``, ``families`` (id, name and rows, the largest first), ``hidden``
        (rows that a rule hides), ``orphans`` (verdicts whose row is gone), ``order`` (what it rests on, a
        sentence; None of a night without flags).

    Raises
    ------
    VaewatchError
        What it takes cannot be read or written.
    """
    from review.nightly import after_scoring
    from review.triaging import TRIAGE

    loaded, day = load_pipeline(pipeline), parse_date(date)
    orphans = after_scoring(loaded, day).orphans
    done = _triaged(loaded, day)
    rows = TRIAGE.empty_table() if done is None else done.rows
    return {
        "date": str(day),
        "pipeline": loaded.name,
        "rows": rows.num_rows,
        "families": _counted(rows),
        "hidden": rows.num_rows - rows["hidden_by"].null_count,
        "orphans": len(orphans),
        "order": None if done is None else done.about.said,
    }


triage_task = task(name="triage", cache_policy=NO_CACHE, persist_result=False)(triage)


def after_night(pipeline: Pipeline, day: Date) -> dict[str, Any]:
    """Triage a night that a flow has just scored; what fails is told and no more: the night is done."""
    return _guarded(triage_task, pipeline, day)


def after_decision(pipeline: Pipeline, day: Date) -> dict[str, Any]:
    """The same outside of a flow, without a Prefect server: for a night whose line was moved."""
    return _guarded(triage, pipeline, day)


def _guarded(run: Callable[[str, str], dict[str, Any]], pipeline: Pipeline, day: Date) -> dict[str, Any]:
    try:
        return run(str(pipeline.file), str(day))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        _log.warning("night %s of %s is scored, but not triaged: %s", day, pipeline.name, reason)
        return {"date": str(day), "pipeline": pipeline.name, "error": reason}


def _triaged(pipeline: Pipeline, day: Date) -> Triage | None:
    from review.triaging import flags_digest, read_triage, reordered, rerank

    store = Store.of(pipeline.output_path)
    digest, rules = flags_digest(store, day), _rules(pipeline)
    if digest is None:
        return None
    known = rerank(store, day, rules, prefix=pipeline.prefix)
    if known is not None:
        return known
    families = _families(pipeline, store, day)
    before = read_triage(store, day)
    return reordered(store, day, families, digest, rules, prefix=pipeline.prefix, before=before)


def _rules(pipeline: Pipeline) -> list[Rule]:
    from review.database import Database, default_url
    from review.store import VerdictStore

    url = default_url(pipeline.root)
    if not Database(url).is_there:
        return []
    with VerdictStore.open(url, pipeline.name) as verdicts:
        return verdicts.rules()


def _counted(rows: pa.Table) -> list[dict[str, Any]]:
    counted = rows.group_by(["family_id", "family_name"]).aggregate([("family_id", "count")])
    order = [("family_id_count", "descending"), ("family_id", "ascending")]
    return [
        {"id": one["family_id"], "name": one["family_name"], "rows": one["family_id_count"]}
        for one in counted.sort_by(order).to_pylist()
    ]


# -- Families -----------------------------------------------------------------------------------------------


def _families(pipeline: Pipeline, store: Store, day: Date) -> pa.Table:
    """``row_id``, ``family_id`` and ``family_name`` of a night's flags; what is new is remembered."""
    manifest = read_manifest(store, day)
    if manifest is None:
        raise StoreError(f"a scored night was required, however {day} is not: score it, then run again")
    if not manifest.rows_flagged:
        return pa.table({name: pa.array([], pa.string()) for name in ("row_id", "family_id", "family_name")})
    looks, flags = _looks(pipeline, store, manifest)
    ids, names = _placed(pipeline, store, day, looks, flags)
    named, row_ids = [names[one] for one in ids], flags[f"{pipeline.prefix}row_id"].combine_chunks()
    return pa.table({"row_id": row_ids, "family_id": pa.array(ids, pa.string()), "family_name": named})


def _looks(pipeline: Pipeline, store: Store, manifest: Manifest) -> tuple[Looks, pa.Table]:
    from review.looks import looks_of

    detector = champion_detector(pipeline, model_ref(pipeline, manifest.model.version))
    day, sensitive = manifest.date, pipeline.columns.sensitive
    flags, latent = _flags(detector, store, day, pipeline.prefix)
    usual = _usual(detector, flags, sensitive)
    with store.open_input(f"contributions/dt={day}/part-0.parquet") as source:
        shares = pq.ParquetFile(source).iter_batches(columns=["row_id", "column", "share"])
        run_id, prefix = manifest.model.run_id, pipeline.prefix
        looks = looks_of(flags, shares, latent, usual=usual, run_id=run_id, prefix=prefix)
    return looks, flags


def _flags(
    detector: VAEDetector, store: Store, day: Date, prefix: str
) -> tuple[pa.Table, npt.NDArray[np.float32]]:
    """Those columns of a night's flags that families are found by, and where the model places them [n, d]."""
    expected, optional = expected_schema(detector)
    ours = [f"{prefix}{name}" for name in _OURS]
    places, few = [], []
    with open_table(store.uri(f"flags/dt={day}/part-0.parquet")) as reader:
        own = [name for name in reader.schema.names if name in expected.names]
        plan = plan_casts(expected, pa.schema([reader.schema.field(name) for name in own]), optional)
        for batch in reader.batches([*own, *ours], BLOCK):
            cast = plan.apply(batch.select(own))
            places.append(detector.transform(pa.Table.from_batches([cast])))
            few.append(_categories(detector, cast, batch.select(ours)))
    latent = np.concatenate(places) / _apart(detector)
    return pa.Table.from_batches(few), latent.astype(np.float32)


_OURS = ("row_id", *(f"reason_{i}_{part}" for i in (1, 2, 3) for part in ("column", "kind")))


def _categories(detector: VAEDetector, cast: pa.RecordBatch, ours: pa.RecordBatch) -> pa.RecordBatch:
    """The categories of rows as text, and columns of ours."""
    names = [codec.name for codec in detector.encoder_.categorical]
    columns = [cast.column(name).cast(pa.string()) for name in names]
    return pa.RecordBatch.from_arrays([*columns, *ours.columns], [*names, *ours.schema.names])


def _apart(detector: VAEDetector) -> float:
    """How far two ordinary rows are apart in latent space, as a rule."""
    places = detector.transform(detector.sample(ORDINARY, random_state=0))
    half = len(places) // 2
    far = np.sqrt(((places[:half, None] - places[None, half:]) ** 2).sum(axis=2))
    return max(float(np.median(far)), 1e-6)


def _usual(detector: VAEDetector, flags: pa.Table, sensitive: Collection[str]) -> dict[str, dict[str, float]]:
    """How common the values of categories among the flags were in training; under ``""`` one never seen."""
    found = {}
    for codec in detector.encoder_.categorical:
        if codec.name not in sensitive:
            seen = set(pc.unique(flags[codec.name]).to_pylist())
            counts = (*(share * codec.rows for share in codec.shares), *codec.counts)
            known = zip(codec.vocabulary, counts, strict=True)
            found[codec.name] = {word: count / codec.rows for word, count in known if word in seen}
            found[codec.name][""] = 1 / (codec.rows + 1)
    return found


def _placed(
    pipeline: Pipeline, store: Store, day: Date, looks: Looks, flags: pa.Table
) -> tuple[list[str], dict[str, str]]:
    """The family of each row, and the families' names; remembered, whoever else does so at the same time.

    Raises
    ------
    BusyError
        Others were faster time after time.
    """
    from review.families import families_to_json, grouped, placed

    groups, table = grouped(looks), pipeline.name.replace("_", " ")
    first = _first_reasons(flags, pipeline.prefix)
    for _ in range(TRIES):
        seen = store.peek(FAMILIES)
        known = [] if seen is None else _read(store, seen.data)
        ids, families = placed(looks, groups, known, day, table)
        families = _worded(families, ids, first, day, table)
        if families == known or store.swap(FAMILIES, families_to_json(families), seen) is not None:
            counts = Counter(ids)
            return ids, {one.id: one.name(counts[one.id]) for one in families if one.id in counts}
    raise BusyError(f"{store.uri(FAMILIES)}: other nights are writing it all the time; run again")


def _first_reasons(flags: pa.Table, prefix: str) -> list[str | None]:
    """What each row is flagged for above all, as part of a family's reasons; None where nothing is said."""
    from review.looks import KINDS, WAYS

    ways = dict(zip(KINDS, WAYS[1:], strict=True))
    columns, kinds = (flags[f"{prefix}reason_1_{part}"].to_pylist() for part in ("column", "kind"))
    return [
        None if column is None else f"{column}|{ways.get(kind, WAYS[0])}"
        for column, kind in zip(columns, kinds, strict=True)
    ]


def _worded(
    families: Sequence[Family], ids: Sequence[str], first: Sequence[str | None], day: Date, table: str
) -> list[Family]:
    """Families; a new one of a single row is named by that row's first reason, not by its costliest cell."""
    from review.families import named

    counts, reasons = Counter(ids), dict(zip(ids, first, strict=True))
    return [
        replace(one, words=named({part: 1.0}, one.where, table))
        if counts[one.id] == 1 and one.first == one.last == str(day) and (part := reasons[one.id])
        else one
        for one in families
    ]


def _read(store: Store, data: bytes) -> list[Family]:
    from review.families import families_from_json

    try:
        return families_from_json(data)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.uri(FAMILIES)}: families as they were written were required, however {error}; restore "
            "the file, or delete it: families get new ids then"
        ) from error
