"""Which planted errors a detector sees, by column and by size."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vae_core import VAEDetector
from vae_core.power import GROSS, LADDER, Detection, Sight, detections, ordinary, sights


@pytest.fixture(scope="module")
def rows(detector: VAEDetector, fresh: pa.Table) -> pa.Table:
    """Return rows that are not anomalous themselves."""
    return ordinary(detector, fresh, -detector.offset_)


def test_rows_to_plant_in_score_below_the_cut(detector: VAEDetector, rows: pa.Table) -> None:
    assert (-detector.score_samples(rows) < -detector.offset_).all()


def test_plain_errors_are_found_in_the_columns_they_were_planted_in(
    detector: VAEDetector, rows: pa.Table
) -> None:
    found = {(one.kind, one.column): one for one in detections(detector, rows, -detector.offset_, rows=200)}

    assert found["unit_slip_1000", "x"].power == 1.0
    assert found["unseen_category", "shop"].power == 1.0
    assert not [one for one in found.values() if one.blind]
    assert {column for _, column in found} == {"x", "double", "shop", "open", "at", "discount"}


def test_nothing_is_found_beyond_a_cut_that_nothing_reaches(detector: VAEDetector, rows: pa.Table) -> None:
    found = detections(detector, rows, float("inf"), rows=50)

    assert {one.found for one in found} == {0}
    assert {one.kind for one in found if one.blind} <= set(GROSS)
    assert [one for one in found if one.blind]


def test_larger_errors_of_a_number_are_found_more_often(detector: VAEDetector, rows: pa.Table) -> None:
    seen = {one.column: one for one in sights(detector, rows, -detector.offset_)}

    assert set(seen) == {"x", "double", "discount"}
    assert seen["x"].found[0] < 0.5 < seen["x"].found[-1]
    assert seen["x"].blind_below in LADDER


def test_the_smallest_error_that_half_are_found_of_is_said_in_words() -> None:
    assert str(Sight("distance", (0.0, 0.2, 0.6, 0.9, 1.0, 1.0))) == "blind to `distance` errors below 30%"
    assert str(Sight("air_time", (0.1,) * 6)) == "blind to `air_time` errors of any size up to 1000%"


def test_only_errors_that_are_plain_to_see_make_a_column_blind_and_no_bad_luck_does() -> None:
    assert Detection("null", "x", 100, 39).blind
    assert not Detection("null", "x", 100, 41).blind
    assert not Detection("null", "x", 4, 0).blind
    assert not Detection("stale_cell", "x", 100, 0).blind


def test_zeros_and_counts_that_round_back_are_no_errors(rows: pa.Table) -> None:
    """A count of 1 that is 3 % off is still 1: nobody could find that."""
    random = np.random.default_rng(0)
    counts = pa.table({"n": random.integers(0, 2, 400), "x": random.normal(size=400)})
    model = VAEDetector(max_steps=5, n_members=1, random_state=0, device="cpu").fit(counts)
    (n, _) = sights(model, counts, float("-inf"))

    assert n.found == (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
