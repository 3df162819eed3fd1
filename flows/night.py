"""One night, file by file: read, cast, rule, score, decide, explain, write. No file is ever held whole.

Each file is staged by itself, so that corruption found late discards that file alone; nothing is visible
before `commit` replaces the night's tables one by one, the manifest last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows import progress, results
from flows.casts import CastPlan, common_schema, plan_casts
from flows.decision import Decider, calibration_facts
from flows.errors import InputError
from flows.expectations import RowRule, bad_rows, row_rules
from flows.manifest import Manifest, ManifestInput, ManifestModel, ManifestOutput, manifest_key
from flows.tables import InputFile, PartWriter, file_digest, open_table

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.storage import Store
    from vae_core import VAEDetector

__all__ = ["FileAccount", "Night", "expected_schema"]


@dataclass
class FileAccount:
    """What became of one file."""

    file: InputFile
    rows: int | None = None
    scored: int = 0
    quarantined: int = 0
    casts: tuple[str, ...] = ()
    reason: str | None = None
    plan: CastPlan | None = None
    schema: pa.Schema | None = None

    @property
    def status(self) -> Literal["scored", "rejected"]:
        """``scored`` or ``rejected``."""
        return "scored" if self.reason is None else "rejected"


def expected_schema(detector: VAEDetector) -> tuple[pa.Schema, list[str]]:
    """Columns that a file must have for a detector, and those among them that may be missing (keys)."""
    from vae_core import ColumnKind

    wanted = [column for column in detector.schema_.columns if column.kind is not ColumnKind.IGNORED]
    schema = pa.schema([(column.name, column.arrow_type) for column in wanted])
    return schema, [column.name for column in wanted if not column.is_feature]


@dataclass
class Night:
    """A night in the making.

    Parameters
    ----------
    pipeline
        Whose night it is.
    day
        The logical date.
    detector, model
        The fitted detector, and which version of which model it is.
    suite
        Expectations whose row rules send rows to quarantine.
    stage
        An empty local folder on the file system of the results.
    """

    pipeline: Pipeline
    day: date
    detector: VAEDetector
    model: ManifestModel
    suite: dict[str, Any]
    stage: Path
    accounts: list[FileAccount] = field(default_factory=list)
    scored_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    flagged: int = 0
    cut: float = float("inf")

    def __post_init__(self) -> None:
        self.decider = Decider.of(self.pipeline.decision.model_dump(), self.detector.calibration_)

    def read(self, files: Sequence[InputFile]) -> None:
        """Score all files into the stage; a bad one is rejected and the others go on."""
        for i, file in enumerate(files, len(self.accounts)):
            account = FileAccount(file)
            self.accounts.append(account)
            mark = self.decider.mark()
            try:
                self._read_file(i, account)
            except InputError as error:
                self.decider.back_to(mark)
                self._reject(i, account, str(error))

    def reject(self, file: InputFile, reason: str) -> None:
        """Account for a file that is not to be read."""
        self.accounts.append(FileAccount(file, reason=reason))

    def _reject(self, i: int, account: FileAccount, reason: str) -> None:
        named = reason if account.file.path in reason else f"{account.file.path}: {reason}"
        account.reason, account.scored, account.quarantined = named, 0, 0
        for path in self.stage.glob(f"*-{i}.parquet"):
            path.unlink()

    def _read_file(self, i: int, account: FileAccount) -> None:
        with open_table(account.file) as reader:
            account.rows, account.schema = reader.num_rows, reader.schema
            results.refuse_clashes(reader.schema.names, self.pipeline.prefix)
            expected, optional = expected_schema(self.detector)
            plan = account.plan = plan_casts(expected, reader.schema, optional)
            account.casts = tuple(str(cast) for cast in plan.casts)
            self._common_schema()
            rules = row_rules(self.suite, _seen_schema(plan, reader.schema))
            quarantine = pa.schema([*reader.schema, (results_name(results.BROKEN), pa.string())])
            with (
                PartWriter(self.stage / f"candidates-{i}.parquet", self._staged(reader.schema)) as candidates,
                PartWriter(self.stage / f"quarantine-{i}.parquet", quarantine) as bad,
                PartWriter(self.stage / f"scores-{i}.parquet", self._scores_schema(plan)) as scores,
            ):
                for start, batch in _numbered(reader.batches()):
                    good = self._quarantine(batch, plan, rules, bad)
                    self._score(account, start, batch, good, candidates, scores)
                    progress.advance(f"scoring {self.day}", start + batch.num_rows, reader.num_rows)
            account.quarantined = bad.rows

    def _staged(self, schema: pa.Schema) -> pa.Schema:
        return pa.schema([*schema, *((results_name(name), kind) for name, kind in STAGED.items())])

    def _scores_schema(self, plan: CastPlan) -> pa.Schema:
        keys = [field for field in plan.expected if field.name in self._shown_keys()]
        return pa.schema([*keys, *((results_name(name), kind) for name, kind in STAGED.items())])

    def _shown_keys(self) -> list[str]:
        columns = self.pipeline.columns
        return [name for name in columns.key if name not in columns.sensitive]

    def _quarantine(
        self, batch: pa.RecordBatch, plan: CastPlan, rules: tuple[RowRule, ...], bad: PartWriter
    ) -> np.ndarray[Any, Any]:
        """Write the rows that break a rule; returns where the good ones are, bool [n]."""
        misfit = plan.misfits(batch)
        fitting = batch.filter(pc.invert(misfit)) if pc.any(misfit).as_py() else batch
        broken, why = bad_rows(rules, _seen(plan, fitting))
        mask, reasons = _merged(misfit, broken, why)
        if mask.any():
            rows = pa.array(mask)
            extended = [*batch.filter(rows).columns, reasons.filter(rows)]
            bad.write(pa.RecordBatch.from_arrays(extended, schema=bad.schema))
        good: np.ndarray[Any, Any] = ~mask
        return good

    def _score(
        self,
        account: FileAccount,
        start: int,
        batch: pa.RecordBatch,
        good: np.ndarray[Any, Any],
        candidates: PartWriter,
        written: PartWriter,
    ) -> None:
        kept = batch if good.all() else batch.filter(pa.array(good))
        if kept.num_rows == 0 or account.plan is None:
            return
        cast = account.plan.apply(kept)
        scores = self.detector.score_batch(cast)
        may = self.decider.candidates(scores.anomaly_score)
        numbers = start + np.flatnonzero(good)
        account.scored += kept.num_rows
        added = self._added(account, scores, numbers)
        keys = [cast.column(name) for name in self._shown_keys() if name in cast.schema.names]
        written.write(pa.RecordBatch.from_arrays([*keys, *added], schema=written.schema))
        if may.any():
            rows = pa.RecordBatch.from_arrays([*kept.columns, *added], schema=candidates.schema)
            candidates.write(rows.filter(pa.array(may)))

    @staticmethod
    def _added(account: FileAccount, scores: Any, numbers: np.ndarray[Any, Any]) -> list[pa.Array]:
        everything = np.ones(len(numbers), dtype=np.bool_)
        columns = results.score_columns(scores, everything)
        columns |= results.identity_columns(account.file.key, numbers)
        return [columns[name].cast(kind) for name, kind in STAGED.items()]

    def decide(self) -> None:
        """Draw the line, explain the rows beyond it, and write the night's tables into the stage."""
        self.cut = self.decider.threshold()
        self._write_flags()
        self._write_scores()
        self._write_quarantine()
        self._write_rejected()

    def _scored(self) -> list[tuple[int, FileAccount]]:
        return [(i, account) for i, account in enumerate(self.accounts) if account.status == "scored"]

    def _write_flags(self) -> None:
        scored = self._scored()
        if not scored:
            return
        common = self._common_schema()
        schema = pa.schema([*common, *self._flag_fields()])
        with (
            PartWriter(self.stage / "flags.parquet", schema, keep_empty=True) as flags,
            PartWriter(self.stage / "contributions.parquet", CONTRIBUTIONS, keep_empty=True) as shares,
        ):
            for i, account in scored:
                for batch in _staged_batches(self.stage / f"candidates-{i}.parquet"):
                    self._explain(account, batch, common, flags, shares)
        self.flagged = flags.rows

    def _common_schema(self) -> pa.Schema:
        """Columns of all files not rejected; types that differ give way to that of the training data."""
        schemas = [account.schema for _, account in self._scored() if account.schema is not None]
        trained = expected_schema(self.detector)[0]
        unlike = {name for name in trained.names if len(_types_of(name, schemas)) > 1}
        return common_schema([_retyped(schema, trained, unlike) for schema in schemas])

    def _flag_fields(self) -> list[pa.Field]:
        return [pa.field(self.pipeline.prefix + name, _type_of(name)) for name in results.added_names()]

    def _explain(
        self,
        account: FileAccount,
        batch: pa.RecordBatch,
        common: pa.Schema,
        flags: PartWriter,
        shares: PartWriter,
    ) -> None:
        score = batch.column(results_name("anomaly_score"))
        beyond = batch.filter(pc.greater_equal(score, self.cut))
        if beyond.num_rows == 0 or account.plan is None or account.schema is None:
            return
        original = beyond.select(account.schema.names)
        cast = account.plan.apply(original)
        columns = self._flag_columns(beyond, cast)
        carried = plan_casts(common, original.schema, optional=common.names).apply(original)
        added = [columns[name].cast(_type_of(name)) for name in results.added_names()]
        flags.write(pa.RecordBatch.from_arrays([*carried.columns, *added], schema=flags.schema))
        shares.write(self._shares(columns["row_id"], cast))

    def _flag_columns(self, beyond: pa.RecordBatch, cast: pa.RecordBatch) -> dict[str, pa.Array]:
        rows, columns = beyond.num_rows, self.pipeline.columns
        found = {name: beyond.column(results_name(name)) for name in STAGED}
        found |= results.flag_columns(self.detector.explain(cast, results.REASONS), columns.sensitive)
        found["row_key"] = results.row_keys(cast, columns.key, columns.sensitive)
        constant = {
            "is_anomaly": True,
            "threshold": self.cut,
            "model_name": self.model.name,
            "model_version": self.model.version,
            "run_id": self.model.run_id,
            "scored_at": self.scored_at,
        }
        return found | {
            name: pa.repeat(pa.scalar(value, _type_of(name)), rows) for name, value in constant.items()
        }

    def _shares(self, row_id: pa.Array, cast: pa.RecordBatch) -> pa.RecordBatch:
        losses = self.detector.score_batch(cast).column_losses
        over = np.maximum(losses - self.detector.usual_losses_, 0.0)
        share = over / np.maximum(over.sum(axis=1, keepdims=True), 1e-12)
        names = [column.name for column in self.detector.schema_.features]
        return results.contributions(row_id, names, losses, share)

    def _write_scores(self) -> None:
        scored = self._scored()
        if not scored:
            return
        plan = scored[0][1].plan
        keys = [] if plan is None else [field for field in plan.expected if field.name in self._shown_keys()]
        ours = STAGED | {"is_anomaly": pa.bool_(), "threshold": pa.float64()}
        schema = pa.schema([*keys, *((self.pipeline.prefix + name, kind) for name, kind in ours.items())])
        with PartWriter(self.stage / "scores.parquet", schema, keep_empty=True) as writer:
            for i, _ in scored:
                for batch in _staged_batches(self.stage / f"scores-{i}.parquet"):
                    flagged = pc.greater_equal(batch.column(results_name("anomaly_score")), self.cut)
                    cut = pa.repeat(pa.scalar(self.cut), batch.num_rows)
                    writer.write(pa.RecordBatch.from_arrays([*batch.columns, flagged, cut], schema=schema))

    def _write_quarantine(self) -> None:
        parts = [
            (self.stage / f"quarantine-{i}.parquet", account)
            for i, account in self._scored()
            if account.quarantined
        ]
        if not parts:
            return
        common = common_schema([account.schema for _, account in parts if account.schema is not None])
        added = [self.pipeline.prefix + name for name in (results.BROKEN, "batch_file")]
        schema = pa.schema([*common, *((name, pa.string()) for name in added)])
        with PartWriter(self.stage / "quarantine.parquet", schema) as writer:
            for path, account in parts:
                for batch in _staged_batches(path):
                    writer.write(_with_file(batch, account.file.key, common, schema))

    def _write_rejected(self) -> None:
        rejected = [account for account in self.accounts if account.status == "rejected"]
        if not rejected:
            return
        rows = [
            {"path": one.file.path, "size": one.file.size, "digest": one.file.digest, "reason": one.reason}
            for one in rejected
        ]
        schema = pa.schema(
            [("path", pa.string()), ("size", pa.int64()), ("digest", pa.string()), ("reason", pa.string())]
        )
        with PartWriter(self.stage / "rejected.parquet", schema) as writer:
            writer.write(pa.RecordBatch.from_pylist(rows, schema=schema))

    def commit(self, store: Store, before: Manifest | None) -> Manifest:
        """Replace the night's tables, each at once; the manifest last."""
        outputs = []
        for table in TABLES:
            key, part = f"{table}/dt={self.day}/part-0.parquet", self.stage / f"{table}.parquet"
            if part.exists():
                outputs.append(_output(part, key))
                store.commit(part, key)
            elif store.exists(key):
                store.delete(key)
        manifest = self._manifest(outputs, before)
        store.write_bytes(manifest_key(self.day), manifest.to_json().encode())
        return manifest

    def _manifest(self, outputs: list[ManifestOutput], before: Manifest | None) -> Manifest:
        scored, doubt = [account for _, account in self._scored()], self.decider.doubt()
        return Manifest(
            pipeline=self.pipeline.name,
            date=self.day,
            files_in=len(self.accounts),
            files_scored=len(scored),
            files_rejected=len(self.accounts) - len(scored),
            rows_in=sum(account.rows or 0 for account in scored),
            rows_scored=sum(account.scored for account in scored),
            rows_quarantined=sum(account.quarantined for account in scored),
            rows_flagged=self.flagged,
            inputs=tuple(_input(account) for account in self.accounts),
            outputs=tuple(outputs),
            pipeline_digest=self.pipeline.digest(),
            model=self.model,
            decision=self.pipeline.decision.model_dump(exclude_none=True),
            certified=doubt is None,
            not_certified=doubt,
            calibration=calibration_facts(self.detector.calibration_),
            scored_at=self.scored_at.isoformat(timespec="seconds"),
            history=() if before is None else (*before.history, _past(before)),
        )


