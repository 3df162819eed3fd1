"""A shard of a night: neighbouring row groups of one file, scored by a function of their own.

`score_shard` reads a shard and writes staged Parquet parts; `finish_shard` turns its candidates into flags
once the night's line is drawn. Both take plain descriptions that can be pickled, and give the same parts
wherever they run: in a thread of this process, or in a worker on another machine that sees the same folders.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows import results
from flows.casts import OF_THE_DATA, CastPlan, plan_casts
from flows.decision import Decider, Tally
from flows.errors import InputError
from flows.expectations import RowRule, bad_rows, row_rules
from flows.flagging import CONTRIBUTIONS, UNLIKE_SHARES, Stamp, expected_schema, flagged_schema, flags_of
from flows.reader import RowGroup, TableReader, decoded
from flows.remarks import Glance, Glimpse
from flows.stake import RANK, ranks, values_at_stake
from flows.tables import InputFile, PartWriter, open_table

if TYPE_CHECKING:
    from vae_core import Scores, VAEDetector

__all__ = [
    "SHARD_ROWS",
    "Recipe",
    "Shard",
    "ShardScores",
    "finish_shard",
    "planned",
    "put_model",
    "reason_of",
    "score_shard",
    "scores_schema",
    "shards_of",
]

SHARD_ROWS = 500_000  # at least; half a second of work, beside which handing it out costs nothing
_EXPLAINED_ROWS = 8_192  # explained at once; each is tried with many replacements
_DETECTORS_KEPT = 2

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_DETECTORS: OrderedDict[str, VAEDetector] = OrderedDict()
_LOADING = Lock()


@dataclass(frozen=True)
class Shard:
    """Neighbouring row groups of one file.

    Attributes
    ----------
    file
        The file.
    number
        Of the file in its night, from 0.
    part
        Of the shard in its file, from 0.
    groups
        The row groups.
    floor
        Rows below this score are known not to be flagged.
    """

    file: InputFile
    number: int
    part: int
    groups: tuple[RowGroup, ...]
    floor: float = -np.inf

    @property
    def rows(self) -> int:
        """Rows of all its row groups."""
        return sum(group.rows for group in self.groups)

    def staged(self, stage: str, table: str) -> Path:
        """Where its part of a table lies in the stage."""
        return Path(stage) / f"{table}-{self.number}-{self.part}.parquet"


@dataclass(frozen=True)
class Recipe:
    """What all shards of a night share.

    Attributes
    ----------
    stage
        Folder of the staged parts; every worker sees it.
    model, digest
        Folder of the fitted detector, and the digest of its files, by which a worker keeps it.
    suite
        Expectations whose row rules send rows to quarantine.
    decision
        The pipeline's ``decision``.
    keys, sensitive
        Names of such columns.
    prefix
        Of the columns that we add.
    scores
        Whether the scores of all rows are written.
    at_stake
        Name of the column of values at stake, by which a budget ranks rows; None where there is none.
    """

    stage: str
    model: str
    digest: str
    suite: Mapping[str, Any]
    decision: Mapping[str, Any]
    keys: tuple[str, ...]
    sensitive: tuple[str, ...]
    prefix: str
    scores: bool
    at_stake: str | None = None

    @property
    def known(self) -> dict[str, pa.DataType]:
        """What is known of a row before the line is drawn, and its types."""
        return results.STAGED if self.at_stake is None else results.STAGED | {RANK: pa.float64()}

    @property
    def shown_keys(self) -> list[str]:
        """Key columns that are not sensitive."""
        return [name for name in self.keys if name not in self.sensitive]


@dataclass(frozen=True)
class ShardScores:
    """What became of a shard: rows scored and quarantined, what was seen of them, or why it was refused."""

    quarantined: int = 0
    tally: Tally = field(default_factory=Tally)
    reason: str | None = None
    seconds: float = 0.0
    glimpse: Glimpse = field(default_factory=Glimpse)


def shards_of(number: int, file: InputFile, groups: Iterable[RowGroup]) -> list[Shard]:
    """Cut a file into shards of `SHARD_ROWS` rows at least; a shorter rest joins the last."""
    cut: list[list[RowGroup]] = []
    for group in groups:
        if not cut or sum(one.rows for one in cut[-1]) >= SHARD_ROWS:
            cut.append([])
        cut[-1].append(group)
    if len(cut) > 1 and sum(one.rows for one in cut[-1]) < SHARD_ROWS:
        rest = cut.pop()
        cut[-1] += rest
    return [Shard(file, number, part, tuple(groups)) for part, groups in enumerate(cut)]


def planned(
    detector: VAEDetector, schema: pa.Schema, suite: Mapping[str, Any]
) -> tuple[CastPlan, tuple[RowRule, ...]]:
    """How files of a schema become what a detector expects, and the rules that are asked of their rows.

    Raises
    ------
    SchemaError
        A column is missing, or of a type that is none of the expected one.
    """
    expected, optional = expected_schema(detector)
    plan = plan_casts(expected, schema, optional)
    seen = pa.schema([*plan.expected, *(schema.field(name) for name in plan.extra)])
    return plan, row_rules(suite, seen)


# --- the detector, once a process -------------------------------------------------------------------------


def put_model(detector: VAEDetector, folder: Path) -> str:
    """Save a detector where workers find it, and return the digest of its files."""
    detector.save(folder)
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    _keep(digest.hexdigest(), detector)
    return digest.hexdigest()


def _detector(recipe: Recipe) -> VAEDetector:
    """The recipe's detector, loaded once a process."""
    with _LOADING:
        if recipe.digest not in _DETECTORS:
            from vae_core import VAEDetector

            _keep(recipe.digest, VAEDetector.load(recipe.model))
        return _DETECTORS[recipe.digest]


