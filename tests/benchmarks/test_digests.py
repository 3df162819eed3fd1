"""Hashes of code."""

from pathlib import Path

from benchmarks.digests import code_digest


def _digest(folder: Path, name: str, text: str) -> str:
    (folder / name).mkdir()
    (folder / name / "code.py").write_text(text)
    return code_digest([folder / name / "code.py"])


def test_only_what_code_does_counts(tmp_path: Path) -> None:
    """Docstrings, comments and layout may change, numbers may not."""
    plain = _digest(tmp_path, "plain", "def f(x):\n    return x + 1\n")
    told = _digest(
        tmp_path, "told", '"""Text."""\n\ndef f(x):  # more\n    """Text."""\n    return (x + 1)\n'
    )
    changed = _digest(tmp_path, "changed", "def f(x):\n    return x + 2\n")

    assert plain == told
    assert plain != changed
