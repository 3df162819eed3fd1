"""Canaries: rows with one known error each, to see how many of them a detector finds.

A canary is an ordinary row in which one thing was made wrong, and of which is known what and where.
How many of them a detector finds at its threshold is its power against errors of that kind. The
errors are those that tables suffer in life (:data:`KINDS`); values stay in their column's Arrow type,
and a row in which an error would change nothing is left out rather than counted.

A new kind is a function from a sheet and the names of one or two columns to the new values, and a
line in ``ERRORS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import localcontext
from itertools import combinations, permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from vae_core import arrays
from vae_core.exceptions import DataError
from vae_core.schema import FEATURES, ColumnKind, TableSchema

__all__ = ["KINDS", "Planted", "plant", "plant_each"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Names = tuple[str, ...]
Values = dict[str, pa.Array]

MOST_PLACES = 64  # columns, or pairs of them, that one planting chooses among: wide tables stay affordable
RARE_NULLS = 0.01  # share of nulls up to which one more is an error
COMMON = 64  # values of a category whose pairs are counted
EXPECTED = 20.0  # rows of a pair, were its columns independent, from which on its absence is no accident
GROUP = 100  # rows with a category, from which on the range of a number beside it is known
TRIES = 8  # values drawn for a number that shall not fit the category beside it
YEAR = 365.0  # days


@dataclass(frozen=True)
class Planted:
    """Rows with one error each.

    ``table`` has the columns and types of the rows that came in; ``rows`` [n] are their numbers
    there, ascending; ``columns`` [n] name the wrong column of each row first. Two names stand where
    either is to blame: both of a swap are wrong, and of an impossible pair the first was changed.
    """

    kind: str
    table: pa.Table
    columns: tuple[Names, ...]
    rows: Ints

    def __len__(self) -> int:
        return len(self.rows)


def plant(
    table: pa.Table, schema: TableSchema, kind: str, *, sample: pa.Table | None = None, seed: int = 0
) -> Planted:
    """Make one thing wrong in each row, in a column drawn at random among those where it is possible.

    Parameters
    ----------
    table
        Ordinary rows. They are not changed; what comes back is a copy.
    schema
        Kinds of the columns; keys and ignored columns stay as they are.
    kind
        One of :data:`KINDS`.
    sample
        Rows that tell what is known: categories, combinations, shares of nulls, values of other rows.
        By default ``table`` itself.
    seed
        Same seed, same errors.

    Returns
    -------
    Planted
        The rows that could be made wrong; none where the table has no column for this kind of error.

    Raises
    ------
    DataError
        ``kind`` is none of :data:`KINDS`.
    """
    if kind not in ERRORS:
        raise DataError(f"a kind of planted error is required, however {kind=} came; take {', '.join(KINDS)}")
    random = np.random.default_rng([seed, KINDS.index(kind)])
    sheet = _Sheet(table, table if sample is None else sample, schema, random)
    changes = _changes(sheet, ERRORS[kind]) if len(sheet.rows) and len(sheet.sample) else []
    possible = np.array([one.possible for one in changes], dtype=np.bool_).reshape(len(changes), len(table)).T
    rows = np.flatnonzero(possible.any(axis=1))
    chosen = _any_of(possible[rows], random)
    columns = tuple(changes[place].names for place in chosen)
    return Planted(kind, _changed(sheet, changes, rows, chosen), columns, rows)


def plant_each(
    table: pa.Table, schema: TableSchema, *, rows: int = 500, sample: pa.Table | None = None, seed: int = 0
) -> dict[str, Planted]:
    """Plant every kind of error in up to ``rows`` rows of its own, drawn at random.

    Returns
    -------
    dict
        Kind to planted rows, all of :data:`KINDS`; those that the table has no columns for are empty.
        ``rows`` of each are numbers in ``table``.
    """
    planted = {}
    for i, kind in enumerate(KINDS):
        random = np.random.default_rng([seed, i, rows])
        drawn = np.sort(random.choice(table.num_rows, min(rows, table.num_rows), replace=False))
        known = table if sample is None else sample
        one = plant(arrays.pick(table, drawn), schema, kind, sample=known, seed=seed)
        planted[kind] = Planted(kind, one.table, one.columns, drawn[one.rows].astype(np.int64))
    return planted


# -- Where, and what becomes of it --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sheet:
    """The rows at hand, the sample that tells what is known, and the dice."""

    rows: pa.Table
    sample: pa.Table
    schema: TableSchema
    random: np.random.Generator
    plain: dict[tuple[str, bool], pa.Array] = field(default_factory=dict)

    def of(self, name: str) -> pa.Array:
        """Values of the rows at hand [n], dictionaries decoded."""
        return self._plain(name, False)

    def known(self, name: str) -> pa.Array:
        """Values of the sample [m], in the type of the rows at hand."""
        return self._plain(name, True)

    def _plain(self, name: str, of_sample: bool) -> pa.Array:
        if (name, of_sample) not in self.plain:
            array = _plain(self.sample[name] if of_sample else self.rows[name])
            self.plain[name, of_sample] = array.cast(self.of(name).type, safe=False) if of_sample else array
        return self.plain[name, of_sample]

    def columns(self, *kinds: ColumnKind, where: Callable[[pa.DataType], bool] | None = None) -> list[str]:
        """Names of the features of these kinds, and of types that pass ``where``."""
        there = set(self.rows.schema.names)
        return [
            column.name
            for column in self.schema.features
            if column.kind in kinds
            and column.name in there
            and (where is None or where(self.of(column.name).type))
        ]

    def some(self, names: Sequence[Any]) -> list[Any]:
        """All of the names or places, or MOST_PLACES of them drawn at random."""
        if len(names) <= MOST_PLACES:
            return list(names)
        return [names[i] for i in np.sort(self.random.choice(len(names), MOST_PLACES, replace=False))]


@dataclass(frozen=True)
class _Error:
    """A kind of error: the places where it may happen, and the new values there.

    ``make`` returns the new values [n] of each changed column, null in rows where it cannot be;
    with ``empties``, null is the error.
    """

    places: Callable[[_Sheet], Sequence[Names]]
    make: Callable[[_Sheet, Names], Values]
    empties: bool = False


@dataclass(frozen=True)
class _Change:
    """An error at one place: the new values there, and the rows in which something changes [n]."""

    names: Names
    values: Values
    possible: Bools


def _changes(sheet: _Sheet, error: _Error) -> list[_Change]:
    return [_change(sheet, names, error) for names in sheet.some(error.places(sheet))]


def _change(sheet: _Sheet, names: Names, error: _Error) -> _Change:
    values = error.make(sheet, names)
    spoils = [_present(sheet.of(name)) for name in names]  # without a value there is nothing to spoil
    if not error.empties:
        spoils += [_differs(sheet.of(name), new) for name, new in values.items()]
    return _Change(names, values, np.logical_and.reduce(spoils))


def _changed(sheet: _Sheet, changes: Sequence[_Change], rows: Ints, chosen: Ints) -> pa.Table:
    """The rows numbered ``rows`` [n], each with the change numbered in ``chosen`` [n]."""
    table = arrays.pick(sheet.rows, rows)
    for name in dict.fromkeys(name for change in changes for name in change.values):
        column = [i for i, change in enumerate(changes) if name in change.values]
        block = np.zeros(max(len(changes), 1), dtype=np.int64)  # 0: as it was; then one block a change
        block[column] = np.arange(1, len(column) + 1)
        blocks = pa.concat_arrays([sheet.of(name), *(changes[i].values[name] for i in column)])
        picked = blocks.take(pa.array(block[chosen] * sheet.rows.num_rows + rows))
        place = table.schema.get_field_index(name)
        column_field = table.schema.field(place)
        table = table.set_column(place, column_field, _typed(picked, column_field.type))
    return table


def _plain(values: pa.ChunkedArray) -> pa.Array:
    array = arrays.flat(values)
    return array.cast(pa.large_string()) if pt.is_string_view(array.type) else array


def _typed(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Plain values in the type of their column."""
    if not pt.is_dictionary(wanted):
        return array.cast(wanted)
    encoded = array.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(wanted.index_type),
        encoded.dictionary.cast(wanted.value_type),
        ordered=wanted.ordered,
    )


