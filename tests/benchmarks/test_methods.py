"""Ours and its peers, fitted on one case."""

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.methods import PEERS, Peer, methods_named
from benchmarks.protocol import Case


@pytest.fixture(scope="module")
def case() -> Case:
    """40 rows of a line with a constant and a doubled column, and one far row, tested on themselves."""
    x = np.append(np.random.default_rng(0).normal(size=40), 9.0)
    rows = pa.table({"id": np.arange(41), "x": x, "again": 2 * x, "constant": np.zeros(41)})
    return Case(rows, rows, np.arange(41) == 40, {"id": "key"})


@pytest.mark.parametrize("name", PEERS)
def test_peers_score_every_row_and_find_the_far_one(case: Case, name: str) -> None:
    """Higher is more anomalous, also where columns depend on each other."""
    trial = Peer(name).tried(case, seed=0)

    assert trial.scores.shape == (41,)
    assert np.isfinite(trial.scores).all()
    assert trial.scores[40] > np.median(trial.scores)
    assert trial.fit_seconds >= 0


def test_peers_score_rows_that_they_were_not_fitted_on(case: Case) -> None:
    """Under S the tested rows are others."""
    apart = Case(case.train.slice(0, 30), case.test.slice(30), case.labels[30:], case.kinds)

    trial = Peer("KNN").tried(apart, seed=0)

    assert trial.scores.argmax() == 10
    assert trial.scores.shape == (11,)


def test_methods_are_found_by_name_in_any_case() -> None:
    """Ours first, neural peers last, whatever the order on the command line."""
    assert [method.name for method in methods_named(["vae", "knn", "OURS"])] == ["ours", "KNN", "VAE"]
