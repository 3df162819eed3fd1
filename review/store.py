"""What people have said of rows: an append-only history, safe among many writers.

A verdict names the one that it supersedes, and the database takes only one successor of each; whoever
decides upon something older is told who was faster, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Self

import pyarrow as pa
from sqlalchemy import Connection, Row, Select, func, select

from flows.storage import Store
from review.database import Database
from review.ledger import LAST, LATER, Ledger, distinct, orphan_slot, refuse_newer, repeats, was_seen
from review.places import Place, rearranged
from review.rules import Rule
from review.said import ORPHAN, VERDICTS, Change, RowRef, Saying, Verdict
from review.tables import FIRST, changes, subjects, verdicts

__all__ = ["VERDICTS", "Change", "RowRef", "Verdict", "VerdictStore"]


class VerdictStore:
    """The verdicts of one pipeline; open it with `VerdictStore.open`, use it in a ``with`` block.

    All methods raise `DatabaseError`, one sentence, when the database refuses.
    """

    def __init__(self, database: Database, pipeline: str) -> None:
        self.database = database
        self.pipeline = pipeline

    @classmethod
    def open(cls, url: str, pipeline: str) -> VerdictStore:
        """Open a database, and bring it to this release's tables if it is empty or older.

        Raises
        ------
        MigrationError
            It was made by a newer release.
        DatabaseError
            It cannot be opened.
        """
        from review.migrate import migrate

        database = Database(url)
        try:
            migrate(database)
        except BaseException:
            database.close()
            raise
        return cls(database, pipeline)

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- Deciding -------------------------------------------------------------------------------------------

    def decide(
        self,
        rows: Sequence[RowRef],
        verdict: str | None,
        *,
        reviewer: str,
        note: str = "",
        seen: Mapping[str, int | None],
    ) -> str:
        """Settle rows together: all of them, or none.

        Parameters
        ----------
        verdict
            One of `VERDICTS`; None withdraws what was said.
        seen
            Id of the verdict that the reviewer was looking at, by ``row_id``; None, or no entry: no verdict.

        Returns
        -------
        str
            The batch, for `undo`. Saying the same again, as a second click does, writes nothing.

        Raises
        ------
        Conflict
            One of the rows has a newer verdict; the sentence says whose.
        ReviewError
            No row, no reviewer, or no such verdict.
        """
        saying, wanted = Saying(verdict, note, reviewer), distinct(rows)

        def work(connection: Connection) -> str:
            ledger = Ledger(connection, self.pipeline)
            heads = ledger.heads(ledger.subjects(wanted))
            todo = [one for one in heads if not repeats(saying, one, seen)]
            refuse_newer([one for one in todo if not was_seen(one, seen)])
            return ledger.append([(one, saying) for one in todo], "decided") or heads[0].batch or ""

        return self.database.write(work)

    def undo(self, batch: str, *, reviewer: str) -> str:
        """Bring back what was before a batch, as new verdicts of whoever asks.

        Returns
        -------
        str
            The batch of the new verdicts; undoing that brings the first ones back.

        Raises
        ------
        Conflict
            One of the rows was decided upon since; nothing is written.
        ReviewError
            There is no such batch.
        """

        def work(connection: Connection) -> str:
            ledger = Ledger(connection, self.pipeline)
            mine = ledger.of_batch(batch)
            heads = ledger.heads(set(mine.values()))
            refuse_newer([one for one in heads if one.id not in mine])
            before = ledger.before(heads)
            return ledger.append(
                [(one, Saying(*before[one.subject_id], reviewer)) for one in heads], "undone"
            )

        return self.database.write(work)

    # -- Reading --------------------------------------------------------------------------------------------

    def current(self, dt: date) -> dict[str, Verdict]:
        """The last verdict of each row of a night, by ``row_id``, but no withdrawn ones and no orphans."""
        found = self._last(subjects.c.dt == dt, ~subjects.c.slot.startswith(ORPHAN))
        return {one.row_id: one for one in found if one.verdict is not None}

    def orphans(self, dt: date | None = None) -> list[Verdict]:
        """The last verdicts on rows that are no longer there, of a night or of all."""
        of_night = [] if dt is None else [subjects.c.dt == dt]
        found = self._last(subjects.c.slot.startswith(ORPHAN), *of_night)
        return [one for one in found if one.verdict is not None]

    def history(self, dt: date, row_id: str) -> list[Verdict]:
        """All verdicts on a row of a night, oldest first; files that come every night have the same ids."""
        mine = (subjects.c.pipeline == self.pipeline, subjects.c.dt == dt, subjects.c.slot == row_id)
        return self._read(_line().where(*mine))

    def everything(self, dt: date) -> list[Verdict]:
        """All verdicts of a night, oldest first, superseded and withdrawn ones and orphans too."""
        return self._read(_line().where(subjects.c.pipeline == self.pipeline, subjects.c.dt == dt))

    def settled(self) -> dict[date, dict[str, int]]:
        """How many rows of each night have which verdict, orphans left out."""
        query = (
            select(subjects.c.dt, verdicts.c.verdict, func.count())
            .select_from(LAST)
            .where(
                subjects.c.pipeline == self.pipeline,
                LATER.c.id.is_(None),
                verdicts.c.verdict.is_not(None),
                ~subjects.c.slot.startswith(ORPHAN),
            )
            .group_by(subjects.c.dt, verdicts.c.verdict)
            .order_by(subjects.c.dt)
        )
        counts: dict[date, dict[str, int]] = {}
        with self.database.read() as connection:
            for day, verdict, count in connection.execute(query):
                counts.setdefault(day, {})[verdict] = count
        return counts

    def last_batch(self, reviewer: str) -> str | None:
        """The batch that somebody has settled last."""
        query = (
            select(verdicts.c.batch)
            .join(subjects)
            .where(subjects.c.pipeline == self.pipeline, verdicts.c.reviewer == reviewer)
            .order_by(verdicts.c.id.desc())
            .limit(1)
        )
        with self.database.read() as connection:
            return connection.execute(query).scalar()

    def log(self, most: int = 100) -> list[Change]:
        """The newest changes, newest first: who did what, when."""
        query = (
            select(*(changes.c[name] for name in Change.__dataclass_fields__))
            .where(changes.c.pipeline == self.pipeline)
            .order_by(changes.c.id.desc())
            .limit(most)
        )
        with self.database.read() as connection:
            return [Change(*row) for row in connection.execute(query)]

    # -- Rules ----------------------------------------------------------------------------------------------

    def add_rule(self, rule: Rule, *, author: str) -> Rule:
        """Save a rule; see `rule_book.add_rule`."""
        from review.rule_book import add_rule

        return add_rule(self.database, self.pipeline, rule, author=author)

    def withdraw_rule(self, number: int, *, author: str) -> None:
        """End a rule; see `rule_book.withdraw_rule`."""
        from review.rule_book import withdraw_rule

        withdraw_rule(self.database, self.pipeline, number, author=author)

    def rules(self, *, ended: bool = False) -> list[Rule]:
        """The rules that hold, oldest first; with ``ended`` those too that were withdrawn."""
        from review.rule_book import saved_rules

        return saved_rules(self.database, self.pipeline, ended=ended)

    # -- Nights ---------------------------------------------------------------------------------------------

    def places(self, dt: date) -> list[Place]:
        """Where the rows of a night were last that somebody has spoken of."""
        with self.database.read() as connection:
            return Ledger(connection, self.pipeline).places(dt)

    def adopt(self, dt: date, rows: pa.Table) -> list[Verdict]:
        """Find the rows of a night's verdicts after it was scored again.

        Parameters
        ----------
        rows
            Rows of the night, at least its flags, with ``row_id`` and ``row_key``.

        Returns
        -------
        list of Verdict
            Verdicts whose row is not there: kept, and shown as orphaned. They come back when the row does.
        """

        def work(connection: Connection) -> None:
            ledger = Ledger(connection, self.pipeline)
            moved = rearranged(ledger.places(dt, lock=True), rows)
            ledger.move(dt, [(one, new) for one, new in moved if one.slot != (new or orphan_slot(one))])

        self.database.write(work)
        return self.orphans(dt)

    def export(self, store: Store, dt: date) -> int:
        """Write a night's verdicts to ``verdicts/dt=DAY/part-0.parquet``; return how many there are."""
        from review.nightly import export_night

        return export_night(self, store, dt)

    def changed_since(self, store: Store) -> list[date]:
        """Nights whose exported verdicts are not those of the database."""
        from review.nightly import nights_to_export

        return nights_to_export(self, store)

    def tokens(self) -> dict[date, str]:
        """What names the state of each night's verdicts: the last change to it."""
        last = (
            select(func.max(changes.c.id))
            .where(changes.c.pipeline == self.pipeline, changes.c.dt.is_not(None))
            .group_by(changes.c.dt)
        )
        query = select(changes.c.dt, changes.c.token).where(changes.c.id.in_(last)).order_by(changes.c.dt)
        with self.database.read() as connection:
            return {one.dt: one.token for one in connection.execute(query)}

    def _read(self, query: Select[Any]) -> list[Verdict]:
        with self.database.read() as connection:
            return [_verdict(row) for row in connection.execute(query)]

    def _last(self, *conditions: Any) -> list[Verdict]:
        mine = subjects.c.pipeline == self.pipeline
        return self._read(_line(LAST).where(mine, LATER.c.id.is_(None), *conditions))


def _line(origin: Any = None) -> Select[Any]:
    """Verdicts with the place of their subject, oldest first."""
    query = select(verdicts, subjects.c.dt, subjects.c.slot, subjects.c.row_key)
    return query.select_from(verdicts.join(subjects) if origin is None else origin).order_by(verdicts.c.id)


def _verdict(row: Row[Any]) -> Verdict:
    return Verdict(
        id=row.id,
        dt=row.dt,
        row_id=row.slot,
        row_key=row.row_key,
        verdict=row.verdict,
        note=row.note,
        reviewer=row.reviewer,
        decided_at=row.decided_at,
        supersedes=None if row.supersedes == FIRST else row.supersedes,
        batch=row.batch,
    )
