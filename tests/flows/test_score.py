"""A scheduled night is scored, whatever becomes of the nights before it that were missed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import flows.score  # noqa: F401  # the module, which its flow hides behind its own name
from flows.config import Pipeline, load_pipeline
from flows.errors import InputError

MODULE = sys.modules["flows.score"]
TONIGHT = date(2024, 3, 4)
MISSED = [date(2024, 3, day) for day in (1, 2, 3)]


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    (tmp_path / "mlflow.yml").touch()
    (tmp_path / "orders.yml").write_text("version: 1\nname: orders\nsource: {path: .}\noutput: results\n")
    return load_pipeline(tmp_path / "orders.yml")


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> None:
        raise error

    return fail


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets the second of three missed nights fail."""

    def arrange(error: BaseException) -> None:
        def score(_: str, day: str) -> dict[str, Any]:
            return raising(error)() if day == str(MISSED[1]) else {"date": day, "status": "scored"}

        monkeypatch.setattr(MODULE, "score", score)
        monkeypatch.setattr(MODULE, "missed", lambda *_: MISSED)

    return arrange


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("no file can be read"), "no file can be read"),
        (ValueError("an odd value"), "ValueError: an odd value"),
    ],
)
def test_a_missed_night_that_fails_holds_up_no_other(
    pipeline: Pipeline, scoring: Any, error: Exception, said: str
) -> None:
    """Whatever the error is, it is told in the report of its night."""
    scoring(error)

    assert MODULE._caught_up(pipeline, TONIGHT) == [
        {"date": "2024-03-01", "status": "scored"},
        {"date": "2024-03-02", "pipeline": "orders", "status": "failed", "error": said},
        {"date": "2024-03-03", "status": "scored"},
    ]


def test_who_stops_a_run_stops_it_among_missed_nights_too(pipeline: Pipeline, scoring: Any) -> None:
    scoring(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        MODULE._caught_up(pipeline, TONIGHT)


def test_missed_nights_that_cannot_be_found_hold_up_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is told, and logged, without a date."""
    monkeypatch.setattr(MODULE, "missed", raising(OSError("away")))

    told = MODULE._caught_up(pipeline, TONIGHT)

    assert told == [{"date": None, "pipeline": "orders", "status": "failed", "error": "OSError: away"}]
    assert "missed night (any) of orders: OSError: away" in caplog.text
