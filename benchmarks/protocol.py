"""Labelled tables and what of them is trained on and tested: S (clean training) and U (all rows)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score, roc_auc_score

__all__ = ["PROTOCOLS", "Case", "Task", "clean_split", "read_set", "subsample", "tasks_of", "verdict"]

PROTOCOLS = {
    "S": "trained on a random half of the normal rows, tested on the other half and all anomalies",
    "U": "trained on all rows without their labels, tested on the same rows",
}

Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """What one fit sees and is tested on; labels are true for anomalies, [rows of test]."""

    train: pa.Table
    test: pa.Table
    labels: Labels
    kinds: Mapping[str, str]

    @property
    def is_same_rows(self) -> bool:
        """Whether the tested rows are the ones that were trained on (protocol U)."""
        return self.train is self.test


@dataclass(frozen=True)
class Task:
    """A labelled Parquet file, and where clean training rows lie if they have a file of their own."""

    name: str
    file: Path
    training_file: Path | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Hash of the files' bytes."""
        files = [one for one in (self.file, self.training_file) if one]
        return hashlib.blake2b(b"".join(map(_file_digest, files)), digest_size=16).hexdigest()

    def case(self, protocol: str, seed: int, limit: int) -> Case:
        """Rows to train on and to test, at most ``limit`` of the file, its share of anomalies kept."""
        rng = np.random.default_rng(seed)
        rows, labels = _limited(self.file, limit, rng)
        if protocol == "U":
            return Case(rows, rows, labels, self.kinds)
        if self.training_file:
            return Case(_normals(self.training_file, limit, rng), rows, labels, self.kinds)
        train, test = clean_split(labels, rng)
        return Case(rows.take(train), rows.take(test), labels[test], self.kinds)


@lru_cache(maxsize=256)
def _file_digest(file: Path) -> bytes:
    return hashlib.blake2b(file.read_bytes()).digest()


def _limited(file: Path, limit: int, rng: np.random.Generator) -> tuple[pa.Table, Labels]:
    rows, labels = read_set(file)
    kept = subsample(labels, limit, rng)
    return rows.take(kept), labels[kept]


def _normals(file: Path, limit: int, rng: np.random.Generator) -> pa.Table:
    rows, labels = read_set(file)
    normals = np.flatnonzero(~labels)
    return rows.take(np.sort(rng.permutation(normals)[:limit]))


def clean_split(labels: Labels, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Row numbers of S: half of the normals to train on; the other half and all anomalies to test."""
    normals = rng.permutation(np.flatnonzero(~labels))
    half = normals.size // 2
    test = np.concatenate([normals[half:], np.flatnonzero(labels)])
    return np.sort(normals[:half]), np.sort(test)


def subsample(labels: Labels, limit: int, rng: np.random.Generator) -> Rows:
    """At most ``limit`` row numbers in order, the share of anomalies kept (one at least)."""
    if labels.size <= limit:
        return np.arange(labels.size)
    anomalies, normals = np.flatnonzero(labels), np.flatnonzero(~labels)
    some = max(1, round(limit * anomalies.size / labels.size))
    kept = [rng.permutation(anomalies)[:some], rng.permutation(normals)[: limit - some]]
    return np.sort(np.concatenate(kept))


@lru_cache(maxsize=4)
def read_set(file: Path) -> tuple[pa.Table, Labels]:
    """A file's rows without ``label``, and the labels: true is an anomaly [n].

    Raises
    ------
    SystemExit
        No column ``label`` of 0 and 1, or fewer than one anomaly and two normal rows.
    """
    table = pq.read_table(file, partitioning=None)
    if "label" not in table.column_names:
        raise SystemExit(f"{file} must have a column 'label', however it has {table.column_names}; add it")
    labels = _labels(table.column("label"), file)
    if not labels.any() or (~labels).sum() < 2:
        raise SystemExit(
            f"{file} must hold an anomaly and two normal rows, however {labels.sum()} of {labels.size} rows "
            "are anomalies; leave it out with --sets"
        )
    return table.drop_columns("label"), labels


def _labels(column: pa.ChunkedArray, file: Path) -> Labels:
    values = {str(value).removesuffix(".0").lower() for value in pc.unique(column).to_pylist()}
    if not values <= {"0", "1", "false", "true"}:
        raise SystemExit(f"{file}: 'label' must be 0 or 1, however it is {sorted(values)[:5]}; mend the file")
    numbers = column if pa.types.is_boolean(column.type) else column.cast(pa.float64())
    return np.asarray(numbers.to_pylist(), dtype=bool)


def tasks_of(folder: Path, patterns: Iterable[str]) -> list[Task]:
    """The Parquet files of a folder as tasks, those whose names match one of the patterns.

    Raises
    ------
    SystemExit
        There are none.
    """
    files = sorted(folder.glob("*.parquet"))
    chosen = [file for file in files if any(fnmatch(file.stem, one) for one in patterns)]
    if not chosen:
        raise SystemExit(
            f"{folder} must hold *.parquet files that match {' '.join(patterns)}, however none of its "
            f"{len(files)} Parquet files does; name another folder with DATA=… (or --data) or other --sets"
        )
    return [Task(file.stem, file) for file in chosen]


def verdict(labels: Labels, scores: npt.NDArray[Any]) -> tuple[float, float]:
    """AUROC and average precision of scores [n] (higher = more anomalous), in percent."""
    return 100 * float(roc_auc_score(labels, scores)), 100 * float(average_precision_score(labels, scores))
