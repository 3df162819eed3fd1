"""Families: who belongs together, what they are called, and that they are the same ones the night after."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from review import families
from review.families import Family, families_from_json, families_to_json, grouped, named, placed
from review.looks import Looks, column_figures, looks_of

FIRST, SECOND = date(2024, 3, 1), date(2024, 3, 2)
PARTS = ("amount", "fee", "amount|null", "amount|value", "fee|value", "shop", "shop|unseen")
NOTHING = {"amount": 0.5, "amount|null": 0.5}
HIGH = {"amount": 0.5, "amount|value": 0.5}
FEE = {"fee": 0.5, "fee|value": 0.5}
NEW = {"shop": 0.5, "shop|unseen": 0.5}


def looks(rows: Sequence[tuple[dict[str, float], str]], run_id: str = "a", far: float = 0.0) -> Looks:
    """Rows with the share of each part in their reasons, and a shop; all at one place of latent space."""
    reasons = np.sqrt([[shares.get(part, 0.0) for part in PARTS] for shares, _ in rows]).astype(np.float32)
    shops = pa.array([shop for _, shop in rows])
    usual = {"shop": {"Bern": 0.5, "Basel": 0.49, "Uri": 1e-3, "": 1e-5}}
    latent = np.full((len(rows), 2), far, np.float32)
    return Looks(PARTS, reasons, latent, run_id, {"shop": shops}, usual)


def test_rows_of_the_same_reasons_are_a_family_and_rows_of_others_are_not() -> None:
    night = looks([(NOTHING, "Bern"), (HIGH, "Basel"), (NOTHING, "Basel"), (FEE, "Bern"), (HIGH, "Bern")])

    found = [group.rows.tolist() for group in grouped(night)]

    assert found == [[0, 2], [1, 4], [3]]


def test_rows_that_share_a_rare_value_are_a_family_of_their_own() -> None:
    """Of five rows without an amount three are of a rare shop; the common one is no family's mark."""
    night = looks([(NOTHING, "Uri")] * 3 + [(NOTHING, "Bern")] * 2)

    found = [(group.rows.tolist(), group.where) for group in grouped(night)]

    assert found == [([0, 1, 2], ("shop", "Uri")), ([3, 4], None)]


def test_rows_far_apart_in_latent_space_are_not_alike() -> None:
    night = looks([(HIGH, "Bern")] * 4)
    night.latent[2:] = 3.0

    assert [group.rows.tolist() for group in grouped(night)] == [[0, 1], [2, 3]]


def test_a_family_is_the_same_one_the_night_after_and_under_another_model() -> None:
    """Another model explains a little otherwise and places rows elsewhere altogether."""
    night = looks([(NOTHING, "Uri")] * 3 + [(HIGH, "Bern")])
    ids, known = placed(night, grouped(night), [], FIRST, "orders")
    other = {"amount": 0.45, "amount|null": 0.45, "fee": 0.05, "fee|value": 0.05}
    later = looks([(HIGH, "Bern"), (other, "Uri"), (FEE, "Bern")], run_id="b", far=9.0)

    again, families = placed(later, grouped(later), known, SECOND, "orders")

    assert again[:2] == [ids[3], ids[0]]
    assert again[2] not in ids
    seen = {one.id: (one.first, one.last, list(one.latent)) for one in families}
    assert seen[ids[0]] == ("2024-03-01", "2024-03-02", ["a", "b"])


def test_a_single_row_with_a_known_family_s_value_joins_it() -> None:
    """Alone it would be no family of a value: one row may have any."""
    night = looks([(NOTHING, "Uri")] * 3)
    ids, known = placed(night, grouped(night), [], FIRST, "orders")
    later = looks([(NOTHING, "Uri"), (NOTHING, "Bern"), (NOTHING, "Bern")])

    again, _ = placed(later, grouped(later), known, SECOND, "orders")

    assert again[0] == ids[0]
    assert again[1] == again[2] != ids[0]


def test_a_night_placed_again_has_the_same_families() -> None:
    night = looks([(NOTHING, "Uri"), (HIGH, "Bern"), (NEW, "Zug"), (FEE, "Bern"), (NOTHING, "Uri")])
    ids, known = placed(night, grouped(night), [], FIRST, "orders")

    assert placed(night, grouped(night), known, FIRST, "orders") == (ids, known)


