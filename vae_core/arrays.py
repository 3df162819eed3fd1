"""From Arrow arrays of any flavour to plain NumPy: numbers, instants, truth values, texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from vae_core.exceptions import ColumnError

__all__ = [
    "LAST_DAY",
    "MICROSECONDS_A_DAY",
    "SECONDS_A_DAY",
    "bit_array",
    "bits",
    "flat",
    "instant_array",
    "instants",
    "nan_as_null",
    "numbers",
    "pick",
    "require_same_meaning",
    "respelt",
    "seconds_ahead",
    "texts",
    "ticks",
    "units_a_day",
    "with_unit",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

MICROSECONDS_A_DAY = 86_400_000_000
SECONDS_A_DAY = 86_400
UNITS_A_DAY = {"s": SECONDS_A_DAY, "ms": 86_400_000, "us": MICROSECONDS_A_DAY, "ns": 86_400_000_000_000}
LAST_DAY = 100_000_000  # since 1970; microseconds in 64 bits end 6 % later


def flat(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array, dictionaries decoded."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):  # a string column beyond 2 GB stays in chunks
        array = pa.concat_arrays(chunk.cast(pa.large_string()) for chunk in array.chunks)
    return _decoded(array) if pt.is_dictionary(array.type) else array


def _decoded(array: pa.DictionaryArray) -> pa.Array:
    if pt.is_string_view(array.type.value_type):  # Polars' categories; Arrow cannot pick among views
        words = array.dictionary.cast(pa.large_string())
        return pa.DictionaryArray.from_arrays(array.indices, words).dictionary_decode()
    return array.dictionary_decode()


VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""Types that Arrow cannot pick values of, and those that it can."""


def pick(table: pa.Table, rows: Ints) -> pa.Table:
    """The rows numbered [n], in the table's own types."""
    pickable = [field.with_type(VIEWS.get(field.type, field.type)) for field in table.schema]
    picked = table.cast(pa.schema(pickable, table.schema.metadata)).take(pa.array(rows))
    return picked.cast(table.schema)


