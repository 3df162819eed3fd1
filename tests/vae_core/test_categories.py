"""Texts to codes: which values are told apart, and what each costs within its code."""

import json

import numpy as np
import pyarrow as pa
import pytest

from vae_core.categories import NULL, RARE, RESERVED, UNSEEN, VOCABULARY_LIMIT, CategoryCodec
from vae_core.columns import codec_from_json, codec_to_json
from vae_core.rarity import prior


def chunked(values: object, arrow_type: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, arrow_type)])


def in_groups() -> CategoryCodec:
    """One top value, and four rare ones: two in the first group, one in the second, one alone."""
    words = ["a"] * 50 + ["b"] * 20 + ["c"] * 15 + ["d"] * 10 + ["e"] * 5
    return CategoryCodec.fit("c", chunked(words), limit=1).in_groups(np.array([1, 2, 1, 0]))


def test_null_unseen_and_rare_values_have_codes_of_their_own() -> None:
    """Null, never seen, seen but rare, and each common value are told apart."""
    codec = CategoryCodec.fit("c", chunked(["a"] * 5 + ["b"] * 3 + ["z", None]), limit=2)

    codes, _ = codec.encode(pa.array([None, "new", "z", "a", "b"]))

    assert codes.tolist() == [NULL, UNSEEN, RARE, RESERVED, RESERVED + 1]


def test_probability_of_a_new_value_is_good_turing() -> None:
    """The share of values seen just once estimates the chance that the next one is new."""
    codec = CategoryCodec.fit("c", chunked(["a"] * 90 + [f"n{i}" for i in range(10)]), limit=64)

    assert codec.unseen == pytest.approx(prior(10, 100))


def test_a_column_that_never_brought_new_values_does_not_forgive_one() -> None:
    """Where no value was seen just once, a new one is about as likely as half a row."""
    codec = CategoryCodec.fit("c", chunked(["a", "b"] * 500), limit=64)

    assert codec.unseen == pytest.approx(0.5 / 1001)


def test_values_too_long_to_remember_count_as_new_ones() -> None:
    """A long text is never remembered, so its rows raise the probability of unseen values."""
    codec = CategoryCodec.fit("c", chunked(["x" * 300] * 40 + ["a"] * 60), limit=64)

    assert codec.vocabulary == ("a",)
    assert codec.unseen == pytest.approx(prior(40, 100))
    assert codec.encode(pa.array(["x" * 300]))[0].tolist() == [UNSEEN]


def test_the_rarer_a_value_the_more_it_costs() -> None:
    """Values that share the code of rare ones cost by their counts, a new one more than one seen once."""
    words = ["a"] * 500 + ["b"] * 400 + ["c"] * 50 + ["d"]
    codec = CategoryCodec.fit("c", chunked(words), limit=2)

    _, within = codec.encode(pa.array(["a", "c", "d", "new", None]))

    np.testing.assert_allclose(within[:2], [0, np.log(52 / 50)], atol=1e-6)
    assert within[2] == pytest.approx(np.log(52))
    codes, _ = codec.encode(pa.array(["d", "new"]))
    rare, new = np.log(1 / codec.rare) + within[2], np.log(1 / codec.unseen) + within[3]
    assert codes.tolist() == [RARE, UNSEEN]
    assert new > rare


def test_a_new_value_costs_less_where_new_ones_come_daily() -> None:
    """The same number of rows, none seen once or many: the closed column is surprised more."""
    closed = CategoryCodec.fit("c", chunked(["a", "b"] * 500), limit=64)
    opened = CategoryCodec.fit("c", chunked(["a"] * 900 + [f"n{i}" for i in range(100)]), limit=64)

    def cost(codec: CategoryCodec) -> float:
        return float(np.log(1 / codec.unseen) + codec.encode(pa.array(["new"]))[1][0])

    assert cost(closed) > cost(opened) + 5


def test_vocabulary_is_bounded() -> None:
    """However many distinct strings come, memory and codes stay bounded, and the forgotten count as new."""
    rows = VOCABULARY_LIMIT + 50
    codec = CategoryCodec.fit("c", chunked([str(i) for i in range(rows)] * 2), limit=64)

    assert len(codec.vocabulary) == VOCABULARY_LIMIT
    assert codec.size == RESERVED + 64
    assert codec.unseen == pytest.approx(prior(100, 2 * rows))


def test_top_values_do_not_depend_on_the_order_of_rows() -> None:
    """Equally common values get their codes by text, not by place."""
    there, back = (CategoryCodec.fit("c", chunked(list(text)), limit=2) for text in ("cab", "bac"))

    assert there.vocabulary == back.vocabulary == ("a", "b", "c")


def test_a_null_costs_more_the_longer_there_was_none() -> None:
    """In a column without nulls one is new, as a value never seen is; in others it costs its probability."""
    never = CategoryCodec.fit("c", chunked(["a", "b"] * 500), limit=2)
    known = CategoryCodec.fit("c", chunked(["a", "b", None, "a"] * 250), limit=2)

    assert never.encode(pa.array([None, "a"], pa.string()))[1].tolist() == pytest.approx([np.log(1001), 0.0])
    assert known.encode(pa.array([None, "a"], pa.string()))[1].tolist() == [0.0, 0.0]


def test_values_of_a_group_share_a_code() -> None:
    """Codes of groups follow those of the top values; what is in no group stays rare."""
    codes, within = in_groups().encode(pa.array(["a", "b", "c", "d", "e", "new", None]))

    assert codes.tolist() == [RESERVED, RESERVED + 1, RESERVED + 2, RESERVED + 1, RARE, UNSEEN, NULL]
    np.testing.assert_allclose(within[:5], np.log([1, 30 / 20, 1, 30 / 10, 6 / 5]), atol=1e-6)


def test_groups_have_their_shares_and_names() -> None:
    """A group is as common as its values together, and is called by the commonest of them."""
    codec = in_groups()

    np.testing.assert_allclose(codec.share_of(np.arange(codec.size)), [0, 0, 0.05, 0.5, 0.3, 0.15])
    assert codec.names == ["null", "a new value", "a rare value", "a", "one like b", "one like c"]
    assert codec.priors[2] is None


def test_the_likeliest_value_of_a_group_is_its_commonest() -> None:
    """What speaks for a group speaks for each of its values by its share."""
    chances = np.array(
        [[0.0, 0.0, 0.0, 0.3, 0.7, 0.0], [0.0, 0.0, 0.0, 0.6, 0.4, 0.0], [0.9, 0, 0, 0.1, 0, 0]]
    )

    assert in_groups().likeliest(chances) == ["b", "a", None]


def test_a_null_among_the_words_of_a_dictionary_is_null() -> None:
    """A null may hide behind an index that is there."""
    hidden = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None]))

    assert in_groups().encode(hidden)[0].tolist() == [RESERVED, NULL]


def test_groups_survive_json() -> None:
    """A codec with groups written as JSON and read again equals itself."""
    assert codec_from_json(json.loads(json.dumps(codec_to_json(in_groups())))) == in_groups()
