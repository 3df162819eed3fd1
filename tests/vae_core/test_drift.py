"""Profiles of training rows, and how far other rows have moved from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from vae_core import DataError
from vae_core.drift import TableProfile, compare, profile_numbers, psi, shift_of
from vae_core.schema import TableSchema


def profile_of(table: pa.Table, **more: Any) -> TableProfile:
    """Return the profile of a table, as it comes back from JSON."""
    profile = TableProfile.of(table, TableSchema.infer(table), **more)
    return TableProfile.from_json(json.loads(json.dumps(profile.to_json(), allow_nan=False)))


def numbers(seed: int, rows: int, mean: float = 0.0) -> Any:
    """Return normal numbers."""
    return np.random.default_rng(seed).normal(mean, 1.0, rows)


def test_the_index_of_two_counts_is_the_textbook_s_sum() -> None:
    p, q = np.array([50.5, 30.5, 20.5]) / 101.5, np.array([20.5, 30.5, 50.5]) / 101.5

    assert psi([50, 30, 20], [20, 30, 50]) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert psi([5, 5], [50, 50]) == 0.0


def test_the_ks_statistic_and_p_value_are_those_of_the_exact_test_on_the_raw_rows() -> None:
    """The grid costs half a percent of distance at most."""
    then, now = numbers(0, 5000), numbers(1, 800, mean=0.1)
    shift = shift_of(profile_numbers("x", then), now)
    exact = stats.ks_2samp(then, now, method="asymp")

    assert shift is not None
    assert shift.statistic == pytest.approx(exact.statistic, abs=0.005)
    assert shift.p_value == pytest.approx(exact.pvalue, rel=0.5)


def test_counts_of_values_are_compared_by_pearson_s_chi_square() -> None:
    then, now = [400, 500, 100], [120, 60, 20]
    words = [pa.array(np.repeat(["a", "b", "c"], times)) for times in (then, now)]
    (drift,) = compare(profile_of(pa.table({"shop": words[0]})), pa.table({"shop": words[1]}))
    expected = stats.chi2_contingency([then, now])

    assert drift.shift is not None
    assert drift.shift.test == "chi2"
    assert drift.shift.statistic == pytest.approx(expected.statistic)
    assert drift.shift.p_value == pytest.approx(expected.pvalue)


def test_rows_like_the_training_rows_have_not_drifted(table_of: Callable[..., pa.Table]) -> None:
    states = {
        one.column: (one.nulls.state, one.shift.state if one.shift else "ok")
        for one in compare(profile_of(table_of(4000)), table_of(2000, seed=1))
    }

    assert set(states.values()) == {("ok", "ok")}
    assert set(states) == {"id", "x", "double", "shop", "open", "at", "discount"}


@pytest.mark.parametrize(
    ("column", "spoilt"),
    [
        ("x", lambda values: pa.array(values.to_numpy() * 10)),
        ("shop", lambda values: pa.array(["west"] * len(values))),
        ("open", lambda values: pa.array([True] * len(values))),
        ("at", lambda values: pa.array(values.to_numpy().astype("datetime64[D]").astype("datetime64[us]"))),
    ],
)
def test_a_column_of_any_kind_that_moved_is_named(
    table_of: Callable[..., pa.Table], column: str, spoilt: Callable[[Any], Any]
) -> None:
    night = table_of(1000, seed=1)
    place = night.schema.get_field_index(column)
    moved = night.set_column(place, column, spoilt(night[column]))

    drifted = [
        one.column
        for one in compare(profile_of(table_of(3000)), moved)
        if one.shift and one.shift.state == "drift"
    ]
    assert drifted == [column]


def test_a_huge_night_that_differs_by_a_hair_is_significant_and_still_ok() -> None:
    """An effect that does not matter has no state, however small its p-value."""
    shift = shift_of(profile_numbers("x", numbers(0, 200_000)), numbers(1, 200_000, mean=0.03))

    assert shift is not None
    assert shift.p_value < 1e-6
    assert shift.state == "ok"


def test_a_tiny_night_that_differs_by_chance_is_ok() -> None:
    shift = shift_of(profile_numbers("x", numbers(0, 5000)), numbers(1, 8))

    assert shift is not None
    assert shift.psi > 0.25
    assert shift.state == "ok"


@pytest.mark.parametrize("now", [4.0, 6.0])
def test_a_constant_that_changes_is_drift_in_either_direction(now: float) -> None:
    shift = shift_of(profile_numbers("fee", np.full(1000, 5.0)), np.full(500, now))

    assert shift is not None
    assert (shift.statistic, shift.state) == (1.0, "drift")


def test_a_share_of_nulls_that_changed_is_drift_and_a_hair_is_not() -> None:
    def column(nulls: int) -> pa.Table:
        return pa.table({"x": pa.array([None] * nulls + [1.0] * (10_000 - nulls), pa.float64())})

    profile = profile_of(column(1030))
    rates = [compare(profile, column(nulls))[0].nulls for nulls in (1040, 740, 0)]

    assert [rate.state for rate in rates] == ["ok", "drift", "drift"]
    assert (rates[1].usual, rates[1].value) == (0.103, 0.074)


def test_nan_is_a_null() -> None:
    (drift,) = compare(profile_of(pa.table({"x": [1.0, 2.0]})), pa.table({"x": [float("nan"), 1.0]}))

    assert drift.nulls.value == 0.5


def test_unseen_values_are_counted_beside_those_that_newer_training_rows_had() -> None:
    def words(new: int, prefix: str) -> pa.Table:
        names = [f"{prefix}{i}" for i in range(new)]
        return pa.table({"tail": names + [f"N{i % 300}" for i in range(1000 - new)]})

    profile = profile_of(words(0, ""), later=words(20, "later"))
    rates = [compare(profile, words(new, "now"))[0].unseen for new in (25, 120)]

    assert [(rate.value, rate.usual, rate.state) for rate in rates if rate] == [
        (0.025, 0.02, "ok"),
        (0.12, 0.02, "drift"),
    ]


def test_a_profile_holds_no_value_of_a_sensitive_column() -> None:
    """Counts of hash buckets still tell that a category drifted; of numbers the nulls are kept."""
    table = pa.table({"name": ["Ada", "Eve"] * 200, "wage": [12345.5, 54321.5] * 200})
    kept = TableProfile.of(table, TableSchema.infer(table), sensitive=["name", "wage"])
    moved = pa.table({"name": ["Bob"] * 400, "wage": [None] * 400}, schema=table.schema)
    name, wage = compare(kept, moved)

    text = json.dumps(kept.to_json())
    assert not [secret for secret in ("Ada", "Eve", "12345", "54321") if secret in text]
    assert name.shift is not None
    assert name.shift.state == wage.nulls.state == "drift"
    assert (name.unseen, wage.shift) == (None, None)


def test_a_profile_holds_no_extremes_of_a_column() -> None:
    values = np.append(numbers(0, 10_000), 1e9)
    (column,) = profile_of(pa.table({"x": values})).columns

    assert max(column.points) < 4
    assert sum(column.counts) == 10_001


def test_odd_columns_have_profiles() -> None:
    """Empty, all null, infinite, one row: nothing fails, and nothing is compared where there is nothing."""
    odd = pa.table(
        {
            "void": pa.array([None] * 3, pa.float64()),
            "inf": [float("inf"), float("-inf"), 1.0],
            "null": pa.nulls(3),
            "word": pa.array([None] * 3, pa.string()),
        }
    )
    drifts = compare(profile_of(odd), odd)

    assert [one.shift is None for one in drifts] == [True, False, True, True]
    assert [one.nulls.value for one in drifts] == [1.0, 0.0, 1.0, 1.0]
    assert compare(profile_of(odd.slice(0, 0)), odd)[1].shift is None


def test_what_is_no_profile_is_refused() -> None:
    with pytest.raises(DataError, match="format 1 is required, however version=2"):
        TableProfile.from_json({"format_version": 2})
    with pytest.raises(DataError, match="a table profile is required"):
        TableProfile.from_json({"format_version": 1})