STAGED = {name: pa.float64() for name in results.SCORES} | {
    "row_id": pa.string(),
    "batch_file": pa.string(),
    "row_number": pa.int64(),
}
TABLES = ("flags", "contributions", "scores", "quarantine", "rejected")
CONTRIBUTIONS = pa.schema(
    [("row_id", pa.string()), ("column", pa.string()), ("loss", pa.float64()), ("share", pa.float64())]
)


def results_name(name: str) -> str:
    """Name of a staged column beside a table's own, where any name may be taken."""
    return f"\x00{name}"


def _types_of(name: str, schemas: Sequence[pa.Schema]) -> set[pa.DataType]:
    return {schema.field(name).type for schema in schemas if name in schema.names}


def _retyped(schema: pa.Schema, trained: pa.Schema, names: set[str]) -> pa.Schema:
    """A schema whose columns of these names have their types of the training data."""
    return pa.schema([trained.field(field.name) if field.name in names else field for field in schema])


def _type_of(name: str) -> pa.DataType:
    if name in STAGED:
        return STAGED[name]
    if name == "scored_at":
        return pa.timestamp("us", "UTC")
    if name == "is_anomaly":
        return pa.bool_()
    return pa.float64() if name == "threshold" or name.endswith("_share") else pa.string()


def _seen_schema(plan: CastPlan, actual: pa.Schema) -> pa.Schema:
    return pa.schema([*plan.expected, *(actual.field(name) for name in plan.extra)])


