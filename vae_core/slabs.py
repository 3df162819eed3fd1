"""Rows as the scoring pass reads them: blocks of one fixed size, a feature's values side by side.

Rows are padded to whole blocks, so that a row's loss depends neither on the size of its batch nor on
its neighbours; what stands beyond the last row is some row or zero, and is never read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vae_core.encoding import EncodedBatch, Layout

__all__ = ["BLOCK", "Slab", "slabs_of"]

BLOCK = 1024  # rows; blocks of 1,000 to 2,000 stay in the cache of today's cores
AT_ONCE = 8  # blocks encoded at once: fewer calls, and still in the cache
MOST_CELLS = 2_000_000  # shown at once, but for one block: of thousands of columns, fewer blocks


@dataclass(frozen=True)
class Slab:
    """Rows in b blocks.

    Shape
    -----
    shown:  float32 [b, d, BLOCK], parts, signs of bits (0 where absent), presence
    codes:  int64 [b, q, BLOCK], codes of categorical columns
    within: float32 [b, q, BLOCK], nats that tell their value from the others of its code
    """

    shown: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64]
    within: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, layout: Layout, rows: int) -> Slab:
        """Room for ``rows`` rows, at most ``AT_ONCE`` blocks."""
        shown = len(layout.part_columns) + len(layout.bit_columns) + layout.n_measured
        at_once = max(min(AT_ONCE, MOST_CELLS // (BLOCK * (shown + 1))), 1)
        blocks = min(-(-rows // BLOCK), at_once)
        words = (blocks, len(layout.code_sizes), BLOCK)
        return cls(
            np.zeros((blocks, shown, BLOCK), dtype=np.float32),
            np.zeros(words, dtype=np.int64),
            np.zeros(words, dtype=np.float32),
        )

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.shown)

    @property
    def rows(self) -> int:
        """Rows that there is room for."""
        return self.blocks * BLOCK

    def head(self, rows: int) -> Slab:
        """The blocks that the first ``rows`` rows lie in."""
        blocks = -(-rows // BLOCK)
        return Slab(self.shown[:blocks], self.codes[:blocks], self.within[:blocks])

    def copy_to(self, rows: EncodedBatch, layout: Layout) -> None:
        """Write the first rows into encoded rows, as many as those are."""
        parts, bits = len(layout.part_columns), len(layout.bit_columns)
        for shown, codes, within, block in zip(
            self.shown, self.codes, self.within, _blocks(rows), strict=False
        ):
            signs = shown[parts : parts + bits] > 0
            pieces = (shown[:parts], signs, shown[parts + bits :], codes, within)
            for piece, tensor in zip(
                pieces, (block.numbers, block.bits, block.present, block.codes, block.within), strict=True
            ):
                tensor.copy_(torch.from_numpy(piece).T[: len(block)])


def _blocks(rows: EncodedBatch) -> Iterator[EncodedBatch]:
    for start in range(0, len(rows), BLOCK):
        yield rows.take(slice(start, start + BLOCK))


def slabs_of(rows: EncodedBatch, layout: Layout) -> Iterator[tuple[Slab, int]]:
    """Encoded rows a slab at a time, and how many each holds; the next one overwrites it."""
    slab = Slab.empty(layout, len(rows))
    for start in range(0, len(rows), slab.rows or 1):
        part = rows.take(slice(start, start + slab.rows))
        used = slab.head(len(part))
        _fill(used, part, layout)
        yield used, len(part)


def _fill(slab: Slab, rows: EncodedBatch, layout: Layout) -> None:
    """Write encoded rows into the first rows of a slab."""
    bits = list(layout.bit_columns)
    for shown, codes, within, block in zip(slab.shown, slab.codes, slab.within, _blocks(rows), strict=False):
        signs = (2 * block.bits - 1) * block.present[:, bits]
        pieces = (torch.cat([block.numbers, signs, block.present], dim=1), block.codes, block.within)
        for piece, tensor in zip((shown, codes, within), pieces, strict=True):
            torch.from_numpy(piece)[:, : len(block)].copy_(tensor.T)
