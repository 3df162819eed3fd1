"""Work in forked processes: warm, because the parent has loaded everything, and killable."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Child", "forked", "result_of", "warm_up"]


@dataclass
class Child:
    """A process at work; what it says comes through a pipe, line by line."""

    pid: int
    pipe: int
    said: bytes = b""

    def wait(self) -> Any:
        """Wait for its end; returns its result, None when it was killed."""
        while block := os.read(self.pipe, 65_536):
            self.said += block
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return None
        answer = json.loads(self.said.splitlines()[-1])
        if "error" in answer:
            raise ChildProcessError(answer["error"])
        return answer["result"]

    def wait_for_line(self) -> None:
        """Wait until it has said something, or has ended."""
        self.said += os.read(self.pipe, 65_536)

    def kill(self) -> Any:
        """End it with SIGKILL; returns its result, None when it was not faster."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()


def forked(work: Callable[[Callable[[], None]], Any]) -> Child:
    """Start work in a forked process; it is given a function that says a line, and returns plain values."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Child(pid, reading)
    os.close(reading)
    try:
        answer = {"result": work(lambda: _say(writing, {}))}
    except BaseException as error:
        traceback.print_exc()
        answer = {"error": f"{type(error).__name__}: {error}"}
    _say(writing, answer)
    os._exit(0)


def _say(pipe: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


def result_of(work: Callable[[], Any]) -> Any:
    """Do work in a forked process, wait for it, return its result."""
    return forked(lambda _: work()).wait()


def warm_up(work: Callable[[], Any]) -> None:
    """Do work in forked processes until this one has loaded all that they need."""
    while missing := _unknown(result_of(lambda: (work(), sorted(sys.modules))[1])):
        for name in missing:
            importlib.import_module(name)
    gc.freeze()  # children would copy the pages of all objects when they look for garbage


def _unknown(names: list[str]) -> list[str]:
    return [name for name in names if name not in sys.modules and not name.startswith("__")]
