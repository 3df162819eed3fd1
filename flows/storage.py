"""Where bytes live: local folders and ``s3://``, ``gs://``, ``abfs://`` alike.

A `Store` is a folder; its files are named by keys: ``flags/dt=2013-07-06/part-0.parquet``. What is written
appears whole or not at all: staged aside, flushed, then renamed. Object stores are in `objects`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from flows.errors import StoreError, UnreadableError

__all__ = [
    "LocalStore",
    "Store",
    "Stored",
    "Versioned",
    "checked",
    "disk_refusals",
    "is_hidden",
    "raise_if_away",
    "refusals",
]

_STAGING = ".staging"
_STALE_SECONDS = 86_400
_LOCK_SECONDS = 30.0
_OF_ONE_FILE = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.ENAMETOOLONG,
)
_STORES = ("AWS Error", "google::cloud", "Azure Error")


@dataclass(frozen=True)
class Stored:
    """One file of a store.

    Attributes
    ----------
    key
        Name below the store's root, with ``/`` between folders.
    path
        Absolute path or URI.
    size
        Bytes; 0 for what is no regular file.
    modified
        Seconds since 1970 of the last change; 0.0 where unknown.
    """

    key: str
    path: str
    size: int
    modified: float


@dataclass(frozen=True)
class Versioned:
    """A small file as it was seen: its content, and what tells this version from all others."""

    data: bytes
    version: Any


class Store(ABC):
    """A folder of files, local or remote; open one with `Store.of`.

    All methods raise `StoreError` with one sentence when the place refuses, and `UnreadableError` when only
    the file is the trouble: it is not there, is no regular file, or may not be read.
    """

    @staticmethod
    def of(uri: str | Path) -> Store:
        """Return the store at a path or URI; nothing is read or created yet."""
        text = str(uri)
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
            return LocalStore(Path(text))
        if text.startswith("file://"):
            return LocalStore(Path(text.removeprefix("file://")))
        from flows.objects import RemoteStore

        return RemoteStore(text)

    @abstractmethod
    def uri(self, key: str) -> str:
        """Return the absolute path or URI of a key."""

    @abstractmethod
    def is_folder(self) -> bool:
        """Return whether the root exists and is a folder."""

    @abstractmethod
    def find(self, key: str) -> Stored | None:
        """Return the file, link, pipe or folder of this key, None when there is nothing."""

    @abstractmethod
    def list(self, prefix: str = "", suffix: str = "") -> list[Stored]:
        """Return all files below a folder in order of their keys, none when the folder is missing.

        Names that start with ``_`` or ``.`` are passed over, links to folders are not followed, and the
        suffix is compared without regard to case.
        """

    @abstractmethod
    def open_input(self, key: str) -> pa.NativeFile:
        """Open a regular file for random access."""

    @abstractmethod
    def write_bytes(self, key: str, data: bytes) -> None:
        """Write a small file; readers see the old or the new one, never a part."""

    @abstractmethod
    def stage(self, label: str = "") -> AbstractContextManager[Path]:
        """Return a context whose value is an empty local folder, gone when the context ends."""

    @abstractmethod
    def clear_stages(self, label: str) -> None:
        """Remove what killed runs have left of their stages of this label."""

    @abstractmethod
    def commit(self, local_file: Path, key: str) -> None:
        """Move a finished local file (from `stage`) to its key, in place of what was there."""

    @abstractmethod
    def move(self, source: str, key: str) -> None:
        """Put one file of this store in place of another, in one step.

        The source may stay, see `discard`; `UnreadableError` when it is gone, and nothing has happened.
        """

    @abstractmethod
    def withdraw(self, key: str, folder: str) -> None:
        """Remove a file on behalf of a commit, as long as the commit's folder is there.

        `UnreadableError` when the folder or the file is gone, and nothing has happened.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove a file; nothing happens when it is gone already."""

    @abstractmethod
    def discard(self, folder: str) -> None:
        """Remove a folder and all that is in it; nothing happens when it is gone already."""

    @abstractmethod
    def peek(self, key: str) -> Versioned | None:
        """Return a small file as it is now, None when it is not there."""

    @abstractmethod
    def swap(self, key: str, data: bytes, seen: Versioned | None) -> Versioned | None:
        """Write a small file if it still is as it was seen (None: not there), in one step.

        Parameters
        ----------
        data
            Content that no other writer writes: an answer that was lost is known by it.

        Returns
        -------
        Versioned or None
            The file as written; None when somebody else was faster, and nothing has happened.
        """

    def exists(self, key: str) -> bool:
        """Return whether anything has this key."""
        return self.find(key) is not None

    def read_bytes(self, key: str) -> bytes:
        """Return the content of a small file."""
        with self.open_input(key) as source, refusals("read", self.uri(key)):
            return bytes(source.read())


class LocalStore(Store):
    """A folder of this machine.

    Parameters
    ----------
    root
        The folder; created by the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    def uri(self, key: str) -> str:
        """Return the absolute path of a key."""
        return str(self.root / checked(key))

    def is_folder(self) -> bool:
        """Return whether the root exists and is a folder."""
        return self.root.is_dir()

    def find(self, key: str) -> Stored | None:
        """Return what has this key, None when there is nothing."""
        path = Path(self.uri(key))
        with refusals("read", str(path)):
            return self._stored(path) if os.path.lexists(path) else None

    def list(self, prefix: str = "", suffix: str = "") -> list[Stored]:
        """Return all files below a folder in order of their keys; see `Store.list`."""
        folder = self.root / checked(prefix) if prefix else self.root
        with refusals("list", str(folder)):
            paths = [path for path in _walk(folder) if path.name.lower().endswith(suffix.lower())]
        return sorted((self._stored(path) for path in paths), key=lambda stored: stored.key)

    def open_input(self, key: str) -> pa.NativeFile:
        """Open a regular file for random access; a pipe, socket or device is refused, since it could hang."""
        path = self.uri(key)
        with refusals("read", path):
            oddity = _oddity(Path(path))
            if oddity:
                raise UnreadableError(
                    f"cannot read {path}: a file was required, however it is {oddity}; replace it"
                )
            # no memory map: a file cut short by its writer meanwhile would end the process
            return pa.OSFile(path, "rb")

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write a small file: aside, flushed, renamed."""
        with self.stage() as folder:
            aside = folder / "bytes"
            with refusals("write", self.uri(key)):
                aside.write_bytes(data)
            self.commit(aside, key)

    @contextmanager
    def stage(self, label: str = "") -> Iterator[Path]:
        """Yield an empty folder on the same file system, so that `commit` is one rename."""
        staging = self.root / _STAGING
        with refusals("write", str(self.root)):
            staging.mkdir(parents=True, exist_ok=True)
            _sweep(staging)
            folder = Path(tempfile.mkdtemp(dir=staging, prefix=f"{label}-"))
        try:
            with _in_use(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def clear_stages(self, label: str) -> None:
        """Remove what killed runs have left of their stages of this label."""
        for folder in (self.root / _STAGING).glob(f"{label}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, local_file: Path, key: str) -> None:
        """Flush a finished file to disk, then rename it to its key in one step."""
        target = Path(self.uri(key))
        with refusals("write", str(target)):
            _flush(local_file)
            target.parent.mkdir(parents=True, exist_ok=True)
            local_file.replace(target)
            _flush(target.parent)

    def move(self, source: str, key: str) -> None:
        """Rename a file to its key in one step; the source is gone then."""
        target = Path(self.uri(key))
        with refusals("write", str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(self.uri(source)).replace(target)
            _flush(target.parent)

    def withdraw(self, key: str, folder: str) -> None:
        """Rename a file into the commit's folder, which must be there."""
        path = Path(self.uri(key))
        with refusals("delete", str(path)):
            path.replace(Path(self.uri(folder)) / f"withdrawn-{key.replace('/', '-')}")
            _flush(path.parent)

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens when it is gone already."""
        with refusals("delete", self.uri(key)):
            Path(self.uri(key)).unlink(missing_ok=True)

    def discard(self, folder: str) -> None:
        """Rename a folder away in one step, then remove it; nothing happens when it is gone already."""
        with (
            self.stage("discarded") as away,
            refusals("delete", self.uri(folder)),
            suppress(FileNotFoundError),
        ):
            Path(self.uri(folder)).rename(away / "folder")

    def peek(self, key: str) -> Versioned | None:
        """Return a small file as it is now, None when it is not there; its content is its version."""
        path = Path(self.uri(key))
        with refusals("read", str(path)), suppress(FileNotFoundError):
            data = path.read_bytes()
            return Versioned(data, data)
        return None

    def swap(self, key: str, data: bytes, seen: Versioned | None) -> Versioned | None:
        """Compare and write under a lock of the key's folder, which the kernel lifts when a holder dies."""
        with _locked(Path(self.uri(key)).parent):
            if self.peek(key) != seen:
                return None
            self.write_bytes(key, data)
        return Versioned(data, data)

    def _stored(self, path: Path) -> Stored:
        key, shown = _unicode(path.relative_to(self.root).as_posix()), _unicode(str(path))
        try:
            status = path.stat()
        except OSError:  # a link to nothing or to itself: listed, so that opening it can say so
            return Stored(key, shown, 0, 0.0)
        return Stored(key, shown, status.st_size if stat.S_ISREG(status.st_mode) else 0, status.st_mtime)


