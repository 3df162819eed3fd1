"""The account of a night: every file and every row, in and out.

A manifest is written last, so a night is finished exactly when its manifest is there.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import date as Date  # noqa: N812 (`date` is a key of the manifest)
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.errors import StoreError
from flows.storage import Store

__all__ = [
    "Manifest",
    "ManifestInput",
    "ManifestModel",
    "ManifestOutput",
    "kept_flags_key",
    "manifest_key",
    "read_manifest",
    "scored_nights",
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class ManifestInput(_Record):
    """One file that was found, and what became of it; rows is None when they could not be counted.

    ``reason`` is why it was rejected, or which types were cast; ``warnings`` are what is odd about it though
    it was scored, a sentence a matter.
    """

    path: str
    size: int
    digest: str
    rows: int | None
    status: Literal["scored", "rejected"]
    reason: str | None = None
    warnings: tuple[str, ...] = ()


class ManifestOutput(_Record):
    """One file that was written; path is its key below the output folder."""

    path: str
    rows: int
    digest: str
    size: int | None = None  # bytes; None in manifests of version 0.1


class ManifestModel(_Record):
    """The model version that scored, and the MLflow run that trained it."""

    name: str
    version: str
    run_id: str


class Manifest(_Record):
    """Everything that went into a night and came out of it.

    Raises
    ------
    StoreError
        When the numbers do not add up: ``files_in = files_scored + files_rejected`` and, over the scored
        files, ``rows_in = rows_scored + rows_quarantined``.
    """

    format_version: Literal[1] = 1
    pipeline: str
    date: Date
    files_in: int
    files_scored: int
    files_rejected: int
    rows_in: int
    rows_scored: int
    rows_quarantined: int
    rows_flagged: int
    inputs: tuple[ManifestInput, ...]
    outputs: tuple[ManifestOutput, ...]
    pipeline_digest: str
    model: ManifestModel
    decision: dict[str, Any]
    certified: bool
    not_certified: str | None = None
    calibration: dict[str, Any] = Field(default_factory=dict)
    scored_at: str
    flow_run_id: str | None = None  # Prefect's run that scored; None where no flow did
    selection: dict[str, Any] = Field(default_factory=dict)
    changes: dict[str, Any] | None = None
    incident: dict[str, Any] | None = None
    pruned: dict[str, str] = Field(default_factory=dict)  # table -> when `vaewatch prune` removed it
    history: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        scored = [one for one in self.inputs if one.status == "scored"]
        files_out = self.files_scored + self.files_rejected
        rows_out = self.rows_scored + self.rows_quarantined
        accounts = {
            "files_in = files_scored + files_rejected": (self.files_in, files_out),
            "files_in = inputs": (self.files_in, len(self.inputs)),
            "files_scored = inputs scored": (self.files_scored, len(scored)),
            "rows_in = rows_scored + rows_quarantined": (self.rows_in, rows_out),
            "rows_in = rows of the scored inputs": (self.rows_in, sum(one.rows or 0 for one in scored)),
        }
        for account, (left, right) in accounts.items():
            if left != right:
                night = f"night {self.date} of {self.pipeline}"
                raise StoreError(f"{night}: {account} was required, however {left:,} and {right:,} came")
        return self

    @property
    def origin(self) -> tuple[ManifestModel, str, frozenset[tuple[str, str]]]:
        """What the night is a function of: model, settings, and files by path and digest."""
        return self.model, self.pipeline_digest, frozenset((one.path, one.digest) for one in self.inputs)

    def succession(self) -> tuple[dict[str, Any], ...]:
        """The history of the scoring after this one: its own, and this scoring without its tables.

        Its flags are kept aside, see `flows.commit`: ``flags`` says where.
        """
        gone = {"format_version", "pipeline", "date", "outputs", "pruned", "history"}
        flags = [one for one in self.outputs if one.path.startswith("flags/")]
        kept = [{"path": kept_flags_key(self.date, one.digest), "digest": one.digest} for one in flags]
        entry = self.model_dump(mode="json", exclude=gone)
        return (*self.history, {**entry, "flags": kept[0] if kept else None})

    def to_json(self) -> str:
        """Return the manifest as JSON, closed by a digest of its content."""
        content = self.model_dump(mode="json")
        return json.dumps({**content, "digest": _digest(content)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        StoreError
            When it is no manifest, or was altered.
        """
        try:
            content = json.loads(text)
            digest = content.pop("digest")
            manifest = cls.model_validate(content)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"a manifest of format 1 was required, however {_reason(error)}") from error
        if digest != _digest(content):
            raise StoreError("a manifest as it was written was required, however it was altered")
        return manifest


def manifest_key(day: Date) -> str:
    """Return the place of a night's manifest below the output folder."""
    return f"manifests/dt={day}.json"


def scored_nights(store: Store) -> set[Date]:
    """Return the nights that are finished: those with a manifest. Files of any other name are passed over."""
    days = (_day_of(one.key) for one in store.list("manifests", ".json"))
    return {day for day in days if day is not None}


def _day_of(key: str) -> Date | None:
    with suppress(ValueError):
        day = Date.fromisoformat(key.removeprefix("manifests/dt=").removesuffix(".json"))
        return day if key == manifest_key(day) else None
    return None


def kept_flags_key(day: Date, digest: str) -> str:
    """Return where the flags of a scoring are kept when another one takes its place."""
    return f".history/dt={day}/{digest.removeprefix('sha256:')[:16]}.parquet"


def read_manifest(store: Store, day: Date) -> Manifest | None:
    """Return the manifest of a night, None when the night is not finished.

    Raises
    ------
    StoreError
        When it cannot be read, is no manifest, or was altered; the sentence names the file.
    """
    key = manifest_key(day)
    if not store.exists(key):
        return None
    try:
        return Manifest.from_json(store.read_bytes(key))
    except StoreError as error:
        raise StoreError(f"{store.uri(key)}: {error}; delete it and score the night again") from error


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"it holds {type(error).__name__}: {error}"
