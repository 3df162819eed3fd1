"""Every page, in every size, light and dark: nothing is cut off, all has a name, nothing comes from afar."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from flows.config import Pipeline
from tests.browser.people import NIGHT, Serve, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a busy machine takes long to train and to draw

NAMELESS = """
[...document.querySelectorAll('[data-testid=stMain] :is(button, input, textarea, a[href], [role=combobox])')]
  .filter(one => one.offsetParent !== null && one.tabIndex >= 0)
  .filter(one => !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.labels?.length
                   || one.textContent.trim() || one.title || one.placeholder))
  .map(one => one.outerHTML.slice(0, 200))
"""
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"


@pytest.mark.parametrize(("size", "scheme"), [("1280", "light"), ("1920", "dark"), ("phone", "light")])
def test_every_page_is_whole_and_named(
    flights: Pipeline, serve: Serve, visitor: Callable[..., Visitor], size: str, scheme: str
) -> None:
    flags = pq.read_table(f"{flights.output_path}/flags/dt={NIGHT}/part-0.parquet", partitioning=None)
    pages = {
        "nights": "",
        "night": f"night?date={NIGHT}",
        "row": f"row?date={NIGHT}&row={flags['row_id'][0].as_py()}",
        "quarantine": f"quarantine?date={NIGHT}",
        "rules": "rules",
        "model": "model",
        "log": "log",
    }
    with serve(flights) as address:
        guest = visitor(address, size, scheme)
        for name, path in pages.items():
            guest.visit(path)
            guest.shot(f"{name}-{size}-{scheme}")
            assert guest.page.get_by_test_id("stException").count() == 0, name
            assert guest.page.evaluate(NAMELESS) == [], name
            assert not guest.page.evaluate(TOO_WIDE), name
            assert guest.page.locator("[data-testid=stDataFrame]:not(:has([aria-label]))").count() == 0, name
        background = guest.page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")

    assert (guest.foreign, guest.errors) == ([], [])
    assert (sum(map(int, background.strip("rgba()").split(",")[:3])) < 200) == (scheme == "dark")
