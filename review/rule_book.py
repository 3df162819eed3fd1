"""Rules in the database: added, read, withdrawn; never changed, so that each stays as it was rehearsed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from review.database import Database
from review.errors import RuleError
from review.ledger import Ledger
from review.rules import Rule, checked
from review.said import named_reviewer, tidy_note
from review.tables import rules

__all__ = ["add_rule", "saved_rules", "withdraw_rule"]

SCOPE = ("action", "family_id", "value", "reason_kind", "until", "unless_severity_over")


def add_rule(database: Database, pipeline: str, rule: Rule, *, author: str) -> Rule:
    """Save a rule; it comes back with its id, author and time."""
    saved = replace(
        checked(rule),
        author=named_reviewer(author),
        note=tidy_note(rule.note),
        created_at=datetime.now(UTC),
        withdrawn_at=None,
    )
    values = {name: getattr(saved, name) for name in (*SCOPE, "author", "created_at", "note")}

    def work(connection: Connection) -> int:
        row = insert(rules).values(pipeline=pipeline, column_name=saved.column, **values)
        number = int(connection.execute(row.returning(rules.c.id)).scalar_one())
        Ledger(connection, pipeline).log(saved.author, "rule added", 0, f"rule {number}")
        return number

    return replace(saved, id=database.write(work))


def withdraw_rule(database: Database, pipeline: str, number: int, *, author: str) -> None:
    """End a rule; it stays in the book.

    Raises
    ------
    RuleError
        There is no such rule, or somebody has withdrawn it already.
    """
    name = named_reviewer(author)

    def work(connection: Connection) -> None:
        ended = (
            update(rules)
            .where(rules.c.pipeline == pipeline, rules.c.id == number, rules.c.withdrawn_at.is_(None))
            .values(withdrawn_at=datetime.now(UTC), withdrawn_by=name)
        )
        if not connection.execute(ended).rowcount:
            raise RuleError(
                f"a rule that holds was required, however rule {number} does not; reload the page"
            )
        Ledger(connection, pipeline).log(name, "rule withdrawn", 0, f"rule {number}")

    database.write(work)


def saved_rules(database: Database, pipeline: str, *, ended: bool = False) -> list[Rule]:
    """The rules that hold, oldest first; with ``ended`` those too that were withdrawn."""
    query = select(rules).where(rules.c.pipeline == pipeline).order_by(rules.c.id)
    with database.read() as connection:
        rows = connection.execute(query if ended else query.where(rules.c.withdrawn_at.is_(None)))
        return [_rule(row) for row in rows]


def _rule(row: Row[Any]) -> Rule:
    names = (*SCOPE, "note", "id", "author", "created_at", "withdrawn_at")
    return Rule(column=row.column_name, **{name: getattr(row, name) for name in names})
