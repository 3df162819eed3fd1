"""Reasons: which columns made a row stand out, how, and what was expected instead."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vae_core.arrays import pick
from vae_core.categories import NULL, UNSEEN, CategoryCodec
from vae_core.columns import BooleanCodec, Codec, NumberCodec, TimestampCodec
from vae_core.encoding import EncodedBatch
from vae_core.expectation import Expectation, shown
from vae_core.repair import Repair, Repairer

__all__ = ["Reason", "View", "reasons", "shares"]

Floats = npt.NDArray[np.float64]

COMMON = 0.01  # share of training rows from which on a category by itself is no surprise
USUAL = 2.0  # standard deviations within which a number by itself is no surprise
LEAST = 0.02  # share of a row's excess that a further reason must take away


@dataclass(frozen=True)
class Reason:
    """One reason for a row: a cell that, replaced by what was expected of it, makes the row more usual.

    ``kind`` is ``value`` (odd by itself), ``combination`` (usual by itself, odd beside the others),
    ``unseen_category``, ``unexpected_null`` or ``out_of_support`` (beyond all training values);
    ``share`` in (0, 1] is what the repair takes off the row's loss, as a share of the loss above the usual.
    """

    column: str
    kind: str
    value: str
    expected: str
    share: float

    def __str__(self) -> str:
        return SENTENCES[self.kind].format(column=self.column, value=self.value, expected=self.expected)


SENTENCES = {
    "value": "{column} is {value}, expected {expected}",
    "combination": "{column} is {value}, which does not go with the rest of the row: expected {expected}",
    "unseen_category": "{column} is {value}, a value never seen: expected {expected}",
    "unexpected_null": "{column} is {value}, though rows like this have a value: expected {expected}",
    "out_of_support": "{column} is {value}, beyond all values of training: expected {expected}",
}


def reasons(repairer: Repairer, table: pa.Table, rows: EncodedBatch, top: int = 3) -> list[list[Reason]]:
    """The ``top`` reasons of each row at most, the one to blame most first.

    The first is the cell whose repair takes most off the row's loss; the second is sought on the repaired
    row, and so on.

    Parameters
    ----------
    repairer
        Of the fitted model.
    table, rows
        The rows, and as the network sees them.
    """
    step = repairer.rows_at_once
    return [
        found
        for start in range(0, len(rows), step)
        for found in _of_block(
            repairer,
            table.slice(start, step),
            rows.take(slice(start, start + step)),
            top,
        )
    ]


def _of_block(repairer: Repairer, table: pa.Table, rows: EncodedBatch, top: int) -> list[list[Reason]]:
    over = repairer.over(rows).sum(axis=1)
    repairs = list(islice(repairer.repairs(rows), top))
    parts = shares(np.stack([repair.falls for repair in repairs], axis=1), over)
    found: list[list[Reason]] = [[] for _ in range(table.num_rows)]
    for repair, share in zip(repairs, parts.T, strict=True):
        for i, reason in _told(repairer, table, repair, share):
            found[i].append(reason)
    return found


def shares(falls: Floats, over: Floats) -> Floats:
    """Shares [n, top] of the loss above the usual [n]; 0 from the first repair on that helps too little.

    Repairs may take away more than that together, where they leave a row more usual than the median one.
    """
    gained = np.maximum(falls, 0.0)
    found = gained / np.maximum(np.maximum(over, gained.sum(axis=1)), 1e-12)[:, None]
    helps = found >= LEAST
    helps[:, 0] = found[:, 0] > 0
    return np.where(np.logical_and.accumulate(helps, axis=1), found, 0.0)


def _told(repairer: Repairer, table: pa.Table, repair: Repair, share: Floats) -> list[tuple[int, Reason]]:
    """Reasons of the rows whose ``share`` [n] is not 0, each with its row number."""
    told = []
    for j in np.unique(repair.columns[share > 0]):
        rows = np.flatnonzero((repair.columns == j) & (share > 0))
        codec = repairer.encoder.codecs[j]
        view = View(codec, pick(table.select([codec.name]), rows), repair.expectation.take(rows))
        told += [(int(i), view.reason(place, float(share[i]))) for place, i in enumerate(rows)]
    return told


class View:
    """One column of the rows, with what is needed to speak of a cell of it."""

    def __init__(self, codec: Codec, table: pa.Table, expectation: Expectation) -> None:
        self.codec = codec
        self.values = table.column(codec.name)
        self.expected = expectation.text(codec.name, self.values)
        learned = expectation.encoder.column(table, codec.name)
        self.codes = (
            codec.encode(learned)[0] if isinstance(codec, CategoryCodec) else np.empty(0, dtype=np.int64)
        )
        self.z, self.outside = _place(codec, learned)

    def reason(self, i: int, share: float) -> Reason:
        """The reason that row ``i`` has in this column."""
        return Reason(self.codec.name, self._kind(i), shown(self.values[i]), self.expected[i], share)

    def _kind(self, i: int) -> str:
        if not self.values[i].is_valid or _is_nan(self.values[i]):
            return "unexpected_null"
        if isinstance(self.codec, CategoryCodec):
            return self._category_kind(self.codec, int(self.codes[i]))
        if isinstance(self.codec, BooleanCodec):
            if self.outside[i]:
                return "unseen_category"
            return "combination" if COMMON < self.codec.share < 1 - COMMON else "value"
        if self.outside[i]:
            return "out_of_support"
        return "combination" if self.z[i] < USUAL else "value"

    @staticmethod
    def _category_kind(codec: CategoryCodec, code: int) -> str:
        if code == UNSEEN:
            return "unseen_category"
        common = codec.share_of(np.array([code]))[0] >= COMMON and code != NULL
        return "combination" if common else "value"


def _place(codec: Codec, values: pa.Array | pa.ChunkedArray) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Distance from the centre in standard deviations, and whether beyond all training values, each [n]."""
    if isinstance(codec, NumberCodec):
        return np.abs(codec.encode(values)[0][:, 0].astype(np.float64)), codec.outside(values)
    if isinstance(codec, TimestampCodec | BooleanCodec):
        return np.zeros(len(values)), codec.outside(values)
    return np.zeros(len(values)), np.zeros(len(values), dtype=np.bool_)


def _is_nan(value: pa.Scalar) -> bool:
    return bool(pa.types.is_floating(value.type) and np.isnan(value.as_py()))
