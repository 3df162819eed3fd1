"""What is measured: ours, and its peers in PyOD with their defaults."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from benchmarks.digests import code_digest
from benchmarks.matrix import Matrices
from benchmarks.protocol import Case

__all__ = ["CONDITIONS", "PEERS", "Method", "Ours", "Peer", "Trial", "methods_named"]

HERE = Path(__file__).parent
CONDITIONS = """\
Ours gets the table as it is, with its default parameters. Peers are PyOD's with their defaults and full
fits; as in ADBench they get standardised columns (mean and deviation of the training rows); nulls are
filled by the mean, infinities clipped to the largest finite value, strings one-hot (at most 64 values a
column). PCA is given as many components as the columns have independent ones: with more, PyOD divides by
zero. Under U peers have the scores that PyOD itself gives the training rows (`decision_scores_`)."""

UNSEEN = ("key", "ignored")  # kinds of columns that no method looks at

PEERS: dict[str, str] = {
    "KNN": "knn",
    "LOF": "lof",
    "IForest": "iforest",
    "OCSVM": "ocsvm",
    "ECOD": "ecod",
    "PCA": "pca",
    "AutoEncoder": "auto_encoder",
    "VAE": "vae",
}
"""PyOD's classes and their modules; the neural ones, which take longest, last."""


@dataclass(frozen=True)
class Trial:
    """Scores [rows of test], higher = more anomalous; CPU-seconds of the fit and of scoring."""

    scores: npt.NDArray[np.float64]
    fit_seconds: float
    score_seconds: float


class Method(Protocol):
    """Something that can be fitted on a case and score its test rows."""

    @property
    def name(self) -> str:
        """How tables call it."""

    def token(self) -> str:
        """Changes when results may change."""

    def tried(self, case: Case, seed: int) -> Trial:
        """Fit on the case's training rows and score its test rows."""


@dataclass(frozen=True)
class Ours:
    """VAEDetector with its defaults, or with some parameters, or parts of the library, changed."""

    name: str = "ours"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    """Dotted name of a part of the library to what stands in its place."""

    def token(self) -> str:
        """Digest of the library's code, torch's version and the parameters."""
        code = code_digest((HERE.parent / "vae_core").glob("*.py"))
        changed = " ".join(f" {part} {getattr(new, '__name__', new)}" for part, new in self.parts.items())
        parameters = json.dumps(dict(self.parameters), sort_keys=True)
        return f"{code} torch {torch.__version__} {parameters}{changed}"

    def tried(self, case: Case, seed: int) -> Trial:
        """Fit on the Arrow table, keys declared as such."""
        from vae_core import VAEDetector

        _warm_torch()
        kinds = dict(case.kinds) or None
        detector = VAEDetector(kinds=kinds, random_state=seed, **self.parameters)
        with ExitStack() as stack:
            for part, instead in self.parts.items():
                stack.enter_context(patch(part, instead))
            return _timed(
                lambda: detector.fit(case.train), lambda: np.negative(detector.score_samples(case.test))
            )


@dataclass(frozen=True)
class Peer:
    """A detector of PyOD with its defaults."""

    name: str

    def token(self) -> str:
        """Version of PyOD and digest of how tables become matrices."""
        token = f"pyod {importlib.metadata.version('pyod')} {code_digest([HERE / 'matrix.py'])}"
        return f"{token} rank" if self.name == "PCA" else token

    def tried(self, case: Case, seed: int) -> Trial:
        """Fit on the standardised matrix; training rows get the scores that PyOD itself gives them."""
        _warm_peer(self)
        matrices = Matrices(case.train, [name for name, kind in case.kinds.items() if kind in UNSEEN])
        train, test = matrices.of(case.train), matrices.of(case.test)
        model = self.model(seed, train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's code
            if case.is_same_rows:
                return _timed(lambda: model.fit(train), lambda: model.decision_scores_)
            return _timed(lambda: model.fit(train), lambda: model.decision_function(test))

    def model(self, seed: int, train: npt.NDArray[np.float64]) -> Any:
        """PyOD's detector for a matrix [n, d], not fitted."""
        settings: dict[str, Any] = {}
        if self.name in ("IForest", "AutoEncoder", "VAE"):
            settings["random_state"] = seed
        if self.name in ("AutoEncoder", "VAE"):
            settings["verbose"] = 0
        if self.name == "PCA":  # it divides by each component's variance, which must not be zero
            settings["n_components"] = max(int(np.linalg.matrix_rank(train - train.mean(axis=0))), 1)
        module = importlib.import_module(f"pyod.models.{PEERS[self.name]}")
        return getattr(module, self.name)(**settings)


@lru_cache
def _warm_peer(peer: Peer) -> None:
    """What the first fit of a process compiles and imports is no part of a fit's seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's code
        rows = np.random.default_rng(0).normal(size=(64, 3))
        peer.model(0, rows).fit(rows).decision_function(rows)


@lru_cache
def _warm_torch() -> None:
    """The first step of an optimiser imports torch's compiler."""
    weights = torch.zeros(1, requires_grad=True)
    weights.sum().backward()  # type: ignore[no-untyped-call]
    torch.optim.Adam([weights]).step()


def _timed(fit: Callable[[], Any], score: Callable[[], Any]) -> Trial:
    """Run both on one thread and take their CPU-seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            start = time.process_time()
            fit()
            fitted = time.process_time()
            scores = np.asarray(score(), dtype=np.float64)
            return Trial(scores, fitted - start, time.process_time() - fitted)
    finally:
        torch.set_num_threads(threads)


def methods_named(names: list[str]) -> list[Method]:
    """Methods by name, whatever the case.

    Raises
    ------
    SystemExit
        A name is unknown, or PyOD is asked for and not installed.
    """
    known: dict[str, Method] = {"ours": Ours(), **{name.lower(): Peer(name) for name in PEERS}}
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        raise SystemExit(f"--methods must be among ours {' '.join(PEERS)}, however they are {names}")
    chosen = [method for name, method in known.items() if name in {one.lower() for one in names}]
    if any(isinstance(one, Peer) for one in chosen) and not importlib.util.find_spec("pyod"):
        raise SystemExit(
            "peers need PyOD, which is not installed; run `make bench-quality`, which installs it"
        )
    return chosen
