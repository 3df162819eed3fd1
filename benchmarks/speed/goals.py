"""A figure beside its goal, and what a part of the benchmark found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

__all__ = ["Figure", "Part", "grid", "nested"]

Table = list[list[str]]
"""Rows of cells, the first row the heads."""


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes
    ----------
    key
        Its name in ``results/speed.json``; a dot leads into a nested object.
    what
        The same in words.
    value
        As it was measured.
    goal
        What was to be reached; None where nothing was asked.
    most
        Whether the goal is an upper bound.
    unit
        Put behind the figure.
    """

    key: str
    what: str
    value: float
    goal: float | None = None
    most: bool = True
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal

    def cells(self) -> list[str]:
        """A row of the table: what, measured, goal, verdict."""
        goal = "" if self.goal is None else f"{'≤' if self.most else '≥'} {self.goal:g}{self.unit}"
        verdict = {None: "", True: "met", False: "**missed**"}[self.met]
        return [self.what, f"{self.value:.3g}{self.unit}", goal, verdict]


@dataclass
class Part:
    """Figures, tables that say where the time goes, and notes; with the load before and after."""

    figures: list[Figure] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The part as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """A part from `to_json`."""
        return cls(**{**found, "figures": [Figure(**one) for one in found["figures"]]})


def nested(figures: Iterable[Figure]) -> dict[str, Any]:
    """Figures by their keys."""
    found: dict[str, Any] = {}
    for figure in figures:
        *path, last = figure.key.split(".")
        place = found
        for name in path:
            place = place.setdefault(name, {})
        place[last] = round(figure.value, 4)
    return found


def grid(figures: Sequence[Figure]) -> Table:
    """Figures and goals as rows of cells."""
    return [["", "measured", "goal", ""], *(figure.cells() for figure in figures)]
