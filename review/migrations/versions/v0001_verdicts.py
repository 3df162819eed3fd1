"""Verdicts, rules, and the log of changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    _verdicts()
    _rules()
    _changes()
    for table in ("review_verdicts", "review_changes"):
        _only_added_to(table)


def _verdicts() -> None:
    op.create_table(
        "review_subjects",
        sa.Column("id", ID, primary_key=True),
        sa.Column("pipeline", sa.String(200), nullable=False),
        sa.Column("dt", sa.Date, nullable=False),
        sa.Column("row_id", sa.String(64), nullable=False),
        sa.Column("row_key", sa.Text),
        sa.Column("slot", sa.String(64), nullable=False),
        sa.UniqueConstraint("pipeline", "dt", "slot", name="review_subjects_one_of_a_row"),
    )
    op.create_index("review_subjects_slot", "review_subjects", ["pipeline", "slot"])
    op.create_table(
        "review_verdicts",
        sa.Column("id", ID, primary_key=True),
        sa.Column("subject_id", ID, sa.ForeignKey("review_subjects.id"), nullable=False),
        sa.Column("verdict", sa.String(32)),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("reviewer", sa.String(320), nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.Column("supersedes", ID, nullable=False),
        sa.Column("batch", sa.String(32), nullable=False),
        sa.UniqueConstraint("subject_id", "supersedes", name="review_verdicts_one_line"),
    )
    op.create_index("review_verdicts_batch", "review_verdicts", ["batch"])


def _rules() -> None:
    op.create_table(
        "review_rules",
        sa.Column("id", ID, primary_key=True),
        sa.Column("pipeline", sa.String(200), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("family_id", sa.String(64)),
        sa.Column("column_name", sa.Text),
        sa.Column("value", sa.Text),
        sa.Column("reason_kind", sa.String(64)),
        sa.Column("until", sa.Date),
        sa.Column("unless_severity_over", sa.Float),
        sa.Column("author", sa.String(320), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("withdrawn_at", TIME),
        sa.Column("withdrawn_by", sa.String(320)),
    )
    op.create_index("review_rules_of_a_pipeline", "review_rules", ["pipeline", "id"])


def _changes() -> None:
    op.create_table(
        "review_changes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("pipeline", sa.String(200), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("author", sa.String(320), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("dt", sa.Date),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
    )
    op.create_index("review_changes_of_a_night", "review_changes", ["pipeline", "dt", "id"])


def _only_added_to(table: str) -> None:
    """Let the database itself refuse to alter or remove what was written."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is only ever added to'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is only ever added to'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()"
    )
