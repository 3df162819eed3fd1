"""The project itself: what is installed, what is checked, what is written down."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from flows.config import load_pipeline

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", LOCK, flags=re.MULTILINE))
OUTSIDE = {"torch", "pyod", "atheris", "vaewatch"}  # two builds; benchmarks and fuzzing only; ourselves


def test_the_installed_version_is_the_one_in_pyproject_and_has_an_entry_in_the_changelog() -> None:
    assert importlib.metadata.version("vaewatch") == PROJECT["version"]
    assert f"\n## {PROJECT['version']} " in (ROOT / "CHANGELOG.md").read_text()


def test_the_lock_leaves_torch_to_the_machine() -> None:
    """A lock with hashes would force one of its two builds: gigabytes of CUDA where there is no card."""
    assert not {name for name in LOCKED if re.match("torch$|nvidia|triton", name)}


def test_the_lock_names_no_index_and_no_folder_of_a_machine() -> None:
    assert not re.findall(r"https?://|file:|--(?:extra-)?index|--find-links|(?:^|\s)/\w", LOCK)


def test_each_locked_version_has_a_hash() -> None:
    pinned = re.split(r"^(?=[a-z])", LOCK, flags=re.MULTILINE)[1:]

    assert [entry.split()[0] for entry in pinned if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_the_lock_holds_what_pyproject_asks_for(extra: str | None) -> None:
    texts = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    wanted = [Requirement(text) for text in texts]
    wrong = [one for one in wanted if not one.specifier.contains(LOCKED.get(one.name.lower(), "0"))]

    assert {one.name for one in wrong} <= OUTSIDE


def test_make_check_runs_every_check_and_ci_runs_check_and_test_once() -> None:
    listed = subprocess.run(
        ["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ci = (ROOT / ".ci" / "run").read_text().splitlines()

    for tool in ("ruff format --check", "ruff check", "mypy", "lint-imports", "mkdocs build --strict"):
        assert tool in listed.stdout
    assert [line for line in ci if line.startswith("make")] == ["make check", "make test"]


def test_prefect_yaml_says_what_the_demo_s_pipeline_says() -> None:
    schedule = load_pipeline(ROOT / "pipelines" / "flights.yml").schedule
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    found = {one["entrypoint"]: one["schedules"] for one in deployments}

    assert found == {
        "flows.score.score": [{"cron": schedule.score, "timezone": schedule.timezone}],
        "flows.train.train": [{"cron": schedule.train, "timezone": schedule.timezone}],
        "flows.monitor.monitor": [{"cron": schedule.monitor, "timezone": schedule.timezone}],
    }
