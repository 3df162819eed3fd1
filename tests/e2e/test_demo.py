"""The demo as a user runs it, all of it: what it finds, and whom it calls."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the pipeline in a folder of its own, trained for fewer steps: how well is not asked."""
    shutil.copy(ROOT / "mlflow.yml", tmp_path)
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    file = tmp_path / "pipelines" / "flights.yml"
    settings = file.read_text()
    assert "detector: {}" in settings
    file.write_text(settings.replace("detector: {}", "detector: {max_steps: 200, n_members: 2}"))
    return tmp_path


def test_a_whole_demo_calls_nobody_outside(
    project: Path, connections: Callable[[], tuple[int, list[str]]]
) -> None:
    """Flights land, a model is trained, 31 nights are scored, with all servers and processes of that."""
    command = [Path(sys.executable).with_name("vaewatch"), "demo"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    calls, outside = connections()
    assert calls > 31
    assert outside == []
    manifests = list((project / "data" / "results" / "flights" / "manifests").glob("*.json"))
    assert len(manifests) == 31
    assert all(json.loads(one.read_text())["rows_scored"] for one in manifests)
    assert "the night after the Asiana crash" in done.stdout
