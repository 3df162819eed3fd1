"""Many nights of the past: what is planned, with which model, and what one bad night does to the others."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.cli import main
from flows.config import Pipeline
from flows.context import registry_of
from flows.errors import ConfigError, RegistryError
from flows.planning import plan
from flows.verbs.nights import _tell, exit_code

Days = Callable[[int], list[date]]


def versions(pipeline: Pipeline, nights: list[date]) -> list[set[str]]:
    """Return the model versions that the flags of nights name."""
    folder = Path(pipeline.output_path) / "flags"
    files = [folder / f"dt={night}" / "part-0.parquet" for night in nights]
    return [set(pq.ParquetFile(file).read(["model_version"])[0].to_pylist()) for file in files]


def test_a_plan_names_each_night_of_the_span_with_what_is_to_be_done(project: Any, days: Days) -> None:
    first, second, third = days(3)
    project.land(first)
    project.land(third)

    steps = plan(project.pipeline(on_missing="skip"), first, third)

    assert [(step.day, step.action, step.version) for step in steps] == [
        (first, "score", "1"),
        (second, "skip", None),
        (third, "score", "1"),
    ]
    assert [step.why for step in steps] == ["not scored yet", "no file has arrived", "not scored yet"]


@pytest.mark.parametrize("on_missing", ["wait", "fail"])
def test_a_night_without_files_fails_with_what_to_do(project: Any, days: Days, on_missing: str) -> None:
    first, second = days(2)
    project.land(first)

    steps = plan(project.pipeline(on_missing=on_missing), first, second)

    assert steps[1].action == "fail"
    assert f"files of {second} were required, however none has arrived" in steps[1].why


def test_as_of_takes_the_version_that_was_live_when_the_night_was_due(
    project: Any, days: Days, went_live: Callable[..., None]
) -> None:
    """Night 1 March is due at 03:30 of 2 March, New York's time, which is 08:30 UTC."""
    pipeline, nights = project.pipeline(), days(4)
    for night in nights:
        project.land(night)
    went_live(
        pipeline,
        ("1", datetime(2024, 3, 3, 8, 30, tzinfo=UTC)),
        ("2", datetime(2024, 3, 4, 8, 30, 1, tzinfo=UTC)),
    )

    steps = plan(pipeline, nights[0], nights[-1], as_of=True)

    assert [step.version for step in steps] == [None, "1", "1", "2"]
    assert steps[0].action == "fail"
    assert "the journal knows of none; choose one with --model VERSION" in steps[0].why


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"reverse": True},
            "a first night before the last one was required, however 2024-03-02 to 2024-03-01",
        ),
        ({"version": "1", "as_of": True}, "one choice of the model was required"),
        ({"version": "7"}, "a version of model 'orders' was required, however version='7' came; it has 2, 1"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    project: Any, days: Days, settings: dict[str, Any], said: str
) -> None:
    span = sorted(days(2), reverse=settings.pop("reverse", False))
    project.land(span[0])

    with pytest.raises((ConfigError, RegistryError), match=said):
        plan(project.pipeline(), *span, **settings)


def test_a_source_without_dates_cannot_be_filled_back(project: Any, days: Days) -> None:
    project.land(days(1)[0])
    pipeline = project.pipeline()
    pipeline.file.write_text(pipeline.file.read_text().replace(", partition: dt", ""))
    from flows.config import load_pipeline

    with pytest.raises(ConfigError, match="nights that can be told apart were required"):
        plan(load_pipeline(pipeline.file), *days(2))


def test_of_monthly_files_the_first_days_of_months_count(project: Any, days: Days) -> None:
    pipeline = project.pipeline(on_missing="skip")
    pipeline.file.write_text(
        pipeline.file.read_text().replace("partition: dt", 'date_pattern: "dt=%Y-%m-01/"')
    )
    project.land(days(1)[0])
    from flows.config import load_pipeline

    steps = plan(load_pipeline(pipeline.file), date(2024, 1, 15), date(2024, 4, 2))

    assert [(step.day.month, step.day.day, step.action) for step in steps] == [
        (2, 1, "skip"),
        (3, 1, "score"),
        (4, 1, "skip"),
    ]


@pytest.fixture
def vaewatch(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], prefect_server: str
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command of a pipeline: exit code, stdout, stderr."""

    def run(pipeline: Pipeline, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vaewatch", *words, "--pipeline", str(pipeline.file)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code is None or isinstance(end.value.code, int)
        return (end.value.code or 0, *capfd.readouterr())

    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Return a function that sets the journal's clock."""
    import flows.journal

    def set_to(at: datetime) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return at.astimezone(tz)

        monkeypatch.setattr(flows.journal, "datetime", Clock)

    return set_to


@pytest.fixture
def aliases(project: Any) -> Iterator[None]:
    """Put the aliases of the shared model back where they were."""
    registry = registry_of(project.pipeline())
    before = registry.aliases()
    yield
    for alias, version in before.items():
        registry.set_alias(alias, version)


def span(nights: list[date]) -> list[str]:
    return ["--from", str(nights[0]), "--to", str(nights[-1])]


