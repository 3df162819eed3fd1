"""The detector as its users hold it."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import kstest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vae_core import ColumnError, VAEDetector


def test_frames_of_any_make_score_alike(detector: VAEDetector, fresh: pa.Table) -> None:
    """The same rows in Arrow, pandas and Polars have the same scores."""
    scores = detector.score_samples(fresh)

    np.testing.assert_allclose(detector.score_samples(fresh.to_pandas()), scores, atol=1e-9)
    np.testing.assert_allclose(detector.score_samples(pl.from_arrow(fresh)), scores, atol=1e-9)
    np.testing.assert_allclose(detector.score_samples(fresh.to_batches()[0]), scores, atol=1e-9)


@pytest.mark.parametrize("make", [pa.Table.to_pandas, pl.from_arrow], ids=["pandas", "polars"])
def test_frames_of_any_make_teach_alike(table: pa.Table, make: object) -> None:
    """Fitting on a pandas or Polars frame gives the same detector as on the Arrow table."""
    small = table.slice(0, 200)
    arrow = VAEDetector(random_state=0, max_epochs=1).fit(small)

    other = VAEDetector(random_state=0, max_epochs=1).fit(make(small))

    np.testing.assert_allclose(other.score_samples(small), arrow.score_samples(small), atol=1e-9)
    assert other.feature_names_in_.tolist() == small.schema.names


def test_a_matrix_may_follow_a_frame() -> None:
    """A detector fitted on a frame of numbers scores the bare matrix, with scikit-learn's own warning."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["a", "b"])
    detector = VAEDetector(random_state=0, max_epochs=1).fit(frame)

    with pytest.warns(UserWarning, match="valid feature names"):
        scores = detector.score_samples(frame.to_numpy())

    np.testing.assert_allclose(scores, detector.score_samples(frame))


def test_a_numbered_frame_may_follow_a_matrix() -> None:
    """Columns of a matrix's frame are found by their numbers, in any order; other names are not."""
    matrix = np.random.default_rng(0).normal(size=(50, 3))
    detector = VAEDetector(random_state=0, max_epochs=1).fit(matrix)
    frame = pd.DataFrame(matrix)

    scores = detector.score_samples(matrix)

    assert np.array_equal(detector.score_samples(frame), scores)
    assert np.array_equal(detector.score_samples(frame[[2, 0, 1]]), scores)
    with pytest.raises(ColumnError, match="column 'x0' was learned"):
        detector.score_samples(frame.set_axis([1, 2, 3], axis=1))


