"""Object stores: ``s3://``, ``gs://`` and ``abfs://`` folders.

Two clients share the work. Arrow's reads and lists: ranged reads that Parquet needs, in threads. obstore's
writes: puts that depend on what is there (Arrow's has none), uploads in parts that are aborted when they fail
(Arrow's completes a part of a file), copies within the store. Both take address, region and credentials from
the environment or the platform, never from a pipeline file.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from flows.errors import ConfigError, StoreError, UnreadableError
from flows.storage import Store, Stored, Versioned, checked, is_hidden, refusals

__all__ = ["RemoteStore"]

_SURROUNDINGS = ("AWS_", "GOOGLE_", "AZURE_")
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
_COPY_BYTES = 5 * 1024**3  # the most that S3 copies in one request


class RemoteStore(Store):
    """A folder of an object store.

    Parameters
    ----------
    uri
        The folder, such as ``s3://bucket/results``.

    Raises
    ------
    ConfigError
        The URI holds credentials or settings, or a bucket that can be none.
    StoreError
        Nothing is known of such stores.
    """

    def __init__(self, uri: str) -> None:
        scheme, _, place = uri.partition("://")
        bucket, _, folder = place.partition("/")
        _refuse_credentials(scheme, bucket)
        _refuse_settings(uri)
        _refuse_signs(bucket)
        self._uri = uri.rstrip("/")
        self._base = f"{scheme.lower()}://{bucket}"
        self._folder = folder.strip("/")
        self._files, bucket = _reading(self._base, os.getpid(), _surroundings())
        self._root = f"{bucket}/{self._folder}".rstrip("/")

    def uri(self, key: str) -> str:
        """Return the URI of a key."""
        return f"{self._uri}/{checked(key)}"

    def is_folder(self) -> bool:
        """Return whether anything lies below the root."""
        with refusals("read", self._uri):
            return bool(self._files.get_file_info(self._root).type == pafs.FileType.Directory)

    def find(self, key: str) -> Stored | None:
        """Return what has this key, None when there is nothing."""
        with refusals("read", self.uri(key)):
            info = self._files.get_file_info(self._path(key))
        return None if info.type == pafs.FileType.NotFound else self._stored(info)

    def list(self, prefix: str = "", suffix: str = "") -> list[Stored]:
        """Return all files below a folder in order of their keys; see `Store.list`."""
        folder = self._path(prefix) if prefix else self._root
        with refusals("list", self._uri):
            infos = self._files.get_file_info(pafs.FileSelector(folder, allow_not_found=True, recursive=True))
        files = (info for info in infos if info.type == pafs.FileType.File)
        shown = (info for info in files if not is_hidden(info.path.removeprefix(f"{folder}/")))
        found = (self._stored(info) for info in shown if info.path.lower().endswith(suffix.lower()))
        return sorted(found, key=lambda stored: stored.key)

    def open_input(self, key: str) -> pa.NativeFile:
        """Open a file for random access by ranged reads."""
        with refusals("read", self.uri(key)):
            return self._files.open_input_file(self._path(key))

    def write_bytes(self, key: str, data: bytes) -> None:
        """Put a small file."""
        with _answers("write", self.uri(key)):
            _obstore().put(self._writing(), self._object(key), data)

    @contextmanager
    def stage(self, label: str = "") -> Iterator[Path]:
        """Yield an empty folder of this machine."""
        with tempfile.TemporaryDirectory(prefix=self._stage_name(label)) as folder:
            yield Path(folder)

    def clear_stages(self, label: str) -> None:
        """Remove what killed runs on this machine have left of their stages of this label."""
        for folder in Path(tempfile.gettempdir()).glob(f"{self._stage_name(label)}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _stage_name(self, label: str) -> str:
        """Return how stages of this store begin: two stores may have the same nights."""
        return f"vaewatch-{hashlib.sha256(self._uri.encode()).hexdigest()[:12]}-{label}-"

    def commit(self, local_file: Path, key: str) -> None:
        """Upload a finished file, in parts if it is large; it appears when the upload is complete."""
        with _answers("write", self.uri(key)):
            _obstore().put(
                self._writing(),
                self._object(key),
                local_file,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def move(self, source: str, key: str) -> None:
        """Copy a file within the store; the source stays until it is discarded."""
        stored = self.find(source)
        if stored is not None and stored.size > _COPY_BYTES:
            return self._stream(source, key)
        with _answers("write", self.uri(key)):
            _obstore().copy(self._writing(), self._object(source), self._object(key))
        return None

    def _stream(self, source: str, key: str) -> None:
        """Copy through this machine what is too large for one request."""
        with self.open_input(source) as stream, _answers("write", self.uri(key)):
            pieces = iter(lambda: bytes(stream.read(_PART_BYTES)), b"")
            _obstore().put(self._writing(), self._object(key), pieces, max_concurrency=_PARTS_AT_ONCE)

    def withdraw(self, key: str, folder: str) -> None:
        """Delete an object if the folder is there; S3 has no such condition, so it is looked up first."""
        if not self.list(folder):
            raise UnreadableError(f"cannot delete {self.uri(key)}: {folder} is gone; run again")
        self.delete(key)

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens when it is gone already."""
        with _answers("delete", self.uri(key)):
            _obstore().delete(self._writing(), self._object(key))

    def discard(self, folder: str) -> None:
        """Remove all that is in a folder; nothing happens when it is gone already."""
        keys = [self._object(one.key) for one in self.list(folder)]
        with _answers("delete", self.uri(folder)):
            _obstore().delete(self._writing(), keys)

    def peek(self, key: str) -> Versioned | None:
        """Return a small file as it is now, None when it is not there; its ETag is its version."""
        with _answers("read", self.uri(key)):
            try:
                got = _obstore().get(self._writing(), self._object(key))
                version = _version(got.meta)  # before its bytes: with them the answer is used up
                return Versioned(bytes(got.bytes()), version)
            except FileNotFoundError:
                return None

    def swap(self, key: str, data: bytes, seen: Versioned | None) -> Versioned | None:
        """Put a small file on condition that it is as it was seen."""
        exceptions = _obstore().exceptions
        mode = "create" if seen is None else seen.version
        with _answers("write", self.uri(key)):
            try:
                put = _obstore().put(self._writing(), self._object(key), data, mode=mode, use_multipart=False)
                return Versioned(data, _version(put))
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileNotFoundError):
                now = self.peek(key)
                # an answer may be lost and its request sent again: what is there may be ours
                return now if now is not None and now.data == data else None

    def _writing(self) -> Any:
        region = getattr(self._files, "region", None)
        return _writing(self._base, region, os.getpid(), _surroundings())

    def _object(self, key: str) -> str:
        return f"{self._folder}/{checked(key)}".lstrip("/")

    def _path(self, key: str) -> str:
        return f"{self._root}/{checked(key)}"

    def _stored(self, info: pafs.FileInfo) -> Stored:
        key = info.path.removeprefix(f"{self._root}/")
        modified = info.mtime.timestamp() if info.mtime is not None else 0.0
        return Stored(key, f"{self._uri}/{key}", info.size or 0, modified)


