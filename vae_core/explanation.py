"""Reasons: which columns made a row stand out, how, and what was expected instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vae_core.columns import NULL, UNSEEN, BooleanCodec, CategoryCodec, Codec, NumberCodec, TimestampCodec
from vae_core.encoding import TableEncoder
from vae_core.expectation import Expectation

__all__ = ["Reason", "excess", "reasons"]

Floats = npt.NDArray[np.float64]

COMMON = 0.01  # share of training rows from which on a category by itself is no surprise
USUAL = 2.0  # standard deviations within which a number by itself is no surprise
SHOWN = 80  # characters of a value shown to people


@dataclass(frozen=True)
class Reason:
    """One reason for a row.

    ``kind`` is ``value`` (odd by itself), ``combination`` (usual by itself, odd beside the others),
    ``unseen_category``, ``unexpected_null`` or ``out_of_support`` (beyond all training values);
    ``share`` in (0, 1] is the column's part of the row's loss above the usual.
    """

    column: str
    kind: str
    value: str
    expected: str
    share: float

    def __str__(self) -> str:
        return f"{self.column} {self.value}, expected {self.expected}"


def excess(columns: Floats, usual: Floats) -> Floats:
    """Loss of each cell [n, c] above the column's median in training [c], never below 0."""
    return np.maximum(columns - usual, 0.0)


def reasons(
    encoder: TableEncoder,
    table: pa.Table,
    columns: Floats,
    usual: Floats,
    expectation: Expectation,
    top: int = 3,
) -> list[list[Reason]]:
    """The ``top`` reasons of each row, largest share first.

    Parameters
    ----------
    encoder, table
        The fitted encoder and the rows.
    columns, usual
        Losses of the cells [n, c], and the columns' medians in training [c], nats.
    expectation
        What the model expects of these rows.
    """
    over = excess(columns, usual)
    shares = over / np.maximum(over.sum(axis=1, keepdims=True), 1e-12)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :top]
    views = {j: _View(encoder.codecs[j], table, expectation) for j in np.unique(order)}
    return [
        [views[j].reason(i, float(shares[i, j])) for j in row if shares[i, j] > 0]
        for i, row in enumerate(order)
    ]


class _View:
    """One column of the rows, with what is needed to speak of a cell of it."""

    def __init__(self, codec: Codec, table: pa.Table, expectation: Expectation) -> None:
        self.codec = codec
        self.values = table.column(codec.name)
        self.expected = expectation.text(codec.name)
        self.codes = (
            codec.encode(self.values) if isinstance(codec, CategoryCodec) else np.empty(0, dtype=np.int64)
        )
        self.z, self.outside = _place(codec, self.values)

    def reason(self, i: int, share: float) -> Reason:
        return Reason(self.codec.name, self._kind(i), shown(self.values[i]), self.expected[i], share)

    def _kind(self, i: int) -> str:
        if not self.values[i].is_valid or _is_nan(self.values[i]):
            return "unexpected_null"
        if isinstance(self.codec, CategoryCodec):
            return self._category_kind(self.codec, int(self.codes[i]))
        if isinstance(self.codec, BooleanCodec):
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


def _place(codec: Codec, values: pa.ChunkedArray) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Distance from the centre in standard deviations, and whether beyond all training values, each [n]."""
    if isinstance(codec, NumberCodec):
        return np.abs(codec.encode(values)[0][:, 0].astype(np.float64)), codec.outside(values)
    if isinstance(codec, TimestampCodec):
        return np.zeros(len(values)), codec.outside(values)
    return np.zeros(len(values)), np.zeros(len(values), dtype=np.bool_)


def _is_nan(value: pa.Scalar) -> bool:
    return bool(pa.types.is_floating(value.type) and np.isnan(value.as_py()))


def shown(value: pa.Scalar) -> str:
    """A cell as text for people: null as ``null``, whole floats without a fraction, long texts cut."""
    if not value.is_valid:
        return "null"
    if pa.types.is_floating(value.type):
        return number(float(value.as_py()))
    try:
        text = str(value.as_py())
    except (ValueError, OverflowError):  # instants that no calendar holds
        text = str(value.value)
    clean = "".join(letter if letter.isprintable() else "�" for letter in text)
    return clean if len(clean) <= SHOWN else f"{clean[: SHOWN - 1]}…"


def number(value: float) -> str:
    """Six significant digits, no exponent up to a quadrillion."""
    if value.is_integer() and abs(value) < 1e15:
        return str(round(value))
    return f"{value:.6g}"
