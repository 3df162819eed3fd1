"""One night: its files are cut into shards, an engine scores them, one writer puts their parts together.

No file is ever held whole. Each shard is staged by itself, so that corruption found late discards its file
alone, and the tables are the same whoever scored the shards, and in which order; nothing is visible before
`flows.commit` replaces the night's tables, the manifest last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from flows import progress, results
from flows.breaker import KEPT, SHIFTED, incident_of
from flows.casts import OF_THE_DATA, CastPlan, carry, carrying_schema, holding_schema
from flows.commit import TABLES, part_key
from flows.decision import Decider, calibration_facts
from flows.engines import Engine, engine_of
from flows.errors import InputError, SchemaError, legible
from flows.flagging import CONTRIBUTIONS, UNLIKE_SHARES, Stamp, expected_schema
from flows.manifest import Manifest, ManifestInput, ManifestModel, ManifestOutput
from flows.remarks import Glimpse, Overview, remarks
from flows.results import staged_name
from flows.shards import (
    SHARD_ROWS,
    Recipe,
    Shard,
    ShardScores,
    finish_shard,
    planned,
    put_model,
    reason_of,
    score_shard,
    scores_schema,
    shards_of,
)
from flows.tables import InputFile, PartWriter, open_table

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.reference import Reference
    from vae_core import VAEDetector

__all__ = ["FileAccount", "Night", "expected_schema"]


@dataclass
class FileAccount:
    """What became of one file."""

    file: InputFile
    rows: int | None = None
    casts: tuple[str, ...] = ()
    reason: str | None = None
    plan: CastPlan | None = None
    schema: pa.Schema | None = None
    shards: list[tuple[Shard, ShardScores]] = field(default_factory=list)
    seen: Overview = field(default_factory=Overview)
    blamed: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    @property
    def status(self) -> Literal["scored", "rejected"]:
        """``scored`` or ``rejected``."""
        return "scored" if self.reason is None else "rejected"

    @property
    def scored(self) -> int:
        """Rows scored."""
        return sum(scores.tally.rows for _, scores in self.shards)

    @property
    def quarantined(self) -> int:
        """Rows in quarantine."""
        return sum(scores.quarantined for _, scores in self.shards)

    @property
    def odd(self) -> int:
        """Rows scored beyond the level of odd ones."""
        return sum(scores.tally.odd for _, scores in self.shards)


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
    engine
        Who scores the shards; by default what the pipeline's ``engine`` asks for.
    reference
        What the training rows were like, where that was kept.
    flow_run_id
        Of the run of Prefect's that scores, where one does.
    """

    pipeline: Pipeline
    day: date
    detector: VAEDetector
    model: ManifestModel
    suite: dict[str, Any]
    stage: Path
    engine: Engine | None = None
    accounts: list[FileAccount] = field(default_factory=list)
    scored_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    flagged: int = 0
    cut: float = float("inf")
    incident: dict[str, Any] | None = None
    settled: int = 0
    schemas: dict[pa.Schema, None] = field(default_factory=dict)
    scores: list[Path] = field(default_factory=list)
    reference: Reference | None = None
    flow_run_id: str | None = None

    def __post_init__(self) -> None:
        decision, columns = self.pipeline.decision.model_dump(), self.pipeline.columns
        self.decider = Decider.of(decision, self.detector.calibration_)
        self.recipe = Recipe(
            stage=str(self.stage),
            model=str(self.stage / "model"),
            digest=put_model(self.detector, self.stage / "model"),
            suite=self.suite,
            decision=decision,
            keys=tuple(columns.key),
            sensitive=tuple(columns.sensitive),
            prefix=self.pipeline.prefix,
            scores=self.pipeline.retention.scores != "none",
            at_stake=columns.value_at_stake,
        )

    @property
    def seconds(self) -> list[float]:
        """How long each shard took, reading and writing included, in order."""
        return [scores.seconds for account in self.accounts for _, scores in account.shards]

    def read(self, files: Sequence[InputFile]) -> None:
        """Score all files into the stage; a bad one is rejected and the others go on."""
        self.accounts += [FileAccount(file) for file in files]
        score = partial(score_shard, self.recipe)
        with closing(self._engine().map(score, self._shards(self.settled))) as outcomes:
            for shard, scores in outcomes:
                self._settle(shard.number)
                self._account(shard, scores)
        self._settle(len(self.accounts))

    def reject(self, file: InputFile, reason: str) -> None:
        """Account for a file that is not to be read."""
        self.accounts.append(FileAccount(file, reason=reason))

    def _engine(self) -> Engine:
        if self.engine is None:
            self.engine = engine_of(self.pipeline.engine, self.pipeline.output_path)
        return self.engine

    def _shards(self, first: int) -> Iterator[Shard]:
        """Open the files one after the other, as their shards are asked for."""
        for i in range(first, len(self.accounts)):
            account = self.accounts[i]
            if account.reason is None:
                try:
                    shards = self._opened(i, account)
                except (InputError, *OF_THE_DATA) as error:
                    account.reason = reason_of(account.file, error)
                    continue
                for shard in shards:
                    if account.reason is None:
                        yield replace(shard, floor=self.decider.floor())

    def _opened(self, i: int, account: FileAccount) -> list[Shard]:
        with open_table(account.file) as reader:
            account.rows, account.schema = reader.num_rows, reader.schema
            results.refuse_clashes(reader.schema.names, self.pipeline.prefix)
            account.plan, _ = planned(self.detector, reader.schema, self.suite)
            account.casts = tuple(str(cast) for cast in account.plan.casts)
            return shards_of(i, account.file, reader.row_groups)

    def _account(self, shard: Shard, scores: ShardScores) -> None:
        account = self.accounts[shard.number]
        account.reason = account.reason or scores.reason
        account.seen.add(scores.glimpse)
        account.shards.append((shard, replace(scores, glimpse=Glimpse())))
        done = shard.groups[0].start + shard.rows
        progress.advance(f"scoring {self.day}", done, account.rows or done)

    def _settle(self, end: int) -> None:
        """Decide in order which files before the one numbered ``end`` count, now that they are read."""
        for i in range(self.settled, end):
            account = self.accounts[i]
            account.reason = account.reason or self._unlike_others(account.schema)
            if account.reason is None:
                for _, scores in account.shards:
                    self.decider.take(scores.tally)
                account.warnings = self._remarks(account)
            else:
                self._reject(i, account, account.reason)
        self.settled = max(self.settled, end)

    def _unlike_others(self, schema: pa.Schema | None) -> str | None:
        """Why a file has no columns in common with those before it; where it has, it is one of them."""
        if schema is None or schema in self.schemas:
            return None
        try:
            self._common_schema([*self.schemas, schema])
        except SchemaError as error:
            return str(error)
        self.schemas[schema] = None
        return None

    def _reject(self, i: int, account: FileAccount, reason: str) -> None:
        named = legible(account.file.path)
        account.reason = reason if named in reason else f"{named}: {legible(reason)}"
        account.shards.clear()
        account.seen = Overview()
        for path in self.stage.glob(f"*-{i}-*.parquet"):
            path.unlink()

    def decide(self) -> None:
        """Draw the line, explain the rows beyond it, and write the night's tables into the stage."""
        self._settle(len(self.accounts))
        self.cut = self.decider.threshold()
        self.incident = incident_of(self.pipeline, self.decider.odd, self.decider.rows)
        self._finish()
        self._write_flags()
        for _, account in self._scored():
            account.warnings += self._too_many(account)
        self._write_scores()
        self._write_quarantine()
        self._write_rejected()

    def _finish(self) -> None:
        """Have the flagged rows of all shards explained."""
        model = self.model
        level = self.decider.level_of(KEPT) if self.incident else float("-inf")
        stamp = Stamp(
            self.cut,
            model.name,
            model.version,
            model.run_id,
            self.scored_at,
            shown_from=level,
            line=self.decider.line(),
        )
        finish = partial(finish_shard, self.recipe, stamp)
        shards = [shard for _, account in self._scored() for shard, _ in account.shards]
        with closing(self._engine().map(finish, shards)) as outcomes:
            for done, _ in enumerate(outcomes, 1):
                progress.advance(f"explaining {self.day}", done, len(shards))

    def _scored(self) -> list[tuple[int, FileAccount]]:
        return [(i, account) for i, account in enumerate(self.accounts) if account.status == "scored"]

    def _write_flags(self) -> None:
        scored = self._scored()
        if not scored:
            return
        common = self._common_schema([*self.schemas])
        ours = [
            pa.field(self.pipeline.prefix + name, results.type_of(name)) for name in results.added_names()
        ]
        path, shares = self.stage / "flags.parquet", self.stage / "contributions.parquet"
        with PartWriter(path, pa.schema([*common, *ours]), keep_empty=True) as flags:
            for _, account in scored:
                for batch in self._staged("flags", account):
                    account.blamed.update(
                        batch.column(staged_name("reason_1_column")).drop_null().to_pylist()
                    )
                    flags.write(_carried(batch, common, flags.schema))
        with PartWriter(shares, CONTRIBUTIONS, keep_empty=True, unlike=UNLIKE_SHARES) as writer:
            for _, account in scored:
                for batch in self._staged("contributions", account):
                    writer.write(batch)
        self.flagged = flags.rows

    def _remarks(self, account: FileAccount) -> list[str]:
        """What is odd about a file that is scored; what was seen of it is not kept any longer."""
        learned, known = expected_schema(self.detector)[0], self.detector.schema_.arrow.names
        schema, plan = account.schema or learned, account.plan
        seen, account.seen = account.seen.glimpse(), Overview()
        return remarks(
            seen,
            learned=learned,
            new={one.name: one.type for one in schema if one.name not in known},
            missing=() if plan is None else plan.missing,
            reference=self.reference,
        )

    def _too_many(self, account: FileAccount) -> list[str]:
        """Say that more rows of a file are odd than may be flagged of a night."""
        share = account.odd / account.scored if account.scored else 0.0
        if share <= self.pipeline.alerts.max_flag_share:
            return []
        blamed = ", ".join(name for name, _ in account.blamed.most_common(3))
        return [f"{share:.0%} of the rows are odd" + (f", mostly for {blamed}" if blamed else "")]

    def _staged(self, table: str, account: FileAccount) -> Iterator[pa.RecordBatch]:
        for shard, _ in account.shards:
            yield from _batches(shard.staged(self.recipe.stage, table))

    def _common_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        """Columns of all schemas; of types that differ, the training's."""
        trained = expected_schema(self.detector)[0]
        unlike = {name for name in trained.names if len(_types_of(name, schemas)) > 1}
        return carrying_schema([_retyped(schema, trained, unlike) for schema in schemas])

    def _write_scores(self) -> None:
        if not self._scored() or not self.recipe.scores:
            return
        schema = scores_schema(self.detector, self.recipe)
        for number, run in enumerate(self._runs()):
            part = self.stage / f"scores.{number}.parquet"
            self.scores.append(part)
            if len(run) == 1 and run[0].exists():
                run[0].rename(part)
                continue
            unlike = [self.pipeline.prefix + name for name in results.UNLIKE]
            with PartWriter(part, schema, keep_empty=True, unlike=unlike) as writer:
                for path in run:
                    for batch in _batches(path):
                        writer.write(batch)

    def _runs(self) -> list[list[Path]]:
        """Staged scores that make one object each: those of whole shards, shorter ones together."""
        runs: list[list[Path]] = [[]]
        rows = 0
        for _, account in self._scored():
            for shard, _ in account.shards:
                if rows >= SHARD_ROWS:
                    runs.append([])
                    rows = 0
                runs[-1].append(shard.staged(self.recipe.stage, "scores"))
                rows += shard.rows
        return runs

    def _write_quarantine(self) -> None:
        accounts = [account for _, account in self._scored() if account.quarantined]
        if not accounts:
            return
        schemas = dict.fromkeys(account.schema for account in accounts if account.schema is not None)
        common = holding_schema([*schemas])  # a value set aside may not fit the type of the training data
        added = [self.pipeline.prefix + name for name in (results.BROKEN, "batch_file")]
        schema = pa.schema([*common, *((name, pa.string()) for name in added)])
        with PartWriter(self.stage / "quarantine.parquet", schema) as writer:
            for account in accounts:
                for batch in self._staged("quarantine", account):
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

    def parts(self) -> dict[str, Path]:
        """The night's tables in the stage, by the keys that they will have; scores may be several."""
        staged = {part_key(table, self.day): self.stage / f"{table}.parquet" for table in TABLES}
        first = part_key("scores", self.day)
        numbered = {first.replace("part-0", f"part-{i}"): path for i, path in enumerate(self.scores)}
        return {key: part for key, part in staged.items() if part.exists()} | numbered

    def manifest(
        self,
        outputs: Sequence[ManifestOutput],
        history: tuple[dict[str, Any], ...] = (),
        changes: dict[str, Any] | None = None,
    ) -> Manifest:
        """The night's account; ``history`` and ``changes`` tell of the scorings before it."""
        scored = [account for _, account in self._scored()]
        doubt = SHIFTED if self.incident else self.decider.doubt()
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
            flow_run_id=self.flow_run_id,
            changes=changes,
            incident=self.incident,
            selection=self.decider.selection(),
            history=history,
        )