def checked(key: str) -> str:
    """Return the key, unless it would leave the store.

    Raises
    ------
    StoreError
        The key is absolute, empty, or has ``..`` among its folders.
    """
    path = PurePosixPath(key)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in key:
        raise StoreError(
            f"a name inside of the folder was required, however {key!r} came; remove .. and leading /"
        )
    return str(path)


def _unicode(name: str) -> str:
    """Return a name, bytes that are no UTF-8 as escapes: no table holds them, no file is found by them."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_hidden(key: str) -> bool:
    """Return whether a name on the way begins with ``_`` or ``.``: bookkeeping, not data."""
    return any(part.startswith(("_", ".")) for part in key.split("/"))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what is no folder, below ``folder``; a missing one yields nothing."""
    for entry in _entries(folder):
        if is_hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif not _leads_to_folder(entry):
            yield Path(entry.path)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Return what lies in a folder; nothing where it is none, or is renamed away this very moment."""
    try:
        return os.scandir(folder) if folder.is_dir() else iter(())
    except FileNotFoundError:
        return iter(())


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _oddity(path: Path) -> str:
    """Name what a path is when it is no regular file, else return an empty text."""
    mode = path.stat().st_mode
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "")


def _sweep(staging: Path) -> None:
    """Remove what killed runs left behind more than a day ago."""
    for folder in staging.iterdir():
        try:
            stale = time.time() - folder.stat().st_mtime > _STALE_SECONDS
        except FileNotFoundError:  # its owner was faster
            continue
        if stale and not _is_in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Hold a lock on a stage, which the kernel lifts when its owner dies; clocks may jump meanwhile."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _is_in_use(folder: Path) -> bool:
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; see flock(2)."""
    import fcntl

    with refusals("write", str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with refusals("lock", str(folder)):
            _lock_in_time(lambda: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def _lock_in_time(lock: Callable[[], None]) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return lock()
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def refusals(verb: str, path: str) -> Iterator[None]:
    """Turn an error of the file system into a sentence.

    Raises
    ------
    UnreadableError
        This one file is not there, is a folder, or may not be touched.
    StoreError
        Anything else: the place itself is the trouble, and another try may help.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise _refusal(verb, path, error) from error


@contextmanager
def disk_refusals(verb: str, path: str) -> Iterator[None]:
    """Turn an error of the operating system into a sentence; one of Arrow's is about data, and stays.

    Raises
    ------
    StoreError
        As `refusals`.
    """
    try:
        yield
    except OSError as error:
        raise _refusal(verb, path, error) from error


def _refusal(verb: str, path: str, error: Exception) -> StoreError:
    kind = UnreadableError if getattr(error, "errno", None) in _OF_ONE_FILE else StoreError
    return kind(f"cannot {verb} {path}: {_reason(error)}; check the path, its rights and space")


def raise_if_away(path: str, error: Exception) -> None:
    """Raise when Arrow failed to read a file because its store failed, not because of what the file holds.

    Arrow says OSError for both; failures of a system call have a number, those of an object store its name.

    Raises
    ------
    StoreError
        The store has failed: no word about the file.
    """
    if getattr(error, "errno", None) or any(name in str(error) for name in _STORES):
        raise StoreError(f"cannot read {path}: {_reason(error)}; check the connection, run again") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()).rstrip(".")[:300]
