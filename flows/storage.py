"""Where bytes live: local folders and ``s3://``, ``gs://``, ``abfs://`` alike.

A `Store` is a folder; its files are named by keys: ``flags/dt=2013-07-06/part-0.parquet``. What is written
appears whole or not at all: staged aside, flushed, then renamed (a single put on object stores).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs as pafs

from flows.errors import StoreError

__all__ = ["LocalStore", "RemoteStore", "Store", "Stored"]

_STAGING = ".staging"
_STALE_SECONDS = 86_400


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


class Store(ABC):
    """A folder of files, local or remote; open one with `Store.of`.

    All methods raise `StoreError` with one sentence when the place refuses.
    """

    @staticmethod
    def of(uri: str | Path) -> Store:
        """Return the store at a path or URI; nothing is read or created yet."""
        text = str(uri)
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
            return LocalStore(Path(text))
        if text.startswith("file://"):
            return LocalStore(Path(text.removeprefix("file://")))
        with _refusals("open", text):
            filesystem, root = pafs.FileSystem.from_uri(text)
        return RemoteStore(filesystem, root, text)

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
    def stage(self) -> AbstractContextManager[Path]:
        """Return a context whose value is an empty local folder, gone when the context ends."""

    @abstractmethod
    def commit(self, local_file: Path, key: str) -> None:
        """Move a finished local file (from `stage`) to its key, in place of what was there."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove a file; nothing happens when it is gone already."""

    def exists(self, key: str) -> bool:
        """Return whether anything has this key."""
        return self.find(key) is not None

    def read_bytes(self, key: str) -> bytes:
        """Return the content of a small file."""
        with self.open_input(key) as source, _refusals("read", self.uri(key)):
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
        return str(self.root / _checked(key))

    def is_folder(self) -> bool:
        """Return whether the root exists and is a folder."""
        return self.root.is_dir()

    def find(self, key: str) -> Stored | None:
        """Return what has this key, None when there is nothing."""
        path = Path(self.uri(key))
        with _refusals("read", str(path)):
            return self._stored(path) if os.path.lexists(path) else None

    def list(self, prefix: str = "", suffix: str = "") -> list[Stored]:
        """Return all files below a folder in order of their keys; see `Store.list`."""
        folder = self.root / _checked(prefix) if prefix else self.root
        with _refusals("list", str(folder)):
            paths = [path for path in _walk(folder) if path.name.lower().endswith(suffix.lower())]
        return sorted((self._stored(path) for path in paths), key=lambda stored: stored.key)

    def open_input(self, key: str) -> pa.NativeFile:
        """Open a regular file for random access; a pipe, socket or device is refused, since it could hang."""
        path = self.uri(key)
        with _refusals("read", path):
            oddity = _oddity(Path(path))
            if oddity:
                raise StoreError(
                    f"cannot read {path}: a file was required, however it is {oddity}; replace it"
                )
            # no memory map: a file cut short by its writer meanwhile would end the process
            return pa.OSFile(path, "rb")

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write a small file: aside, flushed, renamed."""
        with self.stage() as folder:
            aside = folder / "bytes"
            with _refusals("write", self.uri(key)):
                aside.write_bytes(data)
            self.commit(aside, key)

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """Yield an empty folder on the same file system, so that `commit` is one rename."""
        staging = self.root / _STAGING
        with _refusals("write", str(self.root)):
            staging.mkdir(parents=True, exist_ok=True)
            _sweep(staging)
            folder = Path(tempfile.mkdtemp(dir=staging))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, local_file: Path, key: str) -> None:
        """Flush a finished file to disk, then rename it to its key in one step."""
        target = Path(self.uri(key))
        with _refusals("write", str(target)):
            _flush(local_file)
            target.parent.mkdir(parents=True, exist_ok=True)
            local_file.replace(target)
            _flush(target.parent)

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens when it is gone already."""
        with _refusals("delete", self.uri(key)):
            Path(self.uri(key)).unlink(missing_ok=True)

    def _stored(self, path: Path) -> Stored:
        key = path.relative_to(self.root).as_posix()
        try:
            status = path.stat()
        except OSError:  # a link to nothing or to itself: listed, so that opening it can say so
            return Stored(key, str(path), 0, 0.0)
        return Stored(key, str(path), status.st_size if stat.S_ISREG(status.st_mode) else 0, status.st_mtime)


