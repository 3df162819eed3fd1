"""The table that speed is measured on: 33 columns, written as a stream, once, and kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["FILE_ROWS", "TEXTS", "Table", "batch", "schema"]

FILE_ROWS = 500_000
GROUP_ROWS = 131_072
DOUBLES = tuple(f"x{j:02d}" for j in range(24))
TEXTS = {"country": 5, "carrier": 20, "airport": 100, "customer": 1_000}
"""Texts and how many values each has."""
NULLS = 0.05  # of the doubles and the last two texts
START, YEAR = 1_700_000_000_000_000, 365 * 86_400_000_000  # microseconds
BOMB_TEXT = 8_000  # characters of each of its 100 texts: 100,000 rows are 0.8 GB when decoded


@dataclass(frozen=True)
class Table:
    """Files of the table in a folder of their own.

    Parameters
    ----------
    folder
        Where they lie, and stay.
    rows
        Rows of all files together.
    """

    folder: Path
    rows: int

    def files(self) -> list[Path]:
        """The table in files of 500,000 rows, row groups of 131,072, zstd; the last one may be shorter."""
        starts = range(0, self.rows, FILE_ROWS)
        return [
            self._kept(f"part-{i:04d}.parquet", min(FILE_ROWS, self.rows - start), GROUP_ROWS, seed=i)
            for i, start in enumerate(starts)
        ]

    def slice(self, rows: int) -> Path:
        """A file of its own for what is too slow for the whole table."""
        return self._kept(f"slice-{rows}.parquet", rows, GROUP_ROWS, seed=9_001)

    def one_group(self, rows: int) -> Path:
        """A file of a single row group."""
        return self._kept(f"group-{rows}.parquet", rows, rows, seed=9_002)

    def bomb(self, rows: int) -> Path:
        """A small file whose column ``customer`` is 8,000 characters a row when decoded."""
        return self._kept(f"bomb-{rows}.parquet", rows, GROUP_ROWS, seed=9_003, text=BOMB_TEXT)

    def _kept(self, name: str, rows: int, group: int, seed: int, text: int = 0) -> Path:
        """A file as described, written unless it is there."""
        about = json.dumps({**asdict(self), "folder": "", "rows": rows, "group": group, "text": text})
        path, note = self.folder / name, self.folder / f"{name}.json"
        if not (path.exists() and note.exists() and note.read_text() == about):
            self.folder.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(".part")
            _write(aside, rows, group, seed, text)
            aside.replace(path)
            note.write_text(about)
        return path


def schema() -> pa.Schema:
    """24 doubles, 4 texts, 2 integers, a truth value, a time, an id."""
    kinds: list[tuple[str, Any]] = [("id", pa.int64()), *((name, pa.float64()) for name in DOUBLES)]
    kinds += [(name, pa.string()) for name in TEXTS]
    kinds += [("items", pa.int32()), ("cents", pa.int64()), ("online", pa.bool_())]
    return pa.schema([*kinds, ("at", pa.timestamp("us"))])


def batch(first: int, rows: int, random: np.random.Generator, text: int = 0) -> pa.RecordBatch:
    """``rows`` rows, numbered from ``first``; ``text`` pads the values of ``customer`` to that length."""
    columns = [pa.array(np.arange(first, first + rows)), *_doubles(rows, random)]
    columns += [_texts(name, size, rows, random, text) for name, size in TEXTS.items()]
    columns += [
        pa.array(random.poisson(3.0, rows).astype(np.int32)),
        pa.array(random.lognormal(8.0, 1.0, rows).astype(np.int64)),
        pa.array(random.random(rows) < 0.3),
        pa.array(START + random.integers(0, YEAR, rows), pa.timestamp("us")),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema())


def _doubles(rows: int, random: np.random.Generator) -> Iterator[pa.Array]:
    """Column j lies around 10 j, moved by one of four factors; every other one is rounded to two decimals."""
    factors = random.standard_normal((4, rows), dtype=np.float32)
    for j in range(len(DOUBLES)):
        values = 10.0 * j + 0.8 * factors[j // 2 % 4] + 0.6 * random.standard_normal(rows)
        yield pa.array(values if j % 2 else values.round(2), mask=random.random(rows) < NULLS)


def _texts(name: str, size: int, rows: int, random: np.random.Generator, length: int) -> pa.Array:
    """Values as frequent as words are: the first ones most."""
    codes = (size * random.random(rows, dtype=np.float32) ** 3).astype(np.int32)
    long = name == "customer" and length > 0
    words = [f"{name}-{i:04d}".ljust(length if long else 0, ".") for i in range(100 if long else size)]
    absent = random.random(rows, dtype=np.float32) < NULLS if size >= 100 else None
    indices = pa.array(codes % len(words), mask=absent)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words)).cast(pa.string())


def _write(path: Path, rows: int, group: int, seed: int, text: int) -> None:
    """One row group after the other; what is in memory is one of them."""
    random = np.random.default_rng(seed)
    with pq.ParquetWriter(path, schema(), compression="zstd") as writer:
        for first in range(0, rows, group):
            drawn = batch(seed * FILE_ROWS + first, min(group, rows - first), random, text)
            writer.write_batch(drawn, row_group_size=group)
