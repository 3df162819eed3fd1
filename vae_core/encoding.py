"""Tables to tensors: one codec a column, fitted on a sample, applied to any batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt
import torch
from torch import Tensor

from vae_core import arrays
from vae_core.categories import CategoryCodec
from vae_core.columns import BooleanCodec, Codec, NumberCodec, TimestampCodec, codec_from_json, codec_to_json
from vae_core.exceptions import ColumnError, DataError
from vae_core.rarity import prior
from vae_core.restored import require_fit
from vae_core.schema import ColumnKind, ColumnSpec, TableSchema, value_type

__all__ = ["EncodedBatch", "Layout", "TableEncoder"]

Measured = NumberCodec | TimestampCodec | BooleanCodec
MEASURED: dict[ColumnKind, Callable[[str, pa.ChunkedArray], Measured]] = {
    ColumnKind.NUMERIC: NumberCodec.fit,
    ColumnKind.TIMESTAMP: TimestampCodec.fit,
    ColumnKind.BOOLEAN: BooleanCodec.fit,
}


@dataclass(frozen=True)
class EncodedBatch:
    """A batch as the network sees it.

    Shape
    -----
    numbers: float32 [n, p], standardised parts of numbers and timestamps, 0 where absent
    bits:    float32 [n, r], truth values, 0 where absent
    present: float32 [n, m], 1 where a measured column has a value
    codes:   int64 [n, q], codes of categorical columns
    within:  float32 [n, q], nats that tell their value from the others of its code
    """

    numbers: Tensor
    bits: Tensor
    present: Tensor
    codes: Tensor
    within: Tensor

    def __len__(self) -> int:
        return int(self.present.shape[-2])

    @classmethod
    def empty(cls, layout: Layout, rows: int) -> EncodedBatch:
        """Room for ``rows`` rows."""
        words = (rows, len(layout.code_sizes))
        return cls(
            numbers=torch.empty((rows, len(layout.part_columns))),
            bits=torch.empty((rows, len(layout.bit_columns))),
            present=torch.empty((rows, layout.n_measured)),
            codes=torch.empty(words, dtype=torch.int64),
            within=torch.empty(words),
        )

    def each(self, change: Callable[[Tensor], Tensor]) -> EncodedBatch:
        """The batch with ``change`` applied to each of its tensors."""
        return EncodedBatch(*(change(getattr(self, part.name)) for part in fields(self)))

    def take(self, rows: Tensor | slice | npt.NDArray[np.int64]) -> EncodedBatch:
        """Some of the rows, by number or as a slice; numbers [k, b] give a batch a member."""
        return self.each(lambda tensor: tensor[rows])

    def to(self, device: torch.device) -> EncodedBatch:
        """The batch on ``device``."""
        return self.each(lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class Layout:
    """What the network must know of the columns: sizes, and what training rows cannot teach.

    ``part_columns`` and ``bit_columns`` tell to which measured column each part and bit belongs;
    ``null_priors`` the fixed probability of a null in a measured column that had none (None where
    it had some), ``null_evidence`` the nats that such a null costs on top; ``code_priors`` the fixed
    probabilities of null, unseen and rare for each categorical column; ``order`` the place of each
    feature among measured-then-categorical columns.
    """

    n_measured: int
    part_columns: tuple[int, ...]
    bit_columns: tuple[int, ...]
    null_priors: tuple[float | None, ...]
    null_evidence: tuple[float, ...]
    code_sizes: tuple[int, ...]
    code_priors: tuple[tuple[float | None, float | None, float | None], ...]
    order: tuple[int, ...]

    @property
    def is_mixed(self) -> bool:
        """Whether there is more than numbers that are always there: categories, or columns with nulls."""
        return bool(self.code_sizes) or any(share is None for share in self.null_priors)

    @property
    def n_columns(self) -> int:
        """Number of modelled columns."""
        return self.n_measured + len(self.code_sizes)


class TableEncoder:
    """Columns of a table to an :class:`EncodedBatch`.

    Parameters
    ----------
    schema
        The columns and their kinds.
    max_categories
        How many values of a categorical column get a code of their own; others share one with their like.
    """

    def __init__(self, schema: TableSchema, max_categories: int = 256) -> None:
        self.schema = schema
        self.max_categories = max_categories
        self.codecs: tuple[Codec, ...] = ()
        self._specs = {column.name: column for column in schema.features}

    def fit(self, table: pa.Table) -> TableEncoder:
        """Fit a codec a feature on a table drawn from the whole training range.

        Raises
        ------
        DataError
            There are no rows, or no column that can be modelled.
        """
        if not self.schema.features:
            raise DataError(
                "at least one numeric, categorical, boolean or timestamp column is required, "
                f"however the columns are {self.schema.kinds}; name their kinds"
            )
        if table.num_rows == 0:
            raise DataError(
                "at least one row is required to learn from, however there are 0 rows; widen the window"
            )
        self.codecs = tuple(self._fitted(column, table) for column in self.schema.features)
        self._put_in_groups(table)
        return self

    def _put_in_groups(self, table: pa.Table) -> None:
        """Let rare values that come in like rows share a code."""
        crowded = [codec for codec in self.categorical if codec.counts]
        if crowded:
            rows = self.encode(table)
            found = {codec.name: codec.in_groups(self._groups(table, codec, rows)) for codec in crowded}
            self.codecs = tuple(found.get(codec.name, codec) for codec in self.codecs)

    def _groups(self, table: pa.Table, codec: CategoryCodec, rows: EncodedBatch) -> npt.NDArray[np.int64]:
        from vae_core.grouping import grouped  # which needs this module

        places = np.maximum(codec.places(self.column(table, codec.name)) - codec.n_top, -1)
        counts = np.asarray(codec.counts, dtype=np.int64)
        return grouped(places, counts, rows, self.categorical.index(codec))

    def _fitted(self, column: ColumnSpec, table: pa.Table) -> Codec:
        values = self.column(table, column.name)
        if column.kind is ColumnKind.CATEGORICAL:
            return CategoryCodec.fit(column.name, values, self.max_categories)
        return MEASURED[column.kind](column.name, values)

    @property
    def measured(self) -> tuple[Measured, ...]:
        """Codecs of numbers, timestamps and booleans, in the order of the table."""
        return tuple(codec for codec in self.codecs if not isinstance(codec, CategoryCodec))

    @property
    def categorical(self) -> tuple[CategoryCodec, ...]:
        """Codecs of categories, in the order of the table."""
        return tuple(codec for codec in self.codecs if isinstance(codec, CategoryCodec))

    @property
    def layout(self) -> Layout:
        """Sizes for the network."""
        place = {codec.name: i for i, codec in enumerate((*self.measured, *self.categorical))}
        return Layout(
            n_measured=len(self.measured),
            part_columns=tuple(j for j, codec in enumerate(self.measured) for _ in range(codec.n_parts)),
            bit_columns=tuple(j for j, codec in enumerate(self.measured) for _ in range(codec.n_bits)),
            null_priors=tuple(None if codec.nulls > 0 else prior(0, codec.rows) for codec in self.measured),
            null_evidence=tuple(codec.null_evidence for codec in self.measured),
            code_sizes=tuple(codec.size for codec in self.categorical),
            code_priors=tuple(codec.priors for codec in self.categorical),
            order=tuple(place[codec.name] for codec in self.codecs),
        )

    def encode(self, table: pa.Table | pa.RecordBatch) -> EncodedBatch:
        """Encode rows; columns are found by name, others are left alone.

        Raises
        ------
        ColumnError
            A modelled column is missing or of a type that cannot be read as it was learned.
        """
        from vae_core.feeds import slabs  # which needs this module

        batch, first = EncodedBatch.empty(self.layout, table.num_rows), 0
        for slab, rows in slabs(self, table):
            slab.copy_to(batch.take(slice(first, first + rows)), self.layout)
            first += rows
        return batch

    def column(self, table: pa.Table | pa.RecordBatch, name: str) -> pa.Array | pa.ChunkedArray:
        """A modelled column of a table; where its type is not the learned one, its values as that reads them.

        Raises
        ------
        ColumnError
            It is missing, there twice, or of a type that means something else than the learned one.
        """
        found = table.schema.get_all_field_indices(name)
        if not found:
            raise ColumnError(
                f"column {name!r} was learned and is required, however the columns are {table.schema.names}; "
                "add it"
            )
        if len(found) > 1:
            raise ColumnError(
                f"column {name!r} is required once, however it is there {len(found)} times; rename the others"
            )
        return self._as_learned(table.column(found[0]), self._specs[name])

    def _as_learned(
        self, values: pa.Array | pa.ChunkedArray, column: ColumnSpec
    ) -> pa.Array | pa.ChunkedArray:
        """Values in the unit, or the spelling, of the learned type; what is alike is returned as it is."""
        if column.kind is ColumnKind.CATEGORICAL:
            return self._as_category(values, column)
        if values.type == column.arrow_type:
            return values
        now, learned = value_type(values.type), value_type(column.arrow_type)
        if now == learned or pt.is_null(now):
            return values
        arrays.require_same_meaning(now, learned, column.name)
        return arrays.with_unit(values, learned, column.name) if _is_span(now) else values

    def _as_category(
        self, values: pa.Array | pa.ChunkedArray, column: ColumnSpec
    ) -> pa.Array | pa.ChunkedArray:
        now, learned = value_type(values.type), value_type(column.arrow_type)
        if pt.is_floating(now) and not self._knows_nan(column.name):
            values = arrays.nan_as_null(values)
        if now == learned or pt.is_null(now) or _is_text(now) or _is_text(learned):
            return values
        arrays.require_same_meaning(now, learned, column.name)
        return arrays.respelt(values, learned, column.name)

    def _knows_nan(self, name: str) -> bool:
        """Whether a column of floats was learned when NaN still was a word: it stays one."""
        return any(codec.name == name and "nan" in codec.vocabulary for codec in self.categorical)

    def to_json(self) -> dict[str, Any]:
        """The fitted encoder as plain JSON values."""
        return {
            "max_categories": self.max_categories,
            "codecs": [codec_to_json(codec) for codec in self.codecs],
        }

    @classmethod
    def from_json(cls, schema: TableSchema, data: dict[str, Any]) -> TableEncoder:
        """An encoder from :meth:`to_json`."""
        encoder = cls(schema, data["max_categories"])
        encoder.codecs = tuple(codec_from_json(codec) for codec in data["codecs"])
        require_fit(encoder.codecs, schema.features)
        return encoder


def _is_text(arrow_type: pa.DataType) -> bool:
    return bool(pt.is_string(arrow_type) or pt.is_large_string(arrow_type) or pt.is_string_view(arrow_type))


def _is_span(arrow_type: pa.DataType) -> bool:
    return bool(pt.is_time(arrow_type) or pt.is_duration(arrow_type))
