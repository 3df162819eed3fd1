"""A gate before a server: open, clients reach it; shut, their connections are cut, and new ones refused."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

__all__ = ["Gate", "gate"]


class Gate:
    """A gate, open at first; ``port`` is where clients knock."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._through: set[socket.socket] = set()
        self._turn = threading.Lock()
        self._door: socket.socket | None = None
        self.port = 0
        self.open()

    def open(self) -> None:
        """Let clients through."""
        if self._door is not None:
            return
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("127.0.0.1", self.port))
        door.listen(64)
        self.port, self._door = int(door.getsockname()[1]), door
        threading.Thread(target=self._serve, args=(door,), daemon=True).start()

    def shut(self) -> None:
        """Cut all connections, and refuse new ones."""
        door, self._door = self._door, None
        if door is not None:
            with contextlib.suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            door.close()
        with self._turn:
            through, self._through = self._through, set()
        for connection in through:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, door: socket.socket) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=30)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._turn:
                self._through |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for connection in (source, sink):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def gate(target: int) -> Iterator[Gate]:
    """Stand before the server at a port of this machine."""
    made = Gate(target)
    try:
        yield made
    finally:
        made.shut()
