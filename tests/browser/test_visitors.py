"""Who is let in, and what each may do: reviewers decide, viewers look, nobody else gets in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.people import Serve, Visitor, proxy
from tests.browser.project import DAY, orders, project, write_night

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HEADER = "X-Forwarded-User"
LOGIN = (
    "review: {proxy: {addresses: [127.0.0.1]}, reviewers: [ann@example.org], viewers: [vic@example.org]}\n"
)
PAGES = ("", f"night?date={DAY}", "row", "quarantine", "rules", "model")


def test_a_viewer_looks_and_an_anonymous_visitor_gets_in_nowhere(
    tmp_path: Path, serve: Serve, visitor: Callable[..., Visitor]
) -> None:
    pipeline = project(tmp_path, LOGIN)
    flags = write_night(pipeline, orders(30))
    first = flags["row_id"][0].as_py()
    with serve(pipeline) as address:
        for path in (*PAGES, f"row?date={DAY}&row={first}"):
            nobody = visitor(address)
            nobody.visit(path)
            nobody.sees("You are not let in")
            assert not nobody.page.get_by_role("link").filter(has_text="Night").count()
            assert "Flagged" not in nobody.text()
            nobody.page.context.close()

        with proxy(address, HEADER, "mallory@example.org") as door:
            stranger = visitor(door)
            stranger.visit()
            stranger.sees("You are not let in")
            stranger.shot("visitor-stranger")

        with proxy(address, HEADER, "vic@example.org") as door:
            vic = visitor(door)
            vic.visit(f"night?date={DAY}")
            vic.sees("You may look, and not decide")
            assert not vic.page.get_by_role("button", name="anomaly").count()
            assert "card" not in vic.table()[0]
            search = vic.page.get_by_role("textbox", name="Search")
            search.fill("card-0000003")
            search.press("Enter")
            vic.page.get_by_text("No flag is like that.").wait_for()
            assert "card-0000003" not in vic.page.url
            vic.shot("visitor-viewer")
            vic.visit(f"night?date={DAY}&sort=card")
            assert "sort=card" not in vic.page.url
            vic.visit(f"row?date={DAY}&row={first}")
            assert not vic.page.get_by_role("button", name="anomaly").count()
            cells = {row["Column"]: row["Value"] for row in vic.table()}
            assert cells["card"] == "(sensitive)"

        with proxy(address, HEADER, "ann@example.org") as door:
            ann = visitor(door)
            ann.visit(f"row?date={DAY}&row={first}")
            cells = {row["Column"]: row["Value"] for row in ann.table()}
            assert cells["card"].startswith("card-")
            ann.press("▲ anomaly")
            ann.sees("ann@example.org")
