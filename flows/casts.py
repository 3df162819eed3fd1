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
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from flows.cells import plain_rows
from flows.errors import SchemaError

__all__ = [
    "OF_THE_DATA",
    "Cast",
    "CastPlan",
    "carry",
    "carrying_schema",
    "common_schema",
    "holding_schema",
    "plan_casts",
]

OF_THE_DATA = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    pa.ArrowKeyError,
    pa.ArrowIndexError,
    pa.ArrowCapacityError,
)
"""What Arrow raises over values and types; a lack of memory and Ctrl-C are no word about them."""

_SHOWN = 5  # columns or values that a message lists
_LETTERS = 80  # of a name or a value in a message


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
        return _has(batch, field) and _is_coded_text(batch.column(field.name).type, field.type)

    def misfits(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return True for each row that holds a value which does not fit the expected type.

        Without such rows, `apply` succeeds.
        """
        mask = pa.repeat(pa.scalar(False), batch.num_rows)
        for cast in self._risky(batch):
            mask = pc.or_(mask, _misfits_of(cast, batch))
        return mask

    def misfit_reasons(self, batch: pa.RecordBatch) -> pa.StringArray:
        """Return for each row the first column that does not fit its expected type; null where all do."""
        reasons = pa.nulls(batch.num_rows, pa.string())
        for cast in reversed(self._risky(batch)):
            odd = _misfits_of(cast, batch)
            why = f"{cast.column} must fit {cast.to_type}"
            reasons = pc.if_else(odd, pa.scalar(why), reasons)
        return reasons

    def _risky(self, batch: pa.RecordBatch) -> list[Cast]:
        """Casts that a value may not survive."""
        return [one for one in self.casts if not _is_coded_text(batch.column(one.column).type, one.to_type)]

    def _column(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        if not _has(batch, field):
            return pa.nulls(batch.num_rows, field.type)
        column = batch.column(field.name)
        if column.type == field.type:
            return column
        misfits = _misfits_of(Cast(field.name, column.type, field.type), batch)
        if pc.any(misfits).as_py():
            raise SchemaError(_misfit_sentence(field, column, misfits))
        return _cast(column, field.type)


def _misfits_of(cast: Cast, batch: pa.RecordBatch) -> pa.BooleanArray:
    """Return True for each row whose value does not survive a cast; an error of Arrow's names the column."""
    try:
        return _misfits(batch.column(cast.column), cast.to_type)
    except OF_THE_DATA as error:
        raise SchemaError(
            f"column {_short(cast.column)}: values that can become {cast.to_type} were required, however"
            f" {cast.from_type} came ({' '.join(str(error).split())[:200]}); write it as {cast.to_type}"
        ) from error


def _has(batch: pa.RecordBatch, field: pa.Field) -> bool:
    return bool(batch.schema.get_field_index(field.name) >= 0)


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
    known, may_lack = set(expected.names), set(optional)
    absent = [name for name in expected.names if name not in came]
    extra = tuple(name for name in actual.names if name not in known)
    shared = [(field, came[field.name]) for field in expected if field.name in came]
    lossy = [(field, kind) for field, kind in shared if not _may_fit(kind, field.type)]
    required = [name for name in absent if name not in may_lack]
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


def carrying_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the columns of all schemas, each in a type that holds every value: text where none is sure to.

    Raises
    ------
    SchemaError
        As `common_schema`.
    """
    common = common_schema(schemas)
    fields = []
    for field in common:
        kinds = {
            schema.field(field.name).type for schema in schemas if schema.get_field_index(field.name) >= 0
        }
        sure = all(_always_fits(kind, field.type) for kind in kinds)
        fields.append(pa.field(field.name, field.type if sure else pa.string()))  # null where a file has none
    return pa.schema(fields)


def holding_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return what `carrying_schema` does, but text where types have nothing in common: no error."""
    names = dict.fromkeys(name for schema in schemas for name in schema.names)
    unlike = {name for name in names if not _are_alike(name, schemas)}
    return carrying_schema([_as_text(schema, unlike) for schema in schemas])


def _are_alike(name: str, schemas: Sequence[pa.Schema]) -> bool:
    """Return whether the types that a column has in several files have one in common."""
    try:
        common_schema([pa.schema([schema.field(name)]) for schema in schemas if name in schema.names])
    except SchemaError:
        return False
    return True


def _as_text(schema: pa.Schema, names: Collection[str]) -> pa.Schema:
    return pa.schema([field.with_type(pa.string()) if field.name in names else field for field in schema])


def carry(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the columns of a batch as a `carrying_schema` has them; one that it does not have is null."""
    columns = [
        _carried(batch.column(field.name), field.type)
        if _has(batch, field)
        else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _carried(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if column.type == wanted:
        return column
    if pt.is_string(wanted) and not _is_text(_plain_type(column.type)):
        return pa.array(_texts(column), wanted)
    return _cast(column, wanted)


def _always_fits(came: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether each value of a type has its place in another."""
    plain, target = _plain_type(came), _plain_type(wanted)
    if plain == target or pt.is_null(plain) or (_is_text(plain) and _is_text(target)):
        return True
    if pt.is_integer(plain) and pt.is_integer(target):
        spare = pt.is_unsigned_integer(plain) and pt.is_signed_integer(target)
        alike = pt.is_signed_integer(plain) == pt.is_signed_integer(target)
        return bool(
            (alike and plain.bit_width <= target.bit_width) or (spare and plain.bit_width < target.bit_width)
        )
    return bool(pt.is_float32(plain) and pt.is_float64(target))


def _may_fit(came: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether values of one type can be of the other without loss; the values themselves decide."""
    if came == wanted or pt.is_null(came) or pt.is_null(wanted):
        return True
    kinds = (_plain_type(came), _plain_type(wanted))
    families = (_is_text, _is_binary, _is_number, _is_flag, _is_day_or_moment, pt.is_time, pt.is_duration)
    return any(all(map(is_member, kinds)) for is_member in families) and _is_known_to_arrow(came, wanted)


def _is_known_to_arrow(came: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether Arrow has such a cast at all: it has none from decimals to float16."""
    try:
        _cast(pa.nulls(0, came), wanted)
    except OF_THE_DATA as error:
        return not isinstance(error, pa.ArrowNotImplementedError)
    return True


def _misfits(column: pa.Array, wanted: pa.DataType) -> pa.BooleanArray:
    """Return True for each value that the wanted type cannot hold; nulls always fit."""
    if pt.is_null(wanted):
        return pc.is_valid(column)
    plain = _plain(column, wanted)
    try:
        cast = _safe_cast(plain, wanted)
    except OF_THE_DATA:
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
    except OF_THE_DATA:
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
    """Return a column as Arrow casts it; NaN, pandas' missing integer, is null where integers are wanted."""
    plain = _as_plain(column)
    if pt.is_floating(plain.type) and pt.is_integer(_plain_type(wanted)):
        return pc.if_else(pc.is_nan(plain), pa.scalar(None, plain.type), plain)
    return plain


def _as_plain(column: pa.Array) -> pa.Array:
    """Return a column in a type Arrow works with: no dictionary, view, extension, float16 or decimal64."""
    stored = column.storage if isinstance(column, pa.ExtensionArray) else column
    return stored.cast(_plain_type(column.type))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    if pt.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pt.is_string_view(kind):
        return pa.string()
    if pt.is_binary_view(kind):
        return pa.binary()
    if pt.is_decimal32(kind) or pt.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
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
    values = _listed([str(one) for one in _texts(pc.unique(_as_plain(wrong)).slice(0, _SHOWN))])
    return (
        f"column {field.name}: values that fit {field.type} were required, however {len(wrong):,} of"
        f" {len(column):,} do not, such as {values}; correct them or retrain"
    )


def _texts(values: pa.Array) -> list[Any]:
    """Return values as text, in UTC where their zone may be unknown to this machine."""
    plain = _as_plain(values)
    if pt.is_timestamp(plain.type):
        plain = plain.cast(pa.timestamp(plain.type.unit))
    try:
        return list(plain.cast(pa.string()).to_pylist())
    except pa.ArrowException:  # bytes that are no text, lists
        cells = [row["cell"] for row in plain_rows(pa.table({"cell": plain}))]
        return [None if one is None else str(one) for one in cells]


def _difference(
    required: Sequence[str], extra: Sequence[str], lossy: Sequence[tuple[pa.Field, pa.DataType]]
) -> str:
    """Return the sentence that tells a file's columns from the expected ones."""
    parts = [f"{_short(field.name)} is {came}, {field.type} was expected" for field, came in lossy]
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
    return ", ".join(_short(name) for name in names[:_SHOWN]) + more


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[:_LETTERS]}…"
