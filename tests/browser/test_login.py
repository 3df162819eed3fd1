"""A login by OpenID Connect, all the way: the page, a provider, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.config import Pipeline
from flows.processes import free_port
from flows.review_page import review_page
from review.database import default_url
from review.store import VerdictStore
from tests.browser.people import Visitor
from tests.browser.project import DAY, orders, project, write_night
from tests.browser.provider import Provider, provider

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOGIN = "review: {oidc: true, reviewers: [ann@example.org], viewers: [vic@example.org]}\n"


@contextmanager
def page(pipeline: Pipeline, door: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run the page of a pipeline behind a login."""
    port = free_port()
    settings = {
        "CLIENT_ID": door.client,
        "CLIENT_SECRET": door.secret,
        "METADATA_URL": f"{door.address}/.well-known/openid-configuration",
        "REDIRECT_URI": f"http://127.0.0.1:{port}/oauth2callback",
        "COOKIE_SECRET": "a cookie's secret of a test, 32 letters and more",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"VAEWATCH_OIDC_{name}", value)
    with review_page([pipeline], address="127.0.0.1", port=port):
        yield f"http://127.0.0.1:{port}"


def log_in(guest: Visitor, email: str, *, verified: bool = True, by: str = "Log in") -> None:
    """Go to the provider by the page's button, type a name there, and come back."""
    guest.page.get_by_role("button", name=by, exact=True).click()
    guest.page.get_by_role("textbox", name="E-mail").fill(email)
    guest.page.get_by_role("checkbox").set_checked(verified)
    guest.page.get_by_role("button", name="Enter").click()
    guest.page.wait_for_url(f"{guest.address}/**")
    guest.page.wait_for_selector("h1")
    guest.wait()


def test_who_logs_in_is_who_decides_and_nobody_else_gets_in(
    tmp_path: Path, visitor: Callable[..., Visitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = project(tmp_path, LOGIN)
    first = write_night(pipeline, orders(30))["row_id"][0].as_py()
    row = f"row?date={DAY}&row={first}"
    with provider(free_port()) as door, page(pipeline, door, monkeypatch) as address:
        nobody = visitor(address)
        nobody.page.context.add_cookies([{"name": "_streamlit_user", "value": "forged", "url": address}])
        for path in ("", f"night?date={DAY}", row, "rules", "model"):
            nobody.visit(path)
            nobody.sees("You are not let in")
            assert "Flagged" not in nobody.text()
            assert not nobody.page.get_by_role("dialog").count()
        nobody.shot("login-anonymous")

        log_in(nobody, "ann@example.org", verified=False)
        nobody.sees("a confirmed e-mail address was required")
        nobody.press("Log in as somebody else")
        log_in(nobody, "mallory@example.org")
        nobody.sees("You are not let in")

        vic = visitor(address)
        vic.visit()
        log_in(vic, "vic@example.org")
        vic.visit(f"night?date={DAY}")
        vic.sees("You may look, and not decide")

        ann = visitor(address)
        ann.visit()
        log_in(ann, "ann@example.org")
        ann.visit(row)
        ann.press("▲ anomaly")
        ann.sees("ann@example.org")
        ann.shot("login-reviewer")

    with VerdictStore.open(default_url(pipeline.root), pipeline.name) as book:
        assert book.settled() == {DAY: {"anomaly": 1}}
