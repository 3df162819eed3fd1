"""The tables of the store of verdicts, as the newest migration leaves them.

A *subject* is a row of a night that somebody has spoken of; verdicts on it form a chain in which each names
the one that it supersedes, and the database itself refuses a second verdict in the same place. It also
refuses to alter verdicts and the log. Updated are only the place of a subject, after a night was scored
again, and the end of a rule.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

__all__ = ["FIRST", "METADATA", "Utc", "changes", "rules", "subjects", "verdicts"]

METADATA = MetaData()
FIRST = 0
"""What the first verdict of a chain supersedes; a null would be unlike all other nulls."""


class Utc(TypeDecorator[datetime]):
    """A point in time, in UTC; SQLite knows no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what is stored."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return what is read, in UTC."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up in columns of this type alone

subjects = Table(
    "review_subjects",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("pipeline", String(200), nullable=False),
    Column("dt", Date, nullable=False),
    Column("row_id", String(64), nullable=False),  # the last that is known
    Column("row_key", Text),
    Column("slot", String(64), nullable=False),  # the row id; a name of its own once the row is gone
    UniqueConstraint("pipeline", "dt", "slot", name="review_subjects_one_of_a_row"),
    Index("review_subjects_slot", "pipeline", "slot"),
)

verdicts = Table(
    "review_verdicts",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("subject_id", _ID, ForeignKey("review_subjects.id"), nullable=False),
    Column("verdict", String(32)),  # null: withdrawn
    Column("note", Text, nullable=False),
    Column("reviewer", String(320), nullable=False),
    Column("decided_at", Utc, nullable=False),
    Column("supersedes", _ID, nullable=False),
    Column("batch", String(32), nullable=False),
    UniqueConstraint("subject_id", "supersedes", name="review_verdicts_one_line"),
    Index("review_verdicts_batch", "batch"),
)

rules = Table(
    "review_rules",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("pipeline", String(200), nullable=False),
    Column("action", String(32), nullable=False),
    Column("family_id", String(64)),
    Column("column_name", Text),
    Column("value", Text),
    Column("reason_kind", String(64)),
    Column("until", Date),
    Column("unless_severity_over", Float),
    Column("author", String(320), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("note", Text, nullable=False),
    Column("withdrawn_at", Utc),
    Column("withdrawn_by", String(320)),
    Index("review_rules_of_a_pipeline", "pipeline", "id"),
)

changes = Table(
    "review_changes",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("pipeline", String(200), nullable=False),
    Column("at", Utc, nullable=False),
    Column("author", String(320), nullable=False),
    Column("action", String(32), nullable=False),
    Column("dt", Date),  # null: of no night
    Column("count", Integer, nullable=False),  # rows concerned
    Column("detail", Text, nullable=False),  # never a value of a cell
    Column("token", String(32), nullable=False),  # of this change alone, in any database
    Index("review_changes_of_a_night", "pipeline", "dt", "id"),
)
