"""Reasons: kind, value, expectation and share of each."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from vae_core import Reason, VAEDetector
from vae_core.expectation import expect
from vae_core.explanation import View, shares, shown


def with_cell(table: pa.Table, name: str, value: object) -> pa.Table:
    """Return the first row of a table with one cell replaced."""
    place = table.schema.get_field_index(name)
    return table.slice(0, 1).set_column(place, name, pa.array([value], table.schema.field(name).type))


def first_reason(detector: VAEDetector, row: pa.Table) -> Reason:
    return detector.explain(row)[0][0]


def test_a_number_beyond_training_is_out_of_support(detector: VAEDetector, table: pa.Table) -> None:
    """A value beyond all training values is the first reason, by that kind."""
    reason = first_reason(detector, with_cell(table, "x", 1e6))

    assert (reason.column, reason.kind, reason.value) == ("x", "out_of_support", "1000000")


def test_a_date_far_from_training_is_out_of_support(detector: VAEDetector, table: pa.Table) -> None:
    """A date years away is out of support."""
    reason = first_reason(detector, with_cell(table, "at", dt.datetime(2090, 1, 1)))

    assert (reason.column, reason.kind) == ("at", "out_of_support")


def test_a_new_category_is_unseen(detector: VAEDetector, table: pa.Table) -> None:
    """A string never seen is the first reason, and what was expected is named with its chance."""
    reason = first_reason(detector, with_cell(table, "shop", "west"))

    assert (reason.column, reason.kind, reason.value) == ("shop", "unseen_category", "west")
    assert "%)" in reason.expected


@pytest.mark.parametrize("name", ["x", "shop", "open", "at"])
def test_a_null_that_never_was_is_unexpected(detector: VAEDetector, table: pa.Table, name: str) -> None:
    """A null in a column without nulls is an unexpected null."""
    found = {reason.column: reason for reason in detector.explain(with_cell(table, name, None))[0]}

    assert (found[name].kind, found[name].value) == ("unexpected_null", "null")


def test_nan_reads_as_an_unexpected_null(detector: VAEDetector, table: pa.Table) -> None:
    """NaN is explained as a null is."""
    found = {reason.column: reason for reason in detector.explain(with_cell(table, "x", float("nan")))[0]}

    assert (found["x"].kind, found["x"].value) == ("unexpected_null", "nan")


def test_an_infinity_can_be_explained(detector: VAEDetector, table: pa.Table) -> None:
    """Infinity is out of support, and has a text."""
    reason = first_reason(detector, with_cell(table, "x", float("inf")))

    assert (reason.column, reason.kind, reason.value) == ("x", "out_of_support", "inf")


def test_usual_values_that_do_not_go_together_are_a_combination(
    detector: VAEDetector, table: pa.Table
) -> None:
    """Values each usual by itself, odd beside the others, are a combination."""
    row = with_cell(table, "double", -table["double"][0].as_py())

    assert "combination" in {reason.kind for reason in detector.explain(row)[0]}


@pytest.mark.parametrize(("value", "kind"), [(2.5, "value"), (0.1, "combination"), (99.0, "out_of_support")])
def test_a_number_is_odd_by_itself_beyond_two_deviations(
    detector: VAEDetector, table: pa.Table, value: float, kind: str
) -> None:
    """A number's distance from the mean tells value from combination."""
    row = with_cell(table, "discount", value)
    expectation = expect(detector.model_, detector.encoder_, detector.encoder_.encode(row))

    assert View(detector.encoder_.codecs[5], row, expectation).reason(0, 1.0).kind == kind


@pytest.mark.parametrize(("rare", "kind"), [(4, "value"), (500, "combination")])
def test_a_truth_value_is_odd_by_itself_where_it_is_rare(rare: int, kind: str) -> None:
    """A truth value of few rows is odd by itself; one of many is a combination."""
    table = pa.table({"b": [True] * rare + [False] * (1000 - rare)})
    detector = VAEDetector(random_state=0, max_epochs=1, n_members=1).fit(table)
    detector.usual_losses_ = np.zeros(1)  # so that the commoner value has a reason too

    assert first_reason(detector, table.slice(0, 1)).kind == kind


