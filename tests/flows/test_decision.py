"""Which rows are flagged: by contamination, by false-discovery rate, within a budget."""

from __future__ import annotations

import numpy as np
import pytest

from flows.decision import Decider
from vae_core import Calibration


def decided(
    decider: Decider, *batches: list[float], p_values: list[list[float]] | None = None
) -> list[float]:
    """Return the scores that are flagged, among candidates only, after all batches have been seen."""
    kept: list[float] = []
    for i, batch in enumerate(batches):
        scores = np.array(batch, dtype=np.float64)
        p = np.array(p_values[i]) if p_values else np.full(scores.size, 0.5)
        kept.extend(scores[decider.candidates(scores, p)])
    cut = decider.threshold()
    return sorted((score for score in kept if score >= cut), reverse=True)


def test_contamination_flags_scores_above_its_threshold_and_not_the_threshold_itself() -> None:
    assert decided(Decider(2.0, None, None), [1.0, 2.0, 3.0], [2.0000001]) == [3.0, 2.0000001]


def test_the_threshold_of_contamination_is_that_of_the_calibration() -> None:
    calibration = Calibration.of(np.arange(1000.0))

    decider = Decider.of({"contamination": 0.1}, calibration)

    assert decider.contamination_threshold == calibration.threshold(0.1)


def test_a_budget_keeps_the_highest_scores_of_all_batches() -> None:
    assert decided(Decider(None, None, 3), [1.0, 9.0, 2.0], [8.0, 0.0], [7.0, 3.0]) == [9.0, 8.0, 7.0]


def test_a_budget_wider_than_the_night_flags_every_row() -> None:
    assert decided(Decider(None, None, 10), [1.0, 2.0]) == [2.0, 1.0]


def test_a_budget_caps_contamination_and_does_not_fill_up() -> None:
    assert decided(Decider(2.0, None, 2), [1.0, 5.0, 4.0, 3.0]) == [5.0, 4.0]
    assert decided(Decider(4.5, None, 2), [1.0, 5.0, 4.0, 3.0]) == [5.0]


def test_equal_scores_at_the_edge_of_a_budget_are_left_out_together() -> None:
    """Which of them came first must not decide."""
    assert decided(Decider(None, None, 2), [3.0, 2.0, 2.0, 1.0]) == [3.0]


def test_a_budget_of_equal_scores_is_never_exceeded() -> None:
    assert decided(Decider(None, None, 2), [1.0, 1.0, 1.0]) == []


def test_false_discoveries_are_counted_over_all_rows_of_the_night() -> None:
    """The same small p-values are worth less in a longer night (Benjamini and Hochberg, 1995)."""
    few, small = [9.0, 8.0, 1.0], [0.001, 0.04, 0.9]

    assert decided(Decider(None, 0.1, None), few, p_values=[small]) == [9.0, 8.0]
    assert decided(Decider(None, 0.1, None), few, [0.0] * 97, p_values=[small, [0.9] * 97]) == [9.0]


def test_a_night_without_discoveries_has_an_infinite_threshold() -> None:
    decider = Decider(None, 0.1, None)

    assert decided(decider, [1.0, 2.0], p_values=[[0.5, 0.9]]) == []
    assert decider.threshold() == np.inf


def test_a_budget_caps_false_discoveries() -> None:
    assert decided(Decider(None, 0.5, 1), [9.0, 8.0], p_values=[[0.001, 0.002]]) == [9.0]


@pytest.mark.parametrize(
    "decider", [Decider(0.5, None, None), Decider(None, 0.1, None), Decider(None, None, 3)]
)
def test_a_night_without_rows_flags_none(decider: Decider) -> None:
    assert decided(decider, []) == []


@pytest.mark.parametrize("decider", [Decider(None, None, 1), Decider(None, 0.1, None)])
def test_batches_since_a_mark_are_forgotten(decider: Decider) -> None:
    """The rows of a file that turns out to be corrupt neither use up a budget nor count as tested."""
    decider.candidates(np.array([5.0, 1.0]), np.array([0.01, 0.9]))
    before, mark = decider.threshold(), decider.mark()

    decider.candidates(np.array([100.0, 99.0]), np.array([0.0001, 0.0001]))
    decider.back_to(mark)

    assert decider.threshold() == before == 5.0
    assert decider.rows == 2
