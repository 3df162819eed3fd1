"""One codec a kind of column: values to what the network sees, and back.

A *measured* column (number, timestamp, boolean) becomes float parts and a mask of presence;
a categorical column becomes one integer code. Null is never filled with a guess: it is absent,
and its absence is scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vae_core import arrays
from vae_core.categories import CategoryCodec
from vae_core.rarity import cost_of_news
from vae_core.restored import checked

__all__ = [
    "BooleanCodec",
    "NumberCodec",
    "TimestampCodec",
    "codec_from_json",
    "codec_to_json",
]

Floats32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

LINEAR_UP_TO = 4.0  # standard deviations; the scale beyond is logarithmic: extremes stay finite, in order
UNIT = float(np.sqrt(2.0))  # sine and cosine of a uniform angle have variance 1/2


def compress(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Linear up to four standard deviations, logarithmic beyond; odd and strictly increasing."""
    beyond = np.maximum(np.abs(z) - LINEAR_UP_TO, 0.0)
    return np.where(beyond > 0, np.sign(z) * (LINEAR_UP_TO + np.log1p(beyond)), z)


def expand(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Inverse of :func:`compress`."""
    beyond = np.maximum(np.abs(z) - LINEAR_UP_TO, 0.0)
    return np.where(beyond > 0, np.sign(z) * (LINEAR_UP_TO + np.expm1(np.minimum(beyond, 700.0))), z)


@dataclass(frozen=True)
class NumberCodec:
    """Numbers, centred and scaled by the training sample, extremes compressed.

    ``low`` and ``high`` are the finite range seen, ``nulls`` the share of nulls, ``rows`` the rows
    that these figures rest on. ``null_evidence``, here and in the other codecs, is what a null costs
    beyond its own improbability, nats (:mod:`vae_core.evidence`).
    """

    name: str
    center: float
    scale: float
    low: float
    high: float
    nulls: float
    rows: int
    null_evidence: float = 0.0

    kind = "numeric"
    n_parts = 1
    n_bits = 0

    @classmethod
    def fit(cls, name: str, values: pa.ChunkedArray) -> NumberCodec:
        """Take centre and scale from values [n]."""
        array = arrays.numbers(values, name)
        finite = array[np.isfinite(array)]
        center, scale = _center_and_scale(finite)
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        nulls = float(np.isnan(array).mean()) if array.size else 0.0
        return cls(name, center, scale, low, high, nulls, array.size)

    def encode(self, values: pa.Array) -> tuple[Floats32, Bools]:
        """Values [n] to parts [n, 1] in standard deviations and presence [n]."""
        array = arrays.numbers(values, self.name)
        present = ~np.isnan(array)
        with np.errstate(over="ignore"):
            z = np.clip((np.where(present, array, self.center) - self.center) / self.scale, -1e300, 1e300)
        return compress(z)[:, None].astype(np.float32), present

    def decode(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Parts [n, 1] back to values [n]."""
        return expand(parts[:, 0]) * self.scale + self.center

    def outside(self, values: pa.Array) -> Bools:
        """Where values [n] lie outside of the range seen in training."""
        array = arrays.numbers(values, self.name)
        return (array < self.low) | (array > self.high)


def _center_and_scale(finite: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation without the few values that would swallow all others."""
    if not finite.size:
        return 0.0, 1.0
    finite = np.clip(finite, -1e150, 1e150)  # whose squares are finite
    low, high = np.quantile(finite, (0.001, 0.999))
    width = float(high - low)
    inside = finite[(finite >= low - 10 * width) & (finite <= high + 10 * width)] if width else finite
    center, scale = float(np.mean(inside)), float(np.std(inside))
    smallest = 1e-9 * max(abs(center), 1e-30)
    return center, scale if scale > smallest else max(abs(center), 1.0) * 0.01


@dataclass(frozen=True)
class TimestampCodec:
    """Instants as cyclic parts: time of day and day of week, and distance from the range seen.

    The third measure is 0 inside the training range and as far beyond it as the range is long;
    farther out it grows with the logarithm of the distance, so that a trip dated years away shows
    while next month does not.
    """

    name: str
    first: float  # days since 1970
    last: float  # days since 1970
    hours: bool  # the time of day varies
    weekdays: bool  # the day of the week varies
    nulls: float
    rows: int
    null_evidence: float = 0.0

    kind = "timestamp"
    n_bits = 0

    @property
    def n_parts(self) -> int:
        """Two parts a cycle that varies, and the distance."""
        return 2 * self.hours + 2 * self.weekdays + 1

    @classmethod
    def fit(cls, name: str, values: pa.ChunkedArray) -> TimestampCodec:
        """Take the range and the cycles that vary from values [n]."""
        days, share, present = arrays.instants(values, name)
        seen, rows = days[present], days.size
        first, last = _central_range(seen) if seen.size else (0.0, 0.0)
        hours = bool(np.unique(share[present]).size > 1)
        weekdays = bool(np.unique(np.mod(seen, 7)).size > 1)
        return cls(name, first, last, hours, weekdays, float(1 - present.mean()) if rows else 0.0, rows)

    def encode(self, values: pa.Array) -> tuple[Floats32, Bools]:
        """Values [n] to parts [n, n_parts] and presence [n]."""
        days, share, present = arrays.instants(values, self.name)
        parts = [*self._cycles(days, share), self._distance(days)]
        return (np.stack(parts, axis=1) * present[:, None]).astype(np.float32), present

    def _cycles(self, days: arrays.Floats, share: arrays.Floats) -> list[arrays.Floats]:
        turns = [share] if self.hours else []
        turns += [np.mod(days + 4 + share, 7) / 7] if self.weekdays else []  # day 0 was a Thursday
        return [UNIT * wave(2 * np.pi * turn) for turn in turns for wave in (np.sin, np.cos)]

    def _distance(self, days: arrays.Floats) -> arrays.Floats:
        width = max(self.last - self.first, 1.0)
        beyond = np.maximum(np.maximum(self.first - width - days, days - self.last - width), 0.0)
        return np.asarray(np.log1p(beyond / width) * LINEAR_UP_TO)

    def decode(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Parts [n, n_parts] to the share of the day gone [n] (NaN when it never varied)."""
        if not self.hours:
            return np.full(len(parts), np.nan)
        return np.mod(np.arctan2(parts[:, 0], parts[:, 1]) / (2 * np.pi), 1.0)

    def outside(self, values: pa.Array) -> Bools:
        """Where values [n] lie farther from the training range than that range is long."""
        days, _, present = arrays.instants(values, self.name)
        return present & (self._distance(days) > 0)


def _central_range(days: arrays.Floats) -> tuple[float, float]:
    """The range of all but the outermost permille: a few misdated rows must not stretch it."""
    low, high = np.quantile(days, (0.001, 0.999))
    return float(low), float(high)


@dataclass(frozen=True)
class BooleanCodec:
    """Truth values as one bit."""

    name: str
    share: float  # of true among the present
    nulls: float
    rows: int
    null_evidence: float = 0.0
    new_evidence: float = 0.0  # as ``null_evidence``, of the value never seen

    kind = "boolean"
    n_parts = 0
    n_bits = 1

    @classmethod
    def fit(cls, name: str, values: pa.ChunkedArray) -> BooleanCodec:
        """Count values [n]."""
        truth, present = arrays.bits(values, name)
        share = float(truth[present].mean()) if present.any() else 0.5
        return cls(name, share, float(1 - present.mean()) if truth.size else 0.0, truth.size)

    def encode(self, values: pa.Array) -> tuple[Bools, Bools]:
        """Values [n] to bits [n, 1] and presence [n]."""
        truth, present = arrays.bits(values, self.name)
        return truth[:, None], present

    @property
    def is_closed(self) -> bool:
        """Whether one of the two values was never seen."""
        return self.share in (0.0, 1.0)

    def outside(self, values: pa.Array) -> Bools:
        """Where values [n] are the one never seen in training."""
        truth, present = arrays.bits(values, self.name)
        return np.asarray(present & (np.abs(truth - self.share) == 1.0))

    @property
    def logit(self) -> float | None:
        """Of true, where only one value was ever seen; else the network's to learn."""
        cost = cost_of_news(0, self.rows) + self.new_evidence
        return (cost if self.share else -cost) if self.is_closed else None


Codec = NumberCodec | TimestampCodec | BooleanCodec | CategoryCodec
CODECS: dict[str, Callable[..., Codec]] = {
    codec.kind: codec for codec in (NumberCodec, TimestampCodec, BooleanCodec, CategoryCodec)
}


def codec_to_json(codec: Codec) -> dict[str, Any]:
    """A codec as plain JSON values."""
    return {"kind": codec.kind, **asdict(codec)}


def codec_from_json(data: dict[str, Any]) -> Codec:
    """A codec from :func:`codec_to_json`; other kinds and fields raise KeyError, TypeError or ValueError."""
    return checked(CODECS[data["kind"]], {key: value for key, value in data.items() if key != "kind"})
