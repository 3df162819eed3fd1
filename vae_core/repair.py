"""Repairs: which cells, replaced by what the model expects given the others, make a row usual again.

A wrong cell spoils what the model says of the cells beside it, so losses alone smear over the columns.
Here each suspect cell of a row is hidden, replaced by what is expected in its place, and the row is scored
again: the cell whose repair takes most loss away is to blame. The next one is sought on the repaired row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vae_core.categories import NULL, UNSEEN
from vae_core.columns import BooleanCodec, expand
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.expectation import Expectation, expect
from vae_core.filling import filled
from vae_core.modules import VAE
from vae_core.scoring import BLOCK, row_losses
from vae_core.training import hide

__all__ = ["SUSPECTS", "Repair", "Repairer"]

SUSPECTS = 8  # columns of a row that are tried: those with the largest losses above their usual
MOST = 1e6  # standard deviations; beyond, a number is as strange as it can be
ROUNDS = 2  # a repaired cell is shown and expected anew: numbers are seldom hidden in training

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Repair:
    """One repaired cell a row.

    Shape
    -----
    columns: int64 [n], the cell of each row, as a place among the features
    falls:   float64 [n], nats that the row's reconstruction loss falls by
    expectation: of n rows, with the cell replaced
    """

    columns: Ints
    falls: Floats
    expectation: Expectation


@dataclass(frozen=True)
class Repairer:
    """Finds the cells to blame.

    Parameters
    ----------
    model, encoder
        Fitted.
    usual
        Median loss of each column in training [c], nats: what a repaired cell costs.
    """

    model: VAE
    encoder: TableEncoder
    usual: Floats

    @property
    def rows_at_once(self) -> int:
        """Rows whose variants fill one block."""
        return max(BLOCK // min(SUSPECTS, len(self.usual)), 1)

    def repairs(self, rows: EncodedBatch) -> Iterator[Repair]:
        """The cell to blame in each row, then the next one with that repaired, once a column at most.

        A value never seen, where new ones hardly come, and a null where there never was one, go before: they
        are facts, while how far a number lies out is a matter of degree. A repair that puts a strange number
        in is no explanation, though the rest of the row would agree with it: it pays for its strangeness.
        """
        over, each, facts = self.over(rows), np.arange(len(rows)), self._facts(rows)
        repaired = np.zeros(over.shape, dtype=np.bool_)
        while not repaired.all():
            columns = self._suspects(np.where(facts, np.inf, over), repaired)
            after, shown, seen = self._tried(rows, columns, repaired)
            falls = over.sum(axis=1, keepdims=True) - after.sum(axis=1).reshape(columns.shape)
            fact = np.take_along_axis(facts, columns, axis=1)
            own = np.take_along_axis(over, columns, axis=1)
            falls = np.where(fact, np.maximum(falls, own), falls)
            best = np.where(fact, np.inf, falls - self._strangeness(shown, columns)).argmax(axis=1)
            chosen = each * columns.shape[1] + best
            rows, over = shown.take(chosen), after[chosen]
            repaired[each, columns[each, best]] = True
            expectation = expect(self.model, self.encoder, seen.take(chosen))
            yield Repair(columns[each, best], falls[each, best], expectation)

    def falls(self, rows: EncodedBatch, columns: Ints) -> Floats:
        """Nats [n, k] that the repair of each of ``columns`` [n, k], by itself, takes off its row's loss."""
        over = self.over(rows)
        after, _, _ = self._tried(rows, columns, np.zeros(over.shape, dtype=np.bool_))
        return np.asarray(over.sum(axis=1, keepdims=True) - after.sum(axis=1).reshape(columns.shape))

    def over(self, rows: EncodedBatch) -> Floats:
        """Loss of each cell above the usual of its column [n, c], nats."""
        return np.asarray(row_losses(self.model, rows).columns - self.usual)

    def _facts(self, rows: EncodedBatch) -> npt.NDArray[np.bool_]:
        """Cells [n, c] with a value never seen or a null, in columns that hardly ever bring a new one."""
        layout, codes = self.encoder.layout, rows.codes.cpu().numpy()
        closed = np.array([codec.is_closed for codec in self.encoder.categorical], dtype=np.bool_)
        whole = np.array([codec.nulls == 0 for codec in self.encoder.categorical], dtype=np.bool_)
        new = ((codes == UNSEEN) & closed) | ((codes == NULL) & whole)
        never = np.array([share is not None for share in layout.null_priors], dtype=np.bool_)
        present = rows.present.cpu().numpy() > 0
        measured = ~present & never
        measured[:, list(layout.bit_columns)] |= self._turned(rows) & present[:, list(layout.bit_columns)]
        return np.concatenate([measured, new], axis=1)[:, list(layout.order)]

    def _turned(self, rows: EncodedBatch) -> npt.NDArray[np.bool_]:
        """Bits [n, r] that were never so."""
        codecs = [codec for codec in self.encoder.measured if isinstance(codec, BooleanCodec)]
        only = np.array([codec.share if codec.is_closed else np.nan for codec in codecs])
        return np.asarray(np.abs(rows.bits.cpu().numpy() - only) > 0.5)

    def _tried(
        self, rows: EncodedBatch, columns: Ints, repaired: npt.NDArray[np.bool_]
    ) -> tuple[Floats, EncodedBatch, EncodedBatch]:
        """The rows with each of ``columns`` [n, k] repaired, row by row, and the rows that told by what.

        Of each such row first the losses above the usual [n * k, c]; 0 where a cell is repaired.
        """
        k = columns.shape[1]
        own = np.arange(len(self.usual)) == columns.reshape(-1, 1)
        shown, seen = self._repaired(rows.each(lambda tensor: tensor.repeat_interleave(k, 0)), own)
        return np.where(repaired.repeat(k, axis=0) | own, 0.0, self.over(shown)), shown, seen

    def _strangeness(self, shown: EncodedBatch, columns: Ints) -> Floats:
        """What numbers put into ``columns`` [n, k] cost under N(0, 1) [n, k], nats; categories nothing."""
        layout = self.encoder.layout
        z = np.minimum(np.abs(expand(shown.numbers.cpu().numpy().astype(np.float64))), MOST)
        cost = np.zeros((layout.n_columns, len(shown)))
        np.add.at(cost, np.array(layout.part_columns, dtype=np.int64), z.T**2 / 2)
        by_column = cost.T[:, list(layout.order)]
        return by_column[np.arange(len(shown)), columns.ravel()].reshape(columns.shape)

    @staticmethod
    def _suspects(over: Floats, repaired: npt.NDArray[np.bool_]) -> Ints:
        left = int((~repaired).sum(axis=1).min())
        order = np.argsort(-np.where(repaired, -np.inf, over), axis=1, kind="stable")
        return order[:, : min(SUSPECTS, left)]

    def _repaired(
        self, rows: EncodedBatch, cells: npt.NDArray[np.bool_]
    ) -> tuple[EncodedBatch, EncodedBatch]:
        """Rows with the cells [n, c] replaced by what is expected there, and the rows that told by what."""
        layout = self.encoder.layout
        places = torch.from_numpy(cells[:, np.argsort(layout.order)])  # measured, then categorical
        chosen = places[:, : layout.n_measured], places[:, layout.n_measured :]
        shown = hide(rows, self.model, *chosen)
        for _ in range(ROUNDS):
            seen, shown = shown, filled(self.model, shown, *chosen)
        return shown, seen
