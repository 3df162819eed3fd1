"""Tables as matrices for the peers."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.matrix import MAX_VALUES, Matrices

INFINITE = float("inf")


def _matrix(train: list[Any], test: list[Any], kind: pa.DataType | None = None) -> np.ndarray[Any, Any]:
    trained, tested = pa.table({"x": pa.array(train, kind)}), pa.table({"x": pa.array(test, kind)})
    return Matrices(trained).of(tested)


def test_numbers_are_standardised_by_the_training_rows() -> None:
    """Mean 3 and deviation 2 of the training rows; a null is the mean, an infinity the largest number."""
    matrix = _matrix([1.0, 5.0, 1.0, 5.0], [3.0, 7.0, None, INFINITE, -INFINITE])

    assert matrix[:, 0].tolist() == [0.0, 2.0, 0.0, 1.0, -1.0]


@pytest.mark.parametrize("train", [[0.1] * 7, [None] * 7, [1e308, -1e308, 1.0], [INFINITE, 1.0, None]])
def test_odd_numbers_stay_finite(train: list[float | None]) -> None:
    """Constant, all null, huge and infinite columns."""
    assert np.isfinite(_matrix(train, [*train, 0.0, 1e308], pa.float64())).all()


@pytest.mark.parametrize(
    "values",
    [[True, False, None], [dt.date(2020, 1, 1), dt.date(2021, 1, 1), None], [dt.datetime(2020, 1, 1), None]],
)
def test_truth_values_and_times_are_numbers(values: list[Any]) -> None:
    """One column, standardised; a null is the mean."""
    matrix = _matrix(values, values)

    assert matrix.shape == (len(values), 1)
    assert matrix[-1, 0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_strings_are_one_hot(kind: pa.DataType) -> None:
    """The most frequent value first; nulls and unseen values have no column."""
    matrix = _matrix(["b", "a", "b", None], ["a", "b", "new", None], kind)

    assert matrix.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_at_most_64_values_of_a_column_have_one_of_their_own() -> None:
    """Of 100 values the 64 most frequent stay."""
    values = [f"v{i}" for i in range(100)]

    assert _matrix(values, values).shape == (100, MAX_VALUES)


def test_keys_are_left_out() -> None:
    """Columns that no method may look at do not reach the matrix."""
    table = pa.table({"id": [1, 2], "x": [0.0, 2.0]})

    assert Matrices(table, without=["id"]).of(table).tolist() == [[-1.0], [1.0]]