def _seen(plan: CastPlan, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The cast columns, and the others as they came: what row rules look at."""
    cast = plan.apply(batch)
    others = [batch.column(name) for name in plan.extra]
    return pa.RecordBatch.from_arrays([*cast.columns, *others], schema=_seen_schema(plan, batch.schema))


def _merged(misfit: pa.BooleanArray, broken: pa.BooleanArray, why: pa.Array) -> tuple[Any, pa.Array]:
    """Masks and reasons of a whole batch, from those of its fitting rows."""
    odd = np.asarray(misfit.to_numpy(zero_copy_only=False), dtype=np.bool_)
    mask, reasons = odd.copy(), np.full(odd.size, "a value that does not fit its column's type", dtype=object)
    mask[~odd] = np.asarray(broken.to_numpy(zero_copy_only=False), dtype=np.bool_)
    reasons[~odd] = why.to_numpy(zero_copy_only=False)
    return mask, pa.array(reasons, pa.string())


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    for batch in batches:
        yield start, batch
        start += batch.num_rows


def _staged_batches(path: Path) -> Iterator[pa.RecordBatch]:
    if not path.exists():
        return
    with open_table(path) as reader:
        yield from reader.batches()


def _with_file(batch: pa.RecordBatch, key: str, common: pa.Schema, schema: pa.Schema) -> pa.RecordBatch:
    broken = results_name(results.BROKEN)
    original = batch.select([name for name in batch.schema.names if name != broken])
    carried = plan_casts(common, original.schema, optional=common.names).apply(original)
    named = pa.repeat(pa.scalar(key), batch.num_rows)
    return pa.RecordBatch.from_arrays([*carried.columns, batch.column(broken), named], schema=schema)


def _output(part: Path, key: str) -> ManifestOutput:
    with open_table(part) as reader:
        return ManifestOutput(path=key, rows=reader.num_rows, digest=file_digest(part))


def _input(account: FileAccount) -> ManifestInput:
    file, cast = account.file, f"cast {', '.join(account.casts)}" if account.casts else None
    return ManifestInput(
        path=file.path,
        size=file.size,
        digest=file.digest,
        rows=account.rows,
        status=account.status,
        reason=account.reason or cast,
    )


def _past(manifest: Manifest) -> dict[str, Any]:
    """What history keeps of a night that is scored again."""
    return manifest.model_dump(
        mode="json",
        include={
            "rows_in",
            "rows_scored",
            "rows_quarantined",
            "rows_flagged",
            "pipeline_digest",
            "model",
            "scored_at",
        },
    )