@pytest.mark.slow
@pytest.mark.usefixtures("aliases")
def test_nights_are_filled_back_each_once_and_a_bad_one_holds_up_no_other(
    project: Any, days: Days, clock: Callable[[datetime], None], vaewatch: Any
) -> None:
    """Two at once; the flags name the version of their night; a second command finds nothing to do.

    Version 1 is live in January, where `vaewatch models` notices it; `vaewatch promote` makes version 2 live
    in the middle of the nights.
    """
    pipeline, nights = project.pipeline(), days(4)
    for night in nights:
        project.land(night)
    broken = project.land(nights[1])
    broken.write_text("id,amount\n1,2\n")
    clock(datetime(2024, 1, 1, tzinfo=UTC))
    known = vaewatch(pipeline, "models")
    clock(datetime(2024, 3, 4, tzinfo=UTC))
    promoted = vaewatch(pipeline, "promote", "--force")

    listed = vaewatch(pipeline, "backfill", *span(nights), "--as-of", "--dry-run", "--newest-first")
    code, out, err = vaewatch(pipeline, "backfill", *span(nights), "--as-of", "--parallel", "2", "--json")
    again = vaewatch(pipeline, "backfill", *span(nights), "--as-of")

    assert [known[0], promoted[0], listed[0]] == [0, 0, 0]
    assert [line.split()[:3] for line in listed[1].splitlines()[1:]] == [
        [str(night), "score", version] for night, version in zip(nights[::-1], "2211", strict=True)
    ]
    reports = json.loads(out)
    assert code == 1
    assert [report["status"] for report in reports] == ["scored"] * 4
    assert [report["files_rejected"] for report in reports] == [0, 1, 0, 0]
    assert [report["version"] for report in reports] == ["1", "1", "2", "2"]
    assert versions(pipeline, [nights[0], *nights[2:]]) == [{"1"}, {"2"}, {"2"}]
    assert again[0] == 1
    assert [line.split()[1] for line in again[1].splitlines()[1:]] == [
        "unchanged",
        "rejected",
        "unchanged",
        "unchanged",
    ]
    for told in (err, again[2]):
        assert told.startswith(f"vaewatch: {nights[1]}: {broken}: ")


def test_a_plan_in_which_nights_fail_ends_with_1(project: Any, days: Days, vaewatch: Any) -> None:
    pipeline, nights = project.pipeline(), days(2)
    project.land(nights[0])

    whole = vaewatch(pipeline, "backfill", *span(nights[:1]), "--dry-run")
    gaps = vaewatch(pipeline, "backfill", *span(nights), "--dry-run", "--json")

    assert whole[0] == 0
    assert gaps[0] == 1
    assert [one["action"] for one in json.loads(gaps[1])] == ["score", "fail"]


HEAD = {"version": "1", "why": "not scored yet", "error": None, "rows_in": 9, "rows_quarantined": 0}
BAD = {"status": "rejected", "reason": "a.parquet: missing: amount"}


@pytest.mark.parametrize(
    ("report", "word", "code"),
    [
        ({"status": "scored", "files": [], "files_rejected": 0, "files_scored": 1}, "scored", 0),
        ({"status": "scored", "files": [BAD], "files_rejected": 1, "files_scored": 0}, "rejected", 1),
        ({"status": "unchanged", "files": [BAD], "files_rejected": 1, "files_scored": 1}, "partial", 3),
        ({"status": "scored", "files": [], "rows_quarantined": 8}, "partial", 3),
        ({"status": "scored", "files": [], "incident": {"sentence": "most rows are odd"}}, "incident", 3),
        ({"status": "skipped"}, "skipped", 0),
        ({"status": "failed", "error": "no champion"}, "failed", 1),
    ],
)
def test_the_table_of_nights_has_a_word_for_each_and_says_what_is_wrong(
    project: Any, capsys: pytest.CaptureFixture[str], report: dict[str, Any], word: str, code: int
) -> None:
    """The reasons follow on stderr, as those of a single night do."""
    told = {"date": "2024-03-01", **HEAD, **report}

    _tell(project.pipeline(), [told], as_json=False)

    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].split()[:2] == ["2024-03-01", word]
    assert exit_code(project.pipeline(), told) == code
    assert bool(shown.err) == (word in ("rejected", "partial", "incident"))
    assert all(line.startswith("vaewatch: 2024-03-01: ") for line in shown.err.splitlines())


@pytest.mark.slow
def test_ctrl_c_ends_a_backfill_at_once_and_the_same_command_goes_on(
    project: Any, days: Days, vaewatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The night in progress would take minutes; the one after it is not begun."""
    from flows.score import score

    pipeline, nights, long_night = project.pipeline(), days(3), threading.Event()
    begun: list[str] = []
    for night in nights:
        project.land(night)

    def slow(file: str, day: str, **more: Any) -> Any:
        begun.append(day)
        if day == str(nights[1]):
            os.kill(os.getpid(), signal.SIGINT)
            assert long_night.wait(120)
            raise ConfigError("nobody waits for this night any more")
        return score(file, day, **more)

    def leave(code: int) -> None:
        raise SystemExit(code)

    with monkeypatch.context() as patch:
        patch.setattr("flows.backfill.score", slow)
        patch.setattr(os, "_exit", leave)
        code, out, errors = vaewatch(pipeline, "backfill", *span(nights))
        was_waited_for = long_night.is_set()
        long_night.set()
    again = vaewatch(pipeline, "backfill", *span(nights))

    assert (code, was_waited_for, begun) == (130, False, [str(night) for night in nights[:2]])
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [[str(nights[0]), "scored"]]
    said = "vaewatch: stopped, 1 of 3 nights are done; the same command goes on from here"
    assert errors.splitlines()[-1] == said
    assert again[0] == 0
    assert [line.split()[1] for line in again[1].splitlines()[1:]] == ["unchanged", "scored", "scored"]
