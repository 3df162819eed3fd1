"""Self-cleaning: rows stand apart only where the scores have a gap."""

import numpy as np

from vae_core.cleaning import above_gap


def test_a_hump_beyond_a_gap_is_set_aside() -> None:
    """Anomalies that score alike and far from the others are set aside, all of them and little else."""
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(size=2000), random.normal(9.0, 0.7, size=100)])

    aside = above_gap(scores)

    assert aside[2000:].mean() > 0.95
    assert aside[:2000].mean() < 0.01


def test_nothing_is_set_aside_where_scores_have_no_gap() -> None:
    """One hump, whatever its tail, is taken whole."""
    random = np.random.default_rng(0)
    assert not above_gap(random.normal(size=5000)).any()
    assert above_gap(random.exponential(size=5000)).mean() < 0.01


def test_equal_scores_have_no_gap() -> None:
    """Rows that all score the same, or a single row, stay."""
    assert not above_gap(np.zeros(100)).any()
    assert not above_gap(np.ones(1)).any()


def test_at_most_half_of_the_rows_are_set_aside() -> None:
    """Where the larger hump is the far one, only the upper half of all rows goes."""
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(size=1100), random.normal(12.0, 0.5, size=900)])

    assert above_gap(scores).mean() <= 0.5
