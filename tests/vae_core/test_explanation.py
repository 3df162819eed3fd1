"""Reasons: kind, value, expectation and share of each."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from vae_core import Reason, TableSchema, VAEDetector
from vae_core.columns import TimestampCodec
from vae_core.encoding import TableEncoder
from vae_core.expectation import Expectation, expect, shown
from vae_core.explanation import View, shares


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


def test_ignored_columns_of_any_type_do_not_hinder_reasons() -> None:
    """Columns that Arrow cannot pick rows of are no obstacle, be they ignored or modelled."""
    rows = pa.table(
        {
            "text": pa.array(["a", "b"] * 60 + ["c"], pa.string_view()),
            "bytes": pa.array([b"a"] * 121, pa.binary_view()),
            "pair": pa.array([{"a": "x"}] * 121, pa.struct([("a", pa.string_view())])),
            "runs": pc.run_end_encode(pa.array([1] * 121)),
        }
    )
    detector = VAEDetector(random_state=0, max_epochs=2, n_members=1).fit(rows)

    assert first_reason(detector, rows.slice(120)).value == "c"


def before_noon(zone: str) -> pa.Table:
    """A year of days, on each of which something happens within the hour before noon of a zone."""
    days = np.arange("2023-01-01", "2024-01-01", dtype="datetime64[D]")
    minutes = np.random.default_rng(0).integers(11 * 60, 12 * 60, 365)
    local = pa.array((days + minutes.astype("timedelta64[m]")).astype("datetime64[us]"))
    return pa.table({"at": pc.assume_timezone(local, zone)})


def test_clocks_of_a_zone_are_told_by_that_zone() -> None:
    """What was expected of a timestamp is told by the clocks by which its value is shown."""
    rows = before_noon("America/New_York")
    detector = VAEDetector(random_state=0, max_steps=300, n_members=1).fit(rows)
    night = pa.array([dt.datetime(2023, 1, 10, 4, tzinfo=dt.UTC)], rows.schema.field("at").type)

    reason = first_reason(detector, pa.table({"at": night}))

    assert reason.value == "2023-01-09 23:00:00-05:00"
    assert "about 10:00" < reason.expected < "about 13:00"


@pytest.mark.parametrize(
    ("month", "expected"), [(1, "about 05:00"), (7, "about 06:00"), (None, "about 05:00")]
)
def test_the_zone_of_a_clock_depends_on_the_season(month: int | None, expected: str) -> None:
    """Ten o'clock UTC is an hour later by summer time; of a null the last day of training decides."""
    rows = pa.table({"at": pa.array([0], pa.timestamp("us", "America/New_York"))})
    encoder = TableEncoder(TableSchema.infer(rows), 8)
    encoder.codecs = (TimestampCodec("at", 0.0, 19_700.0, hours=True, weekdays=False, nulls=0.0, rows=9),)
    angle = 2 * np.pi * 10 / 24
    found = {"mean": np.array([[np.sin(angle), np.cos(angle), 0.0]]), "nulls": np.zeros((1, 1))}
    expectation = Expectation(
        encoder, {**found, "deviation": np.ones((1, 3)), "bits": np.zeros((1, 0)), "categories": []}
    )
    when = month and dt.datetime(2023, month, 1, tzinfo=dt.UTC)

    assert expectation.text("at") == ["about 10:00"]
    assert expectation.text("at", pa.array([when], rows.schema.field("at").type)) == [expected]


@pytest.mark.parametrize(
    ("arrow_type", "expected"),
    [
        (pa.duration("ms"), "about 0:00:05"),
        (pa.time32("ms"), "about 00:00:05"),
        (pa.duration("ns"), "about 0 days 00:00:00.000005"),
    ],
    ids=str,
)
def test_expected_spans_read_like_shown_ones(arrow_type: pa.DataType, expected: str) -> None:
    """Durations and times of day are expected as their cells are shown, without meaningless digits."""
    whole = pa.int32() if arrow_type.bit_width == 32 else pa.int64()
    rows = pa.table({"t": pa.array([4_500, 5_500] * 100, whole).cast(arrow_type)})
    detector = VAEDetector(random_state=0, max_epochs=2, n_members=1).fit(rows)
    expectation = expect(detector.model_, detector.encoder_, detector.encoder_.encode(rows.slice(0, 1)))
    expectation.mean[:], expectation.deviation[:] = 0.01, 2.5

    assert expectation.text("t", rows["t"].slice(0, 1)) == [expected]


def test_a_reason_in_another_unit_tells_the_same() -> None:
    """A duration in nanoseconds has the reason that it has in the seconds learned."""
    rows = pa.table({"t": pa.array([4, 5, 6] * 100).cast(pa.duration("s"))})
    detector = VAEDetector(random_state=0, max_epochs=2, n_members=1).fit(rows)
    late = pa.table({"t": pa.array([9]).cast(pa.duration("s"))})

    reason = first_reason(detector, late.cast(pa.schema([("t", pa.duration("ns"))])))

    assert (reason.kind, reason.expected) == ("out_of_support", first_reason(detector, late).expected)


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
