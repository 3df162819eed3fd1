"""Compiled loops from Arrow buffers to what the network is shown: one pass a column.

Every loop fills rows of ``shown`` [b, d, BLOCK]: b blocks, in each of them one run of neighbours in
memory a shown feature. ``validity`` is Arrow's bitmap, empty where nothing is null; ``offset`` the bit
that it begins with.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_core.categories import NULL
from vae_core.columns import LINEAR_UP_TO, UNIT
from vae_core.compiling import compiled

__all__ = ["show_bits", "show_codes", "show_instants", "show_numbers"]

Floats32 = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

QUARTER = math.pi / 2
ROUND = 6755399441055744.0  # 1.5 * 2**52: added and taken away again, it rounds to an integer
THURSDAY = 4  # day 0 was one; weeks begin on Sunday
LARGEST = 1e300


@compiled
def _unpack(bitmap: Bytes, offset: int, out: Floats32) -> None:
    """Bits of a bitmap from ``offset`` on as 0 and 1, eight at a time where bytes allow it."""
    size, first, shift = out.size, offset >> 3, offset & 7
    whole = size >> 3 if shift == 0 else 0
    for byte in range(whole):
        eight = bitmap[first + byte]
        for bit in range(8):
            out[byte * 8 + bit] = np.float32((eight >> bit) & 1)
    for i in range(whole * 8, size):
        out[i] = np.float32((bitmap[(offset + i) >> 3] >> ((offset + i) & 7)) & 1)


@compiled
def _presence(validity: Bytes, offset: int, out: Floats32) -> None:
    if validity.size:
        _unpack(validity, offset, out)
    else:
        out[:] = np.float32(1.0)


@compiled
def show_numbers(
    values: Any,
    validity: Bytes,
    offset: int,
    center: float,
    scale: float,
    shown: Floats32,
    part: int,
    place: int,
) -> None:
    """Values [n] as standard deviations, compressed, in row ``part``, their presence in row ``place``."""
    block = shown.shape[2]
    for b in range(shown.shape[0]):
        run = values[b * block : (b + 1) * block]
        z, present = shown[b, part, : run.size], shown[b, place, : run.size]
        _presence(validity, offset + b * block, present)
        far = _standardise(run, center, scale, z, present)
        if far:
            _compress(run, center, scale, z)


@compiled
def _standardise(values: Any, center: float, scale: float, z: Floats32, present: Floats32) -> bool:
    """Whether a value lies in the logarithmic part of the scale."""
    far = False
    for i in range(values.size):
        value = np.float64(values[i])
        here = (present[i] > 0) & (value == value)
        standard = (value - center) / scale if here else 0.0
        present[i] = np.float32(1.0) if here else np.float32(0.0)
        z[i] = np.float32(standard)
        far |= abs(standard) > LINEAR_UP_TO
    return far


@compiled
def _compress(values: Any, center: float, scale: float, z: Floats32) -> None:
    for i in range(values.size):
        if abs(z[i]) >= LINEAR_UP_TO:
            standard = min(max((np.float64(values[i]) - center) / scale, -LARGEST), LARGEST)
            beyond = abs(standard) - LINEAR_UP_TO
            if beyond > 0:
                z[i] = np.float32(math.copysign(LINEAR_UP_TO + math.log1p(beyond), standard))


@compiled
def show_bits(
    values: Bytes, first: int, validity: Bytes, offset: int, rows: int, shown: Floats32, sign: int, place: int
) -> None:
    """A bitmap of truth values from bit ``first`` on as 1, -1 and 0 where absent, in row ``sign``."""
    block = shown.shape[2]
    for b in range(shown.shape[0]):
        size = min(rows - b * block, block)
        signs, present = shown[b, sign, :size], shown[b, place, :size]
        _unpack(values, first + b * block, signs)
        _presence(validity, offset + b * block, present)
        for i in range(size):
            signs[i] = (np.float32(2.0) * signs[i] - np.float32(1.0)) * present[i]


@compiled
def show_instants(
    ticks: Any,
    validity: Bytes,
    offset: int,
    unit: int,
    cycles: tuple[bool, bool],
    span: tuple[float, float],
    shown: Floats32,
    part: int,
    place: int,
) -> None:
    """Instants [n] of ``unit`` ticks a day: time of day, day of week, distance from the range seen."""
    block, (hours, weekdays) = shown.shape[2], cycles
    for b in range(shown.shape[0]):
        run = ticks[b * block : (b + 1) * block]
        present, row = shown[b, place, : run.size], part
        _presence(validity, offset + b * block, present)
        days, share = np.empty(run.size, dtype=np.int64), np.empty(run.size)
        for i in range(run.size):
            tick = np.int64(run[i]) if present[i] > 0 else np.int64(0)
            days[i] = tick // unit
            share[i] = (tick - days[i] * unit) / unit
        if hours:
            _waves(share, present, shown[b, row, : run.size], shown[b, row + 1, : run.size])
            row += 2
        _distances(days, present, span, shown[b, row + 2 * weekdays, : run.size])
        if weekdays:
            for i in range(run.size):
                share[i] = ((days[i] + THURSDAY) % 7 + share[i]) / 7
            _waves(share, present, shown[b, row, : run.size], shown[b, row + 1, : run.size])


@compiled
def _waves(turns: npt.NDArray[np.float64], present: Floats32, sines: Floats32, cosines: Floats32) -> None:
    """Sine and cosine of turns in [0, 1], by their Taylor series in the quarter around 0."""
    for i in range(turns.size):
        quarters = turns[i] * 4
        whole = (quarters + ROUND) - ROUND
        a = (quarters - whole) * QUARTER
        q = a * a
        sine = a * (((((-1 / 39916800 * q + 1 / 362880) * q - 1 / 5040) * q + 1 / 120) * q - 1 / 6) * q + 1)
        cosine = (
            (((((1 / 479001600 * q - 1 / 3628800) * q + 1 / 40320) * q - 1 / 720) * q + 1 / 24) * q) - 0.5
        ) * q + 1
        turned = (whole == 1) | (whole == 3)
        s, c = (cosine, sine) if turned else (sine, cosine)
        size = UNIT * present[i]
        sines[i] = np.float32(-s * size if (whole == 2) | (whole == 3) else s * size)
        cosines[i] = np.float32(-c * size if (whole == 1) | (whole == 2) else c * size)


@compiled
def _distances(days: Ints, present: Floats32, span: tuple[float, float], out: Floats32) -> None:
    first, last = span
    width = max(last - first, 1.0)
    for i in range(days.size):
        beyond = max(max(first - width - days[i], days[i] - last - width), 0.0)
        if beyond > 0:
            out[i] = np.float32(math.log1p(beyond / width) * LINEAR_UP_TO * present[i])
        else:
            out[i] = np.float32(0.0)


@compiled
def show_codes(
    indices: Any,
    validity: Bytes,
    offset: int,
    code_of: Ints,
    within_of: Floats32,
    within_null: np.float32,
    column: int,
    codes: npt.NDArray[np.int64],
    within: Floats32,
) -> None:
    """Indices [n] into a dictionary as codes, and what each value costs within its code."""
    block = codes.shape[2]
    for b in range(codes.shape[0]):
        run = indices[b * block : (b + 1) * block]
        code, cost = codes[b, column, : run.size], within[b, column, : run.size]
        _presence(validity, offset + b * block, cost)
        for i in range(run.size):
            here = cost[i] > 0
            code[i] = code_of[run[i]] if here else NULL
            cost[i] = within_of[run[i]] if here else within_null