class RemoteStore(Store):
    """A folder behind an Arrow file system.

    Parameters
    ----------
    filesystem
        Arrow's client.
    root
        Folder in the client's terms, such as ``bucket/results``.
    uri
        The same folder in the user's terms, such as ``s3://bucket/results``.
    """

    def __init__(self, filesystem: pafs.FileSystem, root: str, uri: str) -> None:
        self._files = filesystem
        self._root = root.rstrip("/")
        self._uri = uri.partition("?")[0].rstrip("/")

    def uri(self, key: str) -> str:
        """Return the URI of a key."""
        return f"{self._uri}/{_checked(key)}"

    def is_folder(self) -> bool:
        """Return whether anything lies below the root."""
        with _refusals("read", self._uri):
            return bool(self._files.get_file_info(self._root).type == pafs.FileType.Directory)

    def find(self, key: str) -> Stored | None:
        """Return what has this key, None when there is nothing."""
        with _refusals("read", self.uri(key)):
            info = self._files.get_file_info(self._path(key))
        return None if info.type == pafs.FileType.NotFound else self._stored(info)

    def list(self, prefix: str = "", suffix: str = "") -> list[Stored]:
        """Return all files below a folder in order of their keys; see `Store.list`."""
        folder = self._path(prefix) if prefix else self._root
        with _refusals("list", self._uri):
            infos = self._files.get_file_info(pafs.FileSelector(folder, allow_not_found=True, recursive=True))
        files = (info for info in infos if info.type == pafs.FileType.File)
        found = (self._stored(info) for info in files if info.path.lower().endswith(suffix.lower()))
        return sorted((stored for stored in found if not _hidden(stored.key)), key=lambda stored: stored.key)

    def open_input(self, key: str) -> pa.NativeFile:
        """Open a file for random access by ranged reads."""
        with _refusals("read", self.uri(key)):
            return self._files.open_input_file(self._path(key))

    def write_bytes(self, key: str, data: bytes) -> None:
        """Put a small file."""
        with _refusals("write", self.uri(key)), self._files.open_output_stream(self._path(key)) as sink:
            sink.write(data)

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """Yield an empty folder of this machine."""
        with tempfile.TemporaryDirectory(prefix="vaewatch-") as folder:
            yield Path(folder)

    def commit(self, local_file: Path, key: str) -> None:
        """Upload a finished file; it appears when the upload is complete."""
        with _refusals("write", self.uri(key)):
            pafs.copy_files(
                str(local_file.absolute()),
                self._path(key),
                source_filesystem=pafs.LocalFileSystem(),
                destination_filesystem=self._files,
            )

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens when it is gone already."""
        if self.exists(key):
            with _refusals("delete", self.uri(key)):
                self._files.delete_file(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self._root}/{_checked(key)}"

    def _stored(self, info: pafs.FileInfo) -> Stored:
        key = info.path.removeprefix(f"{self._root}/")
        modified = info.mtime.timestamp() if info.mtime is not None else 0.0
        return Stored(key, f"{self._uri}/{key}", info.size or 0, modified)


def _checked(key: str) -> str:
    """Return the key, unless it would leave the store."""
    path = PurePosixPath(key)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in key:
        raise StoreError(
            f"a name inside of the folder was required, however {key!r} came; remove .. and leading /"
        )
    return str(path)


def _hidden(key: str) -> bool:
    return any(part.startswith(("_", ".")) for part in key.split("/"))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what is no folder, below ``folder``; a missing one yields nothing."""
    if not folder.is_dir():
        return
    for entry in os.scandir(folder):
        if _hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif not _leads_to_folder(entry):
            yield Path(entry.path)


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
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _refusals(verb: str, path: str) -> Iterator[None]:
    """Turn an error of the file system into a sentence."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"cannot {verb} {path}: {_reason(error)}; check the path, its rights and space"
        ) from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()).rstrip(".")[:300]
