"""Compiled loops of the scoring pass: the first layer, activations, and outputs to losses in one pass.

Rows lie along the last axis, so that every loop runs over neighbours in memory. Elementary functions
are polynomials in single precision, exact to about one unit in the last place, that compilers turn
into vector instructions. :mod:`vae_core.losses` says the same in torch, and tests hold both together.

Shapes: n rows of a block, d shown features, h outputs of the decoder, c columns, q categorical ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vae_core.compiling import contracted

__all__ = ["add_code_losses", "add_measured_losses", "bend", "start_rows"]

F32 = np.float32
Floats32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ZERO, HALF, ONE, TWO = F32(0.0), F32(0.5), F32(1.0), F32(2.0)
LOG_TWO_PI = F32(np.log(2 * np.pi))
LOG_2_E = F32(np.log2(np.e))
LN_2_HIGH, LN_2_LOW = F32(0.693359375), F32(-2.12194440e-4)  # their sum is ln 2, the first has 10 bits
ROUND = F32(12582912.0)  # 1.5 * 2**23: added and taken away again, it rounds to an integer
ROUND_BITS = np.int32(0x4B400000)
LARGEST_EXPONENT = F32(87.0)
SQRT_HALF = F32(np.sqrt(0.5))

E0, E1, E2 = F32(5.0000001201e-1), F32(1.6666665459e-1), F32(4.1665795894e-2)
E3, E4, E5 = F32(8.3334519073e-3), F32(1.3981999507e-3), F32(1.9875691500e-4)

L0, L1, L2 = F32(3.3333331174e-1), F32(-2.4999993993e-1), F32(2.0000714765e-1)
L3, L4, L5 = F32(-1.6668057665e-1), F32(1.4249322787e-1), F32(-1.2420140846e-1)
L6, L7, L8 = F32(1.1676998740e-1), F32(-1.1514610310e-1), F32(7.0376836292e-2)

S1, S2, S3 = F32(1 / 3), F32(1 / 5), F32(1 / 7)
S4, S5, S6 = F32(1 / 9), F32(1 / 11), F32(1 / 13)

TANH_END = F32(7.90531110763549805)
A1, A3, A5 = F32(4.89352455891786e-03), F32(6.37261928875436e-04), F32(1.48572235717979e-05)
A7, A9 = F32(5.12229709037114e-08), F32(-8.60467152213735e-11)
A11, A13 = F32(2.00018790482477e-13), F32(-2.76076847742355e-16)
B0, B2 = F32(4.89352518554385e-03), F32(2.26843463243900e-03)
B4, B6 = F32(1.18534705686654e-04), F32(1.19825839466702e-06)


@contracted
def exp(x: Any) -> Any:
    """Exponential of x, of at most 87 in size (Cephes, expf)."""
    x = min(max(x, -LARGEST_EXPONENT), LARGEST_EXPONENT)
    shifted = np.float32(x * LOG_2_E + ROUND)
    whole = shifted - ROUND
    r = x - whole * LN_2_HIGH - whole * LN_2_LOW
    p = ((((E5 * r + E4) * r + E3) * r + E2) * r + E1) * r + E0
    power = np.int32((shifted.view(np.int32) - ROUND_BITS + np.int32(127)) << np.int32(23))
    return (p * r * r + r + ONE) * power.view(np.float32)


@contracted
def log(x: Any) -> Any:
    """Natural logarithm of a normal positive number (Cephes, logf)."""
    bits = np.float32(x).view(np.int32)
    exponent = F32(np.int32((bits >> np.int32(23)) - np.int32(126)))
    m = np.int32((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000)).view(np.float32)
    small = m < SQRT_HALF
    exponent = exponent - ONE if small else exponent
    m = m + m - ONE if small else m - ONE
    p = ((((((((L8 * m + L7) * m + L6) * m + L5) * m + L4) * m + L3) * m + L2) * m + L1) * m + L0) * m
    square = m * m
    return m + (p * square + exponent * LN_2_LOW - HALF * square) + exponent * LN_2_HIGH


@contracted
def softplus(x: Any) -> Any:
    """log(1 + exp(x)): the larger of x and 0, and log1p(e) = 2 artanh(e / (2 + e)) of e = exp(-|x|)."""
    e = exp(-abs(x))
    s = e / (TWO + e)
    q = s * s
    series = (((((S6 * q + S5) * q + S4) * q + S3) * q + S2) * q + S1) * q + ONE
    return max(x, ZERO) + TWO * s * series


@contracted
def tanh(x: Any) -> Any:
    """Hyperbolic tangent, a rational function (Eigen, generic_fast_tanh_float)."""
    x = min(max(x, -TANH_END), TANH_END)
    q = x * x
    above = x * ((((((A13 * q + A11) * q + A9) * q + A7) * q + A5) * q + A3) * q + A1)
    return above / (((B6 * q + B4) * q + B2) * q + B0)


@contracted
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return ONE / (ONE + exp(-x))


@contracted
def bend(x: Floats32) -> None:
    """Replace ``x`` [n] by its SiLU, x times the sigmoid of x.

    Half the time of torch's own, which takes its exponentials from a library.
    """
    for i in range(x.size):
        x[i] = x[i] * sigmoid(x[i])


@contracted
def start_rows(codes: Ints, first: Ints, tables: Floats32, bias: Floats32, out: Floats32) -> None:
    """Set ``out`` [n, w] to ``bias`` [w] plus the row of ``tables`` of each of ``codes`` [q, n].

    Codes of column j begin at row ``first[j]`` of the tables, whose last row is zero. Four columns are
    added at a time: measured, 134 ns a row of 512 numbers where one after another takes 376.
    """
    zero = tables.shape[0] - 1
    for i in range(out.shape[0]):
        for f in range(bias.size):
            out[i, f] = bias[f]
        for j in range(0, codes.shape[0], 4):
            a, b = _row(codes, first, j, i, zero), _row(codes, first, j + 1, i, zero)
            c, d = _row(codes, first, j + 2, i, zero), _row(codes, first, j + 3, i, zero)
            for f in range(bias.size):
                out[i, f] += tables[a, f] + tables[b, f] + tables[c, f] + tables[d, f]


@contracted
def _row(codes: Ints, first: Ints, j: int, i: int, zero: int) -> Any:
    """Row of the tables of a cell, the zero row beyond the last column; unsigned, to skip a check for -1."""
    return np.uint64(first[j] + codes[j, i]) if j < codes.shape[0] else np.uint64(zero)


@contracted
def add_measured_losses(
    outputs: Floats32,
    shown: Floats32,
    parts: Ints,
    bits: Ints,
    null_at: Ints,
    null_costs: Floats32,
    squeeze: Floats32,
    place: Ints,
    total: Floats,
    columns: Floats,
) -> None:
    """Add the losses of measured columns to ``total`` [n], and to ``columns`` [c, n] unless that is empty.

    Parameters
    ----------
    outputs
        [h, n]: means, log-variances where they are learned, bits, and nulls where they are learned.
    shown
        [d, n]: parts, signs of bits, presence.
    parts, bits
        [m + 1]: where the parts and the bits of each column begin.
    null_at
        [m]: where the logit of each column's null stands in ``outputs``; negative where none is learned.
    null_costs
        [m, 2]: cost of a value and of a null where none is learned.
    squeeze
        Least and largest log-variance; empty where it is 0.
    place
        [c]: each column's place in ``columns``.
    """
    rows, n_parts, n_bits = total.size, parts[-1], bits[-1]
    variances = n_parts if squeeze.size else 0
    first_bit = n_parts + variances
    cost = np.empty(rows, dtype=np.float32)
    for j in range(parts.size - 1):
        present = shown[n_parts + n_bits + j]
        if null_at[j] >= 0:
            _learned_null_cost(outputs[null_at[j]], present, cost)
        else:
            _fixed_null_cost(present, null_costs[j, 0], null_costs[j, 1], cost)
        for part in range(parts[j], parts[j + 1]):
            if variances:
                variance = outputs[n_parts + part]
                _gaussian_cost(shown[part], outputs[part], variance, present, squeeze[0], squeeze[1], cost)
            else:
                _unit_cost(shown[part], outputs[part], present, cost)
        for bit in range(bits[j], bits[j + 1]):
            _bit_cost(shown[n_parts + bit], outputs[first_bit + bit], present, cost)
        _book(cost, total, columns, place[j])


@contracted
def _fixed_null_cost(present: Floats32, of_value: Any, of_null: Any, cost: Floats32) -> None:
    for i in range(cost.size):
        cost[i] = of_value if present[i] > ZERO else of_null


@contracted
def _learned_null_cost(logits: Floats32, present: Floats32, cost: Floats32) -> None:
    for i in range(cost.size):
        cost[i] = softplus(logits[i]) - (ONE - present[i]) * logits[i]


@contracted
def _gaussian_cost(
    x: Floats32, mean: Floats32, raw: Floats32, present: Floats32, least: Any, largest: Any, cost: Floats32
) -> None:
    over_least, over_largest = ONE / -least, ONE / largest
    for i in range(cost.size):
        negative = raw[i] < ZERO
        bent = tanh(raw[i] * (over_least if negative else over_largest))
        log_variance = bent * (-least if negative else largest)
        off = x[i] - mean[i]
        cost[i] += HALF * (LOG_TWO_PI + log_variance + off * off * exp(-log_variance)) * present[i]


@contracted
def _unit_cost(x: Floats32, mean: Floats32, present: Floats32, cost: Floats32) -> None:
    for i in range(cost.size):
        off = x[i] - mean[i]
        cost[i] += HALF * (LOG_TWO_PI + off * off) * present[i]


@contracted
def _bit_cost(sign: Floats32, logits: Floats32, present: Floats32, cost: Floats32) -> None:
    for i in range(cost.size):
        cost[i] += (softplus(logits[i]) - (logits[i] if sign[i] > ZERO else ZERO)) * present[i]


@contracted
def add_code_losses(
    outputs: Floats32,
    codes: Ints,
    within: Floats32,
    first: Ints,
    fixed: Floats32,
    rest: Floats32,
    place: Ints,
    total: Floats,
    columns: Floats,
) -> None:
    """Add the losses of categorical columns to ``total`` [n], and to ``columns`` [c, n] unless empty.

    Parameters
    ----------
    outputs
        [h, n]: logits of all codes, those of column j from ``first[j]`` to ``first[j + 1]``.
    codes, within
        [q, n]: the code of each cell, and nats within it.
    fixed
        [q, 3]: cost of null, unseen and rare; negative where it is learned.
    rest
        [q]: nats that the learned codes cost together.
    place
        [c]: each column's place in ``columns``; categorical ones are the last q.
    """
    rows, reserved = total.size, fixed.shape[1]
    cost = np.empty(rows, dtype=np.float32)
    most = np.empty(rows, dtype=np.float32)
    whole = np.empty(rows, dtype=np.float32)
    for j in range(codes.shape[0]):
        logits = outputs[first[j] : first[j + 1]]
        most[:] = -np.inf
        for code in range(logits.shape[0]):
            if code >= reserved or fixed[j, code] < ZERO:
                _raise_to(most, logits[code])
        whole[:] = ZERO
        for code in range(logits.shape[0]):
            if code >= reserved or fixed[j, code] < ZERO:
                _add_exp(whole, logits[code], most)
        _code_cost(codes[j], logits, most, whole, fixed[j], rest[j], cost)
        for i in range(rows):
            cost[i] += within[j, i]
        _book(cost, total, columns, place[place.size - codes.shape[0] + j])


@contracted
def _raise_to(most: Floats32, logits: Floats32) -> None:
    for i in range(most.size):
        most[i] = max(most[i], logits[i])


@contracted
def _add_exp(whole: Floats32, logits: Floats32, most: Floats32) -> None:
    for i in range(whole.size):
        whole[i] += exp(logits[i] - most[i])


@contracted
def _code_cost(
    codes: Ints, logits: Floats32, most: Floats32, whole: Floats32, fixed: Floats32, rest: Any, cost: Floats32
) -> None:
    for i in range(cost.size):
        cost[i] = most[i] + log(whole[i]) + rest
    for i in range(cost.size):
        code = codes[i]
        if code < fixed.size and fixed[code] >= ZERO:
            cost[i] = fixed[code]
        else:
            cost[i] -= logits[code, i]


@contracted
def _book(cost: Floats32, total: Floats, columns: Floats, place: int) -> None:
    for i in range(cost.size):
        total[i] += cost[i]
    if columns.size:
        for i in range(cost.size):
            columns[place, i] += cost[i]
