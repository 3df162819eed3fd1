"""An order learned from verdicts: when there is one, that it helps, and that it never does harm."""

from __future__ import annotations

import numpy as np
import pytest

from review.ranking import FEWEST, Evidence, Ranking, blended


def evidence(n: int, seed: int = 0, columns: tuple[str, ...] = ("amount", "fee")) -> Evidence:
    """Flags of which those with a high loss in the first column were confirmed; the score is no help."""
    rng = np.random.default_rng(seed)
    losses = rng.exponential(5.0, (n, len(columns)))
    return Evidence(columns, rng.normal(size=n), losses, losses[:, 0] > 5.0)


def test_nothing_is_learned_from_few_verdicts_or_from_one_kind() -> None:
    few, many = evidence(FEWEST - 1), evidence(100)
    one_kind = Evidence(many.columns, many.scores, many.losses, np.ones(100, np.bool_))

    assert Ranking.of(few) is None
    assert Ranking.of(one_kind) is None
    assert not few.is_enough
    assert not one_kind.is_enough


def test_an_order_is_learned_that_finds_what_the_score_does_not() -> None:
    ranking, night = Ranking.of(evidence(60)), evidence(200, seed=1)
    assert ranking is not None

    order = blended(ranking.chances(night.columns, night.scores, night.losses), night.scores)

    confirmed = int(night.confirmed.sum())
    first, by_score = (np.argsort(-one)[:confirmed] for one in (order, night.scores))
    assert night.confirmed[first].mean() > 0.8 > 0.6 > night.confirmed[by_score].mean()
    assert ranking.verdicts == 60


def test_what_is_no_better_than_the_score_is_not_used() -> None:
    """Verdicts that follow the score, beside many losses that say nothing: trees can only blur that."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=60)
    names = tuple(f"c{i:02}" for i in range(40))
    said = Evidence(names, scores, rng.normal(size=(60, 40)), scores + 0.2 * rng.normal(size=60) > 0.0)

    assert said.is_enough
    assert Ranking.of(said) is None


def test_columns_are_found_by_name_and_missing_ones_have_no_loss() -> None:
    ranking, night = Ranking.of(evidence(60)), evidence(20, seed=1)
    assert ranking is not None
    turned = night.losses[:, ::-1]
    alone = np.column_stack([night.losses[:, 0], np.zeros(20)])

    expected = ranking.chances(night.columns, night.scores, night.losses)
    assert ranking.chances(("fee", "amount"), night.scores, turned) == pytest.approx(expected)
    assert ranking.chances(("amount",), night.scores, night.losses[:, :1]) == pytest.approx(
        ranking.chances(night.columns, night.scores, alone)
    )


def test_the_same_verdicts_make_the_same_order() -> None:
    one, other = Ranking.of(evidence(60)), Ranking.of(evidence(60))
    Ranking.of.cache_clear()
    anew, night = Ranking.of(evidence(60)), evidence(20, seed=1)
    assert one is other is not None
    assert anew is not None

    chances = [each.chances(night.columns, night.scores, night.losses) for each in (one, anew)]
    assert (chances[0] == chances[1]).all()


def test_evidence_of_nights_with_other_columns_is_joined_by_name() -> None:
    first = Evidence(("a", "b"), np.array([1.0]), np.array([[1.0, 2.0]]), np.array([True]))
    second = Evidence(("b", "c"), np.array([2.0]), np.array([[3.0, 4.0]]), np.array([False]))

    both = Evidence.joined([first, second])

    assert both.columns == ("a", "b", "c")
    assert both.losses.tolist() == [[1.0, 2.0, 0.0], [0.0, 3.0, 4.0]]
    assert both.confirmed.tolist() == [True, False]
    assert len(Evidence.joined([])) == 0
    assert both.digest != first.digest


def test_equal_chances_are_ordered_by_score() -> None:
    assert np.argsort(-blended(np.full(3, 0.5), np.array([1.0, 3.0, 2.0]))).tolist() == [1, 2, 0]
    assert blended(np.array([0.5]), np.array([1.0])).tolist() == [0.5]
