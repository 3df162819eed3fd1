"""Row rules: the verdict of Great Expectations on every row, at the speed of Arrow."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import expectations, rules
from flows.errors import ConfigError, SchemaError

BIG = expectations.EXACT + 1  # an integer that no double holds


def entry(name, role=None, /, **kwargs):
    meta = {"vaewatch": {"role": role}} if role else {}
    return {"type": f"expect_column_{name}", "kwargs": kwargs, "meta": meta}


def suite(*entries):
    return {"name": "rows", "expectations": list(entries)}


def masks(batch, *entries):
    return [rule.mask(batch).to_pylist() for rule in rules.row_rules(suite(*entries), batch.schema)]


def moments(*days, kind):
    return pa.array([None if day is None else datetime(2013, 7, day) for day in days]).cast(kind)


ROWS = pa.record_batch(
    {
        "text": pa.array(["ab", None, "é", "", "1\n", "😀😀😀"]),
        "view": pa.array(["ab", None, "é", "", "1\n", "😀😀😀"], pa.string_view()),
        "code": pa.array(["ab", None, "é", "", "ab", "é"]).dictionary_encode(),
        "number": pa.array([1.0, None, math.nan, math.inf, -1.0, 0.5]),
        "single": pa.array([0.7, None, math.nan, 0.1, -0.7, 1.0], pa.float32()),
        "count": pa.array([1, None, 0, 5, -1, 2]),
        "small": pa.array([1, 2, 0, 5, -1, 2], pa.int8()),
        "big": pa.array([BIG, None, BIG - 1, -BIG, 0, 1]),
        "huge": pa.array([2**64 - 1, None, 0, 1, 2, 3], pa.uint64()),
        "stamp": pa.array([2**60 + 1, 2**60, 0, 2**60 + 1, -1, 2**63 - 1]),
        "twin": pa.array([2**60, 2**60, 0, None, -1, 2**63 - 2]),
        "row": pa.array([2**60, 2**60 + 1, 0, 2**60 + 1, 2**64 - 1, 2**63], pa.uint64()),
        "other": pa.array([0, None, 1, None, 7, 2]),
        "flag": pa.array([True, None, False, True, False, True]),
        "price": pa.array([Decimal("1.50"), None, Decimal("-0.01"), Decimal(0), Decimal(9), Decimal(1)]),
        "zoned": moments(1, None, 6, 7, 8, 9, kind=pa.timestamp("ns", "America/New_York")),
        "naive": moments(1, None, 6, 7, 8, 9, kind=pa.timestamp("ms")),
        "day": pa.array([date(2013, 7, 1), None, date(2013, 7, 6), None, date(2014, 1, 1), date(2013, 7, 7)]),
        "nothing": pa.nulls(6),
    }
)

NOON = "2013-07-06T12:00:00+00:00"
EITHER = {"ignore_row_if": "either_value_is_missing"}
"""Pandas cannot order large integers and nulls."""

COMPILED = [
    *(entry("values_to_not_be_null", column=name) for name in ROWS.schema.names),
    *(entry("values_to_be_null", column=name) for name in ROWS.schema.names),
    entry("values_to_be_between", column="number", min_value=0, max_value=1),
    entry("values_to_be_between", column="number", min_value=0.5, strict_min=True),
    entry("values_to_be_between", column="number", max_value=0.5, strict_max=True),
    entry("values_to_be_between", column="number", min_value=-1, strict_min=True, max_value=1),
    entry("values_to_be_between", column="single", min_value=0.7),
    entry("values_to_be_between", column="count", min_value=0.5, max_value=2),
    entry("values_to_be_between", column="small", min_value=0, max_value=4.5, strict_max=True),
    entry("values_to_be_between", column="big", min_value=0),
    entry("values_to_be_between", column="huge", max_value=2),
    entry("values_to_be_between", column="stamp", min_value=0, max_value=2**60),
    entry("values_to_be_between", column="stamp", min_value=2**60, strict_min=True, max_value=2**63 - 1,
          strict_max=True),
    entry("values_to_be_between", column="price", min_value=0),
    entry("values_to_be_between", column="zoned", min_value=NOON),
    entry("values_to_be_between", column="naive", max_value=NOON, strict_max=True),
    entry("values_to_be_between", column="day", min_value=NOON, max_value="2013-12-31T00:00:00Z"),
    entry("values_to_be_in_set", column="text", value_set=["ab", "😀😀😀", 1]),
    entry("values_to_be_in_set", column="view", value_set=["", "é"]),
    entry("values_to_be_in_set", column="code", value_set=["ab"]),
    entry("values_to_be_in_set", column="count", value_set=[0, 1.0, 2.5, "5"]),
    entry("values_to_be_in_set", column="small", value_set=[1, 2, 1000]),
    entry("values_to_be_in_set", column="big", value_set=[BIG - 1, 0]),
    entry("values_to_be_in_set", column="huge", value_set=[2**64 - 1, -1]),
    entry("values_to_be_in_set", column="number", value_set=[1, 0.5]),
    entry("values_to_be_in_set", column="single", value_set=[1, 0.7]),
    entry("values_to_be_in_set", column="flag", value_set=[True]),
    entry("values_to_be_in_set", column="flag", value_set=[0, 2]),
    entry("values_to_be_in_set", column="text", value_set=[]),
    entry("values_to_not_be_in_set", column="text", value_set=["ab", "missing"]),
    entry("values_to_not_be_in_set", column="count", value_set=[5, -1]),
    entry("values_to_not_be_in_set", column="number", value_set=[0.5]),
    entry("values_to_match_regex", column="text", regex=r"^\w+$"),
    entry("values_to_match_regex", column="text", regex=r"^\d$"),
    entry("values_to_match_regex", column="code", regex=r"^(?!a)"),
    entry("values_to_not_match_regex", column="view", regex="b|é"),
    entry("value_lengths_to_be_between", column="text", min_value=1, max_value=2),
    entry("value_lengths_to_be_between", column="view", min_value=2, strict_min=True),
    entry("value_lengths_to_equal", column="code", value=2),
    entry("pair_values_a_to_be_greater_than_b", column_A="count", column_B="other"),
    entry("pair_values_a_to_be_greater_than_b", column_A="count", column_B="number", or_equal=True),
    entry("pair_values_a_to_be_greater_than_b", column_A="naive", column_B="day", or_equal=True),
    entry("pair_values_a_to_be_greater_than_b", column_A="number", column_B="other",
          ignore_row_if="either_value_is_missing"),
    entry("pair_values_a_to_be_greater_than_b", column_A="stamp", column_B="twin", **EITHER),
    entry("pair_values_a_to_be_greater_than_b", column_A="row", column_B="stamp", or_equal=True),
    entry("pair_values_a_to_be_greater_than_b", column_A="small", column_B="huge", **EITHER),
    entry("pair_values_a_to_be_greater_than_b", column_A="stamp", column_B="number"),
    entry("pair_values_to_be_equal", column_A="stamp", column_B="twin"),
    entry("pair_values_to_be_equal", column_A="stamp", column_B="row"),
    entry("pair_values_to_be_equal", column_A="row", column_B="twin", **EITHER),
    entry("pair_values_to_be_equal", column_A="text", column_B="code"),
    entry("pair_values_to_be_equal", column_A="count", column_B="other", ignore_row_if="neither"),
]  # fmt: skip


def label(one):
    words = one["type"].removeprefix("expect_column_")
    return f"{words}-{'-'.join(f'{name}={value}' for name, value in one['kwargs'].items())}"


def verdicts_of_great_expectations(batch, entries):
    """Rows that Great Expectations itself finds unexpected, one list of truth values an expectation."""
    frame = expectations._frame(pa.Table.from_batches([batch]))
    asked = suite(*({**one, "meta": {"place": place}} for place, one in enumerate(entries)))
    result = expectations._whole_frame().get_batch({"dataframe": frame})
    verdicts = [None] * len(entries)
    for one in result.validate(expectations._built(asked), result_format="COMPLETE").results:
        assert expectations._error(one) is None, one
        unexpected = set(one.result["unexpected_index_list"])
        verdicts[one.expectation_config.meta["place"]] = [row in unexpected for row in range(batch.num_rows)]
    return verdicts


@pytest.fixture(scope="module")
def verdicts():
    return dict(zip(map(label, COMPILED), verdicts_of_great_expectations(ROWS, COMPILED), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("one", COMPILED, ids=label)
def test_a_mask_gives_the_verdict_of_great_expectations_on_the_same_rows(one, verdicts):
    """Nulls, NaN, infinities, empty and non-Latin text, 64-bit integers, zones and storage types included."""
    assert [verdicts[label(one)]] == masks(ROWS, one)


def test_every_compiled_expectation_is_held_to_great_expectations():
    """A rule that is added to the compilers must be added to the comparison above."""
    assert {one["type"] for one in COMPILED} == {*rules.COMPILERS, *rules.PAIRS}


TEXTS = st.one_of(st.none(), st.text(st.sampled_from("ab1 \né😀"), max_size=4))
NUMBERS = st.one_of(st.none(), st.floats(allow_nan=True, width=32), st.sampled_from([0.0, 1.0, -1.0]))
ALMOST_EQUAL = st.sampled_from([2**60 - 1, 2**60, 2**60 + 1, 2**63 - 2, 2**63 - 1])


def integers(least, most):
    """Small and large ones, nulls, and such that only their last digit tells apart.

    Not 2**53: beside nulls pandas holds it as a double, and so takes it for 2**53 + 1.
    """
    large = st.integers(least, most).filter(lambda one: abs(one) != expectations.EXACT)
    return st.one_of(st.none(), st.integers(max(least, -3), 3), ALMOST_EQUAL, large)


COUNTS = integers(-(2**63), 2**63 - 1)
SERIALS = integers(0, 2**64 - 1)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXTS, NUMBERS, COUNTS, COUNTS, SERIALS), min_size=1, max_size=12))
def test_masks_and_great_expectations_agree_on_any_table(rows):
    """The comparison holds for tables that nobody thought of, too."""
    texts, numbers, counts, others, serials = zip(*rows, strict=True)
    batch = pa.record_batch({
        "text": pa.array(texts, pa.string()),
        "number": pa.array(numbers, pa.float64()),
        "count": pa.array(counts, pa.int64()),
        "other": pa.array(others, pa.int64()),
        "serial": pa.array(serials, pa.uint64()),
    })  # fmt: skip
    asked = [
        *(entry("values_to_not_be_null", column=name) for name in batch.schema.names),
        entry("values_to_be_between", column="number", min_value=-1, max_value=1, strict_max=True),
        entry("values_to_be_between", column="count", min_value=-1, max_value=2),
        *(
            entry(f"pair_values_{name}", column_A=left, column_B=right, **EITHER)
            for left, right in (("count", "other"), ("other", "serial"), ("serial", "count"))
            for name in ("a_to_be_greater_than_b", "to_be_equal")
        ),
        entry("values_to_be_in_set", column="text", value_set=["", "a", "é"]),
        entry("values_to_not_be_in_set", column="count", value_set=[0, 2**62]),
        entry("values_to_match_regex", column="text", regex=r"^[ab]+\b|\d$"),
        entry("value_lengths_to_be_between", column="text", min_value=1, max_value=3),
    ]

    assert verdicts_of_great_expectations(batch, asked) == masks(batch, *asked)


def test_a_null_breaks_only_the_rule_that_forbids_it():
    """A missing value is evidence for the model, not a breach of a range or a set."""
    batch = pa.record_batch({"x": pa.array([None, math.nan, 5.0])})

    assert masks(batch, entry("values_to_not_be_null", column="x")) == [[True, True, False]]
    assert masks(batch, entry("values_to_be_between", column="x", max_value=1)) == [[False, False, True]]


def test_integers_are_compared_to_the_last_digit():
    """Moments in nanoseconds and numbers of rows are larger than a double tells apart."""
    batch = ROWS.select(["stamp", "twin", "row"])
    after = entry("pair_values_a_to_be_greater_than_b", column_A="stamp", column_B="twin")
    same = entry("pair_values_to_be_equal", column_A="stamp", column_B="row")

    assert masks(batch, after) == [[False, True, True, True, True, False]]
    assert masks(batch, same) == [[True, True, False, False, True, True]]


def test_bad_rows_names_all_broken_rules_of_a_row_in_words():
    """The text stands in the quarantine beside the row."""
    asked = suite(
        entry("values_to_not_be_null", column="text"),
        entry("values_to_be_between", column="count", min_value=0, max_value=3, strict_max=True),
        entry("values_to_be_in_set", column="small", value_set=[0, 1]),
    )
    broken, reasons = rules.bad_rows(rules.row_rules(asked, ROWS.schema), ROWS)

    assert broken.to_pylist() == [False, True, False, True, True, True]
    assert reasons.to_pylist() == [
        None,
        "text must not be null; small must be one of 0, 1",
        None,
        "count must be at least 0 and below 3; small must be one of 0, 1",
        "count must be at least 0 and below 3; small must be one of 0, 1",
        "small must be one of 0, 1",
    ]


def test_without_rules_no_row_is_bad():
    """A suite may hold no row rule at all."""
    broken, reasons = rules.bad_rows((), ROWS)

    assert broken.to_pylist() == [False] * 6
    assert reasons.null_count == 6


def test_a_batch_of_no_rows_has_no_bad_rows():
    """A night may be empty."""
    compiled = rules.row_rules(suite(*COMPILED), ROWS.schema)
    broken, reasons = rules.bad_rows(compiled, ROWS.slice(0, 0))

    assert (len(broken), len(reasons)) == (0, 0)


@pytest.mark.parametrize(
    ("one", "role"),
    [
        (entry("values_to_not_be_null", column="x"), "row"),
        (entry("values_to_not_be_null", column="x", mostly=1.0), "row"),
        (entry("values_to_not_be_null", column="x", mostly=0.9), "batch"),
        (entry("values_to_not_be_null", column="x", mostly=0), "batch"),
        (entry("values_to_not_be_null", column="x") | {"meta": None}, "row"),
        (entry("values_to_not_be_null", "row", column="x", mostly=0.9), "batch"),
        (entry("values_to_not_be_null", "batch", column="x"), "batch"),
        (entry("values_to_not_be_null", "contract", column="x"), "contract"),
        (entry("values_to_be_of_type", column="x", type_="str"), "contract"),
        (entry("values_to_be_unique", column="x"), "batch"),
        (entry("mean_to_be_between", column="x", min_value=0), "batch"),
    ],
)
def test_the_role_is_declared_or_follows_from_the_type_and_mostly(one, role):
    """What is said of a share of the rows can not be held against a single one."""
    assert role == rules.role_of(one)


@pytest.mark.parametrize(
    "one",
    [
        entry("values_to_not_be_null", "batch", column="text"),
        entry("values_to_not_be_null", column="text", mostly=0.5),
        entry("values_to_not_be_null", column="text", row_condition="count > 0"),
        entry("values_to_be_unique", column="text"),
        entry("values_to_match_regex", column="count", regex="1"),
        entry("values_to_be_in_set", column="zoned", value_set=["2013-07-06"]),
        entry("values_to_be_between", column="flag", min_value=0),
        entry("pair_values_to_be_equal", column_A="count", column_B="text"),
    ],
    ids=label,
)
def test_what_is_not_asked_of_single_rows_is_left_to_the_sample(one):
    """Such an expectation is labelled so in the report."""
    assert rules.row_rules(suite(one), ROWS.schema) == ()
    assert not rules.is_row_rule(one, ROWS.schema)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (entry("values_to_be_between", column="count", min_value=2, max_value=1), "2 is above max_value 1"),
        (entry("values_to_be_between", column="count"), "min_value or max_value is required"),
        (entry("values_to_be_between", column="count", min_value="many"), "could not convert string"),
        (entry("values_to_be_between", column="day", min_value="2013-07-06"), "00:00:00+00:00 was required"),
        (entry("values_to_be_in_set", column="text", value_set="ab"), "a list of values was required"),
        (entry("values_to_match_regex", column="text", regex="("), "unterminated subpattern"),
        (entry("value_lengths_to_equal", column="text"), "value"),
    ],
)  # fmt: skip
def test_an_impossible_argument_is_an_error_that_names_the_expectation(one, said):
    """A typing error in a suite must not send a whole night to quarantine."""
    with pytest.raises(ConfigError) as error:
        rules.row_rules(suite(one), ROWS.schema)

    assert said in str(error.value)
    assert f"{one['type']} of {one['kwargs']['column']}" in str(error.value)


def test_a_rule_on_a_column_that_did_not_come_is_a_schema_error():
    """A rule that cannot be asked must not pass as kept."""
    with pytest.raises(SchemaError, match="reads price, however no such column came"):
        rules.row_rules(
            suite(entry("values_to_not_be_null", column="price")), pa.schema([("cost", pa.int64())])
        )


def test_a_moment_without_a_zone_is_read_as_utc():
    """One rule for moments, whatever the file's unit and zone."""
    batch = pa.record_batch({"at": pa.array([datetime(2013, 7, 6, 11), datetime(2013, 7, 6, 13)])})
    zoned = pa.record_batch({"at": pa.array([datetime(2013, 7, 6, 11, tzinfo=UTC)])})
    rule = entry("values_to_be_between", column="at", min_value=NOON)

    assert masks(batch, rule) == [[True, False]]
    assert masks(zoned, rule) == [[True]]