def test_shares_add_up_to_one_at_most(detector: VAEDetector, fresh: pa.Table) -> None:
    """Shares are positive and sum to 1 at most, and no column is named twice."""
    for found in detector.explain(fresh.slice(0, 200)):
        assert all(reason.share > 0 for reason in found)
        assert sum(reason.share for reason in found) <= 1 + 1e-9
        assert len({reason.column for reason in found}) == len(found)


def test_a_share_is_what_the_repair_takes_off_the_excess() -> None:
    """Of 10 nats above the usual, repairs of 8 and 1 are 0.8 and 0.1; what helps nothing has no share."""
    falls = np.array([[8.0, 1.0, -1.0], [8.0, 0.01, 1.0], [-1.0, 2.0, 0.0]])

    found = shares(falls, np.array([10.0, 10.0, 10.0]))

    np.testing.assert_allclose(found, [[0.8, 0.1, 0.0], [0.8, 0.0, 0.0], [0.0, 0.0, 0.0]])


def test_shares_of_a_row_repaired_beyond_the_usual_sum_to_one() -> None:
    """Where repairs take away more than the excess, shares are of what they take away."""
    np.testing.assert_allclose(shares(np.array([[6.0, 2.0]]), np.array([4.0])), [[0.75, 0.25]])


def test_reasons_depend_on_the_row_alone(detector: VAEDetector, fresh: pa.Table) -> None:
    """A row has the same reasons by itself as among others, and in whatever order."""
    rows = pa.concat_tables([with_cell(fresh.slice(i), "shop", "west") for i in range(70)])

    together = detector.explain(rows)

    assert detector.explain(rows.slice(65, 1)) == together[65:66]
    assert detector.explain(rows.take(pa.array(range(69, -1, -1)))) == together[::-1]


def test_no_rows_have_no_reasons(detector: VAEDetector, fresh: pa.Table) -> None:
    """An empty table is explained by an empty list."""
    assert detector.explain(fresh.slice(0, 0)) == []


def test_no_more_reasons_than_asked_for(detector: VAEDetector, fresh: pa.Table) -> None:
    """``top`` bounds the reasons of each row."""
    assert max(len(found) for found in detector.explain(fresh.slice(0, 50), top=1)) == 1


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("value", "fare is 900, expected about 12"),
        ("combination", "fare is 900, which does not go with the rest of the row: expected about 12"),
        ("unseen_category", "fare is 900, a value never seen: expected about 12"),
        ("unexpected_null", "fare is 900, though rows like this have a value: expected about 12"),
        ("out_of_support", "fare is 900, beyond all values of training: expected about 12"),
    ],
)
def test_a_reason_reads_as_a_sentence(kind: str, sentence: str) -> None:
    """A reason's text names column and value, what is odd about it, and what was expected."""
    assert str(Reason("fare", kind, "900", "about 12", 0.8)) == sentence


@pytest.mark.parametrize(
    ("scalar", "text"),
    [
        (pa.scalar(2.0), "2"),
        (pa.scalar(-0.0), "0"),
        (pa.scalar(1 / 3), "0.333333"),
        (pa.scalar(float("nan")), "nan"),
        (pa.scalar(-float("inf")), "-inf"),
        (pa.scalar(1e300), "1e+300"),
        (pa.scalar(None, pa.int8()), "null"),
        (pa.scalar("a\u202eb\n"), "a�b�"),
        (pa.scalar("x" * 100), "x" * 79 + "…"),
        (pa.scalar(2**31 - 1, pa.int32()).cast(pa.date32()), "2147483647"),
        (pa.scalar(2**62, pa.int64()).cast(pa.timestamp("s")), str(2**62)),
    ],
)
def test_cells_are_shown_as_people_write_them(scalar: pa.Scalar, text: str) -> None:
    """Whole floats lose their fraction, long texts their end, unprintable letters their effect."""
    assert shown(scalar) == text
