"""What the values of a sample tell: the kind of each column, and the columns that name a row.

Kinds are those of a pipeline file. Each choice comes with its reason, for the people who may know better.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

__all__ = ["Choice", "choose_columns", "choose_key"]

_FEW = 10  # distinct whole numbers up to which they are codes
_TOP = 256  # categories that VAEDetector gives a code of their own by default
_IDENTIFIER_SHARE = 0.9  # distinct values beyond this share name their rows, as in VAEDetector
_PROOF_ROWS = 20  # below this, equal or distinct values prove nothing
_KEY_CANDIDATES = 8
_KEY_COLUMNS = 4
_KEY_SHARE = 0.99  # repeated rows are a fault to find, not a reason to have no key

_CODE_NAME = re.compile(r"(^|_)(id|code|type|key|zip|uuid|guid|class|category|flag|status)$", re.IGNORECASE)
_AMOUNT_NAME = re.compile(r"(^|_)(count|number|num|n|qty|quantity|amount|total|sum)(_|$)", re.IGNORECASE)
_DATE_NAMES = ("year", "month", "day", "date")


@dataclass(frozen=True)
class Choice:
    """What a column is taken for.

    Attributes
    ----------
    column
        Its name.
    kind
        ``ignored``, ``identifier`` (ignored, and a candidate for the key), ``numeric``, ``categorical``,
        ``boolean`` or ``timestamp``.
    why
        The reason, for people.
    """

    column: str
    kind: str
    why: str


@dataclass(frozen=True)
class _Facts:
    """A column of the sample: its values, without what only says how they are stored, and their counts."""

    name: str
    stored: pa.DataType
    values: pa.ChunkedArray
    nulls: int
    distinct: int

    @property
    def present(self) -> int:
        return len(self.values) - self.nulls

    @property
    def text(self) -> str:
        """Type and number of distinct values."""
        values = "1 value" if self.distinct == 1 else f"{self.distinct:,} values"
        return f"{self.stored}, {values}" + (f", {self.nulls / len(self.values):.1%} null" * bool(self.nulls))


def choose_columns(
    table: pa.Table, partial: Mapping[str, str], ends: tuple[pa.Table, pa.Table] | None
) -> tuple[Choice, ...]:
    """Choose a kind for each column.

    Parameters
    ----------
    table
        Rows drawn from all files.
    partial
        Columns that only some files have, and how many; they are ignored.
    ends
        Rows of the oldest and of the newest night, where there are two: a column that has one value in each
        tells the date only.
    """
    return tuple(_choice(table, name, partial, ends) for name in table.column_names)


def choose_key(tables: Sequence[pa.Table], choices: Sequence[Choice]) -> tuple[tuple[str, ...], str]:
    """Return the fewest columns that tell all rows apart which can be told apart, and the reason.

    Parameters
    ----------
    tables
        Samples that the key must hold in; those whose rows no columns tell apart do not count.
    choices
        Kinds of the columns: identifiers come first, then moments, categories, whole numbers.

    Returns
    -------
    tuple
        Up to four columns, none when they would leave more than 1 % of the rows without a name of their own.
    """
    names = _key_candidates(tables, choices)
    tested = [(table, _groups(table, names)) for table in tables if table.num_rows >= _PROOF_ROWS and names]
    tested = [(table, groups) for table, groups in tested if groups >= _KEY_SHARE * table.num_rows]
    for size in range(1, _KEY_COLUMNS + 1) if tested else ():
        for key in itertools.combinations(names, size):
            if all(_groups(table, key) == groups for table, groups in tested):
                return key, _key_reason(*min(tested, key=_worst_then_largest))
    return (), f"no {_KEY_COLUMNS} columns without nulls tell the rows apart; name yours, if there are any"


def _choice(
    table: pa.Table, name: str, partial: Mapping[str, str], ends: tuple[pa.Table, pa.Table] | None
) -> Choice:
    kind = table.schema.field(name).type
    if name in partial:
        return Choice(name, "ignored", partial[name])
    if not _can_be_modelled(kind):
        return Choice(name, "ignored", f"{kind}: no type that can be modelled")
    facts = _facts(name, table[name])
    if facts.distinct == 0:
        return Choice(name, "ignored", f"no value in {table.num_rows:,} rows")
    if facts.distinct == 1 and not facts.nulls:
        return Choice(name, "ignored", f"always {_shown(facts.values[0])} in {table.num_rows:,} rows")
    if ends and _tells_the_date(name, *(end[name] for end in ends)):
        return Choice(name, "ignored", "one value a night: the date, nothing to learn from")
    return _modelled(facts)


def _modelled(facts: _Facts) -> Choice:
    kind = facts.values.type
    if pt.is_timestamp(kind) or pt.is_date(kind):
        return Choice(facts.name, "timestamp", facts.text)
    if pt.is_boolean(kind):
        return Choice(facts.name, "boolean", facts.text)
    if pt.is_string(kind):
        return _text_choice(facts)
    if _is_whole(facts.values):
        return _whole_choice(facts)
    return Choice(facts.name, "numeric", facts.text)


def _text_choice(facts: _Facts) -> Choice:
    if _names_rows(facts):
        return Choice(facts.name, "identifier", f"{facts.text}: it names its row, there is no pattern")
    rare = ": the rare ones share a code" if facts.distinct > _TOP else ""
    return Choice(facts.name, "categorical", facts.text + rare)


def _whole_choice(facts: _Facts) -> Choice:
    """Tell codes and identifiers from counts and measures, by their name, number and range."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", facts.name)
    coded, low = _CODE_NAME.search(snake), pc.min(facts.values).as_py()
    if _names_rows(facts) and (coded or _counts_up(facts)):
        return Choice(facts.name, "identifier", f"{facts.text}: it names its row, there is no pattern")
    if coded:
        return Choice(facts.name, "categorical", f"{facts.text}: whole numbers, a code by its name")
    if facts.distinct <= _FEW and low >= 0 and not _AMOUNT_NAME.search(snake):
        return Choice(facts.name, "categorical", f"{facts.text}: few whole numbers, a code")
    return Choice(facts.name, "numeric", facts.text)


