"""Verdicts: said, undone, found again, and never overwritten unseen; on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pytest
from sqlalchemy import text

from review.errors import Conflict, DatabaseError, ReviewError
from review.store import RowRef, VerdictStore

NIGHT, NEXT = date(2013, 7, 6), date(2013, 7, 7)


@pytest.fixture
def store(url: str) -> Iterator[VerdictStore]:
    with VerdictStore.open(url, "flights") as opened:
        yield opened


def rows(*names: str, dt: date = NIGHT) -> list[RowRef]:
    return [RowRef(dt, name, f'{{"key": "{name}"}}') for name in names]


def said(store: VerdictStore, dt: date = NIGHT) -> dict[str, str | None]:
    return {name: one.verdict for name, one in store.current(dt).items()}


def seen(store: VerdictStore, dt: date = NIGHT) -> dict[str, int | None]:
    return {name: one.id for name, one in store.current(dt).items()}


def found_again(*pairs: tuple[str, str]) -> pa.Table:
    """Return rows of a night scored again: row id, and the name within the key."""
    keys = [f'{{"key": "{key}"}}' for _, key in pairs]
    return pa.table({"row_id": [name for name, _ in pairs], "row_key": keys})


def test_a_verdict_is_kept_with_its_reviewer_note_and_time(store: VerdictStore) -> None:
    batch = store.decide(rows("a"), "anomaly", reviewer="ann", note=" a ghost\x1b flight ", seen={})

    [verdict] = store.history(NIGHT, "a")
    assert (verdict.verdict, verdict.reviewer, verdict.note) == ("anomaly", "ann", "a ghost flight")
    assert (verdict.dt, verdict.row_key, verdict.supersedes, verdict.batch) == (
        NIGHT,
        '{"key": "a"}',
        None,
        batch,
    )
    assert verdict.decided_at.utcoffset().total_seconds() == 0
    assert store.settled() == {NIGHT: {"anomaly": 1}}


def test_rows_are_settled_together_and_of_several_nights(store: VerdictStore) -> None:
    many = rows(*(f"row-{i}" for i in range(1200)))
    batch = store.decide([*many, *rows("z", dt=NEXT)], "expected", reviewer="ann", seen={})

    assert store.settled() == {NIGHT: {"expected": 1200}, NEXT: {"expected": 1}}
    assert {one.batch for one in store.current(NIGHT).values()} == {batch}
    store.undo(batch, reviewer="ann")
    assert store.settled() == {}


def test_history_is_appended_to_and_names_what_it_supersedes(store: VerdictStore) -> None:
    store.decide(rows("a"), "investigating", reviewer="ann", seen={})
    store.decide(rows("a"), "data error", reviewer="ben", seen=seen(store))

    first, second = store.history(NIGHT, "a")
    assert second.supersedes == first.id
    assert second.decided_at > first.decided_at
    assert said(store) == {"a": "data error"}


@pytest.mark.parametrize(
    "sentence", ["UPDATE review_verdicts SET verdict = 'expected'", "DELETE FROM review_changes"]
)
def test_the_database_itself_refuses_to_alter_what_was_said(store: VerdictStore, sentence: str) -> None:
    store.decide(rows("a"), "anomaly", reviewer="ann", seen={})

    with pytest.raises(DatabaseError, match="is only ever added to"):
        store.database.write(lambda connection: connection.execute(text(sentence)))
    assert said(store) == {"a": "anomaly"}
    assert len(store.log()) == 1


def test_a_newer_verdict_is_never_overwritten_unseen(store: VerdictStore) -> None:
    store.decide(rows("a", "b"), "expected", reviewer="ann", seen={})

    with pytest.raises(Conflict, match=r"row a of 2013-07-06: .* ann said 'expected' at .* UTC, and 1 more"):
        store.decide(rows("a", "b", "c"), "anomaly", reviewer="ben", seen={})
    assert said(store) == {"a": "expected", "b": "expected"}, "nothing is written, not even on row c"


def test_one_who_looked_at_a_verdict_that_was_withdrawn_is_told(store: VerdictStore) -> None:
    store.decide(rows("a"), "expected", reviewer="ann", seen={})
    looked = seen(store)
    store.decide(rows("a"), None, reviewer="ann", seen=looked)

    with pytest.raises(Conflict, match="ann withdrew it"):
        store.decide(rows("a"), "anomaly", reviewer="ben", seen=looked)


def test_a_withdrawn_row_can_be_settled_again(store: VerdictStore) -> None:
    """Whoever sees no verdict has seen all there is."""
    store.undo(store.decide(rows("a"), "expected", reviewer="ann", seen={}), reviewer="ann")

    store.decide(rows("a"), "anomaly", reviewer="ben", seen=seen(store))
    assert said(store) == {"a": "anomaly"}
    assert [one.verdict for one in store.history(NIGHT, "a")] == ["expected", None, "anomaly"]


def test_the_history_of_a_row_is_that_of_its_night(store: VerdictStore) -> None:
    """A source without dates has the same files every night, and so the same row ids."""
    store.decide(rows("a"), "anomaly", reviewer="ann", seen={})
    store.decide(rows("a", dt=NEXT), "expected", reviewer="ben", seen={})

    assert [one.verdict for one in store.history(NIGHT, "a")] == ["anomaly"]
    assert [one.verdict for one in store.history(NEXT, "a")] == ["expected"]


def test_a_second_click_writes_nothing(store: VerdictStore) -> None:
    first = store.decide(rows("a", "b"), "expected", reviewer="ann", seen={})

    assert store.decide(rows("a", "b"), "expected", reviewer="ann", seen={}) == first
    assert len(store.history(NIGHT, "a")) == 1


def test_a_withdrawn_verdict_is_none_and_stays_in_the_history(store: VerdictStore) -> None:
    store.decide(rows("a"), "expected", reviewer="ann", seen={})
    store.decide(rows("a", "b"), None, reviewer="ann", seen=seen(store))

    assert said(store) == {}
    assert [one.verdict for one in store.history(NIGHT, "a")] == ["expected", None]
    assert store.history(NIGHT, "b") == []


def test_undo_brings_back_what_was_before_and_undoing_that_brings_it_again(store: VerdictStore) -> None:
    store.decide(rows("a"), "investigating", reviewer="ann", note="asked ops", seen={})
    batch = store.decide(rows("a", "b"), "anomaly", reviewer="ann", seen=seen(store))

    undone = store.undo(batch, reviewer="ben")
    assert said(store) == {"a": "investigating"}
    assert (store.current(NIGHT)["a"].note, store.current(NIGHT)["a"].reviewer) == ("asked ops", "ben")
    store.undo(undone, reviewer="ben")
    assert said(store) == {"a": "anomaly", "b": "anomaly"}


def test_undo_of_what_somebody_has_changed_since_is_refused(store: VerdictStore) -> None:
    batch = store.decide(rows("a", "b"), "anomaly", reviewer="ann", seen={})
    store.decide(rows("b"), "expected", reviewer="ben", seen=seen(store))

    with pytest.raises(Conflict, match=r"row b of 2013-07-06: .* ben said 'expected'"):
        store.undo(batch, reviewer="ann")
    assert said(store) == {"a": "anomaly", "b": "expected"}


def test_pipelines_in_one_database_do_not_see_each_other(store: VerdictStore, url: str) -> None:
    batch = store.decide(rows("a"), "anomaly", reviewer="ann", seen={})

    with VerdictStore.open(url, "orders") as other:
        assert other.current(NIGHT) == {}
        assert other.tokens() == {}
        with pytest.raises(ReviewError, match="a batch of verdicts to undo was required"):
            other.undo(batch, reviewer="ann")


def test_every_change_is_logged_with_its_author(store: VerdictStore) -> None:
    batch = store.decide(rows("a", "b"), "anomaly", reviewer="ann", seen={})
    store.undo(batch, reviewer="ben")

    undone, decided = store.log()
    assert (decided.author, decided.action, decided.dt, decided.count) == ("ann", "decided", NIGHT, 2)
    assert (undone.author, undone.action, undone.detail) == ("ben", "undone", "2 withdrawn")
    assert store.last_batch("ann") == batch


def test_after_a_night_is_scored_again_rows_are_found_by_their_key(store: VerdictStore) -> None:
    store.decide(rows("a", "b"), "anomaly", reviewer="ann", seen={})
    store.decide(rows("c"), "expected", reviewer="ann", seen={})

    assert store.adopt(NIGHT, found_again(("a", "b"), ("b", "a"), ("d", "c"))) == []
    assert said(store) == {"a": "anomaly", "b": "anomaly", "d": "expected"}
    assert store.current(NIGHT)["a"].row_key == '{"key": "b"}'
    assert [one.verdict for one in store.history(NIGHT, "d")] == ["expected"]


def test_a_row_that_is_gone_leaves_an_orphan_that_comes_back_with_it(store: VerdictStore) -> None:
    store.decide(rows("a", "b"), "anomaly", reviewer="ann", seen={})

    [orphan] = store.adopt(NIGHT, found_again(("a", "x"), ("b", "b")))
    assert (orphan.verdict, orphan.row_key, orphan.is_orphan) == ("anomaly", '{"key": "a"}', True)
    assert said(store) == {"b": "anomaly"}, "another row has its id now, and no verdict"
    store.decide([RowRef(NIGHT, "a", '{"key": "x"}')], "expected", reviewer="ben", seen={})

    assert store.adopt(NIGHT, found_again(("a", "x"), ("b", "b"), ("c", "a"))) == []
    assert said(store) == {"a": "expected", "b": "anomaly", "c": "anomaly"}


def test_a_key_of_two_rows_names_neither(store: VerdictStore) -> None:
    store.decide(rows("a"), "anomaly", reviewer="ann", seen={})

    [orphan] = store.adopt(NIGHT, found_again(("p", "a"), ("q", "a")))
    assert orphan.row_key == '{"key": "a"}'
    assert store.adopt(NIGHT, found_again(("p", "a"), ("a", "a"))) == [], "its own row has kept its id"


def test_without_key_columns_the_row_id_decides(store: VerdictStore) -> None:
    store.decide([RowRef(NIGHT, "a", "{}"), RowRef(NIGHT, "b", "{}")], "anomaly", reviewer="ann", seen={})

    [orphan] = store.adopt(NIGHT, pa.table({"row_id": ["a", "c"], "row_key": ["{}", "{}"]}))
    assert said(store) == {"a": "anomaly"}
    assert orphan.verdict == "anomaly"


def test_an_orphan_can_be_settled_like_any_other(store: VerdictStore) -> None:
    store.decide(rows("a"), "anomaly", reviewer="ann", seen={})
    [orphan] = store.adopt(NIGHT, found_again(("b", "b")))

    store.decide(
        [RowRef(NIGHT, orphan.row_id, orphan.row_key)], None, reviewer="ann", seen={orphan.row_id: orphan.id}
    )
    assert store.orphans() == []
    with pytest.raises(ReviewError, match="an orphan came that is none"):
        store.decide([RowRef(NIGHT, "orphan-77", None)], "anomaly", reviewer="ann", seen={})


@pytest.mark.parametrize(
    ("row_ids", "verdict", "reviewer", "note", "sentence"),
    [
        ((), "anomaly", "ann", "", "rows to settle were required"),
        (("",), "anomaly", "ann", "", "rows to settle were required"),
        (("a" * 65,), "anomaly", "ann", "", "rows to settle were required"),
        (
            ("a",),
            "weird",
            "ann",
            "",
            "a verdict of anomaly, expected, data error, investigating was required",
        ),
        (("a",), "anomaly", " ", "", "a reviewer's name was required"),
        (("a",), "anomaly", "a\nb", "", "a reviewer's name was required"),
        (("a",), "anomaly", "ann", "x" * 10_001, "a note of 10,000 characters at most was required"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    sqlite_url: str, row_ids: tuple[str, ...], verdict: str, reviewer: str, note: str, sentence: str
) -> None:
    with VerdictStore.open(sqlite_url, "flights") as store, pytest.raises(ReviewError, match=sentence):
        store.decide(rows(*row_ids), verdict, reviewer=reviewer, note=note, seen={})


def test_hostile_text_comes_back_as_it_was_said(store: VerdictStore) -> None:
    note = "'; DROP TABLE review_verdicts; -- <script>alert(1)</script>\n=1+1 \u2603 %s {x}"
    store.decide([RowRef(NIGHT, "a'b", '{"k": "\\u0000"}')], "anomaly", reviewer="o'neil", note=note, seen={})

    assert store.current(NIGHT)["a'b"].note == note


@pytest.mark.parametrize(
    "address", ["", "nonsense", "mysql://u:hush@h/d", "sqlite://", "postgresql://u:hush@h:x/d"]
)
def test_what_is_no_database_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(DatabaseError, match="VAEWATCH_REVIEW_DB: sqlite:///FILE or postgresql://") as caught:
        VerdictStore.open(address, "flights")
    assert "hush" not in str(caught.value)
