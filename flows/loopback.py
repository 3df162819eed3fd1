"""Servers of this machine alone: they listen on 127.0.0.1, and answer only pages of their own.

A server on the loopback is out of reach of other machines, not of the browser on this one: any web page may
send requests to it (its ``Origin`` is foreign), and a page whose name is made to point to 127.0.0.1 may even
read the answers (its ``Host`` is foreign). Neither Prefect nor MLflow refuses both; so `LoopbackOnly` stands
before either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

__all__ = ["ADDRESS", "LoopbackOnly", "origins", "serve"]

ADDRESS = "127.0.0.1"
"""Where all our servers listen."""

_NAMES = (ADDRESS, "localhost")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def origins(port: int) -> list[str]:
    """Return the origins of the pages of a server on a port of this machine."""
    return [f"http://{name}:{port}" for name in _NAMES]


class LoopbackOnly:
    """An ASGI application that answers 403 to requests with a foreign ``Host`` or ``Origin``.

    Parameters
    ----------
    app
        The application that answers all others.
    port
        Where it listens.
    """

    def __init__(self, app: App, port: int) -> None:
        self._app = app
        self._origins = origins(port)
        self._hosts = [origin.removeprefix("http://") for origin in self._origins]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "foreign Host or Origin"})
        else:
            await _forbid(send, refusal)

    def _refusal(self, scope: Scope) -> str | None:
        hosts = list(_values(scope, b"host"))
        foreign = [origin for origin in _values(scope, b"origin") if origin not in self._origins]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return f"the Host {' or '.join(self._hosts)} was required"
        if foreign:
            return f"the Origin {' or '.join(self._origins)}, or none, was required"
        return None


def _values(scope: Scope, name: bytes) -> Iterator[str]:
    return (value.decode("latin-1").lower() for key, value in scope["headers"] if key == name)


async def _forbid(send: Send, refusal: str) -> None:
    body = f"{refusal}, however another came: only pages of this server are answered\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve(app: App, port: int, log_level: str) -> None:
    """Serve an application on this machine alone, until SIGINT or SIGTERM."""
    import uvicorn

    uvicorn.run(LoopbackOnly(app, port), host=ADDRESS, port=port, log_level=log_level)
