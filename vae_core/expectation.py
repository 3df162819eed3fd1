"""What the model expected of each cell: as values in the table's own types, and as text for people."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from vae_core.arrays import LAST_DAY, SECONDS_A_DAY, instant_array, seconds_ahead, ticks, units_a_day
from vae_core.categories import CategoryCodec
from vae_core.columns import BooleanCodec, NumberCodec, TimestampCodec
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.losses import category_probabilities
from vae_core.modules import VAE, Decoded
from vae_core.schema import value_type
from vae_core.scoring import blocks, reconstruct

__all__ = ["Expectation", "expect", "parameters", "shown"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SHOWN = 80  # characters of a value shown to people
SURELY = 0.95  # probability from which on people are told that null was expected, not a number


class Expectation:
    """Means over the members of what the decoder expects.

    Shape
    -----
    mean, deviation:  [n, p] of number parts, in standard deviations of the training sample
    bits:             [n, r] probability of true
    nulls:            [n, m] probability of null
    categories:       one [n, size] of probabilities a categorical column
    """

    def __init__(self, encoder: TableEncoder, found: dict[str, Any]) -> None:
        self.encoder = encoder
        self.mean: Floats = found["mean"]
        self.deviation: Floats = found["deviation"]
        self.bits: Floats = found["bits"]
        self.nulls: Floats = found["nulls"]
        self.categories: list[Floats] = found["categories"]
        self.place = {codec.name: j for j, codec in enumerate(encoder.measured)}
        self.category_place = {codec.name: j for j, codec in enumerate(encoder.categorical)}
        layout = encoder.layout
        self.part_columns, self.bit_columns = np.array(layout.part_columns), np.array(layout.bit_columns)

    def take(self, rows: npt.NDArray[np.int64]) -> Expectation:
        """What is expected of some of the rows, by number."""
        measured = {key: getattr(self, key)[rows] for key in ("mean", "deviation", "bits", "nulls")}
        return Expectation(
            self.encoder, {**measured, "categories": [chances[rows] for chances in self.categories]}
        )

    def parts(self, name: str) -> Floats:
        """Expected parts of a measured column [n, parts]."""
        return self.mean[:, self.part_columns == self.place[name]]

    def truth(self, name: str) -> Floats:
        """Probability of true in a boolean column [n]."""
        return self.bits[:, self.bit_columns == self.place[name]][:, 0]

    def text(self, name: str, values: pa.Array | pa.ChunkedArray | None = None) -> list[str]:
        """What was expected of each cell, in words; its value gives a clock the zone, which else is UTC."""
        if name in self.category_place:
            j = self.category_place[name]
            return _category_text(self.encoder.categorical[j], self.categories[j])
        codec = self.encoder.measured[self.place[name]]
        texts = self._measured_text(codec, values)
        null = self.nulls[:, self.place[name]] > SURELY
        return ["null" if absent else text for text, absent in zip(texts, null, strict=True)]

    def _measured_text(
        self, codec: NumberCodec | TimestampCodec | BooleanCodec, values: pa.Array | pa.ChunkedArray | None
    ) -> list[str]:
        if isinstance(codec, BooleanCodec):
            return [
                f"{share >= 0.5} ({max(share, 1 - share):.0%})".lower() for share in self.truth(codec.name)
            ]
        if isinstance(codec, TimestampCodec):
            share = codec.decode(self.parts(codec.name))
            ahead = 0.0 if values is None else _ahead(instant_array(values, codec.name), codec.last)
            return [_clock(one) for one in np.mod(share + ahead, 1.0)]
        return [f"about {text}" for text in self._numbers_text(codec)]

    def _numbers_text(self, codec: NumberCodec) -> list[str]:
        """Expected numbers, rounded to what the model's own uncertainty leaves meaningful."""
        part = self.part_columns == self.place[codec.name]
        deviation = self.deviation[:, part][:, 0] * codec.scale
        values = codec.decode(self.parts(codec.name))
        learned = self._type(codec.name)
        if pa.types.is_time(learned) or pa.types.is_duration(learned):
            return _spans_text(np.clip(values, codec.low, codec.high), deviation, learned)
        return [rounded(v, d) for v, d in zip(values, deviation, strict=True)]

    def _type(self, name: str) -> pa.DataType:
        return value_type(self.encoder.schema.arrow.field(name).type)

    def column(self, name: str, batch: pa.Table | pa.RecordBatch) -> pa.Array:
        """What was expected, in the column's own type; ``batch`` gives timestamps their day."""
        wanted = self.encoder.schema.arrow.field(name).type
        if name in self.category_place:
            j = self.category_place[name]
            codec = self.encoder.categorical[j]
            return as_type(pa.array(codec.likeliest(self.categories[j]), pa.string()), wanted)
        return as_type(self._measured_column(name, batch), wanted)

    def _measured_column(self, name: str, batch: pa.Table | pa.RecordBatch) -> pa.Array:
        codec = self.encoder.measured[self.place[name]]
        null = self.nulls[:, self.place[name]] > 0.5
        if isinstance(codec, BooleanCodec):
            return pa.array(self.truth(name) >= 0.5, mask=null)
        if isinstance(codec, TimestampCodec):
            share = codec.decode(self.parts(name))
            return _same_day(instant_array(batch.column(name), name), share, self._type(name))
        return pa.array(np.clip(codec.decode(self.parts(name)), codec.low, codec.high), mask=null)


