"""Who may commit a night: one run at a time, across processes and machines.

A lease is a small file beside the results, ``.leases/dt=2013-07-06.json``, changed only by comparing and
swapping: under a file lock on local folders, by a conditional put on object stores. Its holder beats: it
changes the file every few seconds. Who waits takes over when the holder is a process of this machine that has
ended, or when no beat came for a while by the waiter's own clock; clocks of two machines are never compared.

The token counts the holders. A holder that slept through its lease finds out when it next swaps: the swap
fails, and with it the commit, which begins with one; see `commit`.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from flows.errors import BusyError, StoreError
from flows.storage import Store, Versioned

__all__ = ["Lease", "TakenOverError", "night_lease"]

BEAT_SECONDS = 10.0
"""A holder shows life this often."""

EXPIRY_SECONDS = 60.0
"""A holder of another machine that has not shown life for so long is gone."""

PATIENCE_SECONDS = 6 * 3600.0
"""A holder that lives, but does not end, is waited for so long."""

_POLL_SECONDS = 0.5

_log = logging.getLogger(__name__)


class TakenOverError(StoreError):
    """Another run took the lease over, because this one was silent for too long; nothing was committed."""


@dataclass(frozen=True)
class _Record:
    """What a lease file says; ``run`` is empty when nobody holds it.

    ``pending`` is the folder of a commit that was begun: whoever gets the lease next ends it first.
    """

    token: int = 0
    run: str = ""
    host: str = ""
    process: str = ""
    since: str = ""
    beat: int = 0
    pending: str | None = None

    def __post_init__(self) -> None:
        texts = (self.run, self.host, self.process, self.since, self.pending or "")
        if not all(isinstance(one, str) for one in texts) or not _is_count(self.token, self.beat):
            raise TypeError("another record")

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self)) + "\n").encode()


def _is_count(*values: object) -> bool:
    return all(isinstance(one, int) and 0 <= one < 2**63 for one in values)


class Lease:
    """The right to commit one night, held; made by `night_lease`.

    Attributes
    ----------
    token
        Number of this holder: each is one more than the one before.
    """

    def __init__(self, store: Store, key: str, record: _Record, seen: Versioned) -> None:
        self._store, self._key = store, key
        self._record, self._seen = record, seen
        self._swapping = threading.Lock()
        self.token = record.token

    @property
    def name(self) -> str:
        """A name that no other holder has, for folders: token and a random part."""
        return f"{self.token}-{self._record.run[:8]}"

    @property
    def pending(self) -> str | None:
        """The folder of a commit that was begun and is not ended."""
        return self._record.pending

    def begin(self, folder: str) -> None:
        """Begin a commit, whose files lie in a folder of the store: from here on it will be ended.

        Raises
        ------
        TakenOverError
            Another run holds the lease by now; nothing has happened.
        """
        self._change(pending=folder)

    def end(self) -> None:
        """End the commit; raises as `begin`."""
        self._change(pending=None)

    def release(self) -> None:
        """Let go; nothing happens when it was taken over. One that cannot be freed will be taken over."""
        try:
            self._change(run="", host="", process="", since="")
        except TakenOverError:
            return
        except StoreError as error:
            _log.warning("a lease could not be freed: %s", error)

    def beat(self) -> None:
        """Show life; raises as `begin`."""
        self._change()

    def _change(self, **fields: Any) -> None:
        with self._swapping:
            record = replace(self._record, beat=self._record.beat + 1, **fields)
            data = record.to_json()
            seen = self._store.swap(self._key, data, self._seen) or self._swap_again(data)
            if seen is None:
                raise TakenOverError(f"{self._store.uri(self._key)}: another run took over; run again")
            self._record, self._seen = record, seen

    def _swap_again(self, data: bytes) -> Versioned | None:
        """Swap once more where the lease is ours after all: a beat that seemed to fail had arrived."""
        now = self._store.peek(self._key)
        if now is None or _read(self._store, self._key, now).run != self._record.run:
            return None
        return self._store.swap(self._key, data, now)


@contextmanager
def night_lease(store: Store, day: date, patience: float = PATIENCE_SECONDS) -> Iterator[Lease]:
    """Hold the lease of a night in a ``with`` statement; waits for who holds it, and says so.

    Parameters
    ----------
    store
        The results.
    day
        The logical date.
    patience
        Seconds to wait for a holder that lives.

    Raises
    ------
    BusyError
        The holder has not let go in time.
    StoreError
        The lease cannot be read or written.
    """
    lease = _acquired(store, f".leases/dt={day}.json", f"night {day}", patience)
    ended = threading.Event()
    beating = threading.Thread(target=_keep_beating, args=(lease, ended), daemon=True)
    beating.start()
    try:
        yield lease
    finally:
        ended.set()
        beating.join()
        lease.release()


def _keep_beating(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        try:
            lease.beat()
        except TakenOverError:
            return
        except StoreError as error:
            _log.warning("a lease could not be renewed, trying again: %s", error)


def _acquired(store: Store, key: str, what: str, patience: float) -> Lease:
    began, waiting = time.monotonic(), _Waiting(what)
    while True:
        seen = store.peek(key)
        record = _read(store, key, seen)
        if not record.run or _has_ended(record) or waiting.is_over(record):
            mine = replace(_me(), token=record.token + 1, pending=record.pending)
            taken = store.swap(key, mine.to_json(), seen)
            if taken is not None:
                return Lease(store, key, mine, taken)
        elif time.monotonic() - began > patience:
            raise BusyError(
                f"{what} was required free, however {_named(record)} holds it for {patience:.0f} s;"
                " see whether that run still works, end it, run again"
            )
        else:
            time.sleep(_POLL_SECONDS)


class _Waiting:
    """Watches the beats of a holder, by this machine's clock."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last: tuple[int, int] | None = None
        self._since = 0.0

    def is_over(self, record: _Record) -> bool:
        """Whether the holder has been silent for too long; who is waited for first is logged."""
        if self._last is None:
            _log.warning("%s is being worked on by %s: waiting for it", self._what, _named(record))
        if (record.token, record.beat) != self._last:
            self._last, self._since = (record.token, record.beat), time.monotonic()
        return time.monotonic() - self._since > EXPIRY_SECONDS


def _read(store: Store, key: str, seen: Versioned | None) -> _Record:
    if seen is None:
        return _Record()
    try:
        return _Record(**json.loads(seen.data))
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"{store.uri(key)}: a lease as it was written was required, however {error} came;"
            " delete it and run again"
        ) from error


def _named(record: _Record) -> str:
    process, host = record.process.partition(" ")[0], record.host.partition(" ")[0]
    return f"process {process} of {host}, since {record.since}"


def _me() -> _Record:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return _Record(
        run=uuid4().hex, host=_host(), process=_process(os.getpid()) or str(os.getpid()), since=since
    )


def _has_ended(record: _Record) -> bool:
    """Whether the holder is a process of this machine that is no more."""
    if record.host != _host():
        return False
    number = record.process.partition(" ")[0]
    return _process(int(number)) != record.process


def _host() -> str:
    """Name of this machine since it was started, as far as its processes are numbered in one row."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _process(number: int) -> str | None:
    """Number and start of a process, which no later process shares; None when it has ended."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return _process_without_proc(number)
    state, start = fields[0], fields[19]
    return None if state in "ZX" else f"{number} started {start}"


def _process_without_proc(number: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return None
    with suppress(ProcessLookupError):
        os.kill(number, 0)
        return str(number)
    return None
