"""Finished nights read again, and scored by two models side by side; nothing is written.

Of a large night an even sample is read, and with it all rows that people have confirmed as anomalies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows.casts import CastPlan, plan_casts
from flows.decision import Decider
from flows.errors import InputError, NoDataError
from flows.expectations import bad_rows, load_suite, row_rules
from flows.manifest import Manifest, read_manifest, scored_nights
from flows.night import expected_schema
from flows.results import row_ids
from flows.stake import ranks, values_at_stake
from flows.storage import Store
from flows.tables import InputFile, input_file, night, open_table
from flows.verdicts import confirmed_rows

if TYPE_CHECKING:
    from flows.config import Pipeline
    from vae_core import VAEDetector

__all__ = ["NightRows", "Opinion", "finished_nights", "known_to", "opinion", "read_night"]

MOST_ROWS = 50_000  # rows of a night that are scored; of a larger one an even sample

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
_Part = tuple[pa.Array, Bools, Bools, pa.Table, Floats]


@dataclass(frozen=True)
class NightRows:
    """Rows of a night, n of them, in the columns that both models know.

    Attributes
    ----------
    day
        The night.
    table
        The rows that no rule sends to quarantine.
    ids
        Their row ids [n].
    even
        Which of them belong to the even sample, bool [n]; the others came for their verdict alone.
    share
        Share of the night that the sample is, in (0, 1].
    confirmed
        Which of them people have confirmed as anomalies, bool [n].
    unread
        Files that the models cannot read, with the reason.
    at_stake
        What is at stake in them [n], from 0 up; None where the pipeline names no such column.
    """

    day: date
    table: pa.Table
    ids: pa.Array
    even: Bools
    share: float
    confirmed: Bools
    unread: tuple[str, ...]
    at_stake: Floats | None


@dataclass(frozen=True)
class Opinion:
    """What a model says of n rows: p-values, and which it flags."""

    p_values: Floats
    flagged: Bools


def finished_nights(pipeline: Pipeline, most: int) -> list[Manifest]:
    """The newest nights whose tables are there and whose input files are as they were, oldest first.

    Raises
    ------
    NoDataError
        There is none.
    """
    store = Store.of(pipeline.output_path)
    found: list[Manifest] = []
    for day in sorted(scored_nights(store), reverse=True):
        manifest = read_manifest(store, day)
        if manifest is not None and manifest.rows_scored and _files(pipeline, manifest):
            found.append(manifest)
        if len(found) == most:
            break
    if not found:
        raise NoDataError(
            f"{store.uri('manifests')}: a scored night to compare two models on was required, however there "
            "is none whose files are as they were; score one, or use --force"
        )
    return found[::-1]


def _files(pipeline: Pipeline, manifest: Manifest) -> list[InputFile]:
    """The files that a night was scored from; none when one of them is gone or was changed since."""
    wanted = {one.path: one.digest for one in manifest.inputs if one.status == "scored"}
    try:
        there = {file.path: file for file in _of_source(pipeline, manifest.date)}
        files = [there.get(path) or input_file(path, manifest.date) for path in wanted]
    except InputError:
        return []
    return files if all(wanted[file.path] == file.digest for file in files) else []


def _of_source(pipeline: Pipeline, day: date) -> list[InputFile]:
    source = pipeline.source
    try:
        return night(pipeline.source_path, day, partition=source.partition, date_pattern=source.date_pattern)
    except NoDataError:  # scored from a file of its own
        return []


# -- Reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """What is read of a night: columns of both models, rules, which rows, and what is at stake in them."""

    columns: pa.Schema
    optional: tuple[str, ...]
    suite: dict[str, Any]
    share: float
    confirmed: pa.Array
    random: np.random.Generator
    at_stake: str | None


def read_night(
    pipeline: Pipeline, manifest: Manifest, detectors: Sequence[VAEDetector], *, seed: int = 0
) -> NightRows:
    """Read the rows of a finished night that both models are to score.

    Parameters
    ----------
    detectors
        Their columns are read; where the types differ, the first one's count.
    seed
        Of the sample, where the night has more than 50,000 rows.
    """
    confirmed = confirmed_rows(Store.of(pipeline.output_path), manifest.date)
    columns, optional = _columns(detectors)
    share = min(1.0, MOST_ROWS / manifest.rows_in)
    wanted = _Wanted(
        columns,
        optional,
        load_suite(Path(pipeline.suite_path)),
        share,
        pa.array(sorted(confirmed), pa.string()),
        np.random.default_rng([seed, manifest.date.toordinal()]),
        pipeline.columns.value_at_stake,
    )
    parts, unread = [_nothing(columns)], []
    for file in _files(pipeline, manifest):
        try:
            parts += _read(file, wanted)
        except InputError as error:
            unread.append(f"{file.path}: {error}")
    ids, even, known, tables, at_stake = zip(*parts, strict=True)
    return NightRows(
        manifest.date,
        pa.concat_tables(tables),
        pa.concat_arrays(ids),
        np.concatenate(even),
        share,
        np.concatenate(known),
        tuple(unread),
        None if wanted.at_stake is None else np.concatenate(at_stake),
    )


def _columns(detectors: Sequence[VAEDetector]) -> tuple[pa.Schema, tuple[str, ...]]:
    """Columns of all detectors, and those that none of them needs."""
    fields: dict[str, pa.Field] = {}
    optional: dict[str, bool] = {}
    for detector in detectors:
        schema, spare = expected_schema(detector)
        for one in schema:
            fields.setdefault(one.name, one)
            optional[one.name] = optional.get(one.name, True) and one.name in spare
    return pa.schema(list(fields.values())), tuple(name for name, may in optional.items() if may)


def _nothing(columns: pa.Schema) -> _Part:
    none = np.empty(0, dtype=np.bool_)
    return pa.array([], pa.string()), none, none, columns.empty_table(), np.empty(0)


def _read(file: InputFile, wanted: _Wanted) -> list[_Part]:
    """Ids, membership of the sample, verdict, values and stake of the rows of a file that are wanted."""
    found = []
    with open_table(file) as reader:
        plan = plan_casts(wanted.columns, reader.schema, wanted.optional)
        for start, batch in _numbered(reader.batches()):
            ids = row_ids(file.key, np.arange(start, start + batch.num_rows))
            even = wanted.random.random(batch.num_rows) < wanted.share
            known = _truth(pc.is_in(ids, value_set=wanted.confirmed))
            kept = np.flatnonzero((even | known) & _good(batch, plan, wanted.suite))
            taken = batch.take(pa.array(kept))
            rows = pa.Table.from_batches([plan.apply(taken)])
            stake = _stake(taken, wanted.at_stake)
            found.append((ids.take(pa.array(kept)), even[kept], known[kept], rows, stake))
    return found


def _stake(rows: pa.RecordBatch, name: str | None) -> Floats:
    """What is at stake in rows [n]; nothing in those of a file from before there was such a column."""
    if name is None or name not in rows.schema.names:
        return np.zeros(rows.num_rows)
    return values_at_stake(rows, name)


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    for batch in batches:
        yield start, batch
        start += batch.num_rows


def _good(batch: pa.RecordBatch, plan: CastPlan, suite: dict[str, Any]) -> Bools:
    """Which rows of a batch [n] are scored: those that fit their columns and break no rule."""
    good = _truth(pc.invert(plan.misfits(batch)))
    fitting = batch if good.all() else batch.filter(pa.array(good))
    extra = fitting.select(list(plan.extra))
    cast = plan.apply(fitting)
    schema = pa.schema([*cast.schema, *extra.schema])
    seen = pa.RecordBatch.from_arrays([*cast.columns, *extra.columns], schema=schema)
    good[good] = ~_truth(bad_rows(row_rules(suite, schema), seen)[0])
    return good


def _truth(mask: pa.Array) -> Bools:
    return np.array(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


# -- Scoring ------------------------------------------------------------------------------------------------


def known_to(detector: VAEDetector, table: pa.Table) -> pa.Table:
    """Rows in the columns and types that a detector was trained on.

    Raises
    ------
    SchemaError
        They do not have them.
    """
    columns, optional = _columns([detector])
    plan = plan_casts(columns, table.schema, optional)
    return pa.Table.from_batches([plan.apply(one) for one in table.to_batches()], plan.expected)


def opinion(detector: VAEDetector, rows: NightRows, policy: Mapping[str, Any]) -> Opinion:
    """Score rows, and flag them as the pipeline's decision flags those of the night.

    The line is drawn over the even sample; a budget of rows shrinks with it. A night that tripped the breaker
    gets all the flags of the policy, as `flows.redecide` gives it.
    """
    scores = detector.score_batch(known_to(detector, rows.table))
    score, at_stake = scores.anomaly_score, rows.at_stake
    rank = score if at_stake is None else ranks(scores.p_value, at_stake)
    decider = Decider.of(_for_share(policy, rows.share), detector.calibration_)
    decider.candidates(score[rows.even], ranks=rank[rows.even])
    return Opinion(scores.p_value, (score >= decider.threshold()) & (rank >= decider.line()))


def _for_share(policy: Mapping[str, Any], share: float) -> dict[str, Any]:
    budget = policy.get("budget")
    return {**policy, "budget": None if budget is None else max(1, round(budget * share))}
