"""A morning at the page, over real flights: look, understand, settle, take along, teach."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows.config import Pipeline
from flows.manifest import read_manifest
from flows.processes import free_port
from flows.review_page import review_page
from flows.storage import Store
from tests.browser.people import NEXT, NIGHT, Serve, Visitor, flows_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a busy machine takes long to train and to draw


def _family(guest: Visitor) -> None:
    """Open the family of flights to San Francisco."""
    cards = guest.page.locator(".st-key-families").get_by_test_id("stVerticalBlock")
    card = cards.filter(has_text="SFO").filter(has=guest.page.get_by_role("link", name="Open family"))
    card.last.get_by_role("link", name="Open family").click()
    guest.wait()


def test_a_morning_with_the_flights_to_san_francisco(
    flights: Pipeline, serve: Serve, visitor: Callable[..., Visitor]
) -> None:
    """Find the family, read a row, settle, undo, settle again, export; a colleague sees it."""
    with serve(flights) as address:
        ann = visitor(address)
        ann.visit()
        ann.shot("story-1-nights")
        ann.click_cell(0, 55)
        ann.sees("Saturday, 6 July 2013")

        _family(ann)
        assert "SFO" in ann.page.locator(".st-key-family").inner_text()
        family = ann.page.url
        rows = ann.table("Flagged rows")
        ann.shot("story-2-family")
        assert len(rows) > 1

        ann.click_cell(0, 60)
        ann.sees("Why it stands out")
        ann.sees("expected")
        ann.shot("story-3-row")
        ann.follow("Saturday, 6 July 2013")
        ann.sees("Family:")

        ann.key("d")
        ann.sees(f"{len(rows)} settled")
        assert ann.verdicts("✗ data error")

        ann.key("u")
        ann.sees("0 settled")
        assert ann.verdicts("")

        ann.page.get_by_placeholder("Note: why").fill("crash at SFO")
        ann.page.get_by_placeholder("Note: why").press("Enter")
        ann.wait()
        ann.press("✓ expected")
        assert ann.verdicts("✓ expected")
        ann.shot("story-4-settled")

        with ann.page.expect_download() as download:
            ann.page.get_by_role("button", name="CSV").click()
        saved = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
        assert [row["dest"] for row in saved] == ["SFO"] * len(rows)
        assert {row["review_verdict"] for row in saved} == {"expected"}

        ben = visitor(address)
        ben.visit(family.removeprefix(f"{address}/"))
        assert ben.verdicts("✓ expected")
        ben.click_cell(0, 60)
        ben.page.get_by_text("History", exact=True).click()
        ben.page.locator("canvas table").get_by_text("crash at SFO").first.wait_for(state="attached")

        ben.visit("log")
        lines = ben.table("Who said or changed what, when")
        assert [line["What"] for line in lines] == ["settled rows", "took settled rows back", "settled rows"]
        assert {line["Night"] for line in lines} == {"Saturday, 6 July 2013"}
        ben.shot("story-5-log")
        assert ann.foreign + ben.foreign == []
        assert ann.errors + ben.errors == []


def test_a_row_leads_to_the_runs_that_made_it(
    flights: Pipeline, visitor: Callable[..., Visitor], prefect_server: str
) -> None:
    """Links to the model, to the run that trained it, and to Prefect's run of the night, known to it."""

    def run_of(flow_run_id: str | None) -> dict[str, Any]:
        from prefect import get_client

        with get_client(sync_client=True) as client:
            return client.read_flow_run(UUID(flow_run_id)).parameters

    port, mlflow, prefect = free_port(), "http://127.0.0.1:5000", "http://127.0.0.1:4200"
    with review_page([flights], address="127.0.0.1", port=port, mlflow=mlflow, prefect=prefect):
        ann = visitor(f"http://127.0.0.1:{port}")
        ann.visit()
        ann.click_cell(0, 55)
        _family(ann)
        ann.click_cell(0, 60)
        ann.page.get_by_text("Model and run", exact=True).click()
        ann.wait()
        names = ("Run in MLflow", "Model version in MLflow", "Flow run in Prefect")
        links = [ann.page.get_by_role("link", name=name).get_attribute("href") or "" for name in names]
        ann.shot("story-row-runs")

    manifest = read_manifest(Store.of(flights.output_path), NIGHT)
    assert manifest is not None
    assert links == [
        f"{mlflow}/#/runs/{manifest.model.run_id}",
        f"{mlflow}/#/models/{manifest.model.name}/versions/{manifest.model.version}",
        f"{prefect}/runs/flow-run/{manifest.flow_run_id}",
    ]
    known = flows_of(flights.root, lambda: run_of(manifest.flow_run_id))
    assert known["date"] == str(NIGHT)


def test_after_the_next_night_the_rule_holds(
    flights: Pipeline, serve: Serve, visitor: Callable[..., Visitor], prefect_server: str
) -> None:
    """A rule is tried on past nights, saved, and hides the family in the night that is scored then."""

    def score_next() -> None:
        from flows.score import score

        score(str(flights.file), str(NEXT))

    with serve(flights) as address:
        ann = visitor(address)
        ann.visit(f"night?date={NIGHT}")
        _family(ann)
        many = len(ann.table("Flagged rows"))
        ann.follow("Make it a rule")
        ann.press("Try it on past nights")
        ann.sees(f"would have hidden {many} flags")
        ann.shot("rules-tried")
        ann.press("Save the rule")
        ann.sees("are expected")

        flows_of(flights.root, score_next)

        ann.visit(f"night?date={NEXT}")
        assert ann.page.get_by_text("hidden by rules").count() == 1
        ann.shot("rules-next-night")
        ann.visit(f"night?date={NIGHT}")
        ann.sees(f"Show {many} hidden by rules")
