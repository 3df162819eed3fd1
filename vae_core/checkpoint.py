"""Training runs kept on disk while they last, so that one that is killed goes on where it was.

One safetensors file a phase of training, with JSON in its header and nothing that runs code. It names
the run that it belongs to, by a digest of all that the run's outcome depends on, and is taken up by no
other.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vae_core.exceptions import ModelFileError

__all__ = ["Checkpoint", "Standing", "digest_of"]

SUFFIX = ".training.safetensors"
EVERY = 10.0  # seconds between writes; a state of megabytes takes milliseconds


@dataclass(frozen=True)
class Standing:
    """Where a run stands after an epoch: plain values and tensors."""

    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class Checkpoint:
    """A folder that training keeps its state in.

    Parameters
    ----------
    folder
        Made when it is missing; one training at a time.
    every
        Seconds between two writes; 0 writes after each epoch.

    Attributes
    ----------
    resumed : int
        Epochs that were not run again, because an earlier run had left their outcome.
    """

    def __init__(self, folder: str | Path, every: float = EVERY) -> None:
        self.folder, self.every = Path(folder), every
        self.resumed = 0
        self._written = monotonic()

    def due(self) -> bool:
        """Whether the last write is long enough ago."""
        return monotonic() - self._written >= self.every

    def keep(self, phase: str, run: str, standing: Standing) -> None:
        """Replace the state of a phase, all at once, by where the run of digest ``run`` stands.

        Raises
        ------
        ModelFileError
            The folder cannot be written to.
        """
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in standing.tensors.items()}
        facts = json.dumps(standing.facts)
        header = {"run": run, "facts": facts, "digest": digest_of([facts.encode()], tensors)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _replace(self.folder / f"{phase}{SUFFIX}", save(tensors, header))
        except OSError as error:
            raise ModelFileError(
                f"{self.folder} must be a folder that training can keep its state in, however: {error}; "
                "make room or name another"
            ) from error
        self._written = monotonic()

    def standing(self, phase: str, run: str) -> Standing | None:
        """Where the run of digest ``run`` stood in a phase; None where nothing whole of it was kept."""
        path = self.folder / f"{phase}{SUFFIX}"
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError):
            return None
        facts = header.get("facts", "")
        if header.get("run") != run or header.get("digest") != digest_of([facts.encode()], tensors):
            return None
        return Standing(json.loads(facts), tensors)

    def clear(self) -> None:
        """Remove what was kept, and the folder when nothing else is in it."""
        for path in self.folder.glob(f"*{SUFFIX}*"):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def digest_of(texts: Iterable[bytes], tensors: Mapping[str, Tensor]) -> str:
    """A digest of texts and of named tensors: shapes, types and bytes."""
    whole = hashlib.blake2b(digest_size=32)
    for text in texts:
        whole.update(len(text).to_bytes(8, "little") + text)
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _replace(path: Path, data: bytes) -> None:
    """Write a file aside, then rename: a reader sees the old one or the new one."""
    handle, aside = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
