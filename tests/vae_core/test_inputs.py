"""Odd tables: learned and scored all the same, or refused in a sentence."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone

from vae_core import ColumnError, DataError, DivergenceError, VAEDetector

N = 60
RANDOM = np.random.default_rng(0)
ODD = {
    "constant columns": pa.table({"x": [3.0] * N, "i": [0] * N, "s": ["k"] * N, "b": [True] * N}),
    "constant times": pa.table(
        {"t": pa.array([0] * N, pa.timestamp("us")), "d": pa.array([9] * N, pa.date32())}
    ),
    "all-null columns": pa.table(
        {
            "x": pa.nulls(N, pa.float64()),
            "s": pa.nulls(N, pa.string()),
            "b": pa.nulls(N, pa.bool_()),
            "t": pa.nulls(N, pa.timestamp("us")),
            "untyped": pa.nulls(N),
        }
    ),
    "one row": pa.table({"x": [1.0], "s": ["a"], "b": [True], "t": pa.array([0], pa.timestamp("us"))}),
    "two equal rows": pa.table({"x": [1.0] * 2, "s": ["a"] * 2, "b": [True] * 2}),
    "300 columns": pa.table({f"c{j}": RANDOM.normal(size=N) for j in range(300)}),
    "infinities": pa.table({"x": [1e308, -1e308, np.inf, -np.inf, np.nan, 0.0] * 10}),
    "nothing but infinities": pa.table({"x": [np.inf] * N, "y": [np.inf, -np.inf] * 30}),
    "infinities and nulls": pa.table({"x": [np.inf, None, -np.inf, np.nan, None, 1.0] * 10}),
    "1e308 and 5e-324": pa.table({"x": [1e308] * N, "y": [1e308, -1e308] * 30, "z": [5e-324, 1.0] * 30}),
    "all rows far apart": pa.table(
        {f"x{j}": 10.0 ** RANDOM.uniform(-300, 300, N) * RANDOM.choice([-1, 1], N) for j in range(5)}
    ),
    "labels as floats": pa.table({"x": RANDOM.normal(size=N), "label": (RANDOM.random(N) < 0.1) * 1.0}),
    "huge range": pa.table({"x": RANDOM.uniform(0, 1e300, N)}),
    "64-bit extremes": pa.table(
        {"i": [-(2**63), 2**63 - 1] * 30, "u": pa.array([0, 2**64 - 1] * 30, pa.uint64())}
    ),
    "far instants": pa.table({"t": pa.array([2**62, -(2**62), 0] * 20, pa.timestamp("s"))}),
    "only booleans": pa.table({"b": RANDOM.random(N) < 0.3}),
    "only categories": pa.table({"s": RANDOM.choice(["a", "b"], N)}),
    "empty categories": pa.table({"s": ["", " ", None, "a"] * 15, "empty": [""] * N}),
    "unique texts": pa.table({"s": [f"text {i}" for i in range(N)], "x": RANDOM.normal(size=N)}),
    "long texts": pa.table({"s": ["x" * 300, "y" * 300] * 30}),
    "odd texts": pa.table({"s": ["\0", "", "\u202e", "é", "\n"] * 12}),
    "nested and binary": pa.table({"l": [[1]] * N, "b": [b"a"] * N, "x": RANDOM.normal(size=N)}),
    "chunks": pa.concat_tables([pa.table({"s": pa.array([w] * 30).dictionary_encode()}) for w in "ab"]),
}


@pytest.mark.parametrize("table", ODD.values(), ids=ODD.keys())
def test_odd_tables_are_learned_and_scored(table: pa.Table) -> None:
    """Every score is finite, every row explained, expected and sampled, without a warning."""
    detector = VAEDetector(random_state=0, max_epochs=1, n_members=1).fit(table)

    scores = detector.score_batch(table)

    assert np.isfinite(scores.anomaly_score).all()
    assert np.isfinite(scores.column_losses).all()
    assert len(detector.explain(table)) == table.num_rows
    assert detector.expected(table).columns.tolist() == table.schema.names
    assert len(detector.sample(3, random_state=0)) == 3


@pytest.mark.parametrize("bound", [None, "elbo", "iwae"])
@pytest.mark.parametrize("table", ODD.values(), ids=ODD.keys())
def test_odd_tables_have_finite_scores_of_every_kind(table: pa.Table, bound: str | None) -> None:
    """The textbook's scores are finite too, by each bound."""
    detector = VAEDetector(preset="textbook", bound=bound, random_state=0, max_epochs=1).fit(table)

    scores = detector.score_batch(table)

    assert np.isfinite(np.stack([scores.anomaly_score, scores.p_value, scores.severity])).all()
    assert np.isfinite(scores.reconstruction_loss).all()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["default", "textbook"])
