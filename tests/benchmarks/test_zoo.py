"""The benchmark of difficult inputs: what it calls expected."""

from pathlib import Path

import pytest

from benchmarks.zoo import mismatch
from benchmarks.zoo_nights import Reaction, reaction_of

GOOD = Reaction("scored", (), others=True, rows_in=3, rows_out=3)
WARNED = Reaction("scored", ("price: values have moved",), others=True, rows_in=3, rows_out=3)
REJECTED = Reaction("rejected", ("a.parquet: price is missing",), others=True)


@pytest.mark.parametrize(
    ("expect", "reaction", "fault"),
    [
        ("ok", GOOD, ""),
        ("warn", WARNED, ""),
        ("reject", REJECTED, ""),
        ("either", GOOD, ""),
        ("either", REJECTED, ""),
        ("ok", REJECTED, "it was rejected"),
        ("warn", GOOD, "nothing was said; no column was named"),
        ("reject", WARNED, "it was scored; the file was not named"),
        ("ok", Reaction("scored", (), True, 3, 2), "rows were lost"),
        ("ok", Reaction("scored", (), False, 3, 3), "another file of its night was not scored"),
        ("ok", Reaction("scored", (), True, 3, 3, 31.0, 2_000_000_000), "it took 31 s; it took 2.0 GB"),
        ("either", Reaction("crashed", (), True), "it was crashed"),
    ],
)
def test_a_reaction_is_held_to_what_was_expected(expect: str, reaction: Reaction, fault: str) -> None:
    """Each fault is a phrase."""
    assert mismatch(expect, reaction, "a.parquet", ["price", "qty"]) == fault


def test_a_reaction_is_read_from_a_report() -> None:
    """Of the files at the entry's place; the others must all be scored."""
    files = [
        {"path": "/n/a/1.parquet", "status": "scored", "reason": None, "warnings": ["odd"], "rows": 2},
        {"path": "/n/a/2.parquet", "status": "rejected", "reason": "broken", "warnings": [], "rows": None},
        {"path": "/n/good.parquet", "status": "scored", "reason": None, "warnings": [], "rows": 5},
    ]
    report = {"files": files, "rows_scored": 6, "rows_quarantined": 1}

    assert reaction_of(report, Path("/n/a")) == Reaction("mixed", ("odd", "broken"), True, 2, 2)
    assert reaction_of(report, Path("/n/none")).status == "skipped"
