"""The command line, run in the test's process and folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli import main


@pytest.fixture
def vaewatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], prefect_server: str
) -> Callable[..., str]:
    """Return a function that runs a command in the test's folder, and returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["vaewatch", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, errors = capfd.readouterr()
        assert end.value.code in (None, 0), errors
        return out

    return run
