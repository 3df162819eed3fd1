"""Self-cleaning: rows stand apart only where the scores have a gap."""

import numpy as np

from vae_core.cleaning import above_gap


def test_a_hump_beyond_a_gap_is_set_aside() -> None:
    """Anomalies that score alike and far from the others are set aside, all of them and little else."""
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(size=2000), random.normal(9.0, 0.7, size=100)])

    aside = above_gap(scores, 0.5)

    assert aside[2000:].mean() > 0.95
    assert aside[:2000].mean() < 0.01


def test_nothing_is_set_aside_where_scores_have_no_gap() -> None:
    """One hump, whatever its tail, is taken whole."""
    random = np.random.default_rng(0)
    assert not above_gap(random.normal(size=5000), 0.5).any()
    assert above_gap(random.exponential(size=5000), 0.5).mean() < 0.01


def test_equal_scores_have_no_gap() -> None:
    """Rows that all score the same, or a single row, stay."""
    assert not above_gap(np.zeros(100), 0.5).any()
    assert not above_gap(np.ones(1), 0.5).any()


def test_more_rows_than_may_be_set_aside_are_another_kind_of_ordinary_row() -> None:
    """A far hump of a fifth of the rows goes where that many may go, and stays whole where fewer may."""
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(size=1600), random.normal(12.0, 0.5, size=400)])

    assert above_gap(scores, 0.5)[1600:].all()
    assert not above_gap(scores, 0.1).any()
