"""Odd tables: learned and scored all the same, or refused in a sentence."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

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
        ("n_members", 0),
        ("latent_dim", 0),
        ("max_epochs", 0),
    ],
)
def test_impossible_parameters_are_refused_by_name(name: str, value: float) -> None:
    """A parameter out of range is named with its value."""
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        VAEDetector(**{name: value}).fit(np.zeros((9, 1)))