def _present(array: pa.Array) -> Bools:
    """Where there is a value: neither null nor NaN."""
    return _truth(pc.invert(pc.is_null(array, nan_is_null=True)))


def _differs(old: pa.Array, new: pa.Array) -> Bools:
    """Where a value became another value."""
    if pt.is_float16(old.type):
        old, new = old.cast(pa.float32()), new.cast(pa.float32())
    return _truth(pc.not_equal(old, new)) & _present(new)


def _truth(array: pa.Array) -> Bools:
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _any_of(possible: Bools, random: np.random.Generator) -> Ints:
    """For each row [n] the number of one of its possible changes [n, k]."""
    if not possible.size:
        return np.zeros(len(possible), dtype=np.int64)
    return np.asarray(np.where(possible, random.random(possible.shape), -1.0).argmax(axis=1))


# -- Numbers ------------------------------------------------------------------------------------------------


def _measures(sheet: _Sheet) -> list[Names]:
    return [(name,) for name in sheet.columns(ColumnKind.NUMERIC, where=_is_measure)]


def _signed(sheet: _Sheet) -> list[Names]:
    return [(name,) for name in sheet.columns(ColumnKind.NUMERIC, where=_is_signed)]


def _is_measure(arrow_type: pa.DataType) -> bool:
    """Whether ten times a value means something (of a time of day it does not)."""
    return not pt.is_time(arrow_type)