def _refuse_credentials(scheme: str, bucket: str) -> None:
    if scheme.lower() == "s3" and re.search("[@:]", bucket):
        raise ConfigError(
            "an address without credentials was required, however s3:// with a user came;"
            " put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )


def _refuse_settings(uri: str) -> None:
    """Refuse what would hold for one client, and be lost where a single file is named."""
    found = re.search(r"\?\w+=", uri)
    if found:
        raise ConfigError(
            f"an address without settings was required, however {uri[: found.end()]}… came;"
            " put them into the environment, such as AWS_ENDPOINT_URL and AWS_REGION"
        )


def _refuse_signs(bucket: str) -> None:
    if re.search("[?#]", bucket):
        raise ConfigError(
            f"a bucket's name without ? and # was required, however {bucket!r} came; correct the address"
        )


@lru_cache(maxsize=16)
def _reading(base: str, process: int, surroundings: tuple[tuple[str, str], ...]) -> tuple[Any, str]:
    """Return Arrow's client, and what it calls the bucket; one a process: clients do not survive a fork."""
    with refusals("open", base):
        files, bucket = pafs.FileSystem.from_uri(base)
        return files, str(bucket)


@lru_cache(maxsize=16)
def _writing(base: str, region: str | None, process: int, surroundings: tuple[tuple[str, str], ...]) -> Any:
    """Return obstore's client of a bucket."""
    endpoint = dict(surroundings).get("AWS_ENDPOINT_URL_S3") or dict(surroundings).get("AWS_ENDPOINT_URL", "")
    options: dict[str, Any] = {"client_options": {"allow_http": endpoint.startswith("http://")}}
    if base.startswith("s3://"):
        options |= {"region": region} if region else {}
        options |= {"endpoint": endpoint} if endpoint else {}
    retries = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
    with _answers("open", base):
        return _obstore().store.from_url(base, retry_config=retries, **options)


def _surroundings() -> tuple[tuple[str, str], ...]:
    """Return what the environment says of object stores: who changes it gets other clients."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(_SURROUNDINGS)))


def _obstore() -> Any:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise ConfigError(
            "obstore was required to write to an object store, however it is not installed;"
            " pip install 'vaewatch[s3]'"
        ) from error
    return obstore


def _version(meta: Any) -> dict[str, str]:
    """Return what names a version of an object in the terms of a conditional put."""
    return {name: meta[name] for name in ("e_tag", "version") if meta[name]}


@contextmanager
def _answers(verb: str, uri: str) -> Iterator[None]:
    """Turn an error of obstore into a sentence."""
    with refusals(verb, uri):
        try:
            yield
        except (_obstore().exceptions.BaseError, FileNotFoundError) as error:
            kind = UnreadableError if isinstance(error, FileNotFoundError) else StoreError
            reason = " ".join(str(error).partition("Debug source")[0].split()).rstrip(".:")[:300]
            raise kind(f"cannot {verb} {uri}: {reason}; check address, rights and network") from error
