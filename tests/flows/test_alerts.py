"""People are told once a cause, again when it changes, and a night never fails for it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import alerts
from flows.alerts import Alert, all_is_well, tell
from flows.breaker import incident_of
from flows.config import Pipeline, load_pipeline
from flows.errors import ConfigError
from flows.manifest import Manifest, ManifestInput, ManifestModel

DAY = date(2024, 3, 4)
PIPELINE = """
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
"""
Webhook = tuple[str, list[dict[str, str]]]


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the events that are emitted; that they reach a server is shown where whole flows run."""
    import prefect.events

    emitted: list[str] = []

    def emit(event: str, **_: Any) -> str:
        emitted.append(event)
        return event

    monkeypatch.setattr(prefect.events, "emit_event", emit)
    return emitted


@pytest.fixture
def pipeline(tmp_path: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Return a pipeline whose alerts go to the webhook, which has received nothing yet."""
    monkeypatch.setenv("VAEWATCH_ALERTS", webhook[0])
    webhook[1].clear()
    return written(tmp_path)


def written(folder: Path, more: str = "") -> Pipeline:
    """Write a pipeline file and read it."""
    file = folder / "orders.yml"
    file.write_text(PIPELINE + more)
    (folder / "mlflow.yml").write_text("experiment: tests\n")
    return load_pipeline(file)


def manifest_of(flagged: int, odd: int, pipeline: Pipeline) -> Manifest:
    """Return the manifest of a night of 1,000 rows."""
    return Manifest(
        pipeline="orders",
        date=DAY,
        files_in=1,
        files_scored=1,
        files_rejected=0,
        rows_in=1000,
        rows_scored=1000,
        rows_quarantined=0,
        rows_flagged=flagged,
        inputs=(ManifestInput(path="a", size=1, digest="d", rows=1000, status="scored"),),
        outputs=(),
        pipeline_digest="sha256:0",
        model=ManifestModel(name="orders", version="1", run_id="r"),
        decision={},
        certified=False,
        scored_at="2024-03-05T03:30:00+00:00",
        incident=incident_of(pipeline, odd, 1000),
    )


def titles(webhook: Webhook) -> list[str]:
    """Return what the messages that came are about."""
    return [one["title"].removeprefix("vaewatch orders: ") for one in webhook[1]]


def test_the_same_thing_is_told_once(pipeline: Pipeline, webhook: Webhook, events: list[str]) -> None:
    for _ in range(3):
        tell(pipeline, Alert("drift", "model", "Drifted: amount."))

    assert [one["message"] for one in webhook[1]] == ["Drifted: amount."]
    assert events == ["vaewatch.drift"]


def test_a_change_is_told_and_so_is_what_comes_back(pipeline: Pipeline, webhook: Webhook) -> None:
    tell(pipeline, Alert("drift", "model", "Drifted: amount."))
    tell(pipeline, Alert("drift", "model", "Drifted: amount, shop."))
    all_is_well(pipeline, "drift", "model")
    tell(pipeline, Alert("drift", "model", "Drifted: amount, shop."))

    assert len(webhook[1]) == 3


def test_what_does_not_count_as_a_change_is_not_told(pipeline: Pipeline, webhook: Webhook) -> None:
    tell(pipeline, Alert("drift", "model", "Night 4: amount 0.31", "amount"))
    tell(pipeline, Alert("drift", "model", "Night 5: amount 0.33", "amount"))

    assert len(webhook[1]) == 1


def test_kinds_that_are_not_asked_for_are_not_told(
    tmp_path: Path, webhook: Webhook, events: list[str], pipeline: Pipeline
) -> None:
    quiet = written(tmp_path, "alerts: {kinds: [night_failed]}\n")
    tell(quiet, Alert("drift", "model", "Drifted: amount."))
    tell(quiet, Alert("night_failed", "2024-03-04", "It failed."))

    assert titles(webhook) == ["night failed"]
    assert events == ["vaewatch.night_failed"]


def test_all_addresses_of_all_variables_are_told(
    tmp_path: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline
) -> None:
    monkeypatch.setenv("CHAT", f"{webhook[0]}one {webhook[0]}two")
    tell(written(tmp_path, "alerts: {notify: [CHAT, VAEWATCH_ALERTS]}\n"), Alert("drift", "model", "Drift."))

    assert len(webhook[1]) == 3


def test_an_address_that_fails_is_tried_again_and_the_others_are_told_once(
    pipeline: Pipeline,
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither the log nor the memory holds an address: it is a secret."""
    monkeypatch.setenv("VAEWATCH_ALERTS", f"json://127.0.0.1:9/s3cret {webhook[0]}")
    tell(pipeline, Alert("drift", "model", "Drift."))
    monkeypatch.setenv("VAEWATCH_ALERTS", f"{webhook[0]}again {webhook[0]}")
    tell(pipeline, Alert("drift", "model", "Drift."))

    assert len(webhook[1]) == 2
    assert "drift could not be told to an address of kind json" in caplog.text
    kept = "".join(file.read_text() for file in Path(pipeline.output_path).rglob("*.json"))
    assert "s3cret" not in caplog.text + kept


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("nonsense", "unknown"),
        ("unknown://s3cret", "unknown"),
        ("json://", "json"),
        ("T00000000/B0000/s3cret", "unknown"),
        ("s3cret:half", "unknown"),
        ("s3cret of://x", "unknown"),
        ("s3cret@example.com", "unknown"),
    ],
)
def test_what_is_no_address_is_logged_without_it(
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    address: str,
    kind: str,
) -> None:
    """A password with blanks falls into pieces that are no addresses, and still are secrets."""
    monkeypatch.setenv("VAEWATCH_ALERTS", address)
    with caplog.at_level(logging.DEBUG):
        tell(pipeline, Alert("drift", "model", "Drift."))

    assert f"could not be told to an address of kind {kind}; " in caplog.text
    assert "s3cret" not in caplog.text