def _is_signed(arrow_type: pa.DataType) -> bool:
    return _is_measure(arrow_type) and not pt.is_unsigned_integer(arrow_type)


def _times(factor: int) -> Callable[[_Sheet, Names], Values]:
    return lambda sheet, names: {names[0]: _multiplied(sheet.of(names[0]), factor)}


def _multiplied(array: pa.Array, factor: int) -> pa.Array:
    """Values times a factor, in their type; null where the product does not fit it."""
    if pt.is_duration(array.type):
        return _multiplied(array.view(pa.int64()), factor).view(array.type)
    if pt.is_decimal(array.type):
        return _multiplied_decimals(array, factor)
    if pt.is_floating(array.type):
        floats = np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False))
        with np.errstate(over="ignore", invalid="ignore"):
            product = (floats * factor).astype(array.type.to_pandas_dtype())
        return pa.array(product, array.type, mask=~np.isfinite(product))
    return _multiplied_integers(array, factor)


def _multiplied_integers(array: pa.Array, factor: int) -> pa.Array:
    unsigned = pt.is_unsigned_integer(array.type)
    values = pc.fill_null(array, 0).cast(pa.uint64() if unsigned else pa.int64()).to_numpy()
    span = np.iinfo(array.type.to_pandas_dtype())
    reach = int(span.max) // abs(factor)
    fits = (values <= reach) & (values >= (0 if unsigned else -reach))
    return pa.array(np.where(fits, values, 0) * factor, mask=~fits | ~_present(array)).cast(array.type)


def _multiplied_decimals(array: pa.Array, factor: int) -> pa.Array:
    limit = 10 ** (array.type.precision - array.type.scale)
    with localcontext() as context:
        context.prec = 100  # digits, more than any Arrow decimal has
        products = [None if value is None else value * factor for value in array.to_pylist()]
    fitting = [value if value is not None and abs(value) < limit else None for value in products]
    return pa.array(fitting, array.type)


# -- Values of other cells ----------------------------------------------------------------------------------


def _pairs_alike(sheet: _Sheet) -> list[Names]:
    """Pairs of columns of one kind and one type."""
    return [
        pair
        for kind in FEATURES
        for pair in combinations(sheet.some(sheet.columns(kind)), 2)
        if sheet.of(pair[0]).type == sheet.of(pair[1]).type
    ]


def _swapped(sheet: _Sheet, names: Names) -> Values:
    one, other = names
    return {one: sheet.of(other), other: sheet.of(one)}


def _features(sheet: _Sheet) -> list[Names]:
    return [(name,) for name in sheet.columns(*FEATURES)]


def _stale(sheet: _Sheet, names: Names) -> Values:
    """The value that another row has."""
    known = sheet.known(names[0])
    return {names[0]: known.take(pa.array(sheet.random.integers(0, len(known), len(sheet.rows))))}


def _rarely_null(sheet: _Sheet) -> list[Names]:
    return [
        (name,)
        for name in sheet.columns(*FEATURES)
        if sheet.rows.schema.field(name).nullable and _present(sheet.known(name)).mean() >= 1 - RARE_NULLS
    ]


def _emptied(sheet: _Sheet, names: Names) -> Values:
    return {names[0]: pa.nulls(len(sheet.rows), sheet.of(names[0]).type)}


# -- Categories ---------------------------------------------------------------------------------------------


def _choices(sheet: _Sheet) -> list[Names]:
    return [(name,) for name in sheet.columns(ColumnKind.CATEGORICAL, ColumnKind.BOOLEAN)]


