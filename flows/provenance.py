"""Which code is running: version of the package, digest of its sources, commit where there is one."""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

__all__ = ["code_commit", "code_version"]

HERE = Path(__file__).parent.parent
PACKAGES = ("vae_core", "flows")


@cache
def code_version() -> str:
    """Version and digest of the installed sources: ``0.1.0 sha256:0a1b2c…``."""
    total = hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in (HERE / package).rglob("*.py")):
        total.update(f"{file.relative_to(HERE).as_posix()}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{_version()} sha256:{total.hexdigest()}"


def _version() -> str:
    try:
        return importlib.metadata.version("vaewatch")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that nobody installed
        return "not installed"


@cache
def code_commit() -> str | None:
    """The commit that a checkout stands on; None where the package is installed without its repository.

    Read from git's files: no program is started. Edits since then show in the digest of the sources.
    """
    git = HERE / ".git"
    try:
        if git.is_file():  # a linked work tree
            git = HERE / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        return _commit_of(git, head.removeprefix("ref:").strip()) if head.startswith("ref:") else head
    except OSError:
        return None


def _commit_of(git: Path, ref: str) -> str | None:
    shared = git / "commondir"
    common = git / shared.read_text().strip() if shared.is_file() else git
    if (common / ref).is_file():
        return (common / ref).read_text().strip()
    packed = (line.split(" ") for line in (common / "packed-refs").read_text().splitlines())
    return next((words[0] for words in packed if words[-1] == ref), None)
