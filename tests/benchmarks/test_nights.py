"""The benchmark of kills and races, at its smallest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.forked import forked, result_of


def test_a_child_is_waited_for_or_killed() -> None:
    """Its result comes back; of a killed one there is none, and an error is told."""

    def wrong() -> None:
        raise ValueError("no")

    assert result_of(lambda: {"rows": [1, 2]}) == {"rows": [1, 2]}
    sleeper = forked(lambda say: (say(), __import__("time").sleep(60)))
    sleeper.wait_for_line()
    assert sleeper.kill() is None
    with pytest.raises(ChildProcessError, match="ValueError: no"):
        result_of(wrong)


@pytest.mark.slow
def test_nights_are_committed_once_whoever_is_killed(tmp_path: Path) -> None:
    """The figures have the names that others read, and no violation among them."""
    command = [sys.executable, "-m", "benchmarks.nights", "--trials", "2", "--rows", "300", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "results" / "nights.json").read_text())
    assert (figures["file"]["kills"], figures["file"]["races"]) == (2, 2)
    assert (figures["s3"]["kills"], figures["s3"]["races"]) == (1, 1)
    for place in ("file", "s3"):
        assert figures[place]["violations"] == figures[place]["reader_violations"] == 0
        assert figures[place]["reader_polls"] > 0
    assert "| file | 2 | 2 | 0 |" in (tmp_path / "nights.md").read_text()
