"""A night belongs to one run at a time, and to none that is dead or asleep."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path

import pytest

from flows import lease as leases
from flows.errors import BusyError, StoreError
from flows.lease import TakenOverError, night_lease
from flows.storage import LocalStore, Store

DAY = date(2013, 7, 6)
KEY = f".leases/dt={DAY}.json"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a local store and one of a real S3 server, looked at often."""
    monkeypatch.setattr(leases, "_POLL_SECONDS", 0.02)
    return (
        LocalStore(tmp_path / "root") if request.param == "local" else Store.of(request.getfixturevalue("s3"))
    )


def said(store: Store) -> dict[str, object]:
    """Return what the lease file says."""
    content: dict[str, object] = json.loads(store.read_bytes(KEY))
    return content


def test_a_lease_is_held_and_freed_and_numbered(store: Store) -> None:
    """The next holder's token is one more; nothing of it shows among the results."""
    with night_lease(store, DAY) as first:
        assert said(store)["run"]
    with night_lease(store, DAY) as second:
        pass

    assert (first.token, second.token) == (1, 2)
    assert said(store)["run"] == ""
    assert store.list() == []


def test_the_second_waits_and_says_so(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on when the first lets go."""
    order, started = [], threading.Event()

    def second() -> None:
        started.set()
        with night_lease(store, DAY):
            order.append("second")

    with night_lease(store, DAY), caplog.at_level(logging.WARNING):
        thread = threading.Thread(target=second)
        thread.start()
        started.wait()
        while "waiting" not in caplog.text:
            assert thread.is_alive()
        order.append("first")
    thread.join()

    assert order == ["first", "second"]
    assert "night 2013-07-06 is being worked on by process" in caplog.text


def test_a_holder_that_lives_is_not_waited_for_for_ever(store: Store) -> None:
    """The sentence names it."""
    with (
        night_lease(store, DAY),
        pytest.raises(BusyError, match=r"night 2013-07-06 was required free, however process \d+ of "),
        night_lease(store, DAY, patience=0.1),
    ):
        pass


def test_another_night_is_not_waited_for(store: Store) -> None:
    """Leases are by night."""
    with night_lease(store, DAY), night_lease(store, date(2013, 7, 7), patience=0.0) as other:
        assert other.token == 1


def test_who_is_silent_for_too_long_is_taken_over_and_cannot_begin(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notices at its next word, and does not disturb its successor."""
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 0.1)

    # the first beat of the sleeper would come after ten seconds
    with night_lease(store, DAY) as sleeper, night_lease(store, DAY) as successor:
        with pytest.raises(TakenOverError, match="another run took over; run again"):
            sleeper.begin(".commits/1")
        sleeper.release()
        successor.begin(".commits/2")
        assert said(store)["pending"] == ".commits/2"
        successor.end()

    assert said(store)["token"] == 2


def test_who_beats_is_not_taken_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the work lasts."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 2.0)

    with night_lease(store, DAY) as holder:
        with pytest.raises(BusyError), night_lease(store, DAY, patience=0.5):
            pass
        holder.begin(".commits/1")
        holder.end()

    assert int(str(said(store)["beat"])) > 4


def test_the_lease_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    """Its successor finds the commit that it had begun."""
    code = (
        "import os, signal, sys; from datetime import date; from pathlib import Path\n"
        "from flows.lease import night_lease; from flows.storage import LocalStore\n"
        "with night_lease(LocalStore(Path(sys.argv[1])), date(2013, 7, 6)) as lease:\n"
        "    lease.begin('.commits/x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9

    with night_lease(LocalStore(tmp_path), DAY, patience=0.0) as lease:
        assert lease.pending == ".commits/x"
        assert lease.token == 2


def test_a_lease_altered_by_hand_is_one_sentence(store: Store) -> None:
    """It says which file to delete."""
    store.write_bytes(KEY, b'{"token": 1, "owner": "me"}')

    with (
        pytest.raises(StoreError, match=r"dt=2013-07-06.json: a lease .*; delete it"),
        night_lease(store, DAY),
    ):
        pass