def rounded(value: float, deviation: float) -> str:
    """``value`` with no digits that ``deviation`` makes meaningless, at most three decimals."""
    places = _places(deviation, 3)
    text = f"{value:.{places}f}" if abs(value) < 1e15 else f"{value:.3g}"
    return "0" if float(text) == 0 else text


def _places(deviation: float, most: int) -> int:
    """Decimals that ``deviation`` leaves a meaning."""
    return int(np.clip(1 - np.floor(np.log10(max(deviation, 1e-12))), 0, most)) if deviation < 1 else 0


def _spans_text(values: Floats, deviation: Floats, arrow_type: pa.DataType) -> list[str]:
    """Times of day or durations [n] as cells are shown, no finer than ``deviation`` leaves meaningful."""
    second = units_a_day(arrow_type) // SECONDS_A_DAY
    places = np.array([_places(one / second, 9) for one in deviation])
    step = np.maximum(second / 10.0**places, 1.0)
    return [shown(value) for value in as_type(pa.array(np.round(values / step) * step), arrow_type)]


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


def _ahead(values: pa.Array, last: float) -> Floats:
    """How far the clocks of instants' zone are ahead of UTC [n], in days; for null on the day ``last``."""
    zone = getattr(values.type, "tz", None)
    if zone is None:
        return np.zeros(len(values))
    seconds = ticks(values) // (units_a_day(values.type) // SECONDS_A_DAY)
    null = np.asarray(pc.is_null(values))
    last_second = int(np.clip(last, -LAST_DAY, LAST_DAY)) * SECONDS_A_DAY
    return seconds_ahead(np.where(null, last_second, seconds), zone) / SECONDS_A_DAY


def _clock(share: float) -> str:
    if np.isnan(share):
        return "a date near those of training"
    minutes = round(share * 1440) % 1440
    return f"about {minutes // 60:02d}:{minutes % 60:02d}"


