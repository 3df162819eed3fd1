"""Changes of type that lose nothing: which are allowed, and whether the values bear them out.

A producer's files drift: ``int64`` becomes ``int32``, ``string`` becomes ``large_string``, an integer column
with nulls comes back as ``double``. Such a change is cast for the model and named in the report; any other
rejects the file. What is written to the results is the batch as it came. Zones of timestamps may change: the
moments stay. A decimal becomes the nearest double.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from flows.errors import SchemaError

__all__ = ["Cast", "CastPlan", "common_schema", "plan_casts"]

_SHOWN = 5  # columns or values that a message lists


@dataclass(frozen=True)
class Cast:
    """A column whose type changed without loss."""

    column: str
    from_type: pa.DataType
    to_type: pa.DataType

    def __str__(self) -> str:
        return f"{self.column}: {self.from_type} → {self.to_type}"


@dataclass(frozen=True)
class CastPlan:
    """How a file's columns become the expected ones.

    Attributes
    ----------
    expected
        Columns and types that `apply` returns.
    casts
        Columns whose type changes.
    extra
        Columns of the file that were not expected.
    missing
        Optional columns that the file does not have; `apply` fills them with nulls.
    """

    expected: pa.Schema
    casts: tuple[Cast, ...]
    extra: tuple[str, ...]
    missing: tuple[str, ...]

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the expected columns, in their order and types.

        Raises
        ------
        SchemaError
            When values do not fit: the column and up to five of them.
        """
        columns = [self._column(batch, field) for field in self.expected]
        return pa.RecordBatch.from_arrays(columns, schema=self.expected)

    def coded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return what `apply` does, but text that came as a dictionary stays one.

        Raises
        ------
        SchemaError
            As `apply`.
        """
        columns = [
            batch.column(field.name) if self._stays_coded(batch, field) else self._column(batch, field)
            for field in self.expected
        ]
        return pa.RecordBatch.from_arrays(columns, names=self.expected.names)

    def _stays_coded(self, batch: pa.RecordBatch, field: pa.Field) -> bool:
        return field.name not in self.missing and _is_coded_text(batch.column(field.name).type, field.type)

    def misfits(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return True for each row that holds a value which does not fit the expected type.

        Without such rows, `apply` succeeds.
        """
        mask = pa.repeat(pa.scalar(False), batch.num_rows)
        for cast in self.casts:
            if _is_coded_text(batch.column(cast.column).type, cast.to_type):
                continue
            mask = pc.or_(mask, _misfits(batch.column(cast.column), cast.to_type))
        return mask

    def _column(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        if field.name in self.missing:
            return pa.nulls(batch.num_rows, field.type)
        column = batch.column(field.name)
        if column.type == field.type:
            return column
        misfits = _misfits(column, field.type)
        if pc.any(misfits).as_py():
            raise SchemaError(_misfit_sentence(field, column, misfits))
        return _cast(column, field.type)


def plan_casts(expected: pa.Schema, actual: pa.Schema, optional: Collection[str] = ()) -> CastPlan:
    """Plan the casts from a file's schema to the expected one.

    Parameters
    ----------
    expected
        Columns that the reader of the batches needs, in order.
    actual
        Columns of the file, each name once; further ones are no error.
    optional
        Expected columns that may be missing.

    Raises
    ------
    SchemaError
        When a column is missing, or its type cannot become the expected one without loss; the sentence is a
        diff of the columns.
    """
    came = dict(zip(actual.names, actual.types, strict=True))
    known = set(expected.names)
    absent = [name for name in expected.names if name not in came]
    extra = tuple(name for name in actual.names if name not in known)
    shared = [(field, came[field.name]) for field in expected if field.name in came]
    lossy = [(field, kind) for field, kind in shared if not _may_fit(kind, field.type)]
    required = [name for name in absent if name not in optional]
    if required or lossy:
        raise SchemaError(_difference(required, extra, lossy))
    casts = tuple(Cast(field.name, kind, field.type) for field, kind in shared if kind != field.type)
    return CastPlan(expected, casts, extra, tuple(absent))


def common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the columns of all schemas in order of appearance, each in a type that every file's may become.

    Raises
    ------
    SchemaError
        When the types of a column have nothing in common.
    """
    if all(schema.equals(schemas[0]) for schema in schemas):
        return schemas[0]
    plain = [pa.schema([field.with_type(_plain_type(field.type)) for field in schema]) for schema in schemas]
    try:
        return pa.unify_schemas(plain, promote_options="permissive")
    except pa.ArrowException as error:
        reason = str(error).rstrip(".")
        raise SchemaError(f"columns of one type in all files were required, however: {reason}") from error


def _may_fit(came: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether values of one type can be of the other without loss; the values themselves decide."""
    if came == wanted or pt.is_null(came) or pt.is_null(wanted):
        return True
    came, wanted = _plain_type(came), _plain_type(wanted)
    families = (_is_text, _is_binary, _is_number, _is_flag, _is_day_or_moment, pt.is_time, pt.is_duration)
    return any(is_member(came) and is_member(wanted) for is_member in families)


def _misfits(column: pa.Array, wanted: pa.DataType) -> pa.BooleanArray:
    """Return True for each value that the wanted type cannot hold; nulls always fit."""
    if pt.is_null(wanted):
        return pc.is_valid(column)
    plain = _plain(column, wanted)
    try:
        cast = _safe_cast(plain, wanted)
    except pa.ArrowInvalid:
        return _misfits_one_by_one(plain, wanted)
    return _changed(plain, cast) if _rounds(plain.type, wanted) else _none(plain)


def _misfits_one_by_one(plain: pa.Array, wanted: pa.DataType) -> pa.BooleanArray:
    """Return `_misfits` of values some of which Arrow refuses; it names the first one only."""
    values = pc.unique(plain)
    refused = [not _fits(values.slice(position, 1), wanted) for position in range(len(values))]
    return pc.is_in(plain, value_set=values.filter(pa.array(refused, pa.bool_())))


def _fits(value: pa.Array, wanted: pa.DataType) -> bool:
    try:
        cast = _safe_cast(value, wanted)
    except pa.ArrowInvalid:
        return False
    return not (_rounds(value.type, wanted) and pc.any(_changed(value, cast)).as_py())


def _rounds(came: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether Arrow's safe cast between these types may still lose something."""
    to_real = pt.is_floating(came) and (pt.is_floating(wanted) or pt.is_decimal(wanted))
    to_flag = pt.is_integer(came) and pt.is_boolean(wanted)
    return bool(to_real or to_flag or (pt.is_timestamp(came) and pt.is_date(wanted)))


def _changed(plain: pa.Array, cast: pa.Array) -> pa.BooleanArray:
    """Return True for each value that does not come back from its cast."""
    back = cast.cast(plain.type, safe=False)
    changed = pc.fill_null(pc.not_equal(back, plain), False)
    if not pt.is_floating(plain.type):
        return changed
    return pc.and_not(changed, pc.fill_null(pc.is_nan(plain), False))


def _cast(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Return a column, whose values fit, in the wanted type."""
    if pt.is_null(column.type) or pt.is_null(wanted):
        return pa.nulls(len(column), wanted)
    return _safe_cast(_plain(column, wanted), wanted)


def _safe_cast(plain: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pt.is_dictionary(wanted):
        return plain.cast(wanted.value_type).dictionary_encode().cast(wanted)
    return plain.cast(wanted)


def _plain(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Return a column in the type that Arrow can cast from: no dictionary, no view, no float16.

    NaN, which pandas writes for a missing integer, is null where integers are wanted.
    """
    plain = column.cast(_plain_type(column.type))
    if pt.is_floating(plain.type) and pt.is_integer(_plain_type(wanted)):
        return pc.if_else(pc.is_nan(plain), pa.scalar(None, plain.type), plain)
    return plain


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pt.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pt.is_string_view(kind):
        return pa.string()
    if pt.is_binary_view(kind):
        return pa.binary()
    return pa.float32() if pt.is_float16(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind))


def _is_coded_text(came: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether a column is text by dictionary, where text of any layout is wanted."""
    return bool(pt.is_dictionary(came) and _is_text(_plain_type(came)) and _is_text(_plain_type(wanted)))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind))


def _is_flag(kind: pa.DataType) -> bool:
    return bool(pt.is_boolean(kind) or pt.is_integer(kind))


def _is_day_or_moment(kind: pa.DataType) -> bool:
    return bool(pt.is_date(kind) or pt.is_timestamp(kind))


def _none(column: pa.Array) -> pa.BooleanArray:
    return pa.repeat(pa.scalar(False), len(column))


def _misfit_sentence(field: pa.Field, column: pa.Array, misfits: pa.BooleanArray) -> str:
    wrong = column.filter(misfits)
    values = ", ".join(_texts(pc.unique(wrong).slice(0, _SHOWN)))
    return (
        f"column {field.name}: values that fit {field.type} were required, however {len(wrong):,} of"
        f" {len(column):,} do not, such as {values}; correct them or retrain"
    )


def _texts(values: pa.Array) -> list[str]:
    """Return values as text, in UTC where their zone may be unknown to this machine."""
    plain = values.cast(_plain_type(values.type))
    if pt.is_timestamp(plain.type):
        plain = plain.cast(pa.timestamp(plain.type.unit))
    return list(plain.cast(pa.string()).to_pylist())


def _difference(
    required: Sequence[str], extra: Sequence[str], lossy: Sequence[tuple[pa.Field, pa.DataType]]
) -> str:
    """Return the sentence that tells a file's columns from the expected ones."""
    parts = [f"{field.name} is {came}, {field.type} was expected" for field, came in lossy]
    if required:
        parts.append(f"missing: {_listed(required)}")
        parts.append(f"new: {_listed(_nearest_first(extra, required))}" if extra else "no column is new")
    return (
        f"the columns of the training data were required, however {'; '.join(parts)}; restore them or retrain"
    )


def _nearest_first(extra: Sequence[str], required: Sequence[str]) -> list[str]:
    """Order new columns by how much they look like a missing one, so that a renamed column is seen."""
    wanted = [name.lower() for name in required[:_SHOWN]]

    def unlikeness(name: str) -> float:
        return -max(difflib.SequenceMatcher(None, name.lower(), one).ratio() for one in wanted)

    return [*sorted(extra[:100], key=unlikeness), *extra[100:]]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
