"""A detector that finds less than PCA or Isolation Forest is said to; one that finds more is not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vae_core import VAEDetector
from vae_core.canaries import KINDS
from vae_core.exceptions import DataError
from vae_core.honesty import OURS, Honesty, Power, honesty
from vae_core.references import REFERENCES


@pytest.fixture(scope="module")
def good(detector: VAEDetector, table: pa.Table, fresh: pa.Table) -> Honesty:
    """Return the report on a detector that has learned."""
    return honesty(detector, table, fresh, rows=100)


@pytest.fixture(scope="module")
def untrained(table: pa.Table, fresh: pa.Table) -> Honesty:
    """Return the report on a detector that took one step, on rows with their cells shuffled."""
    random = np.random.default_rng(0)
    shuffled = [table[name].take(pa.array(random.permutation(table.num_rows))) for name in table.schema.names]
    torn = pa.table(shuffled, schema=table.schema)
    bad = VAEDetector(random_state=0, device="cpu", max_steps=1, n_members=1).fit(torn)
    return honesty(bad, table, fresh, rows=100)


def power(kind: str, vae: int, pca: int, forest: int = 0) -> Power:
    """Return how many of 100 planted errors each found."""
    return Power(kind, "x", 100, {OURS: vae, REFERENCES[0]: pca, REFERENCES[1]: forest})


def test_a_detector_that_has_learned_is_not_behind(good: Honesty) -> None:
    assert good.behind == ()
    assert good.share(OURS) > good.share("Isolation Forest")
    assert good.sentence.startswith(f"Of {good.planted:,} planted errors VAE {good.share(OURS):.0%}, PCA ")


def test_a_detector_that_has_not_is_said_to_be_behind(untrained: Honesty) -> None:
    assert "PCA" in untrained.behind
    assert untrained.share(OURS) < untrained.share("PCA")
    assert untrained.sentence.startswith("The model finds fewer planted errors than PCA: ")
    assert untrained.sentence.endswith("train it on more rows or for more steps (max_steps).")


def test_kinds_that_are_behind_are_named_with_the_widest_gap_first(untrained: Honesty) -> None:
    gaps = {
        kind: max(untrained.share(name, kind) for name in names) - untrained.share(OURS, kind)
        for kind, names in untrained.behind_in.items()
    }

    assert min(gaps.values()) > 0
    assert f"behind in {max(gaps, key=lambda kind: gaps[kind])} (" in untrained.sentence


def test_every_method_flags_the_same_share_of_clean_rows(good: Honesty, detector: VAEDetector) -> None:
    assert good.contamination == detector.contamination
    assert good.clean_rows == 1500


def test_all_kinds_are_planted_or_listed_as_not_applicable(good: Honesty) -> None:
    assert {*good.kinds, *good.not_applicable} == set(KINDS)
    assert set(good.kinds).isdisjoint(good.not_applicable)


def test_the_table_has_a_row_for_each_kind_and_column(good: Honesty) -> None:
    table = good.table()

    assert table.schema.names == ["kind", "column", "planted", OURS, *REFERENCES]
    assert sum(table["planted"].to_pylist()) == good.planted
    assert table.num_rows == len({(row["kind"], row["column"]) for row in table.to_pylist()})
    for method, share in good.shares().items():
        found = sum(row[method] * row["planted"] for row in table.to_pylist())
        assert found / good.planted == pytest.approx(share)


def test_the_same_seed_reports_the_same(
    good: Honesty, detector: VAEDetector, table: pa.Table, fresh: pa.Table
) -> None:
    assert honesty(detector, table, fresh, rows=100) == good


def test_the_detector_is_left_as_it_was(detector: VAEDetector, table: pa.Table, fresh: pa.Table) -> None:
    before = detector.offset_, detector.score_samples(fresh).tolist()

    honesty(detector, table, fresh, rows=10)

    assert (detector.offset_, detector.score_samples(fresh).tolist()) == before


def test_the_sentence_names_the_best_reference_and_the_kinds() -> None:
    report = Honesty(
        0.01,
        1000,
        (power("null", 10, 50, 30), power("sign_flip", 20, 20)),
        (),
        REFERENCES,
        {"null": ("PCA",)},
    )

    assert report.sentence == (
        "The model finds fewer planted errors than PCA: 15% against 35% and Isolation Forest (15%); "
        "behind in null (10%, PCA 50%); train it on more rows or for more steps (max_steps)."
    )


def test_a_table_that_takes_no_error_is_said_to() -> None:
    flag = pa.table({"on": pa.array([None, True, True] * 50)})
    detector = VAEDetector(random_state=0, device="cpu", max_steps=1, n_members=1).fit(flag)

    report = honesty(detector, flag, flag)

    assert report.planted == 0
    assert report.not_applicable == KINDS
    assert report.sentence == "No error could be planted to try the model on: no column takes one."
    assert report.table().num_rows == 0


def test_rows_are_required(detector: VAEDetector, table: pa.Table) -> None:
    with pytest.raises(DataError, match="there are 1500 and 0; hold rows out"):
        honesty(detector, table, table.slice(0, 0))
