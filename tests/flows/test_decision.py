"""Which rows of a night are flagged, and whether the night is certified."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flows.decision import Decider, calibration_facts, calibration_sentence
from vae_core import Calibration

RANKS = Calibration.of(np.arange(999.0))
"""A score s in 0, 1, … has the p-value (1000 - s) / 1000, and one beyond 998 has 0.001."""


def decider(calibration: Calibration = RANKS, **decision: Any) -> Decider:
    return Decider.of(decision, calibration)


def decided(decider: Decider, *batches: list[float]) -> list[float]:
    """Return the scores that are flagged, among candidates only, after all batches have been seen."""
    kept: list[float] = []
    for batch in batches:
        scores = np.array(batch, dtype=np.float64)
        kept.extend(scores[decider.candidates(scores)])
    cut = decider.threshold()
    return sorted((score for score in kept if score >= cut), reverse=True)


def clean(rows: int = 20_000, **facts: Any) -> Calibration:
    return Calibration.of(np.random.default_rng(0).normal(size=rows), **facts)


def quantile(threshold: float) -> dict[str, Any]:
    """A contamination whose threshold is this score of RANKS, by rank."""
    return {"contamination": (998 - threshold) / 998}


def test_contamination_flags_scores_above_its_threshold_and_not_the_threshold_itself() -> None:
    above = float(np.nextafter(499.0, 500.0))

    assert decided(decider(**quantile(499.0)), [1.0, 499.0, 500.0], [above]) == [500.0, above]


def test_the_threshold_of_contamination_is_that_of_the_calibration() -> None:
    night = decider(contamination=0.1)

    assert night.threshold() == np.nextafter(RANKS.threshold(0.1), np.inf)


def test_a_budget_keeps_the_highest_scores_of_all_batches() -> None:
    assert decided(decider(budget=3), [1.0, 9.0, 2.0], [8.0, 0.0], [7.0, 3.0]) == [9.0, 8.0, 7.0]


def test_a_budget_wider_than_the_night_flags_every_row() -> None:
    assert decided(decider(budget=10), [1.0, 2.0]) == [2.0, 1.0]


def test_a_budget_caps_contamination_and_does_not_fill_up() -> None:
    assert decided(decider(**quantile(600.0), budget=2), [1.0, 700.0, 800.0, 900.0]) == [900.0, 800.0]
    assert decided(decider(**quantile(850.0), budget=2), [1.0, 700.0, 800.0, 900.0]) == [900.0]


def test_equal_scores_at_the_edge_of_a_budget_are_left_out_together() -> None:
    """Which of them came first must not decide."""
    assert decided(decider(budget=2), [3.0, 2.0, 2.0, 1.0]) == [3.0]


def test_a_budget_of_equal_scores_is_never_exceeded() -> None:
    assert decided(decider(budget=2), [1.0, 1.0, 1.0]) == []


def test_false_discoveries_are_counted_over_all_rows_of_the_night() -> None:
    """The same small p-values are worth less in a longer night (Benjamini and Hochberg, 1995)."""
    few = [2000.0, 960.0, 100.0]  # p-values 0.001, 0.04 and 0.9

    assert decided(decider(fdr=0.1), few) == [2000.0, 960.0]
    assert decided(decider(fdr=0.1), few, [100.0] * 97) == [2000.0]


def test_false_discoveries_are_controlled_by_ranks_not_by_the_fitted_tail() -> None:
    """A score far out has a tiny p-value in the tail, which is a fit; alone among many it is not selected."""
    calibration = clean(1000)

    assert calibration.p_values(np.array([30.0]))[0] < 1e-9
    assert decided(decider(calibration, fdr=0.1), [30.0], [0.0] * 999) == []


def test_a_night_without_discoveries_has_an_infinite_threshold() -> None:
    night = decider(fdr=0.1)

    assert decided(night, [500.0, 100.0]) == []
    assert night.threshold() == np.inf


def test_a_budget_caps_false_discoveries() -> None:
    assert decided(decider(fdr=0.5, budget=1), [998.0, 997.0]) == [998.0]


def test_a_budget_keeps_the_highest_of_what_the_rate_selects() -> None:
    """Rows beyond the budget still count when the rate is controlled: without them none would be selected."""
    night = [[997.0, 998.0], [996.0, 995.0], [0.0] * 46]  # p-values .003, .002, .004 and .005

    assert decided(decider(fdr=0.07), *night) == [998.0, 997.0, 996.0, 995.0]
    assert decided(decider(fdr=0.07, budget=2), *night) == [998.0, 997.0]


@pytest.mark.parametrize("decision", [{"contamination": 0.5}, {"fdr": 0.1}, {"budget": 3}])
def test_a_night_without_rows_flags_none(decision: dict[str, Any]) -> None:
    assert decided(decider(**decision), []) == []


DECISIONS: list[dict[str, Any]] = [
    quantile(499.0),
    {**quantile(499.0), "budget": 2},
    {"fdr": 0.1},
    {"fdr": 0.1, "budget": 2},
    {"budget": 2},
]


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_night_in_parts_is_decided_as_the_whole(decision: dict[str, Any]) -> None:
    """Whatever the parts, and whether or not a part knows what those before it held."""
    parts = [np.array(scores) for scores in ([999.0, 998.0, 997.0, 3.0], [], [2000.0, 996.0, 998.0])]
    whole = decider(**decision)
    whole.candidates(np.concatenate(parts))

    for known in (False, True):
        night = decider(**decision)
        for scores in parts:
            part = decider(**decision)
            part.candidates(scores, night.floor() if known else -np.inf)
            night.take(part.tally())

        assert night.rows == whole.rows == 7
        assert night.threshold() == whole.threshold()


def test_the_threshold_is_that_of_the_budget_whatever_the_order() -> None:
    """Rows beyond the budget, which no one keeps, must not look flagged by a lower line."""
    night = decider(**quantile(499.0), budget=2)
    night.candidates(np.array([900.0, 800.0, 700.0]))

    assert night.threshold() == 800.0


def night_of(calibration: Calibration, rows: int = 1000, **decision: Any) -> Decider:
    night = decider(calibration, **decision)
    ordinary = np.minimum(np.random.default_rng(1).normal(size=rows - 5), 2.0)
    night.candidates(np.concatenate([ordinary, np.full(5, 50.0)]))
    return night


def test_a_night_is_certified_by_enough_clean_rows_that_were_held_out() -> None:
    assert night_of(clean(), fdr=0.1).doubt() is None


@pytest.mark.parametrize(
    ("decision", "doubt"), [({"contamination": 0.01}, "a quantile"), ({"budget": 5}, "a budget")]
)
def test_only_a_false_discovery_rate_can_be_certified(decision: dict[str, Any], doubt: str) -> None:
    said = night_of(clean(), **decision).doubt()

    assert said == f"the decision is {doubt}: no false-discovery claim"


def test_a_contaminated_calibration_is_not_certified() -> None:
    """One calibration row in a hundred is an anomaly."""
    scores = np.concatenate([clean().scores, np.full(200, 20.0)])

    said = night_of(Calibration.of(scores), fdr=0.1).doubt()

    assert said is not None
    assert "are estimated to be anomalies" in said


def test_few_rows_cannot_be_known_to_be_clean() -> None:
    said = night_of(clean(2000), fdr=0.1).doubt()

    assert said == (
        "of the calibration rows 0 % are estimated to be anomalies, and up to 0.15 % may be: "
        "at most 0.1 % was required"
    )


def test_calibration_rows_must_be_enough_to_find_one_anomaly_in_a_thousand() -> None:
    """The smallest p-value, 1 / (n + 1), must be at most q / 1,000; in a shorter night, q / its rows."""
    assert night_of(clean(9_999), fdr=0.1).doubt() is None
    assert night_of(clean(9_998), fdr=0.1).doubt() == (
        "9,999 calibration rows were required to find one anomaly in 1,000 rows at fdr 0.1, "
        "however 9,998 came"
    )
    assert night_of(clean(4_999), rows=500, fdr=0.1).doubt() is None


def test_rows_that_were_fitted_on_certify_nothing() -> None:
    said = night_of(clean(held_out=False), fdr=0.1).doubt()

    assert said is not None
    assert said.startswith("no rows were held out")


def test_a_budget_that_cuts_the_selection_ends_the_certificate() -> None:
    """The rate holds for all that the procedure selects, not for the first of them."""
    assert night_of(clean(), fdr=0.1, budget=5).doubt() is None
    assert night_of(clean(), fdr=0.1, budget=4).doubt() == "the budget of 4 cut the selection"


def test_a_calibration_is_said_in_one_sentence() -> None:
    facts = calibration_facts(clean(confirmed=3))

    assert facts["rows"] == 20_000
    assert calibration_sentence(facts) == (
        "20,000 calibration rows, of which 0 % are estimated to be anomalies (95 % limit 0.015 %); "
        "3 confirmed anomalies left out"
    )


def shifted(by: float, rows: int = 5000) -> Decider:
    """Return a night of ordinary rows whose scores are higher by so much, and some anomalies."""
    night = decider(clean(), fdr=0.1)
    for part in np.array_split(np.random.default_rng(2).normal(by, size=rows), 3):
        night.candidates(part)
    night.candidates(np.full(500, 50.0))
    return night


@pytest.mark.parametrize("by", [0.2, 0.5])
def test_a_night_whose_ordinary_rows_have_moved_up_is_not_certified(by: float) -> None:
    said = shifted(by).doubt()

    assert said is not None
    assert said.startswith("the night's ordinary rows are more anomalous than the calibration rows: ")


@pytest.mark.parametrize("by", [0.0, -0.5])
def test_a_night_as_usual_or_quieter_is_certified_whatever_its_anomalies(by: float) -> None:
    """One row in eleven is an anomaly; they do not count as a shift of the ordinary ones."""
    assert shifted(by).doubt() is None


def test_nights_as_usual_are_hardly_ever_doubted() -> None:
    """One in a thousand would be by chance, if no shift at all were put up with."""
    rng = np.random.default_rng(3)
    calibration = clean()

    doubted = 0
    for _ in range(200):
        night = decider(calibration, fdr=0.1)
        night.candidates(rng.normal(size=2000))
        doubted += night.doubt() is not None

    assert doubted == 0


def test_what_a_budget_leaves_out_is_counted() -> None:
    night = decider(**quantile(499.0), budget=2)
    for batch in ([700.0, 10.0], [800.0, 900.0, 600.0]):
        night.candidates(np.array(batch))

    assert night.selection() == {"selected": 4, "left_out": 2, "noise_expected": 1.0}


def test_the_noise_among_flags_is_what_chance_puts_above_the_cut() -> None:
    """Of 2,000 rows like the calibration rows, 20 lie among the highest 1 % of those."""
    night = decider(**quantile(988.0))
    night.candidates(np.concatenate([np.zeros(1900), np.full(100, 2000.0)]))

    assert night.selection()["selected"] == 100
    assert night.selection()["noise_expected"] == pytest.approx(20, abs=2)


@pytest.mark.parametrize("decision", [{"fdr": 0.1}, {"budget": 2}, {"contamination": 0.1}])
def test_a_night_without_rows_has_no_noise(decision: dict[str, Any]) -> None:
    assert decider(**decision).selection() == {"selected": 0, "left_out": 0, "noise_expected": 0.0}
