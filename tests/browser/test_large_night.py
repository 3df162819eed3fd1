"""A night of 100,000 flags, and years of nights before it: quick, and in bounded memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.processes import free_port
from flows.review_page import review_page
from tests.browser.people import Visitor, memory_of
from tests.browser.project import DAY, orders, project, write_families, write_night, write_years

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FLAGS, NIGHTS = 100_000, 1_000
SECONDS = 2.0
MEMORY = (
    700.0  # MiB of the page's process, with Streamlit, pandas and Arrow: 250 of them before a night is open
)


def test_a_night_of_100_000_flags_paints_and_filters_in_two_seconds(
    tmp_path: Path, visitor: Callable[..., Visitor], capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = project(tmp_path)
    write_families(pipeline, write_night(pipeline, orders(FLAGS)), 300)
    write_years(pipeline, NIGHTS)
    port = free_port()
    took: dict[str, float] = {}
    with review_page([pipeline], address="127.0.0.1", port=port) as page:
        guest = visitor(f"http://127.0.0.1:{port}")
        guest.visit("model")  # the first visit of all imports what the page needs

        def timed(name: str, act: Callable[[], object], seen: Callable[[], object]) -> None:
            start = time.perf_counter()
            act()
            seen()
            took[name] = time.perf_counter() - start
            guest.wait()

        def rows(text: str) -> Callable[[], object]:
            return lambda: guest.page.get_by_role("heading", name=text).wait_for()

        timed(
            "first paint", lambda: guest.page.goto(f"{guest.address}/night?date={DAY}"), rows("100,000 rows")
        )
        search = guest.page.get_by_role("textbox", name="Search")
        timed("search", lambda: (search.fill("chur"), search.press("Enter")), rows("of 100,000 rows"))
        timed(
            "search taken back",
            lambda: (search.fill(""), search.press("Enter")),
            lambda: guest.page.get_by_role("heading", name="100,000 rows", exact=True).wait_for(),
        )
        severity = guest.page.get_by_role("spinbutton", name="Severity from")
        timed("severity", lambda: (severity.fill("30"), severity.press("Enter")), rows("of 100,000 rows"))
        timed("nights", lambda: guest.page.goto(f"{guest.address}/"), rows("Nights"))
        peak = memory_of(page.guard.pid)

    with capsys.disabled():
        named = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items())
        print(f"\n{FLAGS:,} flags, {NIGHTS:,} nights: {named}; {peak:.0f} MiB; load {os.getloadavg()[0]:.1f}")
    slow = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert max(took.values()) < SECONDS * slow
    assert peak < MEMORY
    assert guest.foreign == []
