"""Children never outlive us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.errors import ServerError
from flows.processes import answers, child, free_port

Marked = Callable[[], dict[int, str]]
Until = Callable[[Callable[[], bool], float], None]

NOBODY = "http://127.0.0.1:1/"
GRANDPARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
STUBBORN = "import signal, time; signal.signal(2, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = """
import os, sys, time
from pathlib import Path
from flows.processes import child
with child("sleeper", [sys.executable, "-c", {grandparent!r}], log=Path({log!r}), env=os.environ):
    time.sleep(60)
"""


def test_what_a_child_says_is_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    with child("speaker", [sys.executable, "-c", "print('hello')"], log=log, env=os.environ) as speaker:
        speaker.guard.wait(20)

    assert log.read_text() == "hello\n"


def test_a_child_that_ends_by_itself_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    program = "print(*range(100), sep='\\n'); raise SystemExit(7)"
    with (
        pytest.raises(
            ServerError, match=r"counter ended with exit code 7.*log:\n    88\n    89\n"
        ) as failure,
        child("counter", [sys.executable, "-c", program], log=tmp_path / "log", env=os.environ) as counter,
    ):
        counter.wait_for(NOBODY)

    assert str(failure.value).endswith("\n    99")


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.processes.PATIENCE", 0.3)
    with (
        pytest.raises(ServerError, match=rf"mute was to answer at {NOBODY} .* read its log"),
        child("mute", [sys.executable, "-c", GRANDPARENT], log=tmp_path / "log", env=os.environ) as mute,
    ):
        mute.wait_for(NOBODY)


def test_the_end_of_the_block_ends_the_child_and_its_children(
    tmp_path: Path, marked: Marked, until: Until
) -> None:
    with child("grandparent", [sys.executable, "-c", GRANDPARENT], log=tmp_path / "log", env=os.environ):
        until(lambda: len(marked()) == 3, 20)  # guard, child, grandchild

    assert marked() == {}


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_when_its_parent_is_killed(
    tmp_path: Path, marked: Marked, until: Until, sign: signal.Signals
) -> None:
    program = PARENT.format(grandparent=GRANDPARENT, log=str(tmp_path / "log"))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        until(lambda: len(marked()) == 4, 20)
        parent.send_signal(sign)

    assert parent.returncode == -sign
    until(lambda: marked() == {}, 20)


@pytest.mark.slow
def test_a_child_that_ignores_sigint_is_told_again(tmp_path: Path, until: Until) -> None:
    with child(
        "stubborn", [sys.executable, "-c", STUBBORN], log=tmp_path / "log", env=os.environ
    ) as stubborn:
        until(lambda: stubborn.tail() == "up", 20)

    assert stubborn.guard.returncode == 256 - signal.SIGTERM


def test_a_log_that_cannot_be_written_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")

    with pytest.raises(ServerError, match=r"the log of sleeper cannot be written: .*logs"):
        child("sleeper", ["true"], log=tmp_path / "logs" / "log", env=os.environ).__enter__()


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]

        assert free_port(taken) not in (taken, 0)


def test_a_free_port_is_kept() -> None:
    port = free_port()

    assert free_port(port) == port


@pytest.mark.parametrize("url", [NOBODY, "not a url", "http://"])
def test_nothing_answers_where_nobody_listens(url: str) -> None:
    assert not answers(url)
