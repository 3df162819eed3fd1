"""How the flags of a night look: what each is flagged for, where the model places it, what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Looks", "column_figures", "looks_of"]

Floats = npt.NDArray[np.float32]

KINDS = ("unexpected_null", "unseen_category")
WAYS = ("value", "null", "unseen")
"""What can be wrong in a column: `KINDS` have words of their own here, all other kinds are a value."""
REASONS = (1, 2, 3)


@dataclass(frozen=True)
class Looks:
    """The flags of one night, a row each, n in all.

    Attributes
    ----------
    reasons
        Square roots of what each column and each kind of a column has in a row's reasons [n, m]: a row of
        unit length. ``parts`` names the m: ``amount`` and ``amount|null`` share the column's part in halves.
    latent
        Where the model of ``run_id`` places the rows [n, d]; 1 is how far two ordinary rows are apart.
    values
        Texts [n] of the columns in which rows may be alike.
    usual
        How common each of these texts was in training, as a share of rows.
    """

    parts: tuple[str, ...]
    reasons: Floats
    latent: Floats
    run_id: str
    values: Mapping[str, pa.Array]
    usual: Mapping[str, Mapping[str, float]]

    def __len__(self) -> int:
        return len(self.reasons)


def looks_of(
    flags: pa.Table,
    contributions: Iterable[pa.RecordBatch],
    latent: npt.NDArray[np.floating],
    *,
    usual: Mapping[str, Mapping[str, float]],
    run_id: str,
    prefix: str = "",
) -> Looks:
    """Look at flags.

    Parameters
    ----------
    flags
        Columns of a night's flags, those of ``usual`` and ours.
    contributions
        Batches of the night's contributions, in whatever order.
    latent
        See `Looks`.
    """
    columns, shares = column_figures(flags[f"{prefix}row_id"], contributions, "share")
    parts, reasons = _by_kind(columns, shares, flags, prefix)
    values = {name: _flat(flags[name]) for name in usual if name in flags.schema.names}
    return Looks(parts, reasons, np.asarray(latent, np.float32), run_id, values, usual)


def column_figures(
    row_ids: pa.ChunkedArray, contributions: Iterable[pa.RecordBatch], figure: str
) -> tuple[tuple[str, ...], Floats]:
    """A figure of the contributions (``loss`` or ``share``) as names of columns [c] and a matrix [n, c]."""
    ids = row_ids.combine_chunks()
    names: list[str] = []
    matrix = np.zeros((len(ids), 0), np.float32)
    for batch in contributions:
        coded = batch.column("column").dictionary_encode()
        here = coded.dictionary.to_pylist()
        names += [name for name in here if name not in names]
        matrix = np.pad(matrix, ((0, 0), (0, len(names) - matrix.shape[1])))
        codes = np.asarray([names.index(name) for name in here], np.int64)[coded.indices.to_numpy()]
        rows = pc.fill_null(pc.index_in(batch.column("row_id"), ids), -1).to_numpy()
        known = rows >= 0
        matrix[rows[known], codes[known]] = batch.column(figure).to_numpy()[known]
    order = np.argsort(np.asarray(names, dtype=object))
    return tuple(names[i] for i in order), np.nan_to_num(matrix[:, order])


def _by_kind(
    columns: Sequence[str], shares: Floats, flags: pa.Table, prefix: str
) -> tuple[tuple[str, ...], Floats]:
    """Half of each column's share for the column, half for what is wrong in it."""
    kinds = _kinds(columns, flags, prefix)
    parts, found = [], []
    for j, name in enumerate(columns):
        share = shares[:, j] / 2
        ways = {f"{name}|{kind}": share * (kinds[:, j] == code) for code, kind in enumerate(WAYS)}
        for part, values in ({name: share} | ways).items():
            if values.any():
                parts.append(part)
                found.append(np.sqrt(values, dtype=np.float32))
    return tuple(parts), np.stack(found, axis=1) if found else np.zeros((flags.num_rows, 0), np.float32)


def _kinds(columns: Sequence[str], flags: pa.Table, prefix: str) -> npt.NDArray[np.int8]:
    """What is wrong in each column [n, c], as places in `WAYS`; the first where no reason says."""
    kinds = np.zeros((flags.num_rows, len(columns)), np.int8)
    for i in REASONS:
        place = pc.index_in(_flat(flags[f"{prefix}reason_{i}_column"]), pa.array(columns, pa.string()))
        said = pc.index_in(_flat(flags[f"{prefix}reason_{i}_kind"]), pa.array(KINDS, pa.string()))
        codes = pc.add(said, 1).fill_null(0).to_numpy()
        known = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
        kinds[known, place.fill_null(0).to_numpy()[known]] = codes[known]
    return kinds


def _flat(values: pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks().cast(pa.string())
