"""Rules: which flags they hide, what is said of them, what they would have hidden."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.storage import Store
from review.errors import RuleError
from review.rehearsal import Night, past_nights, rehearse
from review.rules import Rule, applies, checked, hidden_by, matches, words
from review.said import Verdict
from review.store import RowRef, VerdictStore

NIGHT = date(2013, 7, 6)
FLAGS = pa.table(
    {
        "dest": pa.array(["SFO", "SFO", "LAX", None]).dictionary_encode(),
        "delay": [5.0, 70.0, None, 5.0],
        "row_id": ["a", "b", "c", "d"],
        "row_key": ["ka", "kb", "kc", "kd"],
        "severity": [20.0, 96.0, 40.0, None],
        "family_id": ["f1", "f1", None, "f2"],
    }
    | {
        f"reason_{i}_{part}": pa.array(values, pa.string())
        for i, part, values in [
            (1, "column", ["dest", "delay", "delay", None]),
            (1, "kind", ["unseen_category", "value", "unexpected_null", None]),
            (2, "column", ["delay", "dest", None, None]),
            (2, "kind", ["value", "combination", None, None]),
            (3, "column", [None] * 4),
            (3, "kind", [None] * 4),
        ]
    }
)


def hides(rule: Rule, flags: pa.Table = FLAGS) -> str:
    """Return the ids of the rows that a rule hides."""
    return "".join(flags.filter(pa.array(matches(rule, flags)))["row_id"].to_pylist())


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        (Rule(family_id="f1"), "ab"),
        (Rule(family_id="f1", unless_severity_over=95), "a"),
        (Rule(family_id="f2", unless_severity_over=95), "d"),
        (Rule(family_id="gone"), ""),
        (Rule(column="dest"), "ab"),
        (Rule(column="dest", value="SFO"), "ab"),
        (Rule(column="dest", value="sfo"), ""),
        (Rule(column="delay", value="5"), "ad"),
        (Rule(column="delay", value="five"), ""),
        (Rule(column="nowhere", value="5"), ""),
        (Rule(reason_kind="value"), "ab"),
        (Rule(column="delay", reason_kind="value"), "ab"),
        (Rule(column="dest", reason_kind="value"), ""),
        (Rule(column="dest", value="SFO", reason_kind="unseen_category"), "a"),
        (Rule(family_id="f1", column="delay", value="70.0"), "b"),
    ],
)
def test_all_that_a_rule_says_must_hold(rule: Rule, rows: str) -> None:
    """A reason counts in any place; a kind goes with its own column; a value is compared in its type."""
    assert hides(rule) == rows


def test_a_kind_with_a_value_may_be_of_any_reason() -> None:
    """The value has its column already: the kind is then the row's, not that column's."""
    assert hides(Rule(column="dest", value="SFO", reason_kind="combination")) == "b"


def test_flags_without_families_are_of_none() -> None:
    assert hides(Rule(family_id="f1"), FLAGS.drop_columns(["family_id"])) == ""


def test_our_columns_may_have_a_prefix() -> None:
    own = {"dest", "delay", "family_id"}
    flags = FLAGS.rename_columns([name if name in own else f"vw_{name}" for name in FLAGS.schema.names])

    assert matches(Rule(column="dest", unless_severity_over=95), flags, prefix="vw_").tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_a_rule_ends_with_its_last_night_or_when_it_is_withdrawn() -> None:
    rule = Rule(family_id="f1", until=NIGHT)

    assert applies(rule, NIGHT)
    assert not applies(rule, date(2013, 7, 7))
    assert not applies(Rule(family_id="f1", withdrawn_at=datetime.now(UTC)), NIGHT)


def test_each_flag_names_the_oldest_rule_that_hides_it() -> None:
    rules = [Rule(id=7, column="dest"), Rule(id=3, family_id="f2"), Rule(id=5, column="delay", value="5")]

    assert hidden_by(rules, FLAGS, NIGHT).to_pylist() == [5, 7, None, 3]
    assert hidden_by([Rule(id=1, family_id="f1", until=date(2013, 7, 5))], FLAGS, NIGHT).null_count == 4
    assert hidden_by(rules, FLAGS.slice(0, 0), NIGHT).to_pylist() == []


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (
            Rule(family_id="f1", until=date(2014, 3, 1), unless_severity_over=95),
            "flags of the family cancelled to SFO are expected, until 1 March 2014, unless severity > 95",
        ),
        (Rule(column="dest", value="SFO"), "flags with dest = SFO are expected"),
        (Rule(column="ssn", value="123"), "flags with ssn = (sensitive) are expected"),
        (Rule(column="dest", reason_kind="value"), "flags with a reason of kind value in dest are expected"),
    ],
)
def test_a_rule_is_told_in_words_without_values_of_sensitive_columns(rule: Rule, sentence: str) -> None:
    assert words(rule, family_name="cancelled to SFO", sensitive=["ssn"]) == sentence


@pytest.mark.parametrize(
    "rule",
    [
        Rule(),
        Rule(until=NIGHT),
        Rule(value="SFO", family_id="f1"),
        Rule(column="dest", value="x" * 1001),
        Rule(family_id="f1", unless_severity_over=101),
        Rule(family_id="f1", unless_severity_over=float("nan")),
    ],
)
def test_impossible_rules_are_refused(rule: Rule) -> None:
    with pytest.raises(RuleError, match=r"required.*however"):
        checked(rule)


# -- Kept -----------------------------------------------------------------------------------------------


@pytest.fixture
def store(url: str) -> Iterator[VerdictStore]:
    with VerdictStore.open(url, "flights") as opened:
        yield opened


def test_a_rule_is_kept_as_it_was_said_and_logged(store: VerdictStore) -> None:
    draft = Rule(
        family_id="f1", column="dest", value="SFO", until=NIGHT, unless_severity_over=95.0, note="strike"
    )
    saved = store.add_rule(draft, author="ann")

    assert store.rules() == [saved]
    assert (saved.author, saved.note, saved.until, saved.value) == ("ann", "strike", NIGHT, "SFO")
    [change] = store.log()
    assert (change.author, change.action, change.detail) == ("ann", "rule added", f"rule {saved.id}")


def test_a_withdrawn_rule_stays_in_the_book_and_is_withdrawn_once(store: VerdictStore) -> None:
    saved = store.add_rule(Rule(family_id="f1"), author="ann")
    store.withdraw_rule(saved.id, author="ben")

    assert store.rules() == []
    [ended] = store.rules(ended=True)
    assert ended.withdrawn_at is not None
    assert store.log()[0].author == "ben"
    with pytest.raises(RuleError, match="a rule that holds was required"):
        store.withdraw_rule(saved.id, author="ann")


# -- Rehearsed ------------------------------------------------------------------------------------------


def verdict(row_id: str, said: str) -> Verdict:
    return Verdict(1, NIGHT, row_id, None, said, "", "ann", datetime.now(UTC), None, "b")


def test_a_rehearsal_counts_what_it_would_have_hidden_and_what_of_it_is_confirmed() -> None:
    said = {"a": verdict("a", "anomaly"), "b": verdict("b", "data error"), "c": verdict("c", "anomaly")}
    nights = [
        Night(NIGHT, FLAGS, said),
        Night(date(2013, 7, 5), FLAGS, {}),
        Night(date(2013, 7, 4), FLAGS[:0], {}),
    ]

    found = rehearse(Rule(family_id="f1", until=date(2013, 7, 6)), iter(nights))

    assert (found.nights, found.hidden, found.confirmed, found.data_errors) == (3, 4, 1, 1)
    assert [(one.dt, one.row_id) for one in found.examples[:2]] == [(NIGHT, "a"), (NIGHT, "b")]
    assert found.words == (
        "over the last 3 nights it would have hidden 4 flags, 1 of them a confirmed anomaly and 1 data error"
    )


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (
            (90, 312, 2, 0),
            "over the last 90 nights it would have hidden 312 flags, 2 of them confirmed anomalies",
        ),
        ((90, 312, 0, 0), "over the last 90 nights it would have hidden 312 flags, none of them confirmed"),
        ((90, 312, 0, 3), "over the last 90 nights it would have hidden 312 flags, 3 of them data errors"),
        ((1, 0, 0, 0), "over the last night it would have hidden no flag"),
        ((0, 0, 0, 0), "there is no night to rehearse it on"),
    ],
)
def test_a_rehearsal_is_a_sentence(counts: tuple[int, int, int, int], sentence: str) -> None:
    from review.rehearsal import Rehearsal

    assert Rehearsal(*counts, ()).words == sentence


def write(root: Path, key: str, table: pa.Table) -> None:
    (root / key).parent.mkdir(parents=True)
    pq.write_table(table, root / key)


def test_nights_are_read_newest_first_with_their_families_and_verdicts(
    tmp_path: Path, sqlite_url: str
) -> None:
    flags = FLAGS.drop_columns(["family_id"])
    for day in (4, 5, 6, 7):
        write(tmp_path, f"flags/dt=2013-07-0{day}/part-0.parquet", flags)
    write(tmp_path, "triage/dt=2013-07-06/part-0.parquet", FLAGS.select(["row_id", "family_id"])[::-1])
    with VerdictStore.open(sqlite_url, "flights") as store:
        store.decide([RowRef(NIGHT, "a", "ka")], "anomaly", reviewer="ann", seen={})
        rule = Rule(family_id="f1")
        nights = list(past_nights(rule, Store.of(tmp_path), store, last=NIGHT, count=2))

    assert [night.dt for night in nights] == [NIGHT, date(2013, 7, 5)]
    assert "delay" not in nights[0].flags.schema.names, "no more is read than the rule needs"
    found = rehearse(rule, nights)
    assert (found.nights, found.hidden, found.confirmed) == (2, 2, 1)
