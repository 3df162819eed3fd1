"""Which code made a model: version, digest of the sources, commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import provenance

COMMIT = "fd5b49d7f7404e2ac69ef4417f40b521332f83ab"
BRANCH = "refs/heads/main"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that the packages seem to lie in."""
    monkeypatch.setattr(provenance, "HERE", tmp_path)
    return tmp_path


def write(file: Path, text: str) -> None:
    """Write a file and its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_digest_changes_with_the_sources_and_with_nothing_else(here: Path) -> None:
    write(here / "flows/a.py", "1")
    first = provenance.code_version.__wrapped__()
    write(here / "flows/notes.txt", "2")
    write(here / "elsewhere/b.py", "2")

    assert provenance.code_version.__wrapped__() == first
    write(here / "flows/a.py", "2")
    assert provenance.code_version.__wrapped__() != first
    assert first.split(" sha256:")[0]


def test_a_commit_is_read_from_a_branch_a_packed_branch_or_a_detached_head(here: Path) -> None:
    write(here / ".git/HEAD", f"ref: {BRANCH}\n")
    write(here / ".git/packed-refs", f"# pack-refs with: peeled\n{COMMIT} {BRANCH}\n")
    assert provenance.code_commit.__wrapped__() == COMMIT

    write(here / ".git" / BRANCH, f"{'0' * 40}\n")
    assert provenance.code_commit.__wrapped__() == "0" * 40

    write(here / ".git/HEAD", f"{COMMIT}\n")
    assert provenance.code_commit.__wrapped__() == COMMIT


def test_a_linked_work_tree_finds_the_branch_in_its_repository(here: Path) -> None:
    write(here / ".git", "gitdir: repository/.git/worktrees/one\n")
    write(here / "repository/.git/worktrees/one/HEAD", f"ref: {BRANCH}\n")
    write(here / "repository/.git/worktrees/one/commondir", "../..\n")
    write(here / "repository/.git" / BRANCH, f"{COMMIT}\n")

    assert provenance.code_commit.__wrapped__() == COMMIT


def test_an_installed_package_has_no_commit(here: Path) -> None:
    assert provenance.code_commit.__wrapped__() is None


def test_a_repository_without_a_commit_has_none(here: Path) -> None:
    write(here / ".git/HEAD", f"ref: {BRANCH}\n")

    assert provenance.code_commit.__wrapped__() is None
