"""Frames of any make as Arrow tables, and back."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from vae_core import ColumnError
from vae_core.tabular import as_frame, as_table, from_matrix, is_table

FRAMES = [
    pa.table({"a": [1, 2]}),
    pa.record_batch({"a": [1, 2]}),
    pd.DataFrame({"a": [1, 2]}),
    pl.DataFrame({"a": [1, 2]}),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__module__)
def test_frames_of_any_make_become_tables(frame: object) -> None:
    """Arrow, pandas and Polars frames of the same values make the same table."""
    assert is_table(frame)
    assert as_table(frame).to_pydict() == {"a": [1, 2]}


def test_a_matrix_is_no_table() -> None:
    """A matrix has no names of its own."""
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]])

    assert not is_table(matrix)
    assert from_matrix(matrix, ["a", "b"]).to_pydict() == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


def test_pandas_index_and_metadata_are_left_behind() -> None:
    """Only columns become columns; names become strings."""
    table = as_table(pd.DataFrame({0: [1.0]}, index=["i"]))

    assert table.schema.names == ["0"]
    assert table.schema.metadata is None


def test_a_column_of_mixed_objects_is_refused() -> None:
    """A column that holds numbers and texts is refused by name."""
    with pytest.raises(ColumnError, match=r"values of one type.* column mixed .*convert that column first"):
        as_table(pd.DataFrame({"mixed": [1, "a"]}))


@pytest.mark.parametrize("names", [["a", "a"], ["1", 1]])
def test_doubled_names_are_refused(names: list[object]) -> None:
    """Two columns of one name, also once names are strings, are refused."""
    with pytest.raises(ColumnError, match="column names must be unique"):
        as_table(pd.DataFrame([[1, 2]], columns=names))


def test_values_beyond_pandas_become_a_frame() -> None:
    """Times of day in nanoseconds and dates beyond any calendar do not break the way back."""
    far = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())

    times = as_frame(pa.table({"t": pa.array([1_500], pa.time64("ns"))}))
    frame = as_frame(pa.table({"d": far}))

    assert times["t"].tolist() == [dt.time(0, 0, 0, 1)]
    assert frame["d"].astype("int64").tolist() == [(2**31 - 1) * 86_400_000]


def test_a_frame_like_another_keeps_values_that_its_types_cannot_hold() -> None:
    """Index and types come from the other frame, but no value is rounded, dropped or refused."""
    table = pa.table(
        {
            "fraction": [0.5, 2.0],
            "whole": [1.0, 2.0],
            "gap": [1, None],
            "word": ["a", "b"],
            "truth": [0.25, 1.0],
            "more": [1, 2],
        }
    )
    like = pd.DataFrame(
        {
            "fraction": pd.array([1, 2], dtype="Int64"),
            "whole": pd.array([1, 2], dtype="Int8"),
            "gap": [1, 2],
            "word": pd.Categorical(["a", "a"]),
            "truth": [True, False],
        },
        index=[7, 5],
    )

    frame = as_frame(table, like)

    assert frame.index.tolist() == [7, 5]
    assert frame["fraction"].tolist() == [0.5, 2.0]
    assert (str(frame["whole"].dtype), frame["whole"].tolist()) == ("Int8", [1, 2])
    assert frame["gap"].isna().tolist() == [False, True]
    assert frame["word"].tolist() == ["a", "b"]
    assert frame["truth"].tolist() == [0.25, 1.0]
    assert frame["more"].tolist() == [1, 2]


def test_a_numbered_frame_gives_its_types_by_number() -> None:
    """Names that are numbers are looked up as the texts that they became."""
    frame = as_frame(pa.table({"0": [1, 2]}), pd.DataFrame({0: pd.array([1, 2], dtype="Int64")}))

    assert str(frame["0"].dtype) == "Int64"


def test_a_stream_of_columns_is_a_table() -> None:
    """A column of structs has names: it is a table."""
    structs = pa.chunked_array([[{"a": 1, "b": "x"}]])

    assert as_table(structs).to_pydict() == {"a": [1], "b": ["x"]}
