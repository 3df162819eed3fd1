"""Rules: what somebody has found to be expected, said once for the nights to come.

A rule hides flags, and nothing else: they stay in ``flags/`` with their scores, and ``triage/`` names the
rule that hides each. It has a scope, may end, and may spare what is severe.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from review.errors import RuleError

__all__ = ["Rule", "applies", "checked", "hidden_by", "matches", "needed_columns", "words"]

REASONS = (1, 2, 3)
HIDDEN = "(sensitive)"
MOST_CHARACTERS = 1_000  # of a value

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """Which flags are expected; all that is given must hold.

    Attributes
    ----------
    family_id
        Flags of this family.
    column
        Flags one of whose reasons is this column; with ``value``, those that hold the value there.
    value
        A value of ``column``, as text.
    reason_kind
        Flags with a reason of this kind (for ``column``, if one is given), such as ``unseen_category``.
    until
        The last night that it covers; None for no end.
    unless_severity_over
        Flags more severe than this are not hidden, in [0, 100].
    note
        Why, in its author's words.
    id
        Counts up; 0 for one that is not saved.
    author, created_at
        Who saved it, and when.
    withdrawn_at
        When it was taken back; None while it holds.
    action
        What it says of the flags.
    """

    family_id: str | None = None
    column: str | None = None
    value: str | None = None
    reason_kind: str | None = None
    until: date | None = None
    unless_severity_over: float | None = None
    note: str = ""
    id: int = 0
    author: str = ""
    created_at: datetime | None = None
    withdrawn_at: datetime | None = None
    action: Literal["expected"] = "expected"


def checked(rule: Rule) -> Rule:
    """The rule, unless it is impossible.

    Raises
    ------
    RuleError
        It has no scope, a value of no column, or a severity outside of 0 to 100.
    """
    if not (rule.family_id or rule.column or rule.reason_kind):
        raise RuleError("a family, a column or a kind of reason was required, however none came; name one")
    if rule.value is not None and not rule.column:
        raise RuleError("a column was required with a value, however none came; name it")
    if rule.value is not None and len(rule.value) > MOST_CHARACTERS:
        raise RuleError(
            f"a value of {MOST_CHARACTERS:,} characters at most was required, however {len(rule.value):,} "
            "came; choose another scope"
        )
    if rule.unless_severity_over is not None and not 0 <= rule.unless_severity_over <= 100:
        raise RuleError(
            f"a severity of 0 to 100 was required, however {rule.unless_severity_over} came; mend it"
        )
    return rule


def applies(rule: Rule, dt: date) -> bool:
    """Whether a rule covers a night."""
    return rule.withdrawn_at is None and (rule.until is None or dt <= rule.until)


def matches(rule: Rule, flags: pa.Table, *, prefix: str = "") -> Bools:
    """Which flags [n] a rule hides, whatever their night.

    Parameters
    ----------
    flags
        A night's flags, at least `needed_columns`; ``family_id`` beside them where there are families.
    prefix
        Of our columns, as in the pipeline file.
    """
    masks = [np.ones(flags.num_rows, dtype=np.bool_)]
    if rule.family_id is not None:
        masks.append(_equal(flags, "family_id", rule.family_id))
    if rule.column is not None and rule.value is not None:
        masks.append(_equal(flags, rule.column, rule.value))
    if rule.reason_kind is not None or (rule.column is not None and rule.value is None):
        masks.append(_has_reason(flags, rule, prefix))
    if rule.unless_severity_over is not None:
        masks.append(~_mask(pc.greater(flags[f"{prefix}severity"], rule.unless_severity_over)))
    return reduce(np.logical_and, masks)


def hidden_by(rules: Iterable[Rule], flags: pa.Table, dt: date, *, prefix: str = "") -> pa.Array:
    """Id of the oldest rule that hides each of a night's flags [n], null where none does."""
    ids = np.zeros(flags.num_rows, dtype=np.int64)
    for rule in sorted(rules, key=lambda rule: rule.id):
        if applies(rule, dt):
            ids[(ids == 0) & matches(rule, flags, prefix=prefix)] = rule.id
    return pa.array(ids, mask=ids == 0)


def needed_columns(rule: Rule, prefix: str = "") -> list[str]:
    """Columns of the flags that `matches` looks at, the family's left out."""
    reasons = [f"{prefix}reason_{i}_{part}" for i in REASONS for part in ("column", "kind")]
    own = [rule.column] if rule.column is not None and rule.value is not None else []
    return [*own, *reasons, f"{prefix}severity"]


def words(rule: Rule, *, family_name: str | None = None, sensitive: Collection[str] = ()) -> str:
    """The rule in a sentence; a value of a sensitive column is not told."""
    scope = []
    if rule.family_id is not None:
        scope.append(f"of the family {family_name or rule.family_id}")
    if rule.value is not None:
        scope.append(f"with {rule.column} = {HIDDEN if rule.column in sensitive else rule.value}")
    if rule.reason_kind is not None or (rule.column is not None and rule.value is None):
        scope.append("with a reason " + " ".join(_reason_words(rule)))
    until = f", until {rule.until:%-d %B %Y}" if rule.until else ""
    unless = (
        f", unless severity > {rule.unless_severity_over:g}" if rule.unless_severity_over is not None else ""
    )
    return f"flags {' and '.join(scope)} are expected{until}{unless}"


def _reason_words(rule: Rule) -> list[str]:
    kind = [f"of kind {rule.reason_kind}"] if rule.reason_kind is not None else []
    return kind + ([f"in {rule.column}"] if rule.column is not None and rule.value is None else [])


def _has_reason(flags: pa.Table, rule: Rule, prefix: str) -> Bools:
    """Rows [n] one of whose reasons is of the rule's column and kind."""
    found = np.zeros(flags.num_rows, dtype=np.bool_)
    for i in REASONS:
        one = np.ones(flags.num_rows, dtype=np.bool_)
        if rule.column is not None:
            one &= _equal(flags, f"{prefix}reason_{i}_column", rule.column)
        if rule.reason_kind is not None:
            one &= _equal(flags, f"{prefix}reason_{i}_kind", rule.reason_kind)
        found |= one
    return found


def _equal(flags: pa.Table, name: str, text: str) -> Bools:
    """Rows [n] whose value is the one of a text; none where there is no such column, or no such value."""
    if name not in flags.schema.names:
        return np.zeros(flags.num_rows, dtype=np.bool_)
    column = flags[name]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    try:
        wanted, values = pa.scalar(text).cast(kind), column.cast(kind)
        return _mask(pc.equal(values, wanted))
    except (pa.ArrowException, ValueError):
        return np.zeros(flags.num_rows, dtype=np.bool_)


def _mask(column: Any) -> Bools:
    return np.asarray(pc.fill_null(column, False).to_numpy(), dtype=np.bool_)
