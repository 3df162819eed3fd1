"""Sixty row rules on the table of the benchmark; every row keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from benchmarks.speed.data import TEXTS, schema

__all__ = ["suite"]

Rule = tuple[str, dict[str, Any]]

ALWAYS = ("id", "country", "carrier", "items", "cents", "online", "at")
PAIRS = 14


def suite() -> dict[str, Any]:
    """A suite of expectations, all of them row rules: 27 ranges, 14 pairs, 7 nulls, 12 of texts."""
    rules = [*_ranges(), *_pairs(), *_nulls(), *_of_texts()]
    return {"name": "speed", "expectations": [{"type": kind, "kwargs": kwargs} for kind, kwargs in rules]}


def _doubles() -> list[str]:
    return [name for name in schema().names if name.startswith("x")]


def _ranges() -> Iterator[Rule]:
    limits = {name: (10.0 * j - 50, 10.0 * j + 50) for j, name in enumerate(_doubles())}
    limits |= {"items": (0, 1_000), "cents": (0, 10**12), "id": (0, 10**12)}
    for name, (low, high) in limits.items():
        yield (
            "expect_column_values_to_be_between",
            {"column": name, "min_value": low, "max_value": high},
        )


def _pairs() -> Iterator[Rule]:
    for lower, upper in list(pairwise(_doubles()))[:PAIRS]:
        yield (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": upper, "column_B": lower, "ignore_row_if": "either_value_is_missing"},
        )


def _nulls() -> Iterator[Rule]:
    for name in ALWAYS:
        yield "expect_column_values_to_not_be_null", {"column": name}


def _of_texts() -> Iterator[Rule]:
    for name, size in TEXTS.items():
        values = [f"{name}-{i:04d}" for i in range(size)]
        yield "expect_column_values_to_be_in_set", {"column": name, "value_set": values}
        yield "expect_column_values_to_match_regex", {"column": name, "regex": "^[a-z]+-[0-9]{4}$"}
        yield (
            "expect_column_value_lengths_to_be_between",
            {"column": name, "min_value": 5, "max_value": 20},
        )
