"""Ours: the models that are scored with, and the night's stream from Parquet to flagged Parquet."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from flows.engines import Engine, Threads

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.night import Night
    from flows.pace import Pace
    from vae_core import VAEDetector

__all__ = ["DAY", "NO_RULES", "Ours", "fitted"]

DAY = date(2026, 1, 1)
NO_RULES: dict[str, Any] = {"name": "none", "expectations": []}
MODELS: dict[str, dict[str, Any]] = {
    "single": {"n_members": 1, "hidden_dims": (128,), "latent_dim": 32},
    "ensemble": {},
}
"""Hidden widths 128-32-128 as the peers have them, and what VAEDetector is without arguments."""
FILE = """\
version: 1
name: speed
source: {path: .}
output: results
columns: {key: [id]}
retention: {scores: none}
"""
STEPS = 20  # of training: the speed does not depend on how good the weights are


def fitted(name: str, sample: Path, folder: Path) -> VAEDetector:
    """One of `MODELS`, trained briefly on half of a sample and calibrated on the rest; kept in a folder."""
    from vae_core import ModelFileError, VAEDetector

    kept = folder / f"{name}-model"
    try:
        return VAEDetector.load(kept)
    except ModelFileError:
        rows = pq.read_table(sample)
        half = rows.num_rows // 2
        detector = VAEDetector(kinds={"id": "key"}, max_steps=STEPS, random_state=0, **MODELS[name])
        detector.fit(rows.slice(0, half)).calibrate(rows.slice(half))
        shutil.rmtree(kept, ignore_errors=True)
        detector.save(kept)
        return VAEDetector.load(kept)


@dataclass
class Ours:
    """The stream of a night without Prefect and MLflow, as a contender.

    Parameters
    ----------
    detector
        A fitted one.
    scratch
        A folder to write into.
    suite
        Expectations whose row rules every row is asked.
    reasons
        Whether flagged rows are explained, too; else they are staged as they came, with their scores.
    engine
        Who scores; by default one thread.
    """

    detector: VAEDetector
    scratch: Path
    suite: dict[str, Any]
    reasons: bool = False
    engine: Engine | None = None

    def __call__(self, *files: Path) -> int:
        """Score files as one night; returns their rows."""
        return sum(account.rows or 0 for account in self.night(*files).accounts)

    def night(self, *files: Path) -> Night:
        """Score files as one night, into a stage of its own."""
        night = self._begun()
        night.read([_file(path) for path in files])
        rejected = [account.reason for account in night.accounts if account.reason]
        if rejected:
            raise ValueError(f"readable files are required, however: {rejected[0]}")
        if self.reasons:
            night.decide()
        return night

    def pace(self, file: Path) -> Pace:
        """What each stage costs on a file."""
        from flows.pace import pace_of, shards_in

        return pace_of(self._begun().recipe, shards_in([_file(file)], 1))

    def _begun(self) -> Night:
        from flows.manifest import ManifestModel
        from flows.night import Night

        stage = self.scratch / "stage"
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        model = ManifestModel(name="speed", version="1", run_id="0")
        engine = self.engine or Threads(1)
        return Night(self._pipeline(), DAY, self.detector, model, self.suite, stage, engine)

    def _pipeline(self) -> Pipeline:
        from flows.config import load_pipeline

        file = self.scratch / "speed.yml"
        file.write_text(FILE)
        return load_pipeline(file)


def _file(path: Path) -> Any:
    from flows.tables import input_file

    return input_file(str(path.absolute()), DAY)
