"""References get a fair chance, and stay affordable."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from sklearn.decomposition import PCA

from vae_core import TableSchema
from vae_core.references import REFERENCES, OneHot, References


def test_a_category_has_an_indicator_for_each_value_for_null_and_for_any_other() -> None:
    sample = pa.table({"shop": ["a", "a", "b", None]})
    encoder = OneHot(TableSchema.infer(sample), sample)

    rows = encoder.encode(pa.table({"shop": ["a", "b", "z", None]}))

    assert rows.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_a_number_is_standardised_and_its_absence_marked() -> None:
    sample = pa.table({"x": [1.0, 3.0, None, 5.0]})
    encoder = OneHot(TableSchema.infer(sample), sample)

    rows = encoder.encode(pa.table({"x": [3.0, 3 + np.sqrt(8 / 3), None, float("nan")]}))

    assert rows.round(12).tolist() == [[0, 0], [1, 0], [0, 1], [0, 1]]


def test_every_kind_of_column_becomes_finite_numbers(table: pa.Table) -> None:
    odd = pa.table(
        {"x": [1.0, float("inf"), -float("inf"), 1e308, None], "c": [1.0] * 5, "n": pa.nulls(5, pa.float64())}
    )

    for rows in (table, odd):
        encoded = OneHot(TableSchema.infer(rows), rows).encode(rows)
        assert np.isfinite(encoded).all()
        assert len(encoded) == rows.num_rows


@pytest.mark.parametrize("rows", [400, 12])
def test_components_are_those_of_scikit_learn(rows: int) -> None:
    """More rows than columns, and fewer."""
    random = np.random.default_rng(0)
    values = random.normal(size=(rows, 6)) @ random.normal(size=(6, 30))
    table = pa.table({f"x{i}": column for i, column in enumerate(values.T)})
    schema = TableSchema.infer(table)

    scores = References(schema, table).scores(table)["PCA"]

    encoded = OneHot(schema, table).encode(table)
    theirs = PCA(n_components=0.95, svd_solver="full").fit(encoded)
    rest = encoded - theirs.inverse_transform(theirs.transform(encoded))
    np.testing.assert_allclose(scores, (rest**2).sum(axis=1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_row_far_from_all_others_scores_highest(name: str) -> None:
    random = np.random.default_rng(0)
    usual = random.normal(size=(1000, 4))
    table, odd = (
        pa.table({f"x{i}": column for i, column in enumerate(rows.T)})
        for rows in (usual, np.array([[9.0, -9.0, 9.0, 9.0]]))
    )
    references = References(TableSchema.infer(table), table)

    assert references.scores(odd)[name] > references.scores(table)[name].max()


def test_constant_columns_and_a_single_row_are_no_trouble() -> None:
    table = pa.table({"x": [1.0], "s": ["a"]})

    scores = References(TableSchema.infer(table), table).scores(table)

    assert [len(one) for one in scores.values()] == [1, 1]
    assert all(np.isfinite(one).all() for one in scores.values())


def test_a_table_of_5000_columns_takes_seconds() -> None:
    values = np.random.default_rng(0).normal(size=(5000, 300))
    table = pa.table({f"x{i}": column for i, column in enumerate(values)})
    began = time.process_time()

    scores = References(TableSchema.infer(table), table).scores(table)

    seconds = time.process_time() - began
    print(f"references on 300 rows of 5,000 columns: {seconds:.1f} CPU-seconds")
    assert seconds < 10
    assert all(np.isfinite(one).all() for one in scores.values())


def test_scores_do_not_depend_on_the_rows_around(table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide tables are encoded a slice at a time."""
    references = References(TableSchema.infer(table), table)
    whole = references.scores(table)

    monkeypatch.setattr(references, "_step", 100)

    for name, scores in references.scores(table).items():
        np.testing.assert_allclose(scores, whole[name], rtol=1e-9)
