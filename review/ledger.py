"""The book of verdicts within one transaction: rows are locked, last verdicts read, new ones appended."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, and_, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from review.errors import Conflict, ReviewError
from review.places import Place
from review.said import MOVING, ORPHAN, VERDICTS, RowRef, Saying
from review.tables import FIRST, changes, subjects, verdicts

__all__ = ["LAST", "LATER", "Ledger", "distinct", "orphan_slot", "refuse_newer", "repeats", "was_seen"]

MOST_AT_ONCE = 500  # rows in one statement

LATER = verdicts.alias("later")
_SUPERSEDED = and_(LATER.c.subject_id == verdicts.c.subject_id, LATER.c.supersedes == verdicts.c.id)
LAST = verdicts.join(subjects).outerjoin(LATER, _SUPERSEDED)
"""Verdicts with their subjects; those that nothing supersedes are the ones where `LATER` is null."""
_OF_VERDICT = [one for one in verdicts.c if one.name != "subject_id"]

Head = Row[Any]
"""A subject, with the columns of its last verdict; those are null where there is none."""
T = TypeVar("T")


class Ledger:
    """The verdicts of one pipeline, in a transaction that writes."""

    def __init__(self, connection: Connection, pipeline: str) -> None:
        self._connection = connection
        self._pipeline = pipeline

    def subjects(self, rows: Sequence[RowRef]) -> set[int]:
        """Ids of the subjects of rows, made where there are none; nobody else writes on them meanwhile.

        Raises
        ------
        ReviewError
            A row is an orphan that is none.
        """
        ids: set[int] = set()
        for some in _chunks(rows):
            new = [self._subject(row) for row in some if not row.row_id.startswith((ORPHAN, MOVING))]
            if new:
                self._connection.execute(_insert_missing(self._connection), new)
            ids |= self._locked(some)
        if len(ids) < len(rows):
            raise ReviewError(
                "rows of a night were required, however an orphan came that is none; reload the page"
            )
        return ids

    def heads(self, ids: Iterable[int]) -> list[Head]:
        """The subjects of these ids, with the last verdict on each."""
        found: list[Head] = []
        joined = subjects.outerjoin(verdicts).outerjoin(LATER, _SUPERSEDED)
        for some in _chunks(sorted(ids)):
            query = (
                select(subjects.c.id.label("subject_id"), subjects.c.dt, subjects.c.slot, *_OF_VERDICT)
                .select_from(joined)
                .where(subjects.c.id.in_(some), LATER.c.id.is_(None))
                .order_by(subjects.c.id)
            )
            found += self._connection.execute(query).all()
        return found

    def append(self, said: Sequence[tuple[Head, Saying]], action: str) -> str:
        """Say something of subjects, all in one batch, and return that; empty where nothing is to be said.

        Nothing can be withdrawn where there is nothing.
        """
        todo = [one for one in said if one[1].verdict is not None or one[0].verdict is not None]
        if not todo:
            return ""
        batch, now = uuid.uuid4().hex, datetime.now(UTC)
        self._connection.execute(insert(verdicts), [_row(head, one, batch, now) for head, one in todo])
        for day in sorted({head.dt for head, _ in todo}):
            verdict_words = [one.verdict for head, one in todo if head.dt == day]
            self.log(todo[0][1].reviewer, action, len(verdict_words), _summary(verdict_words), day)
        return batch

    def log(self, author: str, action: str, count: int, detail: str, dt: date | None = None) -> None:
        """Add a line to the log, in the transaction of what it tells."""
        line = {"author": author, "action": action, "count": count, "detail": detail, "dt": dt}
        own = {"pipeline": self._pipeline, "at": datetime.now(UTC), "token": uuid.uuid4().hex}
        self._connection.execute(insert(changes).values(**line, **own))

    def of_batch(self, batch: str) -> dict[int, int]:
        """Subject of each verdict of a batch, by the verdict's id; nobody else writes on them meanwhile.

        Raises
        ------
        ReviewError
            There is no such batch.
        """
        query = (
            select(verdicts.c.id, verdicts.c.subject_id)
            .join(subjects)
            .where(subjects.c.pipeline == self._pipeline, verdicts.c.batch == batch)
        )
        mine = {one.id: one.subject_id for one in self._connection.execute(query)}
        if not mine:
            raise ReviewError(
                f"a batch of verdicts to undo was required, however {batch[:40]!r} is none; reload the page"
            )
        own = query.with_only_columns(verdicts.c.subject_id)
        lock = select(subjects.c.id).where(subjects.c.id.in_(own)).order_by(subjects.c.id)
        self._connection.execute(lock.with_for_update()).all()
        return mine

    def before(self, heads: Sequence[Head]) -> dict[int, tuple[str | None, str]]:
        """Verdict and note that each subject had before its last one."""
        before: dict[int, tuple[str | None, str]] = {one.subject_id: (None, "") for one in heads}
        query = select(verdicts.c.subject_id, verdicts.c.verdict, verdicts.c.note)
        for some in _chunks([one.supersedes for one in heads if one.supersedes != FIRST]):
            for subject, verdict, note in self._connection.execute(query.where(verdicts.c.id.in_(some))):
                before[subject] = (verdict, note)
        return before

    def places(self, dt: date, *, lock: bool = False) -> list[Place]:
        """Where the rows of a night were last that somebody has spoken of."""
        query = (
            select(subjects.c.id, subjects.c.row_id, subjects.c.row_key, subjects.c.slot)
            .where(subjects.c.pipeline == self._pipeline, subjects.c.dt == dt)
            .order_by(subjects.c.id)
        )
        rows = self._connection.execute(query.with_for_update() if lock else query)
        return [Place(*row) for row in rows]

    def move(self, dt: date, moved: Sequence[tuple[Place, str | None]]) -> None:
        """Give subjects their new row ids, None to orphans; all are lifted first: two may change places."""
        if not moved:
            return
        self._place([(one.id, f"{MOVING}{one.id}", one.row_id) for one, _ in moved])
        self._place([(one.id, new or orphan_slot(one), new or one.row_id) for one, new in moved])
        lost = sum(row_id is None for _, row_id in moved)
        self.log("scoring", "adopted", len(moved), f"{len(moved) - lost} found again, {lost} orphaned", dt)

    def _place(self, places: Sequence[tuple[int, str, str]]) -> None:
        """Set slot and last row id of subjects."""
        one = update(subjects).where(subjects.c.id == bindparam("subject"))
        values = one.values(slot=bindparam("place"), row_id=bindparam("row"))
        named = [dict(zip(("subject", "place", "row"), place, strict=True)) for place in places]
        self._connection.execute(values, named)

    def _subject(self, row: RowRef) -> dict[str, Any]:
        own = {"pipeline": self._pipeline, "dt": row.dt, "row_id": row.row_id}
        return {**own, "row_key": row.row_key, "slot": row.row_id}

    def _locked(self, rows: Sequence[RowRef]) -> set[int]:
        names: dict[date, list[str]] = {}
        for row in rows:
            names.setdefault(row.dt, []).append(row.row_id)
        ids: set[int] = set()
        for day, slots in names.items():
            query = select(subjects.c.id).where(
                subjects.c.pipeline == self._pipeline, subjects.c.dt == day, subjects.c.slot.in_(slots)
            )
            locking = query.order_by(subjects.c.id).with_for_update()
            ids |= set(self._connection.execute(locking).scalars())
        return ids


def orphan_slot(place: Place) -> str:
    """The row id of a subject whose row is gone: of no row, and always the same."""
    return f"{ORPHAN}{place.id}"


def distinct(rows: Sequence[RowRef]) -> list[RowRef]:
    """Each row once, in an order that all writers share.

    Raises
    ------
    ReviewError
        There is none, or one without a row id.
    """
    found = {(row.dt, row.row_id): row for row in rows}
    named = all(0 < len(row.row_id) <= 64 and "\0" not in row.row_id for row in found.values())
    if not found or not named:
        raise ReviewError("rows to settle were required, however none came, or no row ids; choose some")
    return [found[key] for key in sorted(found)]


def was_seen(head: Head, seen: Mapping[str, int | None]) -> bool:
    """Whether the reviewer knew the last verdict; one that was withdrawn looks like none."""
    looked_at = seen.get(head.slot)
    return bool(looked_at == head.id or (looked_at is None and head.verdict is None))


def repeats(saying: Saying, head: Head, seen: Mapping[str, int | None]) -> bool:
    """Whether the same person has said just this meanwhile: a second click."""
    last = (head.verdict, head.note, head.reviewer)
    return not was_seen(head, seen) and last == (saying.verdict, saying.note, saying.reviewer)


def refuse_newer(newer: Sequence[Head]) -> None:
    """Refuse to write over verdicts that the reviewer has not seen.

    Raises
    ------
    Conflict
        There is one; the sentence says whose.
    """
    if newer:
        one, others = newer[0], len(newer) - 1
        more = f", and {others} more of these rows changed" if others else ""
        raise Conflict(
            f"row {one.slot} of {one.dt}: the verdict that you looked at was required to be the last, "
            f"however {_last_words(one)}{more}; nothing was written: look again, then decide"
        )


def _last_words(head: Head) -> str:
    if head.id is None:
        return "it has none"
    what = f"said {head.verdict!r}" if head.verdict else "withdrew it"
    return f"{head.reviewer} {what} at {head.decided_at:%Y-%m-%d %H:%M:%S} UTC"


def _row(head: Head, saying: Saying, batch: str, now: datetime) -> dict[str, Any]:
    """A verdict as it is stored; later than the one before it, whatever the clocks of two machines say."""
    is_first = head.id is None
    return {
        "subject_id": head.subject_id,
        "verdict": saying.verdict,
        "note": saying.note,
        "reviewer": saying.reviewer,
        "decided_at": now if is_first else max(now, head.decided_at + timedelta(microseconds=1)),
        "supersedes": FIRST if is_first else head.id,
        "batch": batch,
    }


def _insert_missing(connection: Connection) -> Any:
    """An insertion of subjects that passes over those that are there."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(subjects).on_conflict_do_nothing(index_elements=["pipeline", "dt", "slot"])


def _summary(words: Sequence[str | None]) -> str:
    """``9 expected, 2 withdrawn``."""
    counts = {word: sum(other == word for other in words) for word in (*VERDICTS, None)}
    return ", ".join(f"{count} {word or 'withdrawn'}" for word, count in counts.items() if count)


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, MOST_AT_ONCE)):
        yield some
