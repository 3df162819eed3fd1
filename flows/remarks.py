"""What is odd about a file that is scored all the same: sentences for its night's report, by column.

A shard keeps a `Glance` of the rows that it scores: a bounded sample, and over all rows the nulls, the ends
of numbers and moments, and how many rows broke which rule. Of the glances of a file `remarks` makes
sentences, held to what the model has learned from. Monitoring (`flows.observation`) looks closer, at nights
as a whole; here it is said in the report of the very night which file and which column to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from flows.errors import legible
from flows.thinning import Thinned

if TYPE_CHECKING:
    import numpy.typing as npt

    from flows.reference import Reference
    from vae_core.drift import ColumnDrift, ColumnProfile

__all__ = ["Glance", "Glimpse", "Overview", "remarks"]

SAMPLED = 10_000  # rows of a shard
HELD = 20_000  # sampled rows of a file that are held to the training rows
KEPT = 80_000  # of a file's shards, until all of them are read
_BYTES = 16 * 1024 * 1024  # of a shard's sample
_KEPT_BYTES = 32 * 1024 * 1024  # of a file's
_FAR = 1_000.0  # times the whole range of the training rows: no drift, but a broken value
_NAMED = 8  # columns or rules that a sentence names
_LETTERS = 120  # of each
_YEARS = ("0001-01-01", "9999-12-31")

Ends = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Glimpse:
    """What was seen of some rows: a sample, ends of their values, nulls, rows by the rules they broke."""

    sample: tuple[pa.RecordBatch, ...] = ()
    ends: Ends = field(default_factory=dict)
    nulls: Mapping[str, int] = field(default_factory=dict)
    broken: Mapping[str, int] = field(default_factory=dict)


class Glance:
    """Takes the batches of a shard, and keeps a `Glimpse` of them.

    Parameters
    ----------
    schema
        Columns and types of the model's table.
    rows
        Of the shard.
    start
        Number of its first row: a shard's sample is the same whoever draws it.
    """

    def __init__(self, schema: pa.Schema, rows: int, start: int) -> None:
        self._schema, self._every = schema, max(1, -(-rows // SAMPLED))
        self._random = np.random.default_rng(start)
        self._sample: list[pa.RecordBatch] = []
        self._bytes, self._ends, self._nulls, self._broken = 0, Ends(), Counter[str](), Counter[str]()

    def scored(self, rows: pa.RecordBatch) -> None:
        """Take rows that are scored, in the model's columns; text may be coded."""
        columns = zip(rows.schema.names, rows.columns, strict=True)
        ends = {name: _ends(column, self._ends.get(name)) for name, column in columns}
        self._ends = _wider([self._ends, {name: pair for name, pair in ends.items() if pair is not None}])
        self._nulls.update({name: rows.column(name).null_count for name in rows.schema.names})
        picked = self._picked(rows)
        if picked.num_rows:
            self._sample.append(picked)
            self._bytes += picked.nbytes

    def set_aside(self, reasons: pa.Array) -> None:
        """Take the reasons of rows that go to quarantine."""
        for one in pc.value_counts(reasons.drop_null()).to_pylist():
            self._broken[one["values"]] += one["counts"]

    def glimpse(self) -> Glimpse:
        """What was seen."""
        return Glimpse(tuple(self._sample), self._ends, dict(self._nulls), dict(self._broken))

    def _picked(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """One row of every so many, within the budget of bytes, in the model's types."""
        steps = np.arange(0, rows.num_rows, self._every)
        steps = np.minimum(steps + self._random.integers(0, self._every, steps.size), rows.num_rows - 1)
        width = sum(_width(column) for column in rows.columns)
        steps = steps[: max(0, int((_BYTES - self._bytes) / width))]
        picked = rows.take(pa.array(steps))
        columns = [column.cast(one.type) for column, one in zip(picked.columns, self._schema, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


class Overview:
    """What was seen of a file: glimpses of its shards, taken in order, in memory that has a bound."""

    def __init__(self) -> None:
        self._sample = Thinned(_KEPT_BYTES, KEPT)
        self._ends, self._nulls, self._broken = Ends(), Counter[str](), Counter[str]()

    def add(self, seen: Glimpse) -> None:
        """Take what was seen of the next shard; of many shards the samples are thinned, evenly."""
        for batch in seen.sample:
            self._sample.add(batch)
        self._ends = _wider([self._ends, seen.ends])
        self._nulls.update(seen.nulls)
        self._broken.update(seen.broken)

    def glimpse(self) -> Glimpse:
        """What was seen."""
        return Glimpse(tuple(self._sample.batches), self._ends, self._nulls, self._broken)


def _width(column: pa.Array) -> float:
    """Bytes of a value of a column, decoded; of repeated text at most."""
    if pt.is_dictionary(column.type) and pt.is_string(column.type.value_type):
        return 4.0 + float(pc.max(pc.binary_length(column.dictionary)).as_py() or 0)
    return 1.0 + float(column.nbytes) / max(len(column), 1)


def _ends(column: pa.Array, known: tuple[float, float] | None) -> tuple[float, float] | None:
    """Least and greatest number, or tick of a moment; None of other columns, and where all is null.

    Ends that are known already are returned where none lies beyond them.
    """
    kind = column.type
    if pt.is_timestamp(kind):
        column = column.view(pa.int64())
    elif pt.is_decimal(kind):
        ends = pc.min_max(column)
        return (float(ends["min"].as_py()), float(ends["max"].as_py())) if ends["min"].is_valid else None
    elif not (pt.is_integer(kind) or (pt.is_floating(kind) and kind.bit_width > 16)):
        return None
    if column.null_count == len(column):
        return None
    if column.null_count and known is not None and _within(_slots(column), known):
        return known  # what stands where a value is missing may be anything, yet nothing is beyond
    values = column.to_numpy(zero_copy_only=False)  # three times as fast as Arrow's min_max
    low, high = float(np.fmin.reduce(values)), float(np.fmax.reduce(values))
    return (low, high) if low <= high else None  # all are NaN


def _slots(column: pa.Array) -> npt.NDArray[Any]:
    """The numbers of a column as they lie in memory, those of missing values included."""
    slots = np.frombuffer(column.buffers()[1], dtype=column.type.to_pandas_dtype())
    return slots[column.offset : column.offset + len(column)]


def _within(values: npt.NDArray[Any], ends: tuple[float, float]) -> bool:
    return bool(ends[0] <= np.fmin.reduce(values) and np.fmax.reduce(values) <= ends[1])


def _wider(found: Sequence[Ends]) -> Ends:
    names = dict.fromkeys(name for ends in found for name in ends)
    pairs = {name: [ends[name] for ends in found if name in ends] for name in names}
    return {
        name: (min(low for low, _ in some), max(high for _, high in some)) for name, some in pairs.items()
    }


# -- Sentences ----------------------------------------------------------------------------------------------


def remarks(
    seen: Glimpse,
    *,
    learned: pa.Schema,
    new: Mapping[str, pa.DataType],
    missing: Sequence[str],
    reference: Reference | None,
) -> list[str]:
    """Return what is odd about a file, a sentence a matter, columns named.

    Parameters
    ----------
    seen
        Of its rows.
    learned
        Columns and types of the model's table.
    new, missing
        Columns that the model's table does not have, and those of it that the file does not have.
    reference
        What the model's training rows were like; None where that was not kept.
    """
    said = [*_columns(new, missing), *_broken(seen.broken)]
    said += _beyond_years(seen.ends, learned)
    if reference is None:
        return [legible(one) for one in said]
    profiles = {one.name: one for one in reference.profile.columns}
    said += _far(seen.ends, profiles)
    said += _suddenly_null(seen.nulls, profiles)
    return [legible(one) for one in (*said, *_moved(_table(seen.sample, learned), reference))]


def _columns(new: Mapping[str, pa.DataType], missing: Sequence[str]) -> Iterator[str]:
    if new:
        shown = [f"{name or repr(name)} ({kind})" for name, kind in new.items()]
        yield f"new columns, which the model does not know: {_listed(shown)}"
    if missing:
        yield f"columns that no row has, and no score needs: {_listed(missing)}"


def _broken(counts: Mapping[str, int]) -> Iterator[str]:
    if counts:
        rules = [f"{rule} ({count:,})" for rule, count in Counter(counts).most_common()]
        yield f"rows in quarantine: {_listed(rules)}"


def _beyond_years(ends: Ends, learned: pa.Schema) -> Iterator[str]:
    for name, (low, high) in ends.items():
        kind = learned.field(name).type
        if not pt.is_timestamp(kind) or kind.unit == "ns":  # all of which lie within
            continue
        first, last = (float(np.datetime64(year, kind.unit).astype(np.int64)) for year in _YEARS)
        if low < first or high > last:
            yield f"{name}: moments beyond the years 1 to 9999, which few programs can show"


def _far(ends: Ends, profiles: Mapping[str, ColumnProfile]) -> Iterator[str]:
    for name, (low, high) in ends.items():
        points = profiles[name].points if name in profiles else ()
        if not points:
            continue
        reach = _FAR * max(points[-1] - points[0], abs(points[-1]), abs(points[0]))
        if low < points[0] - reach or high > points[-1] + reach:
            usual = f"{points[0]:.4g} to {points[-1]:.4g}"
            yield f"{name}: values from {low:.4g} to {high:.4g}, where {usual} is usual"


def _suddenly_null(nulls: Mapping[str, int], profiles: Mapping[str, ColumnProfile]) -> Iterator[str]:
    for name, count in nulls.items():
        if count and name in profiles and profiles[name].rows and not profiles[name].nulls:
            yield f"{name}: rows without a value ({count:,}), where none is usual"


def _table(sample: Sequence[pa.RecordBatch], learned: pa.Schema) -> pa.Table:
    """The sampled rows of a file, evenly thinned."""
    table = pa.Table.from_batches(sample, learned)
    if table.num_rows <= HELD:
        return table
    return table.take(pa.array(np.linspace(0, table.num_rows - 1, HELD).astype(np.int64)))


def _moved(rows: pa.Table, reference: Reference) -> Iterator[str]:
    from vae_core.drift import compare

    if rows.num_rows:
        for one in compare(reference.profile, rows):
            said = _said(one)
            if said:
                yield f"{one.column}: {'; '.join(said)}"


def _said(one: ColumnDrift) -> list[str]:
    """What is drift of a column, in words."""
    said = []
    if one.nulls.state == "drift" or (one.nulls.value == 1.0 and one.nulls.usual < 1.0):
        said.append(f"{one.nulls.value:.1%} of the rows have no value, where {one.nulls.usual:.1%} is usual")
    if one.unseen is not None and one.unseen.state == "drift":
        said.append(
            f"{one.unseen.value:.1%} of the values were never seen, where {one.unseen.usual:.1%} is usual"
        )
    if one.shift is not None and one.shift.state == "drift":
        said.append(f"the values have moved (stability index {one.shift.psi:.2f}; up to 0.1 is usual)")
    return said


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        ", ".join(name if len(name) <= _LETTERS else f"{name[:_LETTERS]}…" for name in names[:_NAMED]) + more
    )
