"""A night in words."""

from __future__ import annotations

from typing import Any

import pytest

from flows.breaker import SHIFTED
from flows.report import (
    certification_text,
    counted,
    epochs_text,
    flags_table,
    night_line,
    night_markdown,
    policy_text,
    reason_text,
    selection_text,
)

REPORT: dict[str, Any] = {
    "pipeline": "orders",
    "date": "2024-03-01",
    "status": "scored",
    "seconds": 1.25,
    "files_in": 2,
    "files_scored": 1,
    "rows_in": 1201,
    "rows_scored": 1200,
    "rows_quarantined": 1,
    "rows_flagged": 1,
    "model": {"name": "orders", "version": "4"},
    "decision": {"fdr": 0.1},
    "certified": False,
    "not_certified": "the budget of 4 cut the selection",
    "calibration": {
        "rows": 5000,
        "contamination": 0.0002,
        "contamination_limit": 0.000948,
        "confirmed_left_out": 0,
    },
    "files": [
        {"path": "a|b.parquet", "reason": "no\nParquet", "warnings": []},
        {"path": "c.parquet", "reason": None, "warnings": []},
    ],
}
FLAG = {
    "vw_severity": 31.27,
    "vw_row_key": '{"id": 7}',
    "vw_reason_1_column": "shop",
    "vw_reason_1_kind": "unseen_category",
    "vw_reason_1_value": "<b>|x",
    "vw_reason_1_expected": "Bern",
}


def test_a_reason_says_the_value_and_what_was_expected() -> None:
    assert reason_text(FLAG, 1, "vw_") == "shop <b>|x (never seen before), expected Bern"


def test_a_reason_that_is_not_there_is_empty() -> None:
    assert reason_text(FLAG, 2, "vw_") == ""


def test_flags_for_people_have_a_severity_a_row_and_three_reasons() -> None:
    [row] = flags_table([FLAG], "vw_")

    assert (row["severity"], row["row"], row["reason 3"]) == (31.3, '{"id": 7}', "")


def test_values_of_the_table_cannot_break_the_page() -> None:
    lines = night_markdown(REPORT, [FLAG], "vw_").splitlines()

    assert "- a\\|b.parquet: no Parquet" in lines
    assert lines[-1] == '| 31.3 | {"id": 7} | shop &lt;b&gt;\\|x (never seen before), expected Bern |  |'


def test_a_night_that_is_not_certified_says_why_and_what_it_rests_on() -> None:
    known = "5,000 calibration rows, of which 0.02 % are estimated to be anomalies (95 % limit 0.095 %)."

    assert certification_text(REPORT) == f"Not certified: the budget of 4 cut the selection. {known}"
    assert certification_text(REPORT) in night_markdown(REPORT, [], "vw_").splitlines()


def test_a_certified_night_says_what_is_certified() -> None:
    said = certification_text(REPORT | {"certified": True, "not_certified": None})

    assert said.startswith("Certified: of the flags at most 10 % are expected to be false discoveries. ")


def test_nights_from_before_there_were_certificates_are_just_not_certified() -> None:
    assert certification_text({"certified": False, "not_certified": None, "calibration": {}}) == (
        "Not certified."
    )


def test_how_much_of_a_night_is_noise_is_said_unless_it_has_shifted() -> None:
    """What a shifted night's flags are is unknown: in the incident, and when all of them are asked for."""
    night = REPORT | {"selection": {"selected": 900, "left_out": 0, "noise_expected": 12.0}}
    incident: dict[str, Any] = {
        "incident": {"sentence": "900 of 1,200 rows are odd"},
        "not_certified": SHIFTED,
    }
    tripped = [night | incident, night | incident | {"incident": None}]

    assert selection_text(night) == "About 12 of the 1 flags are expected to be noise."
    for report in tripped:
        assert selection_text(report) == "Flagged are 1 of the 900 rows that the policy selects."
        assert "noise" not in night_markdown(report, [])
        assert certification_text(report).startswith("Not certified: most of the night is odd: ")


def test_a_night_without_flags_has_no_noise_to_speak_of() -> None:
    selection = {"selected": 0, "left_out": 0, "noise_expected": 0.0}

    assert selection_text(REPORT | {"rows_flagged": 0, "selection": selection}) == ""


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"contamination": 0.005}, "contamination 0.5 %"),
        ({"fdr": 0.1, "budget": 1200}, "fdr 10 %, budget 1,200"),
        ({"contamination": None, "fdr": None, "budget": 5}, "budget 5"),
    ],
)
def test_a_policy_is_told_in_words(decision: dict[str, Any], said: str) -> None:
    assert policy_text(decision) == said


def test_one_thing_is_told_in_the_singular() -> None:
    assert [counted(number, "file") for number in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]
    assert epochs_text({"epochs": 1, "epochs_resumed": 0}) == "1 epoch"


def test_a_night_in_one_line_says_how_long_it_took_or_that_it_was_done() -> None:
    assert night_line(REPORT).split() == [
        "2024-03-01",
        "1,201",
        "rows",
        "1",
        "quarantined",
        "1",
        "flagged",
        "1.2",
        "s",
    ]
    assert night_line(REPORT | {"status": "unchanged"}).endswith("already scored")
    assert night_line({"date": "2024-03-01", "status": "skipped"}).endswith("nothing has arrived, skipped")