TEXT_RULES = [
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "word"}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "word", "value_set": ["a", "bb"]}},
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "word", "regex": "^[ab]+$"}},
    {"type": "expect_column_value_lengths_to_equal", "kwargs": {"column": "word", "value": 2}},
]


@pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda rule: str(rule["type"]))
@pytest.mark.parametrize("values", [["a", None, "bb", "ccc", "a", "bb"] * 4, [None] * 8, ["bb"] * 8])
def test_text_by_dictionary_is_judged_as_plain_text(rule: dict[str, Any], values: list[str | None]) -> None:
    """Also where the dictionary holds null, or words that no row has."""
    plain = pa.record_batch({"word": pa.array(values, pa.string())})
    words = pa.array(["ccc", "a", "unused", None, "bb"])
    place = [None if value is None else words.to_pylist().index(value) for value in values]
    coded = pa.DictionaryArray.from_arrays(pa.array(place, pa.int8()), words)
    nulls_by_word = pa.DictionaryArray.from_arrays(
        pa.array([3 if one is None else one for one in place], pa.int8()), words
    )
    (compiled,) = rules.row_rules({"expectations": [rule]}, plain.schema)

    expected = compiled.mask(plain)

    assert compiled.mask(pa.record_batch({"word": coded})).to_pylist() == expected.to_pylist()
    assert compiled.mask(pa.record_batch({"word": nulls_by_word})).to_pylist() == expected.to_pylist()
