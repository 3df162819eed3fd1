"""Where a value lies among the training rows: by counts that are kept beside a model, without the model.

``reference.json`` holds no rows: cells of numbers, the commonest values of categories, hours of the day, and
of sensitive columns nothing that tells a value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from review.text import share, shown

__all__ = ["Distribution", "reference_file", "training_of"]

BARS = 40  # of a picture of numbers
MOST = 8  # values of a category that a picture names
HOURS = 24

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distribution:
    """What is kept of one column's training rows; see `vae_core.drift.ColumnProfile`."""

    name: str
    kind: str
    rows: int
    nulls: int
    counts: tuple[int, ...]
    points: tuple[float, ...]
    values: tuple[str, ...]
    hidden: bool

    @property
    def present(self) -> int:
        """Rows with a value."""
        return self.rows - self.nulls

    @property
    def null_share(self) -> float:
        """Share of rows without a value."""
        return self.nulls / self.rows if self.rows else 0.0

    def rank(self, value: Any) -> float:
        """Share of the values below a number, half of the equal ones included; in its cell, in the middle."""
        counts = np.asarray(self.counts, dtype=np.float64)
        cell = int(np.searchsorted(np.asarray(self.points), float(value), side="left"))
        return float((counts[:cell].sum() + counts[cell] / 2) / max(counts.sum(), 1.0))

    def ranks(self, values: Floats) -> Floats:
        """`rank` of many numbers [n]."""
        counts = np.asarray(self.counts, dtype=np.float64)
        middles = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1.0)
        return np.asarray(middles[np.searchsorted(np.asarray(self.points), values, side="left")])

    def bars(self) -> list[tuple[float, float, float]]:
        """A picture of numbers: left and right edge of each bar, and its share of the values.

        The outer half per cent on either side has no edge and is left out.
        """
        edges = np.asarray(self.points)
        if len(edges) < 2 or not self.present:
            return []
        grid = np.linspace(edges[0], edges[-1], BARS + 1)
        below = np.interp(grid, edges, np.cumsum(self.counts)[:-1])
        heights = np.diff(below) / self.present
        return list(zip(grid[:-1].tolist(), grid[1:].tolist(), heights.tolist(), strict=True))

    def commonest(self, value: str) -> list[tuple[str, float]]:
        """A picture of a category: shares of the commonest values, of this one, and of all others."""
        known = dict(zip(self.values, self.counts, strict=False))
        names = list(self.values[:MOST])
        if value in known and value not in names:
            names.append(value)
        rest = self.present - sum(known[name] for name in names)
        shares = [(name, known[name] / max(self.present, 1)) for name in names]
        return [*shares, ("all others", rest / max(self.present, 1))]

    def hours(self) -> list[float]:
        """A picture of instants: the share of each hour of the day."""
        total = max(sum(self.counts), 1)
        return [count / total for count in self.counts]

    def place(self, value: Any) -> str:
        """Where a value lies, in words; empty where nothing can be said."""
        if self.hidden or not self.counts:
            return ""
        if value is None:
            return f"null in {share(self.null_share)} of the training rows"
        try:
            return self._placed(value)
        except (TypeError, ValueError, OverflowError, IndexError):
            return ""

    def _placed(self, value: Any) -> str:
        if self.kind == "numeric":
            return self._number(float(value))
        if self.kind == "timestamp" and isinstance(value, datetime):
            return f"{share(self.hours()[value.hour])} of the training rows fall into hour {value.hour}"
        if self.kind == "categorical":
            return self._value(str(value))
        counts = self.counts[int(bool(value))]
        return f"{share(counts / max(self.present, 1))} of the training rows"

    def _number(self, value: float) -> str:
        rank = self.rank(value)
        if value < self.points[0]:
            return "lower than 99.5 % of the training rows"
        if value > self.points[-1]:
            return "higher than 99.5 % of the training rows"
        return f"higher than {share(rank)} of the training rows"

    def _value(self, value: str) -> str:
        known = dict(zip(self.values, self.counts, strict=False))
        if value in known:
            return f"{share(known[value] / max(self.present, 1))} of the training rows"
        if self.counts[-1] == 0:
            return "in no training row"
        return f"rarer than the {len(self.values)} commonest values, or never seen"


def reference_file(root: Path, model: str, version: str, run_id: str) -> Path:
    """Where a version's training reference lies once this machine has used the version."""
    folder = root / "data" / "models" / quote(model, safe="") / f"{version}-{run_id[:8]}"
    return folder / "reference.json"


def training_of(file: Path) -> dict[str, Distribution]:
    """The training distributions of a version by column; none where they are not on this machine."""
    try:
        columns = json.loads(file.read_bytes())["profile"]["columns"]
        return {one["name"]: _distribution(one) for one in columns}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _distribution(one: Mapping[str, Any]) -> Distribution:
    return Distribution(
        name=str(one["name"]),
        kind=str(one["kind"]),
        rows=int(one["rows"]),
        nulls=int(one["nulls"]),
        counts=tuple(one["counts"]),
        points=tuple(one["points"]),
        values=tuple(shown(value) for value in one["values"]),
        hidden=bool(one["hidden"]),
    )