def test_5000_columns_are_learned_and_scored(preset: str) -> None:
    """A table far wider than it is long has finite scores, column by column."""
    wide = np.random.default_rng(0).normal(size=(40, 5000))
    detector = VAEDetector(preset=preset, n_members=1, random_state=0, max_epochs=1).fit(wide)

    losses = detector.feature_scores(wide)

    assert losses.shape == (40, 5000)
    assert np.isfinite(losses).all()
    assert np.isfinite(detector.score_samples(wide)).all()


def test_rows_unlike_those_learned_have_finite_scores() -> None:
    """What was learned from ordinary rows scores nulls, infinities and extremes, all at once."""
    detector = VAEDetector(random_state=0, max_epochs=1).fit(np.random.default_rng(0).normal(size=(200, 3)))
    odd = [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324]

    scores = detector.score_batch(np.array([[a, b, c] for a in odd for b in odd for c in odd]))

    assert np.isfinite(scores.anomaly_score).all()
    assert np.isfinite(scores.column_losses).all()


@pytest.mark.parametrize("table", [ODD["all rows far apart"], ODD["two equal rows"]], ids=["far", "equal"])
def test_rows_learned_by_heart_are_not_all_flagged(table: pa.Table) -> None:
    """Where every row is odd, or none, at most the contamination is called anomalous."""
    detector = VAEDetector(contamination=0.1, random_state=0).fit(table)

    assert np.mean(detector.predict(table) == -1) <= 0.1


def test_texts_that_are_all_different_are_a_key() -> None:
    """A text of its own in every row names the row: it costs nothing, and a new one is no evidence."""
    table = pa.table({"s": [f"text {i}" for i in range(300)], "x": RANDOM.normal(size=300)})
    renamed = table.set_column(0, "s", pa.array(["new"] * 300))

    detector = VAEDetector(random_state=0, max_epochs=1).fit(table)

    assert np.all(detector.feature_scores(table)[:, 0] == 0)
    assert np.array_equal(detector.score_samples(renamed), detector.score_samples(table))


@pytest.mark.parametrize("preset", ["default", "textbook"])
def test_training_that_diverges_names_epoch_loss_and_remedy(preset: str) -> None:
    """A learning rate of a million ends in an error that says when, with which loss, and what to change."""
    rows = np.random.default_rng(0).normal(size=(300, 4))

    with pytest.raises(DivergenceError, match=r"epoch 1 .* loss nan .*lower learning_rate \(now 1000000.0\)"):
        VAEDetector(preset=preset, learning_rate=1e6, random_state=0).fit(rows)


def test_odd_values_score_higher_than_usual_ones() -> None:
    """Infinities, nulls and extremes are anomalies beside the rows learned."""
    x = np.random.default_rng(0).normal(size=(500, 2))
    detector = VAEDetector(random_state=0, max_epochs=10).fit(x)

    odd = detector.predict(np.array([[np.inf, 0], [-np.inf, 0], [np.nan, 0], [1e308, 0], [0, -1e308]]))

    assert odd.tolist() == [-1] * 5


