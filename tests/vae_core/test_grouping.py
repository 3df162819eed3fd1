"""Rare values that come in like rows are put together; noise is not."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from vae_core import VAEDetector
from vae_core.categories import RARE, RESERVED, CategoryCodec
from vae_core.encoding import TableEncoder
from vae_core.schema import TableSchema

AIRLINES, TAILS = 6, 40  # tail numbers an airline


def flown(rows: int = 12_000) -> pa.Table:
    """Flights of airlines that have tail numbers of their own and fly as far as each other."""
    random = np.random.default_rng(0)
    airline, tail = random.integers(AIRLINES, size=rows), random.integers(TAILS, size=rows)
    return pa.table(
        {
            "airline": [f"A{one}" for one in airline],
            "tail": [f"A{one}N{number}" for one, number in zip(airline, tail, strict=True)],
            "distance": random.normal(1000, 300, size=rows),
        }
    )


def fitted(table: pa.Table) -> CategoryCodec:
    encoder = TableEncoder(TableSchema.infer(table, {"tail": "categorical"}), 8).fit(table)
    return next(codec for codec in encoder.categorical if codec.name == "tail")


def groups_of(codec: CategoryCodec) -> dict[str, int]:
    return dict(zip(codec.vocabulary[codec.n_top :], codec.groups, strict=True))


def shuffled(table: pa.Table, column: str) -> pa.Table:
    order: npt.NDArray[np.int64] = np.random.default_rng(1).permutation(table.num_rows)
    place = table.schema.get_field_index(column)
    return table.set_column(place, column, table.column(column).take(pa.array(order)))


def test_values_that_keep_the_same_company_are_put_together() -> None:
    """No group of tail numbers mixes airlines, and each rare tail number has one."""
    groups = groups_of(fitted(flown()))

    airlines = {
        group: {tail[:2] for tail, one in groups.items() if one == group} for group in groups.values()
    }
    assert len(groups) == AIRLINES * TAILS - 8
    assert 0 not in airlines
    assert {len(found) for found in airlines.values()} == {1}


def test_values_without_company_are_left_alone() -> None:
    """Where nothing tells tail numbers apart there are no groups: all share the code of rare values."""
    codec = fitted(shuffled(flown(), "tail"))

    assert codec.groups == ()
    assert set(codec.encode(pa.array(codec.vocabulary[codec.n_top :]))[0]) == {RARE}


def test_values_seen_hardly_ever_are_in_no_group() -> None:
    """Three rows do not tell what company a value keeps."""
    table = flown()
    few = table.slice(0, 3).set_column(1, "tail", pa.array(["A0N999"] * 3))

    assert groups_of(fitted(pa.concat_tables([table, few])))["A0N999"] == 0


def test_groups_do_not_depend_on_the_order_of_rows() -> None:
    """The same rows in another order, the same codes."""
    table = flown()
    order = np.random.default_rng(2).permutation(table.num_rows)

    assert fitted(table.take(pa.array(order))) == fitted(table)


def test_another_airlines_tail_number_is_found() -> None:
    """A rare tail number beside another airline than its own stands out, and is what the reason names."""
    table = flown()
    detector = VAEDetector(kinds={"tail": "categorical"}, max_categories=8, n_members=2, random_state=0)
    detector.fit(table)
    rows = table.slice(0, 200)
    codes = next(c for c in detector.encoder_.categorical if c.name == "tail").encode(rows["tail"])[0]
    swapped = pa.array([f"A{(int(tail[1]) + 1) % AIRLINES}{tail[2:]}" for tail in rows["tail"].to_pylist()])
    wrong = rows.set_column(1, "tail", swapped).filter(pa.array(codes >= RESERVED + 8))

    assert np.median(detector.p_values(wrong)) < 0.01
    first = [reasons[0].column for reasons in detector.explain(wrong) if reasons]
    assert np.mean([column in ("tail", "airline") for column in first]) > 0.9


@pytest.mark.parametrize("groups", [[1], [0, 2, 2, 0], [1, 1, 1, 2**53]], ids=["too few", "a gap", "huge"])
def test_groups_that_cannot_be_are_refused(groups: list[int]) -> None:
    """A saved model whose groups are not those of its words is no model."""
    words = pa.table({"c": [*"a" * 9, *"b" * 8, *"c" * 7, *"d" * 6, *"e" * 5]})
    schema = TableSchema.infer(words, {"c": "categorical"})
    saved = TableEncoder(schema, 1).fit(words).to_json()
    saved["codecs"][0]["groups"] = groups

    with pytest.raises(ValueError, match="groups"):
        TableEncoder.from_json(schema, saved)