def _nameable(sheet: _Sheet) -> list[Names]:
    """Columns of texts or codes, where there is room for one more."""
    return [(name,) for name in sheet.columns(ColumnKind.CATEGORICAL, where=_is_text_or_code)]


def _is_text_or_code(arrow_type: pa.DataType) -> bool:
    return bool(pt.is_string(arrow_type) or pt.is_large_string(arrow_type) or pt.is_integer(arrow_type))


def _miscategorised(sheet: _Sheet, names: Names) -> Values:
    """Another known value, each as likely as the next."""
    known = sheet.known(names[0]).drop_null().unique()
    codes = _codes(sheet.of(names[0]), known)
    step = sheet.random.integers(1, max(len(known), 2), len(codes))
    places = pa.array((codes + step) % max(len(known), 1), mask=np.full(len(codes), len(known) < 2))
    return {names[0]: known.take(places)}


def _unheard_of(sheet: _Sheet, names: Names) -> Values:
    """A value that nobody has seen; none where the column's type has no room for it."""
    array, known = sheet.of(names[0]), sheet.known(names[0]).drop_null().unique()
    wanted = sheet.rows.schema.field(names[0]).type
    new = _new_code(known) if pt.is_integer(array.type) else _new_word(known)
    full = pt.is_dictionary(wanted) and len(known) + 1 > np.iinfo(wanted.index_type.to_pandas_dtype()).max
    return {names[0]: pa.array([None if full else new] * len(array), array.type)}


def _new_word(known: pa.Array) -> str:
    """A known word, misspelt until it is new."""
    words = set(known.to_pylist())
    word = known[0].as_py() if len(known) else ""
    while word in words:
        word += "?"
    return word or "?"


def _new_code(known: pa.Array) -> int | None:
    """One more than the greatest code known, None where its type ends there."""
    greatest = int(pc.max(known).as_py() or 0)
    return greatest + 1 if greatest < np.iinfo(known.type.to_pandas_dtype()).max else None


def _codes(array: pa.Array, known: pa.Array) -> Ints:
    """Place of each value [n] among the known ones, -1 for none."""
    places = pc.fill_null(pc.index_in(array, value_set=known, skip_nulls=True), -1)
    return np.asarray(places.to_numpy(zero_copy_only=False), dtype=np.int64)


# -- Combinations -------------------------------------------------------------------------------------------


def _beside_a_choice(sheet: _Sheet) -> list[Names]:
    """Pairs of a column to change and a category beside it."""
    choices = [names[0] for names in sheet.some(_choices(sheet))]
    measures = [names[0] for names in sheet.some(_measures(sheet))]
    return [*permutations(choices, 2), *((name, other) for name in measures for other in choices)]


def _impossible(sheet: _Sheet, names: Names) -> Values:
    """A value that is usual by itself, and that never stood beside the category which stands there."""
    changed, beside = names
    numeric = changed in sheet.columns(ColumnKind.NUMERIC)
    return {changed: (_strange_number if numeric else _strange_choice)(sheet, changed, beside)}


def _strange_choice(sheet: _Sheet, changed: str, beside: str) -> pa.Array:
    """A value never seen beside the other column's, though chance alone would have brought it often."""
    words, others = _commonest(sheet.known(changed)), _commonest(sheet.known(beside))
    if not len(words):
        return pa.nulls(len(sheet.rows), sheet.of(changed).type)
    codes, seconds = _codes(sheet.known(changed), words), _codes(sheet.known(beside), others)
    counts = np.zeros((len(others) + 1, len(words) + 1))  # last row and column: none of the common ones
    np.add.at(counts, (seconds, codes), 1)
    chance = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / max(counts.sum(), 1)
    strange = ((counts == 0) & (chance >= EXPECTED))[:, :-1]
    here = _codes(sheet.of(beside), others)
    rank = (sheet.random.random(len(here)) * strange[here].sum(axis=1)).astype(np.int64)
    order = np.argsort(~strange, axis=1, kind="stable")  # strange words first
    impossible = ~strange[here].any(axis=1) | (here < 0)
    return words.take(pa.array(order[here, rank], mask=impossible))