def test_a_place_that_cannot_be_written_fails_no_night(
    tmp_path: Path, webhook: Webhook, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    """The message is sent all the same: rather twice than never."""
    (tmp_path / "results").write_text("a file where a folder was to be")
    tell(pipeline, Alert("drift", "model", "Drift."))

    assert titles(webhook) == ["drift"]
    assert "cannot tell of drift" in caplog.text


def test_a_memory_that_was_damaged_is_taken_for_none(pipeline: Pipeline, webhook: Webhook) -> None:
    alert = Alert("drift", "model", "Drift.")
    tell(pipeline, alert)
    (Path(pipeline.output_path) / alert.key).write_text("{")
    tell(pipeline, alert)

    assert len(webhook[1]) == 2


def test_a_night_with_too_many_flags_is_told(pipeline: Pipeline, webhook: Webhook) -> None:
    alerts.night_scored(pipeline, manifest_of(60, 60, pipeline))

    assert titles(webhook) == ["flag share"]
    assert webhook[1][0]["message"] == ("Night 2024-03-04: 6.0% of 1,000 rows are flagged, more than 5.0%.")


def test_a_night_that_tripped_the_breaker_is_told_as_that_and_nothing_else(
    pipeline: Pipeline, webhook: Webhook
) -> None:
    alerts.night_scored(pipeline, manifest_of(700, 700, pipeline))

    assert titles(webhook) == ["breaker tripped"]
    assert "700 of 1,000 rows (70%) are odd, where 0.5% are usual" in webhook[1][0]["message"]


def test_an_ordinary_night_tells_nothing_and_ends_what_was_wrong(
    pipeline: Pipeline, webhook: Webhook
) -> None:
    """So a night that fails again later is told again."""
    alerts.night_late(pipeline, DAY, "nothing has arrived")
    alerts.night_scored(pipeline, manifest_of(5, 5, pipeline))
    alerts.night_late(pipeline, DAY, "nothing has arrived")

    assert titles(webhook) == ["night late", "night late"]


def failure(file: Path) -> tuple[Any, Any]:
    """Return a run and its state as Prefect gives them to a hook."""
    run = SimpleNamespace(
        parameters={"pipeline": str(file), "date": None},
        expected_start_time=datetime(2024, 3, 5, 3, 30, tzinfo=UTC),
    )
    return run, SimpleNamespace(message="Flow run encountered an exception: InputError: no such folder")


def test_a_failed_night_is_told_with_its_logical_date(pipeline: Pipeline, webhook: Webhook) -> None:
    alerts.flow_failed(None, *failure(pipeline.file))

    (message,) = webhook[1]
    assert message["message"] == "Night 2024-03-04 failed: InputError: no such folder"
    assert message["type"] == "failure"


def test_a_night_that_fails_for_its_pipeline_file_is_told_to_the_usual_addresses(
    pipeline: Pipeline, webhook: Webhook
) -> None:
    pipeline.file.write_text("version: two\n")
    alerts.flow_failed(None, *failure(pipeline.file))

    assert titles(webhook) == ["night failed"]


def test_an_address_in_a_pipeline_file_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names of environment variables") as refusal:
        written(tmp_path, "alerts: {notify: ['slack://s3cret']}\n")

    assert "s3cret" not in str(refusal.value)


def test_a_challenger_is_told_for_information(pipeline: Pipeline, webhook: Webhook) -> None:
    alerts.challenger_ready(pipeline, "orders", "2", "Of 100 planted errors VAE 90% were found.")

    assert [(one["type"], one["message"].split(".")[0]) for one in webhook[1]] == [
        ("info", "Version 2 of model orders is a challenger")
    ]


def test_the_memory_is_hidden_below_the_results(pipeline: Pipeline, webhook: Webhook) -> None:
    tell(pipeline, Alert("drift", "model", "Drift."))

    memory = json.loads((Path(pipeline.output_path) / ".alerts/drift/model.json").read_text())
    assert memory["message"] == "Drift."
    assert len(memory["told"]) == 1
