"""Child processes that never outlive us.

A child runs under a guard of its own: ``python -m flows.processes COMMAND…`` starts the command in a new
process group and waits for the end of its standard input. We hold the other end of that pipe: it closes when
we ask for the end, and also when we crash or are killed. Then the guard ends the whole group. (Prefect's own
temporary server stays behind when its parent gets a SIGTERM.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from flows.errors import ServerError

__all__ = ["Child", "answers", "child", "free_port", "interruptible", "watch"]

GRACE = ((signal.SIGINT, 10.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))
"""What a group is told, and the seconds that it then has. On SIGINT the servers end within 3 s here."""

PATIENCE = 180.0
"""Seconds that a server has to start. Prefect's very first start took 35 s on two busy cores."""


@dataclass(frozen=True)
class Child:
    """A running command: its name for people, its guard, and the file that holds what it says."""

    name: str
    guard: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ServerError with the end of the log when the child has ended by itself."""
        code = self.guard.poll()
        if code is not None:
            raise ServerError(
                f"{self.name} ended with exit code {code}; the end of its log, {self.log}:\n{self.tail()}"
            )

    def tail(self, lines: int = 12) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_for(self, url: str) -> None:
        """Return when `url` answers; raise ServerError when the child ends first or is too slow."""
        self.wait_until(lambda: answers(url), f"answer at {url}")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Return when a condition holds, which is what the child was to do; raises as `wait_for`."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.name} was to {what} within {PATIENCE:.0f} s, however it did not:"
                    f" read its log, {self.log}"
                )
            time.sleep(0.1)


@contextlib.contextmanager
def child(name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str]) -> Iterator[Child]:
    """Run a command until the end of the ``with`` block.

    Parameters
    ----------
    name
        What error messages call it.
    command
        Program and arguments.
    log
        File for everything that it prints; replaced.
    env
        Its whole environment.

    Raises
    ------
    ServerError
        The log cannot be written.
    """
    running = _start(name, command, log, env)
    try:
        yield running
    finally:
        running.guard.communicate()  # closes the pipe, and waits


def watch(children: Sequence[Child]) -> NoReturn:
    """Wait until one of the children ends, which is an error."""
    while True:
        for one in children:
            one.check()
        time.sleep(0.5)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into KeyboardInterrupt; ignore more of them while all stops."""
    signs = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> NoReturn:
        for sign in signs:
            signal.signal(sign, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(sign, interrupt) for sign in signs]
    try:
        yield
    finally:
        for sign, handler in zip(signs, before, strict=True):
            signal.signal(sign, handler)


def answers(url: str) -> bool:
    """Return whether an HTTP server answers at `url`, be it with an error, within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # our own addresses, or the user's PREFECT_API_URL
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except (OSError, ValueError):
        return False


def free_port(preferred: int = 0) -> int:
    """Return `preferred` when nothing on this machine listens there, else a port that the system chooses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(name: str, command: Sequence[str], log: Path, env: Mapping[str, str]) -> Child:
    guard = [sys.executable, "-m", "flows.processes", *command]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("wb")
    except OSError as error:
        raise ServerError(
            f"the log of {name} cannot be written: {error}; check the folder's permissions"
        ) from error
    with output:
        process = subprocess.Popen(  # noqa: S603  # the commands are ours
            guard, stdin=subprocess.PIPE, stdout=output, stderr=output, env=dict(env), start_new_session=True
        )
    return Child(name, process, log)


def _guard(command: Sequence[str]) -> int:
    """Run `command`; end its group when standard input ends. Returns its exit code."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    threading.Thread(target=_end_with_input, args=(process,), daemon=True).start()
    code = process.wait()
    _end(process)  # a leader may leave members of its group behind
    return code


def _end_with_input(process: subprocess.Popen[bytes]) -> None:
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read: its lock would upset Python's own end
    _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Tell the group of `process` to end, ever more firmly, until nobody is left."""
    for sign, seconds in GRACE:
        deadline = time.monotonic() + seconds
        _tell(process.pid, sign)
        while _tell(process.pid, 0) and time.monotonic() < deadline:
            time.sleep(0.1)


def _tell(group: int, sign: int) -> bool:
    """Send a signal (0: none) to a process group; return whether anybody is there."""
    try:
        os.killpg(group, sign)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
