"""Any sequence of arrivals, runs, deaths, new models and corruption leaves one true account of each night."""

from __future__ import annotations

import shutil
import tempfile
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flows import lease
from flows.commit import intact
from flows.config import Pipeline, load_pipeline
from flows.errors import InputError
from flows.expectations import profile, save_suite
from flows.manifest import Manifest, ManifestModel, read_manifest
from flows.scoring import score_night
from flows.sources import find_files
from flows.storage import LocalStore, Store
from tests.properties.mortal import Killed, Life, MortalStore
from vae_core import VAEDetector

NIGHTS = st.sampled_from([date(2024, 3, 1), date(2024, 3, 2)])
NAMES = st.sampled_from(["a", "b", "c"])
VERSIONS = st.sampled_from(["1", "2"])
PIPELINE = """\
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
columns: {key: [order]}
decision: {budget: 4}
"""


def orders(seed: int, rows: int, without_key: int) -> pa.Table:
    """Return orders; the last few lack the key that the contract asks for."""
    rng = np.random.default_rng(seed)
    keys: list[int | None] = [1000 * seed + i for i in range(rows)]
    keys[rows - without_key :] = [None] * without_key
    amount = rng.normal(50.0, 5.0, rows)
    return pa.table(
        {"order": pa.array(keys, pa.int64()), "amount": amount, "shop": rng.choice(["a", "b"], rows)}
    )


@cache
def detector(version: str) -> VAEDetector:
    """Return one of two models."""
    fitted = VAEDetector(max_steps=20, n_members=1, random_state=int(version), kinds={"order": "key"})
    return fitted.fit(orders(0, 200, 0)).calibrate(orders(1, 200, 0))


@cache
def suite() -> dict[str, Any]:
    """Return the contract of ordinary orders."""
    return profile(orders(0, 200, 0), name="orders", keys=["order"])


