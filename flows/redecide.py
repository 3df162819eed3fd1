"""Another policy for a night that is scored: the line moves, the scores stay.

A line that moves up needs the stored tables, and of the model its calibration. One that moves down needs the
reasons of the rows that are flagged now: these rows alone are read again, and shown to the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows import results
from flows.breaker import SHIFTED
from flows.casts import carry
from flows.commit import on_night, output_of, part_key, publish, rewritten
from flows.context import calibration_of, champion_detector, model_ref
from flows.decision import Decider
from flows.errors import ConfigError, InputError
from flows.flagging import CONTRIBUTIONS, Stamp, flags_of
from flows.manifest import manifest_key
from flows.reader import TableReader
from flows.report import certification_text, night_report, selection_text
from flows.reread import rows_again
from flows.sources import find_files
from flows.stake import RANK
from flows.storage import Store
from flows.tables import InputFile, PartWriter, input_file

if TYPE_CHECKING:
    from flows.config import Decision, Pipeline
    from flows.lease import Lease
    from flows.manifest import Manifest

__all__ = ["Redecided", "policy", "redecide"]


@dataclass(frozen=True)
class Redecided:
    """A night under a policy: its manifest before and after, and how many rows were read again."""

    before: Manifest
    manifest: Manifest
    status: Literal["redecided", "unchanged"]
    rows_read: int

    def report(self) -> dict[str, Any]:
        """What has happened as plain values."""
        now, then = night_report(self.manifest, self.status, 0.0, None), self.before
        head = ("date", "pipeline", "status", "model", "decision", "rows_scored", "rows_flagged")
        return {
            **{name: now[name] for name in head},
            "decision_before": then.decision,
            "rows_flagged_before": then.rows_flagged,
            "rows_read": self.rows_read,
            "certified": now["certified"],
            "not_certified": now["not_certified"],
            "selection": now["selection"],
            "certification": f"{selection_text(now)} {certification_text(now)}".strip(),
            "changes": self.manifest.changes,
        }


def policy(given: Mapping[str, float | None]) -> Decision | None:
    """Check a policy given by hand: ``{"contamination": 0.01, "budget": 50}``; None where nothing was.

    Raises
    ------
    ConfigError
        One sentence that names what was required.
    """
    from pydantic import ValidationError

    from flows.config import Decision

    asked = {name: value for name, value in given.items() if value is not None}
    try:
        return Decision.model_validate(asked) if asked else None
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "a policy"
        said = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        came = "" if "however" in said else f", however {first['input']} came"
        raise ConfigError(f"{name} must be {said}{came}") from None


def redecide(pipeline: Pipeline, day: date, decision: Decision | None = None) -> Redecided:
    """Apply a policy to the stored scores of a night; the tables become those of a new scoring with it.

    A night that tripped the breaker gets all the flags of the policy: somebody wants to see them.

    Parameters
    ----------
    decision
        The policy; by default that of the pipeline file.

    Raises
    ------
    ConfigError
        The night is not scored, has no scores any more, or was scored with other settings than these.
    InputError
        The line moves down, and a file that a flagged row came from has changed or is gone.
    """
    asked = pipeline if decision is None else pipeline.model_copy(update={"decision": decision})
    store = Store.of(pipeline.output_path)

    def work(lease: Lease, before: Manifest | None) -> Redecided:
        if before is None:
            raise ConfigError(
                f"a scored night was required, however {day} is not: vaewatch score --date {day}"
            )
        if before.decision == asked.decision.model_dump(exclude_none=True) and before.incident is None:
            return Redecided(before, before, "unchanged", 0)
        _check(asked, before)
        with store.stage(f"dt={day}") as stage:
            return _Line(asked, before, store, stage).moved(lease)

    return on_night(store, day, work)


def _check(pipeline: Pipeline, before: Manifest) -> None:
    """Refuse a night whose scores are gone, or that would come out otherwise if it was scored again."""
    from flows.config import Decision

    again = f"vaewatch score --date {before.date}"
    for table in {"scores", "flags", "contributions"} & before.pruned.keys():
        raise ConfigError(
            f"stored {table} were required, however `vaewatch prune` removed those of night {before.date} at "
            f"{before.pruned[table]}; to have them again, delete {manifest_key(before.date)} and {again}"
        )
    if not any(one.path.startswith("scores/") for one in before.outputs):
        raise ConfigError(
            f"stored scores were required, however night {before.date} has none; score it again: {again}"
        )
    as_then = pipeline.model_copy(update={"decision": Decision.model_validate(before.decision)})
    if as_then.digest() != before.pipeline_digest:
        raise ConfigError(
            f"a night scored with the settings of {pipeline.file} but for `decision` was required, however"
            f" others of them have changed since {before.scored_at}; score it again: {again}"
        )


@dataclass
class _Line:
    """The line of one night on its way to another place."""

    pipeline: Pipeline
    before: Manifest
    store: Store
    stage: Path

    def moved(self, lease: Lease) -> Redecided:
        """Write the tables that change, and commit them."""
        marked = self._mark_scores()
        new = self._newly_flagged()
        rows = self._write_flags(new)
        staged = {part_key(table, self.before.date): self.stage / f"{table}.parquet" for table in _FLAGS}
        manifest = self._manifest({**staged, **marked}, rows, new.num_rows)
        publish(self.store, lease, manifest, {**staged, **marked})
        return Redecided(self.before, manifest, "redecided", new.num_rows)

    @cached_property
    def decider(self) -> Decider:
        """The decider, when it has seen all scores."""
        decider = Decider.of(
            self.pipeline.decision.model_dump(), calibration_of(self.pipeline, self.before.model)
        )
        ranked = self.pipeline.columns.value_at_stake is not None
        names = [self._name(name) for name in (("anomaly_score", RANK) if ranked else ("anomaly_score",))]
        for key in self._scores():
            for batch in self._batches(key, names):
                scores, *ranks = (column.to_numpy() for column in batch.columns)
                decider.candidates(scores, ranks=ranks[0] if ranks else None)
        return decider

    @cached_property
    def cut(self) -> float:
        """The score at the cut."""
        return self.decider.threshold()

    @cached_property
    def flags(self) -> pa.Table:
        """The flags before."""
        with self._reader(part_key("flags", self.before.date)) as reader:
            return pa.Table.from_batches(list(reader.batches()), reader.schema)

    def _name(self, name: str) -> str:
        return self.pipeline.prefix + name

    def _scores(self) -> list[str]:
        return [one.path for one in self.before.outputs if one.path.startswith("scores/")]

    def _reader(self, key: str) -> TableReader:
        return TableReader(self.store.uri(key), self.store.open_input(key), {})

    def _batches(self, key: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        with self._reader(key) as reader:
            yield from reader.batches(columns)

    def _mark_scores(self) -> dict[str, Path]:
        """Stage the scores with the new line in them."""
        parts = {key: self.stage / f"scores.{i}.parquet" for i, key in enumerate(self._scores())}
        unlike = [self._name(name) for name in results.UNLIKE]
        for key, part in parts.items():
            with (
                self._reader(key) as reader,
                PartWriter(part, reader.schema, keep_empty=True, unlike=unlike) as writer,
            ):
                for batch in reader.batches():
                    writer.write(self._marked(batch))
        return parts

    def _marked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of scores, by the new line."""
        flagged = self._stamp.flags(batch, self._name)
        new = {self._name("is_anomaly"): flagged, self._name("threshold"): _repeated(self.cut, batch)}
        columns = [new.get(name, batch.column(name)) for name in batch.schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    @cached_property
    def flagged(self) -> pa.Table:
        """Rows of the scores that are flagged now: what is known of them before reasons."""
        found = []
        for key in self._scores():
            for batch in self._batches(key):
                rows = batch.filter(self._stamp.flags(batch, self._name))
                found.append(rows.select([self._name(name) for name in results.STAGED]))
        schema = pa.schema(list(results.STAGED.items()))
        renamed = [batch.rename_columns(list(results.STAGED)).cast(schema) for batch in found]
        return pa.Table.from_batches(renamed, schema)

    def _newly_flagged(self) -> pa.Table:
        """Rows of the scores that are flagged now and were not: what is known of them before reasons."""
        before = self.flags.column(self._name("row_id")).combine_chunks()
        now = self.flagged
        return now.filter(pc.invert(pc.is_in(now.column("row_id"), before)))

    def _write_flags(self, new: pa.Table) -> int:
        """Stage flags and contributions in the order of files and rows; return how many are flagged."""
        kept = self._kept()
        shares = self._shares(kept.column(self._name("row_id")).combine_chunks())
        if new.num_rows:
            explained = list(self._explained(new))
            kept = pa.concat_tables([kept, *(self._carried(flags) for flags, _ in explained)])
            kept = kept.take(self._order(kept))
            shares = pa.concat_tables([shares, *(pa.Table.from_batches([one]) for _, one in explained)])
            shares = shares.take(_grouped(shares.column("row_id"), kept.column(self._name("row_id"))))
        self._write("flags", kept)
        self._write("contributions", shares)
        return int(kept.num_rows)

    def _kept(self) -> pa.Table:
        """Rows that were flagged before and are now, with the new threshold."""
        ids = self.flagged.column("row_id").combine_chunks()
        table = self.flags.filter(pc.is_in(self.flags.column(self._name("row_id")), ids))
        name = self._name("threshold")
        cut = pa.repeat(pa.scalar(self.cut), table.num_rows)
        return table.set_column(table.schema.get_field_index(name), table.schema.field(name), cut)

    def _shares(self, ids: pa.Array) -> pa.Table:
        """Contributions of rows that were flagged before."""
        key = part_key("contributions", self.before.date)
        batches = (batch.filter(pc.is_in(batch.column("row_id"), ids)) for batch in self._batches(key))
        return pa.Table.from_batches([_with_all_columns(batch) for batch in batches], CONTRIBUTIONS)

    def _write(self, table: str, rows: pa.Table) -> None:
        with PartWriter(self.stage / f"{table}.parquet", rows.schema, keep_empty=True) as writer:
            for batch in rows.combine_chunks().to_batches():
                writer.write(batch)

    def _order(self, flags: pa.Table) -> pa.Array:
        """Places of flags in the order in which a scoring writes them."""
        keys = pa.array([file.key for file in self._files])
        of_file = pc.index_in(flags.column(self._name("batch_file")), keys)
        number = flags.column(self._name("row_number"))
        return pc.sort_indices(
            pa.table({"file": of_file, "number": number}),
            sort_keys=[("file", "ascending"), ("number", "ascending")],
        )

    @cached_property
    def _files(self) -> list[InputFile]:
        """The scored files, as they are now and were then, in their order.

        Raises
        ------
        InputError
            One of them is gone or has changed.
        """
        now = {file.path: file for file in find_files(self.pipeline, self.before.date)}
        found = []
        for one in self.before.inputs:
            if one.status != "scored":
                continue
            file = now.get(one.path) or input_file(one.path, self.before.date)
            if file.digest != one.digest:
                raise InputError(
                    f"{one.path}: the file that was scored was required, however it has changed since; score"
                    f" the night again: vaewatch score --date {self.before.date}"
                )
            found.append(file)
        return found

    def _explained(self, new: pa.Table) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        """Flags and contributions of rows that were not flagged before."""
        detector = champion_detector(self.pipeline, model_ref(self.pipeline, self.before.model.version))
        columns = self.pipeline.columns
        for file in self._files:
            mine = new.filter(pc.equal(new.column("batch_file"), file.key))
            for schema, rows in rows_again(file, mine.sort_by("row_number")) if mine.num_rows else ():
                yield flags_of(detector, rows, schema, self._stamp, columns.key, columns.sensitive)

    @cached_property
    def _stamp(self) -> Stamp:
        model = self.before.model
        at = datetime.fromisoformat(self.before.scored_at)
        line = self.decider.line()
        return Stamp(self.cut, model.name, model.version, model.run_id, at, line=line)

    def _carried(self, flags: pa.RecordBatch) -> pa.Table:
        """New flags in the columns and types of those before, as a scoring carries them over."""
        schema, ours = self.flags.schema, results.added_names(self.pipeline.prefix)
        common = pa.schema([field for field in schema if field.name not in ours])
        own = flags.select([name for name in flags.schema.names if not results.is_staged(name)])
        carried = carry(own, common)
        added = [flags.column(results.staged_name(name)) for name in results.added_names()]
        return pa.Table.from_batches([pa.RecordBatch.from_arrays([*carried.columns, *added], schema=schema)])

    def _manifest(self, parts: dict[str, Path], rows: int, new: int) -> Manifest:
        before = self.before
        shifted = before.incident is not None or before.not_certified == SHIFTED
        doubt = SHIFTED if shifted else self.decider.doubt()
        left = tuple(one for one in before.outputs if one.path not in parts)
        changes: dict[str, Any] = {
            **{name: [] for name in ("files_added", "files_changed", "files_gone")},
            "flags_gained": new,
            "flags_lost": before.rows_flagged + new - rows,
            "flags_kept": rows - new,
        }
        return rewritten(
            before,
            rows_flagged=rows,
            outputs=(*(output_of(key, part) for key, part in parts.items()), *left),
            pipeline_digest=self.pipeline.digest(),
            decision=self.pipeline.decision.model_dump(exclude_none=True),
            certified=doubt is None,
            not_certified=doubt,
            selection=self.decider.selection(),
            changes=changes,
            incident=None,
        )


_FLAGS = ("flags", "contributions")


def _grouped(ids: pa.ChunkedArray, order: pa.ChunkedArray) -> pa.Array:
    """Places of rows named ``ids``, those of one name together, names in a given order."""
    rank = pc.index_in(ids, order.combine_chunks()).to_numpy()
    return pa.array(np.argsort(rank, kind="stable"))


def _with_all_columns(lines: pa.RecordBatch) -> pa.RecordBatch:
    """Contributions as they are written now: those of earlier releases do not say what was expected."""
    columns = [
        lines.column(one.name) if one.name in lines.schema.names else pa.nulls(lines.num_rows, one.type)
        for one in CONTRIBUTIONS
    ]
    return pa.RecordBatch.from_arrays(columns, schema=CONTRIBUTIONS)


def _repeated(value: Any, batch: pa.RecordBatch) -> pa.Array:
    return pa.repeat(pa.scalar(value), batch.num_rows)