@pytest.mark.parametrize(
    "fit", [lambda: pd.DataFrame({"x": []}), lambda: pa.table({"x": pa.array([], pa.float64())})]
)
def test_an_empty_frame_is_refused(fit: Callable[[], object]) -> None:
    """No rows, nothing to learn."""
    with pytest.raises(DataError, match="at least one row is required"):
        VAEDetector().fit(fit())


def test_a_frame_without_columns_is_refused() -> None:
    """Rows without columns are refused."""
    with pytest.raises((ColumnError, DataError), match="at least one"):
        VAEDetector().fit(pd.DataFrame(index=[1, 2]))


def test_a_column_of_mixed_objects_is_refused() -> None:
    """Numbers and texts in one column are refused by name."""
    with pytest.raises(ColumnError, match="column mixed"):
        VAEDetector().fit(pd.DataFrame({"mixed": [1, "a"]}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("contamination", 0.6),
        ("contamination", 0),
        ("min_scale", 0),
        ("masking", 1.0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("n_members", 0),
        ("latent_dim", 0),
        ("max_epochs", 0),
        ("beta", -0.1),
        ("beta", float("nan")),
        ("beta", float("inf")),
        ("beta", "1"),
        ("batch_size", 0),
        ("batch_size", -1),
        ("max_steps", 2.5),
        ("max_epochs", "3"),
        ("max_epochs", None),
        ("max_categories", None),
        ("max_categories", 2.5),
        ("latent_dim", None),
        ("latent_dim", True),
        ("patience", 0.5),
        ("n_members", 2.5),
        ("contamination", "a"),
        ("contamination", None),
        ("contamination", True),
        ("masking", "a"),
        ("min_scale", "a"),
        ("hidden_dims", 64),
        ("hidden_dims", "64"),
        ("hidden_dims", None),
        ("hidden_dims", (0,)),
        ("hidden_dims", (-1,)),
        ("hidden_dims", (2.5,)),
        ("kinds", "x0"),
        ("preset", ["default"]),
        ("random_state", -1),
        ("random_state", "a"),
        ("random_state", np.random.default_rng(0)),
        ("device", "foo"),
        ("device", "cuda:99"),
        ("device", 3.5),
        ("device", None),
    ],
)
def test_impossible_parameters_are_refused_by_name(name: str, value: object) -> None:
    """A parameter that cannot be used is named with its value, and the sentence ends with what to do."""
    with pytest.raises(ValueError, match=rf"^{name} .*{re.escape(str(value))}.*; \w+"):
        VAEDetector(**{name: value}).fit(np.zeros((9, 1)))


COLUMN = [0.5, 1.5, 2.5]
SINGLE = {"pandas": pd.Series(COLUMN), "polars": pl.Series(COLUMN), "arrow": pa.chunked_array([COLUMN])}


@pytest.fixture(scope="module")
def small() -> VAEDetector:
    """Return a detector fitted on columns a and b; tests must not change it."""
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    return VAEDetector(random_state=0, max_epochs=1, n_members=1).fit(rows)


@pytest.mark.parametrize("column", SINGLE.values(), ids=SINGLE)
def test_a_single_column_is_refused(small: VAEDetector, column: object) -> None:
    """A column without a name is no table, to learn from or to score; how to name it is said."""
    for use in (VAEDetector().fit, small.score_samples):
        with pytest.raises(ColumnError, match=r"a table is required, however a \w+ came.*pyarrow\.table"):
            use(column)


def test_a_plan_of_a_table_is_refused(small: VAEDetector) -> None:
    """Of a lazy frame nothing is there yet."""
    plan = pl.LazyFrame({"a": COLUMN, "b": COLUMN})

    for use in (VAEDetector().fit, small.score_samples):
        with pytest.raises(ColumnError, match=r"however a LazyFrame came.*collect\(\)"):
            use(plan)


def test_sparse_columns_are_refused_by_name(small: VAEDetector) -> None:
    """One sparse column of a frame is enough, and how to make it dense is said."""
    frame = pd.DataFrame({"a": COLUMN, "b": pd.arrays.SparseArray(COLUMN)})

    for use in (VAEDetector().fit, small.score_samples):
        with pytest.raises(ColumnError, match=r"\['b'\] are sparse.*to_dense\(\)"):
            use(frame)


@pytest.mark.parametrize("method", ["score_samples", "expected", "explain", "transform"])
def test_a_learned_column_that_stands_twice_is_refused(small: VAEDetector, method: str) -> None:
    """Which of the two is meant cannot be known; of a column that was never learned it does not matter."""
    doubled = pa.table([COLUMN, COLUMN, COLUMN], names=["a", "b", "a"])
    others = pa.table([COLUMN, COLUMN, COLUMN, COLUMN], names=["a", "b", "more", "more"])

    assert len(getattr(small, method)(others)) == 3
    with pytest.raises(ColumnError, match=r"unique, however \['a'\] stand more than once; rename"):
        getattr(small, method)(doubled)


def test_a_frame_of_rows_alone_lacks_columns() -> None:
    """What is missing from a selection of no columns is columns, not rows."""
    with pytest.raises(ColumnError, match="at least one column is required"):
        VAEDetector().fit(pd.DataFrame({"a": COLUMN})[[]])


def test_a_reader_is_learned_and_scored_like_its_table() -> None:
    """Names are learned from a stream of batches; read before, it is refused and not scored as no rows."""
    table = pa.table({"a": RANDOM.normal(size=N), "b": RANDOM.normal(size=N)})
    reader = table.to_reader(max_chunksize=7)

    detector = VAEDetector(random_state=0, max_epochs=1, n_members=1).fit(reader)

    assert (detector.n_features_in_, detector.feature_names_in_.tolist()) == (2, ["a", "b"])
    assert np.array_equal(detector.score_samples(table.to_reader()), detector.score_samples(table))
    with pytest.raises(DataError, match="it can be read but once; make a new one"):
        detector.score_samples(reader)


@pytest.mark.parametrize("top", [0, -1, 1.5, None])
def test_at_least_one_reason_is_asked_for(small: VAEDetector, top: int) -> None:
    """Fewer reasons than one, or a part of one, are refused."""
    with pytest.raises(ValueError, match=f"top must be at least 1, a whole number, however it is {top}"):
        small.explain(pd.DataFrame({"a": COLUMN, "b": COLUMN}), top=top)


def test_a_negative_number_of_rows_is_not_sampled(small: VAEDetector) -> None:
    """No rows are a frame without rows, fewer are refused, and so is a seed below 0."""
    assert small.sample(0).shape == (0, 2)
    with pytest.raises(ValueError, match="n must be at least 0, a whole number, however it is -1"):
        small.sample(-1)
    with pytest.raises(ValueError, match=r"random_state must be .* however it is -1"):
        small.sample(1, random_state=-1)


@pytest.mark.parametrize(
    "given",
    [
        {"batch_size": np.int64(16), "max_steps": np.int32(20), "n_members": np.uint8(1)},
        {"hidden_dims": [8]},
        {"hidden_dims": np.array([8, 4])},
        {"hidden_dims": ()},
        {"beta": 0},
        {"beta": np.float32(0.5), "contamination": np.float64(0.5)},
        {"random_state": np.random.RandomState(0)},
        {"device": torch.device("cpu")},
    ],
    ids="+".join,
)
def test_parameters_of_every_make_are_taken(tmp_path: Path, given: dict[str, Any]) -> None:
    """NumPy's numbers, lists, generators and torch's devices are taken, and saved with the model."""
    rows = np.random.default_rng(0).normal(size=(40, 2))
    detector = clone(VAEDetector(**{"max_epochs": 1, "n_members": 1, **given})).fit(rows)

    detector.save(tmp_path)

    assert np.array_equal(VAEDetector.load(tmp_path).score_samples(rows), detector.score_samples(rows))
