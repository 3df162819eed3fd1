"""An S3 server that fails when it is told to: `benchmarks.s3_server`, with a layer before it that misbehaves.

What clients see is what they see of a store that is killed, overloaded or cut off; what was stored before is
there again when the fault is lifted.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.s3_server import BUCKET, environment, one_at_a_time

__all__ = ["KINDS", "FaultyS3", "faulty_s3"]

KINDS = ("killed in mid-read", "killed in mid-write", "slow", "500s", "truncated bodies")

App = Callable[..., Iterable[bytes]]


class FaultyS3:
    """A running server.

    Attributes
    ----------
    environment
        What points S3 clients to it.
    """

    def __init__(self, port: int) -> None:
        self.environment = environment(port)
        self._control = f"http://127.0.0.1:{port}/__fault"

    def fail(self, kind: str, after: int, seconds: float, seed: int) -> None:
        """Fail from the request on that comes after so many others, for so many seconds."""
        self._tell({"kind": kind, "after": after, "seconds": seconds, "seed": seed})

    def heal(self) -> int:
        """Work again; returns how many requests were answered wrongly since the fault was set."""
        return int(self._tell({})["failed"])

    def _tell(self, order: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(self._control, json.dumps(order).encode(), method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # our own server
            told: dict[str, Any] = json.load(answer)
        return told


@contextmanager
def faulty_s3() -> Iterator[FaultyS3]:
    """Run such a server, with one bucket, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.faulty_s3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield FaultyS3(int(next(iter(process.stdout or ()))))
        finally:
            process.send_signal(signal.SIGTERM)


class _Layer:
    """What stands before the server."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._turn = threading.Lock()
        self._order: dict[str, Any] = {}
        self._random = random.Random(0)  # noqa: S311
        self._left, self._until, self._failed = 0, 0.0, 0

    def __call__(self, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if request["PATH_INFO"] == "/__fault":
            return self._obey(request, respond)
        kind = self._kind_for(request["REQUEST_METHOD"])
        if kind == "slow":
            time.sleep(self._random.uniform(0.05, 0.4))
        elif kind is not None:
            return self._misbehave(kind, request, respond)
        return self._app(request, respond)

    def _obey(self, request: dict[str, Any], respond: Callable[..., Any]) -> list[bytes]:
        order = json.loads(request["wsgi.input"].read(int(request["CONTENT_LENGTH"])))
        with self._turn:
            answer = json.dumps({"failed": self._failed}).encode()
            self._order, self._left, self._failed, self._until = order, order.get("after", 0), 0, 0.0
            self._random.seed(order.get("seed", 0))
        respond("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]

    def _kind_for(self, method: str) -> str | None:
        """What goes wrong with this request; None when nothing does."""
        with self._turn:
            kind: str | None = self._order.get("kind")
            if kind is None:
                return None
            begun = self._until > 0
            if not begun and not _begins(kind, method):
                return None
            if not begun and self._left > 0:
                self._left -= 1
                return None
            if not begun:
                self._until = time.monotonic() + self._order["seconds"]
            elif time.monotonic() > self._until:
                return None
            elif kind.startswith("killed"):
                kind = "down"
            if kind in ("500s", "truncated bodies") and self._random.random() < 0.3:
                return None
            self._failed += 1
            return kind

    def _misbehave(self, kind: str, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if kind == "500s":
            request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
            respond(
                self._random.choice(("500 Internal Server Error", "503 Slow Down")), [("Content-Length", "0")]
            )
            return []
        if kind == "killed in mid-write":
            return self._half_written(request, respond)
        if kind == "down":
            return _hung_up(request)
        return _half_read(list(self._app(request, respond)), request, whole=kind == "truncated bodies")

    def _half_written(self, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        """Take half of what is sent, or take all of it and never say so."""
        if self._random.random() < 0.5:
            list(self._app(request, lambda *_: None))
        else:
            request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0) // 2)
        return _hung_up(request)


def _begins(kind: str, method: str) -> bool:
    """Whether a fault of a kind may begin with such a request."""
    if kind == "killed in mid-read":
        return method == "GET"
    return method in ("PUT", "POST") if kind == "killed in mid-write" else True


def _half_read(body: list[bytes], request: dict[str, Any], *, whole: bool) -> Iterator[bytes]:
    """Send half of a body, then close: politely, or as a process does that is killed."""
    content = b"".join(body)
    yield content[: len(content) // 2]
    if not whole:
        _abort(request)
    raise ConnectionResetError


def _hung_up(request: dict[str, Any]) -> list[bytes]:
    _abort(request)
    raise ConnectionResetError


def _abort(request: dict[str, Any]) -> None:
    """Let the end of this connection be a reset."""
    linger = struct.pack("ii", 1, 0)
    request["werkzeug.socket"].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def main() -> None:
    """Serve on a free port, whose number is printed first, until ended."""
    import logging

    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            """Say nothing: connections are cut here by design."""

        def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
            """Let go of a connection that was cut."""
            self.close_connection = True

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    app = _Layer(one_at_a_time(DomainDispatcherApplication(create_backend_app)))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    server.log = lambda *_: None  # type: ignore[method-assign]
    os.environ |= environment(server.port)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    threading.Thread(target=server.serve_forever, daemon=True).start()
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    print(server.port, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
