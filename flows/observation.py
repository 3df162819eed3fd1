"""Look at a scored night: a bounded sample of its rows, held to what its model learned. Writes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows import findings as measures
from flows.casts import common_schema, plan_casts
from flows.config import Pipeline
from flows.errors import InputError, StoreError
from flows.findings import Finding
from flows.flagging import expected_schema
from flows.manifest import Manifest, read_manifest, scored_nights
from flows.reference import Reference
from flows.sampling import sample
from flows.storage import Store
from flows.tables import InputFile, open_table

if TYPE_CHECKING:
    from vae_core import VAEDetector
    from vae_core.power import Detection, Sight

__all__ = ["Observation", "observe", "scored_files"]

SAMPLE_ROWS = 20_000
SAMPLE_BYTES = 64 * 1024 * 1024
EARLIER = 28  # nights that volume is compared with at most
SEED = 0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """What was seen of a night.

    ``scores`` are those of the sample [n], ``usual_scores`` those of the calibration rows; ``earlier`` the
    manifests of the nights before, oldest first; ``referenced`` whether the model has a training reference.
    """

    manifest: Manifest
    findings: tuple[Finding, ...]
    sampled: int
    cut: float
    scores: Floats
    usual_scores: Floats
    earlier: tuple[Manifest, ...]
    detections: tuple[Detection, ...]
    sights: tuple[Sight, ...]
    referenced: bool


def observe(
    pipeline: Pipeline,
    manifest: Manifest,
    files: Sequence[InputFile],
    detector: VAEDetector,
    reference: Reference | None,
) -> Observation:
    """Compare a night with its model's training reference, and try the model on planted errors.

    Parameters
    ----------
    files
        Those of the night that were scored.
    detector, reference
        The model version that scored it, and what it knew; None for a version older than references.

    Raises
    ------
    InputError
        A file cannot be read any more.
    """
    store = Store.of(pipeline.output_path)
    rows = _fitting(_sampled(files, detector), detector)
    cut, earlier = _cut(store, manifest, pipeline.prefix, detector), _earlier(store, manifest.date)
    scores: Floats = -detector.score_samples(rows)
    seen, blind = _tried(detector, rows.filter(pa.array(scores < cut)), cut)
    return Observation(
        manifest=manifest,
        findings=(
            *measures.night_findings(pipeline, manifest),
            measures.volume_finding(manifest.rows_in, [one.rows_in for one in earlier]),
            *measures.schema_findings(_types(detector.schema_.arrow), _types_of_files(files)),
            *(() if reference is None else _drift(reference, rows, scores)),
            *measures.power_findings(seen, blind, reference.power if reference else {}),
        ),
        sampled=rows.num_rows,
        cut=cut,
        scores=scores,
        usual_scores=detector.calibration_.scores,
        earlier=tuple(earlier),
        detections=tuple(seen),
        sights=tuple(blind),
        referenced=reference is not None,
    )


def scored_files(manifest: Manifest, files: Sequence[InputFile]) -> list[InputFile]:
    """Those files that a night was scored from, unchanged since.

    Raises
    ------
    InputError
        None is left.
    """
    then = {(one.path, one.digest) for one in manifest.inputs if one.status == "scored"}
    left = [file for file in files if (file.path, file.digest) in then]
    if not left:
        raise InputError(
            f"a file that night {manifest.date} was scored from was required, however none of {len(then)} is "
            f"there as it was: score the night again with `vaewatch score --date {manifest.date}`"
        )
    return left


def _drift(reference: Reference, rows: pa.Table, scores: Floats) -> Iterator[Finding]:
    from vae_core.drift import compare, shift_of

    usual = reference.profile.scores
    yield from measures.score_findings(None if usual is None else shift_of(usual, scores))
    yield from measures.column_findings(compare(reference.profile, rows))


def _tried(detector: VAEDetector, ordinary: pa.Table, cut: float) -> tuple[list[Detection], list[Sight]]:
    """Plant errors in rows that are not flagged themselves; none where all are."""
    from vae_core.power import detections, sights

    if not ordinary.num_rows:
        return [], []
    return detections(detector, ordinary, cut, seed=SEED), sights(detector, ordinary, cut, seed=SEED)


# -- The sample ---------------------------------------------------------------------------------------------


def _sampled(files: Sequence[InputFile], detector: VAEDetector) -> pa.Table:
    """Rows of all files evenly; types that differ between files give way to those of the training data."""
    schemas = [_schema(file) for file in files]
    learned, seen = detector.schema_.arrow, {name for schema in schemas for name in schema.names}
    unlike = {name for name in seen & set(learned.names) if len(_kinds(name, schemas)) > 1}
    alike = [
        pa.schema([learned.field(one.name) if one.name in unlike else one for one in s]) for s in schemas
    ]
    return sample(
        files, SAMPLE_ROWS, seed=SEED, schema=common_schema(alike), fitting=True, max_bytes=SAMPLE_BYTES
    )


def _kinds(name: str, schemas: Sequence[pa.Schema]) -> set[pa.DataType]:
    return {schema.field(name).type for schema in schemas if name in schema.names}


def _schema(file: InputFile) -> pa.Schema:
    with open_table(file) as reader:
        return reader.schema


def _fitting(rows: pa.Table, detector: VAEDetector) -> pa.Table:
    """The rows whose values fit the learned types, features cast to them; other columns as they came."""
    expected, optional = expected_schema(detector)
    plan = plan_casts(expected, rows.schema, optional)
    batches = rows.to_batches()
    kept = [batch.filter(pc.invert(plan.misfits(batch))) for batch in batches]
    cast = pa.Table.from_batches([plan.apply(batch) for batch in kept], expected)
    others = pa.Table.from_batches(kept, rows.schema)
    for name in rows.schema.names:
        if name not in expected.names:
            cast = cast.append_column(others.schema.field(name), others[name])
    return cast


def _types(schema: pa.Schema) -> dict[str, str]:
    return {one.name: str(one.type) for one in schema}


def _types_of_files(files: Sequence[InputFile]) -> dict[str, dict[str, str]]:
    return {PurePosixPath(file.key).name: _types(_schema(file)) for file in files}


# -- What lies in the store ---------------------------------------------------------------------------------


def _cut(store: Store, manifest: Manifest, prefix: str, detector: VAEDetector) -> float:
    """The score from which on the night's rows were flagged; the detector's own where none was."""
    parts = [one.path for one in manifest.outputs if one.path.startswith("scores/")]
    for path in parts:
        with contextlib.suppress(StoreError, pa.ArrowException, OSError), store.open_input(path) as source:
            batches = pq.ParquetFile(source).iter_batches(batch_size=1, columns=[f"{prefix}threshold"])
            cut = float(next(batches).column(0)[0].as_py())
            if np.isfinite(cut):
                return cut
    return float(-detector.offset_)


def _earlier(store: Store, day: date) -> list[Manifest]:
    """Manifests of the nights before, oldest first; one that cannot be read is passed over."""
    found = []
    for one in sorted(one for one in scored_nights(store) if one < day)[-EARLIER:]:
        with contextlib.suppress(StoreError):
            found.append(read_manifest(store, one))
    return [one for one in found if one is not None]
