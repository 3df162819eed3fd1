"""scikit-learn's own checks of an estimator, and its company: pipelines, searches, frames."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from vae_core import VAEDetector

torch.set_num_threads(1)

QUICK = {"random_state": 0, "max_epochs": 3}
PRESETS = ["default", "textbook"]
ROWS = np.random.default_rng(0).normal([50, -3, 0], [9, 1, 0.1], size=(300, 3))


@parametrize_with_checks([VAEDetector(preset=preset, **QUICK) for preset in PRESETS])
def test_detector_passes_each_check(estimator: VAEDetector, check: Callable[[VAEDetector], None]) -> None:
    """Each of scikit-learn's estimator checks passes."""
    assert check(estimator) is None


@pytest.mark.parametrize("preset", PRESETS)
def test_it_ends_a_pipeline(preset: str) -> None:
    """Behind a scaler it decides as it would alone on scaled rows."""
    scaler, detector = StandardScaler(), VAEDetector(preset=preset, **QUICK)
    alone = VAEDetector(preset=preset, **QUICK).fit(scaler.fit_transform(ROWS))

    pipeline = make_pipeline(StandardScaler(), detector).fit(ROWS)

    np.testing.assert_allclose(
        pipeline.score_samples(ROWS), alone.score_samples(scaler.transform(ROWS)), atol=1e-6
    )
    assert pipeline.predict(np.array([[50.0, -3, 0], [5e4, -3, 0]])).tolist() == [1, -1]


def test_its_latents_feed_a_classifier() -> None:
    """In front of a classifier it reduces the columns, and the classifier sees what they held."""
    labels = ROWS[:, 0] > 50

    pipeline = make_pipeline(VAEDetector(latent_dim=3, random_state=0), KNeighborsClassifier())

    assert pipeline.fit(ROWS, labels).score(ROWS, labels) > 0.9


def test_its_latents_can_be_a_named_frame() -> None:
    """A pipeline set to pandas gets the latent as named columns, with the index of the rows."""
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c"], index=range(1000, 1300))
    pipeline = make_pipeline(StandardScaler(), VAEDetector(latent_dim=2, **QUICK))

    latents = pipeline.set_output(transform="pandas").fit_transform(frame)

    assert latents.columns.tolist() == ["vaedetector0", "vaedetector1"]
    assert latents.index.equals(frame.index)
    assert np.isfinite(make_pipeline(pipeline, KMeans(2, n_init=1)).fit_predict(frame)).all()


def test_a_grid_search_chooses_among_presets_and_widths() -> None:
    """Every combination is fitted, scored by the samples' scores, and the best one is fitted again."""
    grid = {"vaedetector__preset": PRESETS, "vaedetector__latent_dim": [1, 2]}
    pipeline = make_pipeline(StandardScaler(), VAEDetector(random_state=0, max_epochs=1))

    search = GridSearchCV(pipeline, grid, scoring=mean_score, cv=2, error_score="raise").fit(ROWS)

    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.predict(ROWS).shape == (300,)


def mean_score(estimator: object, X: np.ndarray, y: object = None) -> float:
    return float(estimator.score_samples(X).mean())


@pytest.mark.parametrize("preset", PRESETS)
def test_frames_of_any_make_are_learned_and_scored_alike(preset: str) -> None:
    """The same numbers in NumPy, pandas, Arrow and Polars give the same scores."""
    frame = pd.DataFrame(ROWS, columns=["x0", "x1", "x2"])
    makes = [ROWS, frame, pa.Table.from_pandas(frame), pl.from_pandas(frame)]

    scores = [VAEDetector(preset=preset, **QUICK).fit(rows).score_samples(rows) for rows in makes]

    assert all(np.array_equal(one, scores[0]) for one in scores)