def _types_of(name: str, schemas: Sequence[pa.Schema]) -> set[pa.DataType]:
    return {schema.field(name).type for schema in schemas if name in schema.names}


def _retyped(schema: pa.Schema, trained: pa.Schema, names: set[str]) -> pa.Schema:
    """A schema whose columns of these names have their types of the training data."""
    return pa.schema([trained.field(field.name) if field.name in names else field for field in schema])


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if not path.exists():
        return
    with open_table(path) as reader:
        yield from reader.batches()


def _carried(batch: pa.RecordBatch, common: pa.Schema, schema: pa.Schema) -> pa.RecordBatch:
    """Staged rows, their own columns in the types that all files share, ours under their final names."""
    own = batch.select([name for name in batch.schema.names if not results.is_staged(name)])
    ours = [
        column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if results.is_staged(name)
    ]
    carried = carry(own, common)
    return pa.RecordBatch.from_arrays([*carried.columns, *ours], schema=schema)


def _with_file(batch: pa.RecordBatch, key: str, common: pa.Schema, schema: pa.Schema) -> pa.RecordBatch:
    named = batch.append_column(staged_name("batch_file"), pa.repeat(pa.scalar(key), batch.num_rows))
    return _carried(named, common, schema)


def _input(account: FileAccount) -> ManifestInput:
    file, cast = account.file, f"cast {', '.join(account.casts)}" if account.casts else None
    return ManifestInput(
        path=file.path,
        size=file.size,
        digest=file.digest,
        rows=account.rows,
        status=account.status,
        reason=account.reason or cast,
        warnings=tuple(account.warnings),
    )
