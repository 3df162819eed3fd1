"""Who may talk to a server of this machine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flows.loopback import LoopbackOnly

HOST = ("host", "127.0.0.1:4200")


def answered(*headers: tuple[str, str], kind: str = "http") -> list[dict[str, Any]]:
    """Return the messages that a request gets from a guarded application, which answers 200 to all."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing more is asked for")

    scope = {"type": kind, "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]}
    asyncio.run(LoopbackOnly(app, 4200)(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [("host", "localhost:4200")],
        [("host", "LOCALHOST:4200")],
        [HOST, ("origin", "http://127.0.0.1:4200")],
        [HOST, ("origin", "http://localhost:4200")],
    ],
)
def test_this_machine_and_the_server_s_own_page_are_answered(headers: list[tuple[str, str]]) -> None:
    assert answered(*headers)[0]["status"] == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("host", "evil.example")],
        [("host", "evil.example:4200")],
        [("host", "10.evil.example:4200")],
        [("host", "127.0.0.1.evil.example:4200")],
        [("host", "127.0.0.1:4200@evil.example")],
        [("host", "127.0.0.1:5000")],
        [("host", "127.0.0.1")],
        [HOST, ("host", "evil.example")],
        [HOST, ("origin", "http://evil.example")],
        [HOST, ("origin", "null")],
        [HOST, ("origin", "")],
        [HOST, ("origin", "https://127.0.0.1:4200")],
        [HOST, ("origin", "http://127.0.0.1:8501")],
        [HOST, ("origin", "http://127.0.0.1:4200"), ("origin", "http://evil.example")],
        [HOST, ("origin", "http://\xe9vil.example")],
    ],
)
def test_foreign_hosts_and_origins_are_refused(headers: list[tuple[str, str]]) -> None:
    start, body = answered(*headers)
    (closed,) = answered(*headers, kind="websocket")

    assert start["status"] == 403
    assert body["body"].endswith(b"only pages of this server are answered\n")
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


def test_the_start_of_the_server_itself_passes() -> None:
    assert answered(kind="lifespan")[0]["status"] == 200