def _typed(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Nulls without a type (a frame's column in which all is missing) as nulls of the type wanted."""
    return array.cast(wanted) if pt.is_null(array.type) else array


def numbers(values: pa.Array | pa.ChunkedArray, name: str) -> Floats:
    """Values as float64 [n], null and NaN both as NaN; infinities stay.

    Raises
    ------
    ColumnError
        The values are not numbers.
    """
    array = flat(values)
    if pt.is_time(array.type) or pt.is_duration(array.type):
        array = array.view(pa.int64() if array.type.bit_width == 64 else pa.int32())
    try:
        floats = array if pt.is_float64(array.type) else array.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ColumnError(
            f"column {name!r} was learned as numbers, however it is {array.type} now: {error}; mend its type"
        ) from None
    return _with_nan(floats)


def _with_nan(floats: pa.Array) -> Floats:
    if floats.null_count:
        floats = pc.fill_null(floats, float("nan"))
    return np.asarray(floats.to_numpy(zero_copy_only=False), dtype=np.float64)


def with_unit(values: pa.Array | pa.ChunkedArray, learned: pa.DataType, name: str) -> pa.Array:
    """Times of day or durations as float64 [n] in the unit of the learned type, null as NaN."""
    now, then = units_a_day(flat(values).type), units_a_day(learned)
    return pa.array(numbers(values, name) * max(then // now, 1) / max(now // then, 1))


def require_same_meaning(now: pa.DataType, learned: pa.DataType, name: str) -> None:
    """Refuse values that would be read as something else than was learned.

    Raises
    ------
    ColumnError
        Times of day, durations, local clocks or instants of a zone stand for another of these, or for
        what is none of them.
    """
    if _meaning(now) != _meaning(learned):
        raise ColumnError(
            f"column {name!r} was learned as {learned}, however it is {now} now, which means something else; "
            f"convert it to {learned}"
        )


def _meaning(arrow_type: pa.DataType) -> str:
    if pt.is_time(arrow_type):
        return "time of day"
    if pt.is_duration(arrow_type):
        return "duration"
    if pt.is_timestamp(arrow_type) and arrow_type.tz is not None:
        return "instant"
    return "local clock" if pt.is_timestamp(arrow_type) or pt.is_date(arrow_type) else "plain"


def instants(values: pa.Array | pa.ChunkedArray, name: str) -> tuple[Floats, Floats, Bools]:
    """Instants as (days since 1970 [n], share of the day gone [n], present [n]).

    Integer arithmetic splits the day off before anything becomes a float, so that instants far
    outside of any calendar keep a time of day.

    Raises
    ------
    ColumnError
        The values are neither timestamps nor dates.
    """
    array = instant_array(values, name)
    unit = units_a_day(array.type)
    present = _present(array)
    days, rest = np.divmod(ticks(array), unit)
    return days.astype(np.float64), rest / unit, present


def instant_array(values: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    """Timestamps or dates as one Arrow array.

    Raises
    ------
    ColumnError
        The values are neither.
    """
    array = _typed(flat(values), pa.timestamp("us"))
    if not (pt.is_timestamp(array.type) or pt.is_date(array.type)):
        raise ColumnError(
            f"column {name!r} was learned as timestamps, however it is {array.type} now; mend its type"
        )
    return array


def units_a_day(arrow_type: pa.DataType) -> int:
    """How many ticks of the type of an instant, a time of day or a duration make a day."""
    if pt.is_date32(arrow_type):
        return 1
    return UNITS_A_DAY["ms" if pt.is_date64(arrow_type) else arrow_type.unit]


def ticks(array: pa.Array) -> Ints:
    """Instants as their type counts them since 1970 [n]; null as 0."""
    counted = array.view(pa.int32()) if pt.is_date32(array.type) else array.view(pa.int64())
    return np.asarray(pc.fill_null(counted, 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def seconds_ahead(seconds: Ints, zone: str | None) -> Ints:
    """How far a zone's clocks are ahead of UTC [n] at instants [n], seconds since 1970; 0 without a zone."""
    if zone is None:
        return np.zeros(len(seconds), dtype=np.int64)
    near = np.clip(seconds, -LAST_DAY * SECONDS_A_DAY, LAST_DAY * SECONDS_A_DAY)
    return ticks(pc.local_timestamp(pa.array(near).view(pa.timestamp("s", zone)))) - near


def _present(array: pa.Array) -> Bools:
    return np.asarray(pc.is_valid(array).to_numpy(zero_copy_only=False), dtype=np.bool_)


def bits(values: pa.Array | pa.ChunkedArray, name: str) -> tuple[Bools, Bools]:
    """Truth values as (values [n], present [n]).

    Raises
    ------
    ColumnError
        The values are not booleans.
    """
    array = bit_array(values, name)
    filled = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return np.asarray(filled, dtype=np.bool_), _present(array)


def bit_array(values: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    """Truth values as one Arrow array.

    Raises
    ------
    ColumnError
        The values are not booleans.
    """
    array = _typed(flat(values), pa.bool_())
    if not pt.is_boolean(array.type):
        raise ColumnError(
            f"column {name!r} was learned as booleans, however it is {array.type} now; mend its type"
        )
    return array


def nan_as_null(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Floats with null where they are NaN."""
    array = flat(values)
    return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)


def respelt(values: pa.Array | pa.ChunkedArray, learned: pa.DataType, name: str) -> pa.Array:
    """Values as texts, spelt as values of the learned type are; those that it cannot hold in their own way.

    Raises
    ------
    ColumnError
        The values have no text form.
    """
    array = _comparable(flat(values))
    own = texts(values, name)
    try:
        found = _converted(array, learned)
        same = pc.equal(_comparable(found).cast(array.type, safe=False), array)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # types that have no value in common
        return own
    return pc.if_else(same, texts(found, name).cast(own.type), own)


def _comparable(array: pa.Array) -> pa.Array:
    return array.cast(pa.float32()) if pt.is_float16(array.type) else array


def _converted(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Values in another type; Arrow puts integers into decimals only where any integer has room."""
    if pt.is_integer(array.type) and pt.is_decimal(wanted):
        array = array.cast(pa.decimal256(76, wanted.scale))
    return array.cast(wanted, safe=False)


def texts(values: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    """Values as an Arrow string array, nulls kept.

    Raises
    ------
    ColumnError
        The values have no text form.
    """
    array: Any = flat(values)
    if pt.is_string(array.type) or pt.is_large_string(array.type):
        return array
    try:
        return array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ColumnError(
            f"column {name!r} was learned as categories, however it is {array.type} now: {error}; "
            "mend its type"
        ) from None
