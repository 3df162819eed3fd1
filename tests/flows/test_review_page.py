"""The review page as a process: where it listens, whom it answers, whom it calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from flows.errors import ConfigError
from flows.processes import free_port
from flows.review_page import review_page
from review.errors import AccessError
from tests.browser.project import DAY, orders, project, write_night


def test_beyond_this_machine_it_wants_a_login(tmp_path: Path) -> None:
    pipeline = project(tmp_path)
    page = review_page([pipeline], address="192.0.2.1", port=free_port())

    with pytest.raises(AccessError, match="a login was required"), page:
        pass


def test_pipelines_that_share_a_page_let_in_the_same_people(tmp_path: Path) -> None:
    one, other = project(tmp_path / "a"), project(tmp_path / "b", "review: {viewers: [vic]}\n")

    with (
        pytest.raises(ConfigError, match="one section `review`"),
        review_page([one, other], address="127.0.0.1", port=free_port()),
    ):
        pass


@pytest.mark.slow
def test_it_answers_its_own_pages_alone_and_calls_nobody(
    tmp_path: Path, connections: Callable[[], tuple[int, list[str]]], marked: Callable[[], dict[int, str]]
) -> None:
    pipeline = project(tmp_path)
    write_night(pipeline, orders(3))
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    with review_page([pipeline], address="127.0.0.1", port=port):
        answers = [
            httpx.get(url).status_code,
            httpx.get(f"{url}/night?date={DAY}").status_code,
            httpx.get(url, headers={"host": "evil.example"}).status_code,
            httpx.get(url, headers={"origin": "http://evil.example"}).status_code,
            httpx.get(
                f"{url}/_stcore/stream", headers={"host": "evil.example", "upgrade": "websocket"}
            ).status_code,
        ]

    assert answers == [200, 200, 403, 403, 403]
    assert connections()[1] == []
    assert marked() == {}