def _category_text(codec: CategoryCodec, probabilities: Floats) -> list[str]:
    """The three likeliest values of each row with their probabilities."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :3]
    names = codec.names
    return [
        " or ".join(f"{names[code]} ({row[code]:.0%})" for code in best if row[code] >= 0.05)
        or names[best[0]]
        for row, best in zip(probabilities, order, strict=True)
    ]


def _same_day(instants: pa.Array, share: Floats, wanted: pa.DataType) -> pa.Array:
    """Instants of the same days at the expected times of day, share of UTC's; days are those of the zone.

    Where no other instant of the day is sure to have room in the type, it stays.
    """
    kept = _in_unit(instants, wanted)
    if pa.types.is_date(wanted):
        return kept
    day, now = units_a_day(wanted), ticks(kept)
    ahead = _ticks_ahead(now, wanted)
    clock = np.nan_to_num(np.mod(share * day + ahead, day)).astype(np.int64)
    moved = (now + ahead) // day * day + clock
    moved -= _ticks_ahead(moved - ahead, wanted)  # the clocks may have been changed that day
    room = np.iinfo(np.int64).max - 3 * day
    moved = np.where((now < -room) | (now > room), now, moved)
    return pa.array(moved, mask=np.asarray(pc.is_null(kept))).view(wanted)


def _ticks_ahead(instants: Ints, arrow_type: pa.DataType) -> Ints:
    """How far the clocks of a type's zone are ahead of UTC [n] at instants [n], all as the type counts."""
    second = units_a_day(arrow_type) // SECONDS_A_DAY
    return seconds_ahead(instants // second, arrow_type.tz) * second


def _in_unit(instants: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Instants in another type; those beyond it as the first or last that it holds."""
    if instants.type == wanted:
        return instants
    own, last = instants.type, np.iinfo(np.int32 if pa.types.is_date32(wanted) else np.int64).max
    most = min(int(last) * units_a_day(own) // units_a_day(wanted), np.iinfo(np.int64).max)
    counted = pa.array(np.clip(ticks(instants), -most, most), mask=np.asarray(pc.is_null(instants)))
    return counted.cast(pa.type_for_alias(f"int{own.bit_width}")).view(own).cast(wanted, safe=False)


def as_type(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Cast to the table's type, rounding numbers where it holds integers."""
    if pa.types.is_dictionary(wanted):
        return _coded(as_type(array, wanted.value_type).dictionary_encode(), wanted)
    if pa.types.is_integer(wanted) and pa.types.is_floating(array.type):
        return _whole(array, wanted)
    if pa.types.is_temporal(wanted) and pa.types.is_floating(array.type):  # times of day and durations
        return _whole(array, pa.type_for_alias(f"int{wanted.bit_width}")).view(wanted)
    if _is_instant(wanted) and _is_instant(array.type):
        return _in_unit(array, wanted)
    if pa.types.is_duration(wanted) and pa.types.is_string(array.type):
        return array.cast(pa.int64()).cast(wanted)
    if pa.types.is_time(wanted) and pa.types.is_string(array.type):  # Arrow reads instants, not times
        instants = pc.binary_join_element_wise(pa.scalar("1970-01-01"), array, " ")
        return instants.cast(pa.timestamp(wanted.unit)).cast(wanted)
    return array.cast(wanted, safe=False)


def _is_instant(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(arrow_type) or pa.types.is_date(arrow_type))


def _coded(array: pa.DictionaryArray, wanted: pa.DataType) -> pa.DictionaryArray:
    """A dictionary of the wanted type, but for numbers too small for as many values."""
    room = np.iinfo(wanted.index_type.to_pandas_dtype()).max
    return array.cast(wanted) if len(array.dictionary) <= room else array


def _whole(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Round numbers to the nearest that a type of integers holds: 2^63 as a double is one too many for it."""
    held = np.iinfo(wanted.to_pandas_dtype())
    above = pc.max_element_wise(array, float(held.min), skip_nulls=False)
    within = pc.min_element_wise(above, float(np.nextafter(float(held.max), 0)), skip_nulls=False)
    return pc.round(within).cast(wanted, safe=False)


@torch.inference_mode()
def expect(model: VAE, encoder: TableEncoder, rows: EncodedBatch) -> Expectation:
    """What the model expects of encoded rows, from their posterior means."""
    model.eval()
    found = [_cut(parameters(reconstruct(model, block), model), real) for block, real in blocks(model, rows)]
    return Expectation(encoder, _together(found))


def parameters(decoded: Decoded, model: VAE) -> dict[str, Any]:
    """Means over members of the likelihoods' parameters, as NumPy."""
    logits = torch.split_with_sizes(decoded.code_logits, model.layout.code_sizes, dim=-1)
    chances = [
        category_probabilities(column, prior)
        for column, prior in zip(logits, model.layout.code_priors, strict=True)
    ]
    nulls = plain(torch.sigmoid(decoded.null_logits))
    never = np.array([share is not None for share in model.layout.null_priors], dtype=np.bool_)
    return {
        "mean": plain(decoded.mean),
        "deviation": plain(torch.exp(0.5 * decoded.log_variance)),
        "bits": plain(torch.sigmoid(decoded.bit_logits)),
        "nulls": np.where(never, 0.0, nulls),
        "categories": [plain(chance) for chance in chances],
    }


def plain(tensor: torch.Tensor) -> Floats:
    """Mean over members [k, …] as float64."""
    return np.asarray(tensor.double().mean(dim=0).cpu().numpy())


def _cut(found: dict[str, Any], real: int) -> dict[str, Any]:
    return {
        key: [v[:real] for v in value] if isinstance(value, list) else value[:real]
        for key, value in found.items()
    }


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    joined = {
        key: np.concatenate([one[key] for one in found]) for key in ("mean", "deviation", "bits", "nulls")
    }
    columns = zip(*(one["categories"] for one in found), strict=True)
    return {**joined, "categories": [np.concatenate(column) for column in columns]}
