"""What verdicts are worth, on nights made up: verdicts on the first nights, precision on those after them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import verdicts
from benchmarks.verdicts import BUDGET, FLAGGED, NIGHT, Nights, figures_of, tried


@pytest.fixture
def nights() -> Nights:
    """Return eight nights in which the score is half right, and one column's loss tells all."""
    rng = np.random.default_rng(0)
    rows = 8 * NIGHT
    labels = rng.random(rows) < 0.04
    scores = rng.normal(size=rows) + 2.0 * labels
    losses = np.column_stack([rng.normal(size=rows), rng.normal(size=rows) + 8.0 * labels])
    order = np.arange(rows).reshape(8, NIGHT)
    return Nights(("noise", "telling"), scores, losses, labels, tuple(order))


def test_verdicts_bring_the_anomalies_among_the_flags_to_the_top(nights: Nights) -> None:
    found = tried(nights, 60)

    assert found["learned"] == 1.0
    assert found["precision_before"] < found["precision_after"] <= found["precision_best"]
    assert found["recall_before"] < found["recall_after"] <= found["recall_best"]
    assert found["precision_after"] > 0.95 * found["precision_best"]


def test_too_few_verdicts_change_nothing(nights: Nights) -> None:
    found = tried(nights, 10)

    assert found["learned"] == 0.0
    assert found["precision_after"] == found["precision_before"]


def test_figures_are_of_nights_that_nobody_gave_a_verdict_on(nights: Nights) -> None:
    """Precision by score, counted by hand, on the second half of the nights."""
    flags = [nights.flags(night) for night in nights.nights[4:]]
    hits = sum(int(nights.labels[one[:BUDGET]].sum()) for one in flags)

    assert all(len(one) == FLAGGED for one in flags)
    assert tried(nights, 60)["precision_before"] == pytest.approx(100 * hits / (4 * BUDGET))


def test_gains_are_told_with_their_spread_and_the_worst_seed() -> None:
    rows = [
        {"set": "a", "seed": seed, "verdicts": 50, "precision_before": 40.0, "precision_after": 40.0 + gain}
        for seed, gain in enumerate((10.0, 30.0))
    ]

    figures = figures_of(pd.DataFrame(rows))["a"]["50"]

    assert (figures["gain"], figures["gain_sd"], figures["gain_worst"]) == (20.0, 10.0, 10.0)
    assert set(verdicts.SETS) == set(verdicts.ROWS)