class Nights(RuleBasedStateMachine):
    """A table's nights, and what is known of their files.

    ``files``: rows and rows without key of each file, None of a corrupt one; ``scored``: files and model
    version of the last finished run of each night; ``uncertain``: nights that were disturbed since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="vaewatch-nights-"))
        self.life = Life()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(Store, "of", staticmethod(self._store))
        self.patch.setattr(lease, "_has_ended", lambda record: True)  # runs follow each other
        self.files: dict[date, dict[str, tuple[int, int] | None]] = {}
        self.scored: dict[date, tuple[dict[str, Any], str]] = {}
        self.uncertain: set[date] = set()
        self.arrivals = 0

    def _store(self, uri: str | Path) -> LocalStore:
        return MortalStore(Path(uri), self.life)

    @initialize()
    def open(self) -> None:
        """Write the pipeline."""
        (self.folder / "mlflow.yml").touch()
        (self.folder / "orders.yml").write_text(PIPELINE)
        self.pipeline: Pipeline = load_pipeline(self.folder / "orders.yml")
        save_suite(Path(self.pipeline.suite_path), suite())

    @rule(day=NIGHTS, name=NAMES, rows=st.integers(0, 30), without_key=st.integers(0, 3))
    def arrive(self, day: date, name: str, rows: int, without_key: int) -> None:
        """A file arrives, late perhaps, or in place of one that was there."""
        without_key = min(rows, without_key)
        self.arrivals += 1
        pq.write_table(orders(10 + self.arrivals, rows, without_key), self._file(day, name))
        self.files.setdefault(day, {})[name] = (rows, without_key)

    @rule(day=NIGHTS, name=NAMES)
    def arrive_corrupt(self, day: date, name: str) -> None:
        """What arrives is no Parquet."""
        self.arrivals += 1
        self._file(day, name).write_bytes(b"PK\x03\x04 %d" % self.arrivals)
        self.files.setdefault(day, {})[name] = None

    @rule(day=NIGHTS, version=VERSIONS)
    def score(self, day: date, version: str) -> None:
        """A run ends, and says truly whether there was anything to do."""
        if day not in self.files:
            return
        known = self.scored.get(day)
        asked = (dict(self._contents(day)), version)
        if self._is_emptied(day):
            with pytest.raises(InputError):
                self._run(day, version)
            return
        status = self._run(day, version)
        if known == asked and day not in self.uncertain:
            assert status == "unchanged"
        self.scored[day] = asked
        self.uncertain.discard(day)
        self._check_account(day)

    @rule(day=NIGHTS, version=VERSIONS, steps=st.integers(0, 40))
    def die(self, day: date, version: str, steps: int) -> None:
        """A run is killed somewhere; the next one makes up for it."""
        if day not in self.files or self._is_emptied(day):
            return
        self.life.steps = steps
        try:
            self._run(day, version)
            self.scored[day] = (dict(self._contents(day)), version)
        except Killed:
            self.uncertain.add(day)
        finally:
            self.life.steps = None

    @rule(day=NIGHTS, table=st.sampled_from(["flags", "scores"]))
    def lose(self, day: date, table: str) -> None:
        """Somebody removes a table of a finished night: the next run makes it anew."""
        if day in self.scored:
            shutil.rmtree(self.folder / "results" / table / f"dt={day}", ignore_errors=True)
            self.uncertain.add(day)

    @invariant()
    def each_night_is_seen_once(self) -> None:
        """A reader of the folder sees one scoring of each night, whoever died."""
        folder = self.folder / "results" / "flags"
        if not list(folder.glob("*/*.parquet")):
            return
        seen = pd.read_parquet(folder)
        assert not seen["row_id"].duplicated().any()
        assert (seen.groupby("dt", observed=True)["model_version"].nunique() <= 1).all()
        assert (seen.groupby("dt", observed=True)["scored_at"].nunique() <= 1).all()

    @invariant()
    def what_was_finished_stays(self) -> None:
        """A night once finished has a manifest that adds up, which reading it checks."""
        for day in self.scored:
            assert self._manifest(day) is not None

    def teardown(self) -> None:
        """Run all nights once more: each is what a run in an empty folder makes of the same files."""
        try:
            for day in self.files:
                if not self._is_emptied(day):
                    self._run(day, "1")
                    self._check_account(day)
                    self._check_as_if_new(day)
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)

    def _is_emptied(self, day: date) -> bool:
        """Whether nothing can be scored any more of a night that has results."""
        before = self._manifest(day)
        return before is not None and before.files_scored > 0 and not any(self.files[day].values())

    def _file(self, day: date, name: str) -> Path:
        file = self.folder / "landing" / f"dt={day}" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def _contents(self, day: date) -> dict[str, bytes]:
        return {name: self._file(day, name).read_bytes() for name in self.files[day]}

    def _manifest(self, day: date) -> Manifest | None:
        return read_manifest(LocalStore(self.folder / "results"), day)

    def _run(self, day: date, version: str, output: str = "results") -> str:
        pipeline = self.pipeline.model_copy(update={"output": str(self.folder / output)})
        model = ManifestModel(name="orders", version=version, run_id=f"run{version}")
        files = find_files(pipeline, day)
        return score_night(pipeline, day, files, model, lambda: detector(version), {}).status

    def _check_account(self, day: date) -> None:
        """Every file and every row is where the manifest says."""
        manifest, store = self._manifest(day), LocalStore(self.folder / "results")
        assert manifest is not None
        assert intact(store, manifest)
        good = [one for one in self.files[day].values() if one is not None]
        rows, without_key = sum(one[0] for one in good), sum(one[1] for one in good)
        assert (manifest.files_in, manifest.files_scored) == (len(self.files[day]), len(good))
        assert (manifest.rows_in, manifest.rows_quarantined) == (rows, without_key)
        written = {one.path.partition("/")[0]: one.rows for one in manifest.outputs}
        assert written.get("quarantine", 0) == without_key
        assert written.get("rejected", 0) == len(self.files[day]) - len(good)
        assert written.get("scores", 0) == rows - without_key
        assert not list((self.folder / "results" / ".commits").glob(f"dt={day}-*"))
        assert not list((self.folder / "results" / ".staging").glob(f"dt={day}-*"))

    def _check_as_if_new(self, day: date) -> None:
        fresh = f"fresh-{day}"
        self._run(day, "1", fresh)
        for table in ("flags", "scores", "contributions", "quarantine", "rejected"):
            for one in (self.folder / fresh / table).glob(f"dt={day}/*.parquet"):
                now = pq.ParquetFile(self.folder / "results" / one.relative_to(self.folder / fresh)).read()
                expected = pq.ParquetFile(one).read()
                unlike = [name for name in ("scored_at",) if name in expected.column_names]
                assert now.drop_columns(unlike).equals(expected.drop_columns(unlike)), table


TestNights = Nights.TestCase
