"""What the rare is worth: probabilities of what was seldom or never seen, and nats that news cost."""

from __future__ import annotations

import numpy as np

__all__ = ["cost_of_news", "novelty", "prior"]


def prior(count: float, rows: int) -> float:
    """Probability of what was seen ``count`` times in ``rows``, never 0 or 1 (Krichevsky–Trofimov, 1981)."""
    return (count + 0.5) / (rows + 1.0)


def novelty(once: int, rows: int) -> float:
    """Nats that something new costs beyond its probability, where ``once`` kinds of it were seen once.

    It is one of at least as many as were seen once, so that it never costs less than what was seen once;
    and the more rows went without a new one, the less is a new one to be expected at all.
    """
    return float(np.log1p(once) + np.log1p(rows / (1 + once) ** 2))


def cost_of_news(once: int, rows: int) -> float:
    """Nats that something new costs: its improbability, and its novelty."""
    return novelty(once, rows) - float(np.log(prior(once, rows)))