def _names_rows(facts: _Facts) -> bool:
    return facts.present >= _PROOF_ROWS and facts.distinct > _IDENTIFIER_SHARE * facts.present


def _counts_up(facts: _Facts) -> bool:
    """Return whether values never fall from row to row, none twice: a running number."""
    values = facts.values.combine_chunks()
    return not facts.nulls and bool(pc.all(pc.greater(values[1:], values[:-1])).as_py())


def _tells_the_date(name: str, oldest: pa.ChunkedArray, newest: pa.ChunkedArray) -> bool:
    ends = [pc.unique(_plain(end)) for end in (oldest, newest) if len(end) >= _PROOF_ROWS]
    if len(ends) < 2 or any(len(end) != 1 for end in ends):
        return False
    return name.lower() in _DATE_NAMES or ends[0][0] != ends[1][0]


def _facts(name: str, column: pa.ChunkedArray) -> _Facts:
    values = _plain(column)
    nulls = int(pc.sum(pc.is_null(values, nan_is_null=True)).as_py() or 0)
    present = values.filter(pc.invert(pc.is_null(values, nan_is_null=True)))
    distinct = 0 if pt.is_null(values.type) else len(pc.unique(present))
    return _Facts(name, column.type, values, nulls, distinct)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionary, and in a type that all of Arrow's functions take."""
    kind = _value_type(column.type)
    if pt.is_large_string(kind) or pt.is_string_view(kind):
        return column.cast(kind).cast(pa.string())
    return column.cast(kind).cast(pa.float32()) if pt.is_float16(kind) else column.cast(kind)


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pt.is_dictionary(kind) else kind


def _can_be_modelled(kind: pa.DataType) -> bool:
    kind = _value_type(kind)
    text = pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)
    number = pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_boolean(kind)
    moment = pt.is_temporal(kind) and not pt.is_interval(kind)
    return bool(text or number or moment or pt.is_null(kind))


def _is_whole(values: pa.ChunkedArray) -> bool:
    """Return whether these are whole numbers, also where nulls made doubles of them."""
    if not pt.is_floating(values.type):
        return bool(pt.is_integer(values.type))
    whole = pc.or_(pc.equal(values, pc.floor(values)), pc.is_nan(values))
    return bool(pc.all(pc.and_(whole, pc.invert(pc.is_inf(values)))).as_py())


def _key_candidates(tables: Sequence[pa.Table], choices: Sequence[Choice]) -> list[str]:
    ranked = sorted(_key_ranks(tables, choices))
    return [name for _, _, name in ranked[:_KEY_CANDIDATES]]


def _key_ranks(tables: Sequence[pa.Table], choices: Sequence[Choice]) -> Iterator[tuple[int, int, str]]:
    """Yield rank, place and name of the columns that may be in a key: no nulls, no fractions."""
    for place, choice in enumerate(choices):
        if choice.kind == "ignored" or any(table[choice.column].null_count for table in tables):
            continue
        kind = _value_type(tables[0].schema.field(choice.column).type)
        if pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_boolean(kind):
            continue
        ranks = ("identifier", "timestamp", "categorical", "numeric")
        yield ranks.index(choice.kind), place, choice.column


def _groups(table: pa.Table, names: Sequence[str]) -> int:
    """Return the number of distinct rows."""
    plain = pa.table([_plain(table[name]) for name in names], names=[str(i) for i in range(len(names))])
    return int(plain.group_by(plain.column_names).aggregate([]).num_rows)


def _worst_then_largest(tested: tuple[pa.Table, int]) -> tuple[float, int]:
    table, groups = tested
    return groups / table.num_rows, -table.num_rows


def _key_reason(table: pa.Table, groups: int) -> str:
    repeated = table.num_rows - groups
    if not repeated:
        return f"together they name each of {table.num_rows:,} rows; they may be features too"
    return (
        f"together they name {groups / table.num_rows:.2%} of {table.num_rows:,} rows; the others repeat one"
    )


def _shown(value: pa.Scalar) -> str:
    text = str(value)
    return text if len(text) <= 30 else f"{text[:29]}…"
