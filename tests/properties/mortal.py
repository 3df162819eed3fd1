"""A store that dies: before or after any one of its steps, as a process does that is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.storage import LocalStore, Stored, Versioned

__all__ = ["Killed", "Life", "MortalStore"]


class Killed(BaseException):
    """No error that anybody may handle: the process is no more."""


class Life:
    """Counts the steps that are left to live; None: for ever."""

    def __init__(self) -> None:
        self.steps: int | None = None

    def step(self, work: Callable[[], Any]) -> Any:
        """Do one step, unless life ends before it; or do it, and die of it."""
        self._age()
        done = work()
        self._age()
        return done

    def _age(self) -> None:
        if self.steps is None:
            return
        self.steps -= 1
        if self.steps < 0:
            raise Killed


class MortalStore(LocalStore):
    """A folder whose every change may be the last of a life; what a dead run staged stays behind."""

    def __init__(self, root: Path, life: Life) -> None:
        super().__init__(root)
        self.life = life

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write a small file, or die."""
        self.life.step(lambda: LocalStore.write_bytes(LocalStore(self.root), key, data))

    def commit(self, local_file: Path, key: str) -> None:
        """Move a finished file to its key, or die."""
        self.life.step(lambda: super(MortalStore, self).commit(local_file, key))

    def move(self, source: str, key: str) -> None:
        """Move a file, or die."""
        self.life.step(lambda: super(MortalStore, self).move(source, key))

    def withdraw(self, key: str, folder: str) -> None:
        """Remove a file on behalf of a commit, or die."""
        self.life.step(lambda: super(MortalStore, self).withdraw(key, folder))

    def discard(self, folder: str) -> None:
        """Remove a folder, or die."""
        self.life.step(lambda: LocalStore.discard(LocalStore(self.root), folder))

    def swap(self, key: str, data: bytes, seen: Versioned | None) -> Versioned | None:
        """Change the lease, or die."""
        changed: Versioned | None = self.life.step(
            lambda: LocalStore.swap(LocalStore(self.root), key, data, seen)
        )
        return changed

    def find(self, key: str) -> Stored | None:
        """Look for a file, or die."""
        found: Stored | None = self.life.step(lambda: super(MortalStore, self).find(key))
        return found

    @contextmanager
    def stage(self, label: str = "") -> Iterator[Path]:
        """Yield a stage, which nobody clears when its owner dies."""
        staged = super().stage(label)
        folder = staged.__enter__()
        try:
            yield folder
        except Killed:
            raise
        except BaseException:
            staged.__exit__(None, None, None)
            raise
        staged.__exit__(None, None, None)
