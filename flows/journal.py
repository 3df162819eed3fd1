"""The journal of a pipeline's models: which version carried which alias, from when on, and why.

Under the results, ``journal/dt=DAY/`` holds one small Parquet file a move of an alias; files are only
ever added. Each row carries a digest of itself, and that of the row before it as the writer saw it: a
row that was edited, or taken out from among the others, is found and named. File names begin with
their time, so that the last move of an alias is found by listing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.errors import StoreError
from flows.storage import Store

__all__ = ["Journal", "Move", "carried", "step_back"]

FOLDER = "journal"
STAMP = "%Y%m%dT%H%M%S%f"  # UTC
SCHEMA = pa.schema(
    [
        ("alias", pa.string()),
        ("version", pa.string()),
        ("from_version", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("by", pa.string()),
        ("evidence_run_id", pa.string()),
        ("how", pa.string()),
        ("previous", pa.string()),
        ("digest", pa.string()),
    ]
)


@dataclass(frozen=True)
class Move:
    """One move of an alias.

    Attributes
    ----------
    alias
        Such as ``champion``.
    version, from_version
        Who carries it from now on, and who did before; None for nobody.
    at
        When, in UTC.
    by
        Who did it: the user of the command line, ``training``, or ``outside`` when it was found moved.
    evidence_run_id
        MLflow run that holds the gate's verdict; None where nothing was asked of the version.
    how
        ``trained``, ``promoted``, ``forced``, ``rolled back`` or ``outside``.
    previous
        Digest of the move before it; None for the first.
    """

    alias: str
    version: str | None
    from_version: str | None
    at: datetime
    by: str
    evidence_run_id: str | None
    how: str
    previous: str | None = None

    @property
    def digest(self) -> str:
        """``sha256:…`` over all fields."""
        content = {**asdict(self), "at": self.at.astimezone(UTC).isoformat(timespec="microseconds")}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


@dataclass(frozen=True)
class Journal:
    """The moves under a folder of results.

    All methods raise `StoreError`, one sentence, when the place refuses, or holds a row that is not as
    it was written.
    """

    store: Store

    def moves(self) -> list[Move]:
        """All moves, oldest first; none before the first training.

        Raises
        ------
        StoreError
            A row was altered, or one is missing among the others; the sentence names the file.
        """
        found = [(key, self._read(key)) for key in self._keys()]
        known = {move.digest for _, move in found}
        for key, move in found:
            if move.previous is not None and move.previous not in known:
                raise StoreError(
                    f"{self.store.uri(key)}: the move before it, {_short(move.previous)}, was required, "
                    "however no file of the journal holds it; bring that file back"
                )
        return [move for _, move in found]

    def last(self, alias: str) -> Move | None:
        """The newest move of an alias; reads one file."""
        return next(self._newest(alias), None)

    def append(
        self,
        alias: str,
        version: str | None,
        *,
        by: str,
        how: str,
        evidence_run_id: str | None = None,
        at: datetime | None = None,
    ) -> Move:
        """Write a move, after all others that are there.

        Two writers at once both succeed, with names of their own.

        Parameters
        ----------
        at
            By default now; always later than the move before it.
        """
        before = next(self._newest(), None)
        carrier = self.last(alias)
        move = Move(
            alias=alias,
            version=version,
            from_version=None if carrier is None else carrier.version,
            at=_later(at or datetime.now(UTC), before),
            by=by,
            evidence_run_id=evidence_run_id,
            how=how,
            previous=None if before is None else before.digest,
        )
        self.store.write_bytes(_key(move), _parquet(move))
        return move

    def live_version(self, alias: str, at: datetime) -> str | None:
        """The version that carried an alias at a time; None where none did."""
        return next((move.version for move in self._newest(alias) if move.at <= at), None)

    def _newest(self, alias: str | None = None) -> Iterator[Move]:
        """Moves of an alias, or of all, newest first, read one by one."""
        for key in reversed(self._keys()):
            if alias is None or _alias_of(key) == alias:
                yield self._read(key)

    def _keys(self) -> list[str]:
        found = [one.key for one in self.store.list(FOLDER, ".parquet")]
        return sorted(found, key=lambda key: PurePosixPath(key).name)

    def _read(self, key: str) -> Move:
        try:
            [row] = pq.read_table(self.store.open_input(key), schema=SCHEMA, partitioning=None).to_pylist()
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # years beyond Python's, too
            raise StoreError(
                f"{self.store.uri(key)}: one move of an alias was required, however it holds "
                f"{type(error).__name__}; bring the file back as it was"
            ) from error
        if any(row[name] is None for name in ("alias", "at", "by", "how")):
            raise StoreError(
                f"{self.store.uri(key)}: alias, at, by and how were required, however one is null; bring the "
                "file back as it was"
            )
        move = Move(**{one.name: row[one.name] for one in fields(Move)})
        if move.digest != row["digest"] or PurePosixPath(_key(move)).name != PurePosixPath(key).name:
            raise StoreError(
                f"{self.store.uri(key)}: the row with digest {_short(row['digest'])} was required as it was "
                f"written, however its digest is {_short(move.digest)}: it was altered; bring it back"
            )
        return move


def _later(at: datetime, before: Move | None) -> datetime:
    """The time, or just after that of the move before: clocks differ between machines."""
    moment = at.astimezone(UTC)
    return moment if before is None else max(moment, before.at + timedelta(microseconds=1))


def _key(move: Move) -> str:
    """``journal/dt=2013-07-15/20130715T031500123456-champion-0a1b2c3d.parquet``; unique by its digest."""
    moment = move.at.astimezone(UTC)
    name = f"{moment.strftime(STAMP)}-{move.alias}-{_short(move.digest).removeprefix('sha256:')}"
    return f"{FOLDER}/dt={moment.date()}/{name}.parquet"


def _alias_of(key: str) -> str:
    """The alias in a file's name; it may hold ``-`` itself."""
    return PurePosixPath(key).stem.partition("-")[2].rpartition("-")[0]


def _short(digest: Any) -> str:
    return str(digest)[:19]


def _parquet(move: Move) -> bytes:
    row = {one.name: getattr(move, one.name) for one in fields(move)} | {"digest": move.digest}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row], SCHEMA), sink)
    return bytes(sink.getvalue())


def carried(moves: Sequence[Move], alias: str) -> list[tuple[str, datetime, datetime | None]]:
    """Version, from when, until when (None: still) of each time that a version carried an alias."""
    own: list[Move] = []
    for move in moves:
        if move.alias == alias and (not own or own[-1].version != move.version):
            own.append(move)
    ends = [move.at for move in own[1:]] + [None]
    return [(one.version, one.at, end) for one, end in zip(own, ends, strict=True) if one.version]


def step_back(moves: Sequence[Move], alias: str) -> str | None:
    """The version that a rollback brings back: the one before, and one further back each time."""
    line: list[str] = []
    for move in moves:
        if move.alias != alias or move.version is None:
            continue
        if move.how == "rolled back" and len(line) > 1:
            line.pop()
        elif not line or line[-1] != move.version:
            line.append(move.version)
    return line[-2] if len(line) > 1 else None