def _keep(digest: str, detector: VAEDetector) -> None:
    _DETECTORS[digest] = detector
    while len(_DETECTORS) > _DETECTORS_KEPT:
        _DETECTORS.popitem(last=False)


def _one_core() -> AbstractContextManager[None]:
    """One thread for this shard's products: other shards are at work beside it."""
    from vae_core.threads import one_thread

    return one_thread()


# --- scoring ----------------------------------------------------------------------------------------------


def score_shard(recipe: Recipe, shard: Shard) -> ShardScores:
    """Score a shard into staged parts: candidates, quarantine and, where wanted, scores.

    Returns
    -------
    ShardScores
        With a reason and without parts where the file turned out to be bad.
    """
    began, detector = perf_counter(), _detector(recipe)
    try:
        with (
            _one_core(),
            open_table(shard.file) as reader,
            _ShardWriter(recipe, shard, reader, detector) as writer,
        ):
            start = shard.groups[0].start
            for batch in reader.coded_batches(shard.groups):
                writer.write(start, batch)
                start += batch.num_rows
    except (InputError, *OF_THE_DATA) as error:
        return ShardScores(reason=reason_of(shard.file, error), seconds=perf_counter() - began)
    seen, took = writer.glance.glimpse(), perf_counter() - began
    return ShardScores(writer.quarantine.rows, writer.decider.tally(), seconds=took, glimpse=seen)


def reason_of(file: InputFile, error: Exception) -> str:
    """Why an error rejects a file: its own sentence, or what Arrow could not do with the file's columns."""
    if isinstance(error, InputError):
        return str(error)
    said = " ".join(str(error).split()).rstrip(".")[:300]
    return (
        f"{file.path}: columns that Arrow works with were required, however: {said}; write the file again"
        " with plainer types"
    )