def test_a_large_night_is_grouped_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows beyond the sample follow the nearest group; kinds that the sample missed are found after it."""
    monkeypatch.setattr(families, "SAMPLE", 20)
    rows = [(NOTHING, "Bern"), (HIGH, "Bern")] * 300 + [(FEE, "Basel")] * 5

    found = {tuple(group.rows) for group in grouped(looks(rows))}

    assert found == {tuple(range(0, 600, 2)), tuple(range(1, 600, 2)), tuple(range(600, 605))}


def test_families_of_long_ago_are_forgotten_and_those_of_the_night_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(families, "KEPT", 1)
    old = [Family(f"f{i}", "x", ("shop", str(i)), {}, {}, "2020-01-01", f"2020-01-0{i}") for i in (1, 2, 3)]
    night = looks([(NOTHING, "Bern"), (HIGH, "Bern")])

    ids, known = placed(night, grouped(night), old, FIRST, "orders")

    assert [one.id for one in known] == [*sorted(ids, reverse=True), "f3"]


@pytest.mark.parametrize(
    ("shares", "where", "words"),
    [
        ({"amount|null": 0.3, "fee|null": 0.2}, None, "orders without amount and fee"),
        ({"amount|null": 0.4, "fee|value": 0.1}, None, "orders without amount, with unusual fee"),
        ({"amount|null": 0.5}, ("shop", "Uri"), "orders without amount, shop Uri"),
        ({"shop|unseen": 0.5}, ("shop", "Zug"), "orders with shop Zug, never seen before"),
        ({"shop|unseen": 0.5}, None, "orders with a new shop"),
        ({"a|value": 0.2, "b|value": 0.1, "c|value": 0.1}, None, "orders with unusual a, b and c"),
        ({"a|value": 0.45, "b|value": 0.01}, None, "orders with unusual a"),
        ({"a|value": 0.01, "b|value": 0.002}, None, "orders with unusual a"),
        ({"a|null": 0.5}, ("shop", "x\n" * 90), f"orders without a, shop {'x ' * 19}x…"),
        ({}, None, "orders"),
    ],
)
def test_names_say_what_is_wrong(shares: dict[str, float], where: tuple[str, str] | None, words: str) -> None:
    reasons = {part: float(np.sqrt(share)) for part, share in shares.items()}

    assert named(reasons, where, "orders") == words


def test_a_name_counts_the_rows_of_a_night() -> None:
    family = Family("f1", "orders without fee", None, {}, {}, "2024-03-01", "2024-03-01")

    assert [family.name(1), family.name(1200)] == [
        "orders without fee, 1 row",
        "orders without fee, 1,200 rows",
    ]


def test_families_come_back_from_disk_as_they_were() -> None:
    night = looks([(NOTHING, "Uri"), (NOTHING, "Uri"), (HIGH, "Bern")])
    _, known = placed(night, grouped(night), [], FIRST, "orders")

    assert families_from_json(families_to_json(known)) == known


def test_looks_are_made_of_contributions_in_any_order_and_of_reasons() -> None:
    """Half of a column's share stands for the column, half for what is wrong in it."""
    shares = pa.RecordBatch.from_pydict(
        {
            "row_id": ["b", "a", "b", "b", "x"],
            "column": ["shop", "amount", "fee", "amount", "amount"],
            "share": [0.6, 1.0, 0.3, 0.1, 0.9],
        }
    )

    seen = looks_of(
        _flags(), [shares.slice(0, 2), shares.slice(2)], np.zeros((2, 1)), usual={"shop": {}}, run_id="r"
    )

    found = {part: [round(float(x), 3) for x in seen.reasons[:, j] ** 2] for j, part in enumerate(seen.parts)}
    assert found == {
        "amount": [0.5, 0.05],
        "amount|value": [0.0, 0.05],
        "amount|null": [0.5, 0.0],
        "fee": [0.0, 0.15],
        "fee|value": [0.0, 0.15],
        "shop": [0.0, 0.3],
        "shop|unseen": [0.0, 0.3],
    }
    assert seen.values["shop"].to_pylist() == ["Bern", "Zug"]


def _flags() -> pa.Table:
    text = pa.string()
    return pa.table(
        {
            "row_id": ["a", "b"],
            "reason_1_column": ["amount", "shop"],
            "reason_1_kind": ["unexpected_null", "unseen_category"],
            "reason_2_column": pa.array([None, "fee"], text),
            "reason_2_kind": pa.array([None, "combination"], text),
            "reason_3_column": pa.nulls(2, text),
            "reason_3_kind": pa.nulls(2, text),
            "shop": ["Bern", "Zug"],
        }
    )


def test_flags_without_contributions_have_no_figures() -> None:
    names, figures = column_figures(pa.chunked_array([["a", "b"]]), [], "loss")

    assert (names, figures.shape) == ((), (2, 0))