def _strange_number(sheet: _Sheet, changed: str, beside: str) -> pa.Array:
    """A number of the central 98 %, well outside of the range that its category has."""
    others, known = _commonest(sheet.known(beside)), sheet.known(changed)
    numbers, seconds = arrays.numbers(known, changed), _codes(sheet.known(beside), others)
    low, high = _ranges(numbers, seconds, len(others))
    usual = np.nanquantile(numbers, (0.01, 0.99), method="nearest") if np.isfinite(numbers).any() else (1, 0)
    here = _codes(sheet.of(beside), others)
    drawn = sheet.random.integers(0, len(numbers), (len(here), TRIES))
    values = numbers[drawn]  # [n, tries]
    strange = (values < low[here, None]) | (values > high[here, None])
    fitting = strange & (values >= usual[0]) & (values <= usual[1]) & (here >= 0)[:, None]
    first = fitting.argmax(axis=1)[:, None]
    return known.take(pa.array(np.take_along_axis(drawn, first, 1)[:, 0], mask=~fitting.any(axis=1)))


def _ranges(numbers: arrays.Floats, codes: Ints, groups: int) -> tuple[arrays.Floats, arrays.Floats]:
    """Lowest and highest number of each group, a quarter of their distance added; all for small groups."""
    low, high = np.full(groups + 1, np.inf), np.full(groups + 1, -np.inf)
    finite = np.isfinite(numbers)
    np.minimum.at(low, codes[finite], numbers[finite])
    np.maximum.at(high, codes[finite], numbers[finite])
    enough = np.bincount(codes[finite] % (groups + 1), minlength=groups + 1) >= GROUP
    room = np.where(enough, high - low, 0.0) / 4
    return np.where(enough, low - room, -np.inf), np.where(enough, high + room, np.inf)


def _commonest(array: pa.Array) -> pa.Array:
    """The commonest values, at most COMMON of them."""
    counted = pc.value_counts(array.drop_null())
    order = np.argsort(-counted.field("counts").to_numpy(), kind="stable")[:COMMON]
    return counted.field("values").take(pa.array(order))


# -- Instants -----------------------------------------------------------------------------------------------


def _dated(sheet: _Sheet) -> list[Names]:
    return [(name,) for name in sheet.columns(ColumnKind.TIMESTAMP)]


def _far(sheet: _Sheet, names: Names) -> Values:
    """An instant years away, and farther than twice the time that the sample spans."""
    array = sheet.of(names[0])
    days, _, known = arrays.instants(sheet.known(names[0]), names[0])
    span = float(np.ptp(days[known])) if known.any() else 0.0
    away = np.ceil(2 * span + YEAR * sheet.random.uniform(3, 30, len(array)))
    away *= sheet.random.choice([-1, 1], len(array))
    return {names[0]: _later(array, away)}


def _later(array: pa.Array, days: arrays.Floats) -> pa.Array:
    """Instants so many whole days later; null where their type ends before."""
    width = pa.int32() if pt.is_date32(array.type) else pa.int64()
    ticks = pc.fill_null(array.view(width), 0).to_numpy().astype(np.int64)
    shift = days * arrays.units_a_day(array.type)
    reach = np.iinfo(width.to_pandas_dtype()).max // 2  # readers convert between units: stay off the edge
    fits = np.abs(ticks.astype(np.float64) + shift) <= reach
    moved = np.where(fits, ticks + np.where(fits, shift, 0).astype(np.int64), 0)
    return pa.array(moved, width, mask=~fits).view(array.type)


ERRORS: Mapping[str, _Error] = {
    "unit_slip_10": _Error(_measures, _times(10)),
    "unit_slip_1000": _Error(_measures, _times(1000)),
    "sign_flip": _Error(_signed, _times(-1)),
    "swapped_cells": _Error(_pairs_alike, _swapped),
    "stale_cell": _Error(_features, _stale),
    "impossible_pair": _Error(_beside_a_choice, _impossible),
    "null": _Error(_rarely_null, _emptied, empties=True),
    "unseen_category": _Error(_nameable, _unheard_of),
    "far_timestamp": _Error(_dated, _far),
    "wrong_category": _Error(_choices, _miscategorised),
}

KINDS: tuple[str, ...] = tuple(ERRORS)
"""Kinds of planted errors, one a row.

- ``unit_slip_10``, ``unit_slip_1000``: a number times 10 or 1000;
- ``sign_flip``: a number times -1;
- ``swapped_cells``: the values of two columns of one kind and type, exchanged;
- ``stale_cell``: the value that another row has, usual and wrong;
- ``impossible_pair``: a category, or a number, usual by itself, that never occurs beside the category
  which stands in another column;
- ``null``: no value, in a column that has one in 99 % of rows;
- ``unseen_category``: a text or code that never occurred;
- ``far_timestamp``: an instant years away;
- ``wrong_category``: another known category, or the other truth value.
"""