class _ShardWriter:
    """Takes the batches of a shard: sets bad rows aside, scores the others, writes what may be flagged."""

    def __init__(self, recipe: Recipe, shard: Shard, reader: TableReader, detector: VAEDetector) -> None:
        self.recipe, self.shard, self.schema, self.detector = recipe, shard, reader.schema, detector
        self.decider = Decider.of(recipe.decision, detector.calibration_)
        self.cut = self.decider.fixed()
        self.plan, self.rules = planned(detector, reader.schema, recipe.suite)
        self.glance = Glance(self.plan.expected, shard.rows, shard.groups[0].start)
        bad = pa.schema([*reader.schema, (results.staged_name(results.BROKEN), pa.string())])
        self.quarantine = PartWriter(shard.staged(recipe.stage, "quarantine"), bad)
        self.candidates = PartWriter(
            shard.staged(recipe.stage, "candidates"),
            pa.schema([*reader.schema, *_staged_fields(recipe)]),
            unlike=_without_text([*reader.schema, *_staged_fields(recipe)]),
        )
        self.scores = PartWriter(
            shard.staged(recipe.stage, "scores"),
            scores_schema(detector, recipe, self.cut is not None),
            unlike=[recipe.prefix + name for name in results.UNLIKE],
        )
        self._parts = ExitStack()

    def __enter__(self) -> _ShardWriter:
        for part in (self.quarantine, self.candidates, self.scores):
            self._parts.enter_context(part)
        return self

    def __exit__(self, *error: Any) -> None:
        self._parts.__exit__(*error)

    def write(self, start: int, batch: pa.RecordBatch) -> None:
        """Take the rows of a batch, the first of which has the number ``start`` in its file."""
        bad = self._set_aside(batch)
        kept = batch if bad is None else batch.filter(pa.array(~bad))
        numbers = np.arange(start, start + batch.num_rows)
        if kept.num_rows:
            self._score(kept, numbers if bad is None else numbers[~bad])

    def _score(self, kept: pa.RecordBatch, numbers: Ints) -> None:
        cast = self.plan.coded(kept)
        self.glance.scored(cast)
        scores = self.detector.score_batch(cast, columns=False)
        rank = self._ranks(kept, scores)
        may = self.decider.candidates(scores.anomaly_score, self.shard.floor, rank)
        if self.recipe.scores:
            self.scores.write(self._scored(cast, scores, numbers, rank))
        if may.any():
            rows = decoded(kept.filter(pa.array(may)), self.schema)
            ours = self._ours(scores, numbers, may, rank)
            self.candidates.write(
                pa.RecordBatch.from_arrays([*rows.columns, *ours], schema=self.candidates.schema)
            )

    def _ranks(self, kept: pa.RecordBatch, scores: Scores) -> Floats | None:
        """What a budget goes by where rows have a value at stake."""
        name = self.recipe.at_stake
        return None if name is None else ranks(scores.p_value, values_at_stake(kept, name))

    def _scored(
        self, cast: pa.RecordBatch, scores: Scores, numbers: Ints, rank: Floats | None
    ) -> pa.RecordBatch:
        schema = self.scores.schema
        keys = pa.schema([field for field in schema if field.name in self.recipe.shown_keys])
        columns = [*decoded(cast.select(keys.names), keys).columns] if keys.names else []
        columns += self._ours(scores, numbers, np.ones(numbers.size, dtype=np.bool_), rank)
        if self.cut is not None:
            columns += [
                pa.array(scores.anomaly_score >= self.cut),
                pa.repeat(pa.scalar(self.cut), numbers.size),
            ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _ours(self, scores: Scores, numbers: Ints, rows: Bools, rank: Floats | None) -> list[pa.Array]:
        added = results.score_columns(scores, rows)
        added |= results.identity_columns(self.shard.file.key, numbers[rows])
        if rank is not None:
            added[RANK] = pa.array(rank[rows])
        return [added[name].cast(kind) for name, kind in self.recipe.known.items()]

    def _set_aside(self, batch: pa.RecordBatch) -> Bools | None:
        """Write the rows that break a rule; returns where they are, bool [n], None where there are none."""
        misfit = self.plan.misfits(batch)
        odd = pc.any(misfit).as_py()
        fitting = batch.filter(pc.invert(misfit)) if odd else batch
        broken, why = bad_rows(self.rules, self._seen(fitting))
        if not odd and not pc.any(broken).as_py():
            return None
        mask, reasons = _merged(misfit, broken, why, self.plan.misfit_reasons(batch))
        rows = pa.array(mask)
        extended = [*decoded(batch.filter(rows), self.schema).columns, reasons.filter(rows)]
        self.glance.set_aside(extended[-1])
        self.quarantine.write(pa.RecordBatch.from_arrays(extended, schema=self.quarantine.schema))
        return mask

    def _seen(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The cast columns, and the others as they came: what row rules look at."""
        cast = self.plan.coded(batch)
        others = [batch.column(name) for name in self.plan.extra]
        names = [*self.plan.expected.names, *self.plan.extra]
        return pa.RecordBatch.from_arrays([*cast.columns, *others], names=names)


def scores_schema(detector: VAEDetector, recipe: Recipe, decided: bool = True) -> pa.Schema:
    """Columns of the scores; those of the decision are there once it has been made."""
    expected, _ = expected_schema(detector)
    keys = [field for field in expected if field.name in recipe.shown_keys]
    decision = {name: results.type_of(name) for name in (results.DECISION if decided else ())}
    ours = {**recipe.known, **decision}
    return pa.schema([*keys, *((recipe.prefix + name, kind) for name, kind in ours.items())])


def _without_text(fields: list[pa.Field]) -> list[str]:
    """Names of columns that few rows are better written plainly of: 21 in place of 36 ns a scored row."""
    return [field.name for field in fields if pa.types.is_primitive(field.type)]


def _staged_fields(recipe: Recipe) -> list[pa.Field]:
    return [pa.field(results.staged_name(name), kind) for name, kind in recipe.known.items()]


def _merged(
    misfit: pa.BooleanArray, broken: pa.BooleanArray, why: pa.Array, unfit: pa.Array
) -> tuple[Bools, pa.Array]:
    """Masks and reasons of a whole batch, from its misfits and those of its fitting rows."""
    odd = np.asarray(misfit.to_numpy(zero_copy_only=False), dtype=np.bool_)
    mask, reasons = odd.copy(), unfit.to_numpy(zero_copy_only=False).astype(object)
    mask[~odd] = np.asarray(broken.to_numpy(zero_copy_only=False), dtype=np.bool_)
    reasons[~odd] = why.to_numpy(zero_copy_only=False)
    return mask, pa.array(reasons, pa.string())


# --- finishing --------------------------------------------------------------------------------------------


def finish_shard(recipe: Recipe, stamp: Stamp, shard: Shard) -> None:
    """By the line drawn, make staged flags and contributions of a shard's candidates, and mark its scores."""
    detector = _detector(recipe)
    if Decider.of(recipe.decision, detector.calibration_).fixed() is None:
        _mark_scores(recipe, stamp, shard, scores_schema(detector, recipe))
    source = shard.staged(recipe.stage, "candidates")
    if source.exists():
        with _one_core(), open_table(source) as reader:
            _explain(recipe, stamp, shard, reader, detector)


def _explain(recipe: Recipe, stamp: Stamp, shard: Shard, reader: TableReader, detector: VAEDetector) -> None:
    schema = pa.schema([field for field in reader.schema if not results.is_staged(field.name)])
    flags_path, shares_path = (shard.staged(recipe.stage, table) for table in ("flags", "contributions"))
    with (
        PartWriter(flags_path, flagged_schema(schema)) as flags,
        PartWriter(shares_path, CONTRIBUTIONS, unlike=UNLIKE_SHARES) as shares,
    ):
        for batch in _beyond(reader, stamp):
            rows, losses = flags_of(detector, batch, schema, stamp, recipe.keys, recipe.sensitive)
            flags.write(rows)
            shares.write(losses)


def _mark_scores(recipe: Recipe, stamp: Stamp, shard: Shard, schema: pa.Schema) -> None:
    """Give a shard's scores the columns of the decision."""
    path = shard.staged(recipe.stage, "scores")
    if not path.exists():
        return
    marked = shard.staged(recipe.stage, "marked")  # aside: a cluster may run a shard twice
    unlike = [recipe.prefix + name for name in results.UNLIKE]
    with open_table(path) as reader, PartWriter(marked, schema, unlike=unlike) as writer:
        if reader.schema.names == schema.names:
            return
        for batch in reader.batches():
            flagged = stamp.flags(batch, lambda name: recipe.prefix + name)
            cut = pa.repeat(pa.scalar(stamp.threshold), batch.num_rows)
            columns = [*batch.columns, flagged, cut]
            writer.write(pa.RecordBatch.from_arrays(columns, schema=schema))
    marked.replace(path)


def _beyond(reader: TableReader, stamp: Stamp) -> Iterator[pa.RecordBatch]:
    """Candidates that are flagged, in batches worth explaining at once."""
    for batch in reader.batches():
        score = batch.column(results.staged_name("anomaly_score"))
        shown = pc.greater_equal(score, stamp.shown_from)
        flagged = batch.filter(pc.and_(shown, stamp.flags(batch, results.staged_name)))
        for start in range(0, flagged.num_rows, _EXPLAINED_ROWS):
            yield flagged.slice(start, _EXPLAINED_ROWS)