def test_what_is_expected_of_a_frame_is_a_frame_like_it() -> None:
    """Index, columns and their types are those of the frame given, nullable ones too."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": pd.array([2**60 + i for i in range(80)], dtype="Int64"),
            "n": pd.array(random.integers(0, 9, 80), dtype="Int64"),
            "x": pd.array(random.normal(size=80), dtype="Float32"),
            "b": pd.array(random.random(80) < 0.4, dtype="boolean"),
            "s": pd.array(random.choice(["u", "v"], 80), dtype="string"),
            "c": pd.Categorical(random.choice(["k", "l"], 80), categories=["l", "k", "never"]),
            "t": pd.date_range("2026-01-01", periods=80, freq="h", tz="Europe/Berlin"),
        },
        index=pd.Index([f"row {i}" for i in range(80)], name="row"),
    )
    frame.loc["row 3", ["id", "n", "x", "b", "s", "c"]] = pd.NA
    detector = VAEDetector(kinds={"id": "key"}, random_state=0, max_epochs=1, n_members=1).fit(frame)

    expected = detector.expected(frame)

    pd.testing.assert_series_equal(expected.dtypes, frame.dtypes)
    pd.testing.assert_index_equal(expected.index, frame.index)
    pd.testing.assert_series_equal(expected["id"], frame["id"])


def test_planted_anomalies_are_found(detector: VAEDetector, table: pa.Table, fresh: pa.Table) -> None:
    """Rows whose columns contradict each other score above the usual ones, surest after clean training."""
    broken = fresh.set_column(2, "double", pa.array(-fresh["double"].to_numpy()))
    clean = VAEDetector(training_data="clean", kinds={"id": "key"}, random_state=0).fit(table)
    truth = np.repeat([0, 1], fresh.num_rows)

    def auroc(which: VAEDetector) -> float:
        return float(roc_auc_score(truth, -which.score_samples(pa.concat_tables([fresh, broken]))))

    assert auroc(detector) > 0.95
    assert auroc(clean) > 0.99


def test_signs_are_those_of_scikit_learn(detector: VAEDetector, fresh: pa.Table) -> None:
    """Higher is more normal; the decision is the score minus the offset, and below 0 an anomaly."""
    scores, decisions = detector.score_samples(fresh), detector.decision_function(fresh)

    np.testing.assert_allclose(decisions, scores - detector.offset_)
    assert np.array_equal(detector.predict(fresh), np.where(decisions < 0, -1, 1))
    np.testing.assert_allclose(detector.score_batch(fresh).anomaly_score, -scores)


def test_contamination_is_the_share_of_training_rows_called_anomalous(
    detector: VAEDetector, table: pa.Table
) -> None:
    """After fit, one training row in a hundred is an anomaly."""
    assert np.mean(detector.predict(table) == -1) == pytest.approx(0.01, abs=0.002)


def test_calibration_takes_thresholds_and_p_values_from_held_out_rows(
    tmp_path: Path, detector: VAEDetector, fresh: pa.Table
) -> None:
    """After calibrate, the contamination is met on held-out rows, whatever the training rows say."""
    detector.save(tmp_path)
    calibrated = VAEDetector.load(tmp_path)

    assert calibrated.calibrate(fresh) is calibrated

    assert calibrated.calibration_.rows == fresh.num_rows
    assert np.mean(calibrated.predict(fresh) == -1) == pytest.approx(0.01, abs=0.005)


def test_confirmed_anomalies_are_left_out_of_the_calibration(
    tmp_path: Path, detector: VAEDetector, fresh: pa.Table
) -> None:
    """Rows known to be anomalies do not count as usual; how many they were is stored with the model."""
    detector.save(tmp_path / "fitted")
    confirmed = np.arange(fresh.num_rows) < 100
    calibrated = VAEDetector.load(tmp_path / "fitted").calibrate(fresh, confirmed=confirmed)
    calibrated.save(tmp_path / "calibrated")

    loaded = VAEDetector.load(tmp_path / "calibrated")

    others = np.sort(-detector.score_samples(fresh.slice(100)))
    np.testing.assert_allclose(loaded.calibration_.scores, others, atol=1e-5)
    assert (loaded.calibration_.rows, loaded.calibration_.confirmed) == (fresh.num_rows - 100, 100)
    assert loaded.calibration_.contamination == calibrated.calibration_.contamination
    assert loaded.calibration_.held_out
    assert not detector.calibration_.held_out


@pytest.mark.parametrize("contamination", [0, 0.6, 5, "a", None])
def test_nothing_is_calibrated_to_an_impossible_contamination(
    tmp_path: Path, detector: VAEDetector, fresh: pa.Table, contamination: object
) -> None:
    """Set after fit, it is refused by name, and the detector stays as it was."""
    detector.save(tmp_path)
    loaded = VAEDetector.load(tmp_path).set_params(contamination=contamination)

    with pytest.raises(ValueError, match=r"contamination must be in \(0, 0.5\].*however it is"):
        loaded.calibrate(fresh)

    assert loaded.offset_ == detector.offset_


@pytest.mark.parametrize("confirmed", [[True], [1] * 1500, "all"])
def test_confirmed_anomalies_are_a_mask_of_the_rows(
    tmp_path: Path, detector: VAEDetector, fresh: pa.Table, confirmed: object
) -> None:
    """Anything but one boolean a row is refused."""
    detector.save(tmp_path)

    with pytest.raises(ValueError, match="confirmed must be booleans, one for each of 1500 rows"):
        VAEDetector.load(tmp_path).calibrate(fresh, confirmed=confirmed)  # type: ignore[arg-type]


def test_p_values_of_fresh_rows_are_uniform(tmp_path: Path, detector: VAEDetector, table_of: object) -> None:
    """Calibrated on held-out rows, p-values of fresh ones are uniform."""
    detector.save(tmp_path)
    calibrated = VAEDetector.load(tmp_path).calibrate(table_of(6000, seed=2))

    p_values = calibrated.p_values(table_of(6000, seed=3))

    assert kstest(p_values, "uniform").statistic < 0.05


def test_p_values_of_categories_are_those_of_their_ranks() -> None:
    """Where most rows are alike, a rare value is as rare as it was among the calibration rows."""
    table = pa.table({"common": ["a"] * 4990 + ["b"] * 10, "alike": ["u"] * 5000})
    detector = VAEDetector(max_steps=60, n_members=2, random_state=0).fit(table).calibrate(table)

    p_values = detector.p_values(table)

    assert p_values[0] == 1.0
    assert p_values[-1] == pytest.approx(11 / 5001)


def test_keys_cost_nothing(detector: VAEDetector, fresh: pa.Table) -> None:
    """Feature scores have a column for each of the table's, 0 where the model does not look."""
    scores = detector.feature_scores(fresh)

    assert scores.shape == (fresh.num_rows, 7)
    assert np.all(scores[:, 0] == 0)


