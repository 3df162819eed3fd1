"""Calibrated evidence: what training never had counts as much as an ordinary row that comes as seldom.

The loss of a number knows no bound; the cost of a code does: minus the logarithm of a probability that n
rows can teach. Where one ordinary row in a hundred has a number far out, a value that never came in a
million rows would pass for usual beside it. So the cost of what training never had (a value of a category,
a null) is raised until a row that is usual in all else gets the anomaly score that ordinary rows exceed as
seldom as such news come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_core.categories import CategoryCodec
from vae_core.columns import BooleanCodec, Codec
from vae_core.rarity import cost_of_news, prior
from vae_core.scoring import Reference

__all__ = ["weighed"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _News:
    """What column ``j`` hardly ever brings: its probability, what it costs by that, and the codec's field."""

    j: int
    field: str
    share: float
    cost: float

    @classmethod
    def of(cls, j: int, field: str, once: int, rows: int) -> _News:
        """News of which ``once`` kinds were seen once in ``rows``."""
        return cls(j, field, prior(once, rows), cost_of_news(once, rows))


def weighed(
    codecs: Sequence[Codec], usual: Floats, reference: Reference, scores: Floats
) -> tuple[Codec, ...]:
    """Codecs in which what training never had costs what its rarity asks for, never less than before.

    The rarity of one kind of news is the probability of any kind at least as rare.

    Parameters
    ----------
    codecs
        Fitted, c of them.
    usual
        Median loss of each column in training [c], nats.
    reference
        Of the training losses.
    scores
        Anomaly scores of the training rows [n].
    """
    known = [news for j, codec in enumerate(codecs) for news in _news(j, codec)]
    above = _above_usual([news.share for news in known], reference, scores)
    found = list(codecs)
    for news in known:
        asked = float(usual[news.j]) + above[news.share]
        change: dict[str, Any] = {news.field: max(asked - news.cost, 0.0)}
        found[news.j] = replace(found[news.j], **change)
    return tuple(found)


def _above_usual(shares: Sequence[float], reference: Reference, scores: Floats) -> dict[float, float]:
    """Nats above the usual loss of a row that each share asks for; wide tables have few different ones."""
    found, level = {}, 0.0
    for share, times in sorted(Counter(shares).items()):
        level = min(level + share * times, 1.0)
        found[share] = reference.loss_at(float(np.quantile(scores, 1.0 - level)))
    return found


def _news(j: int, codec: Codec) -> list[_News]:
    found = [_News.of(j, "null_evidence", 0, codec.rows)] if codec.nulls == 0 else []
    if isinstance(codec, BooleanCodec) and codec.is_closed:
        found.append(_News.of(j, "new_evidence", 0, codec.rows))
    if isinstance(codec, CategoryCodec) and codec.is_closed:
        found.append(_News.of(j, "new_evidence", codec.once, codec.rows))
    return found
