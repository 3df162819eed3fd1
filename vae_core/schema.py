"""Which column means what: numeric, categorical, boolean, timestamp, key or ignored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from vae_core.arrays import flat
from vae_core.exceptions import ColumnError

__all__ = ["ColumnKind", "ColumnSpec", "SchemaDiff", "TableSchema"]

IDENTIFIER_SHARE = 0.9  # strings more distinct than this name their row; they carry no pattern
IDENTIFIER_ROWS = 100  # below this many rows, distinct strings prove nothing


class ColumnKind(StrEnum):
    """How a column takes part in the model."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    KEY = "key"
    IGNORED = "ignored"


FEATURES = (ColumnKind.NUMERIC, ColumnKind.CATEGORICAL, ColumnKind.BOOLEAN, ColumnKind.TIMESTAMP)


@dataclass(frozen=True)
class ColumnSpec:
    """One column: its name, its kind, and the Arrow type that it was learned with."""

    name: str
    kind: ColumnKind
    arrow_type: pa.DataType

    @property
    def is_feature(self) -> bool:
        """Whether the model looks at this column (keys and ignored columns it does not)."""
        return self.kind in FEATURES


@dataclass(frozen=True)
class SchemaDiff:
    """What separates a table at hand from the one that was learned.

    ``missing`` and ``new`` are column names; ``changed`` are ``(name, learned type, type now)``.
    """

    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    changed: tuple[tuple[str, str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.new or self.changed)

    def __str__(self) -> str:
        parts = [f"missing: {', '.join(self.missing)}"] if self.missing else []
        parts += [f"new: {', '.join(self.new)}"] if self.new else []
        parts += [f"{name}: {now} where {then} was learned" for name, then, now in self.changed]
        return "; ".join(parts) or "no difference"


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table, in order, with their kinds."""

    columns: tuple[ColumnSpec, ...]

    @classmethod
    def infer(cls, table: pa.Table | pa.Schema, kinds: Mapping[str, str] | None = None) -> TableSchema:
        """Read kinds off Arrow types; what ``kinds`` says of a column goes before.

        Parameters
        ----------
        table
            A table (its values tell identifiers from categories) or only a schema.
        kinds
            Column name to kind, for columns whose type says too little: a number that is a code, a key.

        Raises
        ------
        ColumnError
            A name stands twice, ``kinds`` names a column that is not there or a kind that its type cannot be.
        """
        schema = table if isinstance(table, pa.Schema) else table.schema
        kinds = dict(kinds or {})
        _refuse_odd_names(schema, kinds)
        rows = table if isinstance(table, pa.Table) else None
        return cls(tuple(_spec(field, kinds.get(field.name), rows) for field in schema))

    @property
    def names(self) -> tuple[str, ...]:
        """All column names, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def features(self) -> tuple[ColumnSpec, ...]:
        """The columns that the model looks at, in order."""
        return tuple(column for column in self.columns if column.is_feature)

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema that was learned."""
        return pa.schema([(column.name, column.arrow_type) for column in self.columns])

    @property
    def kinds(self) -> dict[str, str]:
        """Column name to kind."""
        return {column.name: str(column.kind) for column in self.columns}

    def compare(self, other: pa.Schema) -> SchemaDiff:
        """Diff of the learned features and keys against ``other``; ignored columns may come and go."""
        there = {field.name: field.type for field in other}
        wanted = [column for column in self.columns if column.kind is not ColumnKind.IGNORED]
        return SchemaDiff(
            missing=tuple(column.name for column in wanted if column.name not in there),
            new=tuple(name for name in there if name not in self.names),
            changed=tuple(
                (column.name, str(column.arrow_type), str(there[column.name]))
                for column in wanted
                if column.name in there and there[column.name] != column.arrow_type
            ),
        )


def _refuse_odd_names(schema: pa.Schema, kinds: Mapping[str, str]) -> None:
    doubled = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if doubled:
        raise ColumnError(f"column names must be unique, however {doubled} stand more than once; rename them")
    unknown = sorted(set(kinds) - set(schema.names))
    if unknown:
        raise ColumnError(f"kinds name {unknown}, which are not among the columns {schema.names}")


def _spec(field: pa.Field, wished: str | None, rows: pa.Table | None) -> ColumnSpec:
    kind = _wished_kind(field, wished) if wished else _natural_kind(field.type)
    if (
        wished is None
        and kind is ColumnKind.CATEGORICAL
        and rows is not None
        and _names_its_row(rows[field.name])
    ):
        kind = ColumnKind.KEY
    return ColumnSpec(field.name, kind, field.type)


def _wished_kind(field: pa.Field, wished: str) -> ColumnKind:
    try:
        kind = ColumnKind(wished)
    except ValueError:
        raise ColumnError(
            f"column {field.name!r} cannot be of kind {wished!r}; kinds are {', '.join(ColumnKind)}"
        ) from None
    natural = _kind_of(value_type(field.type))
    free = (ColumnKind.KEY, ColumnKind.IGNORED, natural)
    coded = kind is ColumnKind.CATEGORICAL and natural in FEATURES
    if kind not in free and not coded:
        raise ColumnError(
            f"column {field.name!r} is {field.type}, which cannot be {kind}; it can be {natural}"
        )
    return kind


def value_type(arrow_type: pa.DataType) -> pa.DataType:
    """The type of the values, looking through a dictionary."""
    return arrow_type.value_type if pt.is_dictionary(arrow_type) else arrow_type


def _natural_kind(arrow_type: pa.DataType) -> ColumnKind:
    """The kind of a type by itself; whole numbers by dictionary, a data frame's categories, are codes."""
    if pt.is_dictionary(arrow_type) and pt.is_integer(arrow_type.value_type):
        return ColumnKind.CATEGORICAL
    return _kind_of(value_type(arrow_type))


def _kind_of(arrow_type: pa.DataType) -> ColumnKind:
    if pt.is_boolean(arrow_type):
        return ColumnKind.BOOLEAN
    if any(
        test(arrow_type)
        for test in (pt.is_integer, pt.is_floating, pt.is_decimal, pt.is_time, pt.is_duration)
    ):
        return ColumnKind.NUMERIC
    if any(test(arrow_type) for test in (pt.is_string, pt.is_large_string, pt.is_string_view)):
        return ColumnKind.CATEGORICAL
    if pt.is_timestamp(arrow_type) or pt.is_date(arrow_type):
        return ColumnKind.TIMESTAMP
    return ColumnKind.IGNORED


def _names_its_row(values: pa.ChunkedArray) -> bool:
    array = flat(values).cast(pa.large_string())  # string views cannot be counted as they are
    present = len(array) - array.null_count
    if present < IDENTIFIER_ROWS:
        return False
    return bool(pc.count_distinct(array).as_py() > IDENTIFIER_SHARE * present)