def test_reduced_coordinates_have_the_latent_width(detector: VAEDetector, fresh: pa.Table) -> None:
    """Transform gives finite latent means."""
    reduced = detector.transform(fresh)

    assert reduced.shape == (fresh.num_rows, 8)
    assert np.isfinite(reduced).all()


def test_same_seed_same_scores(table: pa.Table) -> None:
    """Two fits with one seed score alike to the last bit."""
    one, other = (VAEDetector(random_state=5, max_epochs=1).fit(table.slice(0, 300)) for _ in range(2))

    assert np.array_equal(one.score_samples(table), other.score_samples(table))


def test_kinds_override_types() -> None:
    """A number that is a code can be told to be one: a code in between is unseen, not an average."""
    table = pa.table({"code": [1, 3] * 100})
    detector = VAEDetector(kinds={"code": "categorical"}, random_state=0, max_epochs=5).fit(table)

    assert detector.predict(pa.table({"code": [1, 2, 3]})).tolist() == [1, -1, 1]


@pytest.mark.parametrize(
    "method", ["predict", "decision_function", "score_batch", "p_values", "explain", "expected", "transform"]
)
def test_nothing_works_before_fit(method: str) -> None:
    """Each method says that the detector is not fitted."""
    with pytest.raises(NotFittedError):
        getattr(VAEDetector(), method)(np.zeros((1, 1)))


def test_columns_are_found_by_name_in_arrow(detector: VAEDetector, fresh: pa.Table) -> None:
    """Arrow batches may bring their columns in another order, and additional ones."""
    turned = fresh.select(fresh.schema.names[::-1]).append_column("more", pa.nulls(fresh.num_rows))

    assert np.array_equal(detector.score_samples(turned), detector.score_samples(fresh))


def test_it_takes_part_in_a_pipeline() -> None:
    """Behind a scaler it is a pipeline's last step."""
    rows = np.random.default_rng(0).normal(50, 9, size=(300, 3))

    pipeline = make_pipeline(StandardScaler(), VAEDetector(random_state=0, max_epochs=2)).fit(rows)

    assert pipeline.predict(np.array([[50.0, 50, 50], [5e4, 50, 50]])).tolist() == [1, -1]


def test_it_takes_part_in_a_grid_search() -> None:
    """A grid search fits, clones and scores it."""
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(90, 2)), columns=["a", "b"])
    grid = {"latent_dim": [1, 2]}

    def mean_score(estimator: VAEDetector, X: pd.DataFrame, y: object = None) -> float:
        return float(estimator.score_samples(X).mean())

    search = GridSearchCV(VAEDetector(random_state=0, max_epochs=1), grid, scoring=mean_score, cv=2).fit(rows)

    assert search.best_params_["latent_dim"] in (1, 2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_network_attacks_are_ranked_first(shared_data: Path) -> None:
    """On 10,000 real connections the attacks, never named to the model, rank above the others."""
    table = pq.read_table(shared_data / "labelled" / "kdd99_http.parquet")
    rows = table.take(np.sort(np.random.default_rng(0).choice(table.num_rows, 10_000, replace=False)))
    features = rows.drop_columns(["label"])

    detector = VAEDetector(random_state=0).fit(features)

    area = roc_auc_score(rows["label"].to_numpy(), -detector.score_samples(features))
    print(f"kdd99_http: AUROC {area:.4f}")
    assert area > 0.9


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_detector_fitted_on_cuda_scores_on_the_processor(tmp_path: Path, table: pa.Table) -> None:
    """Scores of the graphics card and of the processor agree."""
    there = VAEDetector(random_state=0, max_epochs=3, device="cuda").fit(table)
    there.save(tmp_path)

    here = VAEDetector.load(tmp_path, device="cpu")

    np.testing.assert_allclose(here.score_samples(table), there.score_samples(table), atol=1e-3)
