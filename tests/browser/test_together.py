"""Several people at once, links that are sent, results that vanish."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from review.database import default_url
from review.store import VerdictStore
from tests.browser.people import Serve, Visitor
from tests.browser.project import DAY, orders, project, write_night

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_two_people_never_overwrite_each_other_silently(
    tmp_path: Path, serve: Serve, visitor: Callable[..., Visitor]
) -> None:
    """The second is told who was faster; a link shows a colleague just what was filtered."""
    pipeline = project(tmp_path)
    flags = write_night(pipeline, orders(250))
    row = flags["row_id"][0].as_py()
    with serve(pipeline) as address:
        ann, ben = visitor(address), visitor(address)
        for guest in (ann, ben):
            guest.visit(f"row?date={DAY}&row={row}")
        ann.key("a")
        ann.page.get_by_text("▲ anomaly").nth(1).wait_for()
        ben.key("e")
        ben.page.get_by_text("the verdict that you looked at was required to be the last").wait_for()
        ben.shot("together-conflict")

        ann.visit(f"night?date={DAY}")
        ann.page.get_by_role("spinbutton", name="Severity from").fill("15")
        ann.page.get_by_role("spinbutton", name="Severity from").press("Enter")
        ann.page.get_by_role("heading", name="of 250 rows").wait_for()
        found = ann.page.get_by_role("heading", name="of 250 rows").inner_text()
        ann.wait()
        link = ann.page.url
        assert "severity=15" in link
        ben.visit(link.removeprefix(f"{address}/"))
        assert ben.page.get_by_role("heading", name="of 250 rows").inner_text() == found

        ann.visit(f"night?date={DAY}")
        ann.page.get_by_text("all 250 rows found").click()
        ann.wait()
        ann.page.get_by_role("button", name="✓ expected").click()
        still_open = ann.page.get_by_test_id("stMetric").filter(has_text="Open")
        still_open.get_by_text("0", exact=True).wait_for()

        shutil.rmtree(pipeline.output_path)
        ben.visit(f"night?date={DAY}")
        ben.sees("No scored night")

    with VerdictStore.open(default_url(pipeline.root), "orders") as store:
        assert store.settled() == {DAY: {"expected": 250}}
        assert [one.verdict for one in store.history(DAY, row)] == ["anomaly", "expected"]
