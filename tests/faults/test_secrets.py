"""What a project does in earnest leaves no secret behind, and calls nobody outside."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.errors import RegistryError, StoreError
from flows.processes import free_port
from flows.storage import Store
from flows.tracking import Stores

UNTIL = date(2024, 3, 14)
PIPELINE = """\
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
columns: {key: [id]}
training: {window: 10d, calibration: 4d, detector: {max_steps: 20, n_members: 1}}
decision: {contamination: 0.05}
alerts: {max_flag_share: 0.0, notify: [VAEWATCH_ALERTS]}
"""
NAMES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"),
    *("GITHUB_TOKEN", "PGPASSWORD", "VAEWATCH_REVIEW_COOKIE"),
)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Plant a secret in each variable of the environment that may hold one."""
    planted = {
        name: f"hunter2{base64.b32encode(os.urandom(10)).decode().lower()}" for name in (*NAMES, "ALERTS")
    }
    for name in NAMES:
        monkeypatch.setenv(name, planted[name])
    monkeypatch.setenv("VAEWATCH_ALERTS", f"json://ann:{planted['ALERTS']}@127.0.0.1:{free_port()}/")
    return planted


def shown(secrets: dict[str, str], text: bytes) -> list[str]:
    """Return the names of the secrets that a text shows, plainly or in base64."""
    forms = {name: (value.encode(), base64.b64encode(value.encode())[:-4]) for name, value in secrets.items()}
    return [name for name, some in forms.items() if any(form in text for form in some)]


def written(secrets: dict[str, str], folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each file below a folder that holds secrets, with their names."""
    for file in folder.rglob("*"):
        if file.is_file() and (found := shown(secrets, file.read_bytes())):
            yield file, found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a pipeline and two weeks of orders."""
    (tmp_path / "mlflow.yml").write_text("experiment: tests\n")
    (tmp_path / "orders.yml").write_text(PIPELINE)
    for i in range(15):
        day, rng = UNTIL + timedelta(days=i - 13), np.random.default_rng(i)
        file = tmp_path / "landing" / f"dt={day}" / "a.parquet"
        file.parent.mkdir(parents=True)
        amount = rng.normal(50, 5, 60)
        pq.write_table(pa.table({"id": np.arange(60) + 60 * i, "amount": amount, "tax": amount * 0.2}), file)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def vaewatch(project: Path, *arguments: str) -> bytes:
    """Run the command line as a person does; returns all that it prints."""
    command = [
        Path(sys.executable).with_name("vaewatch"),
        *arguments,
        "--pipeline",
        str(project / "orders.yml"),
    ]
    done = subprocess.run(command, cwd=project, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_training_and_a_night_leave_no_secret_and_call_nobody_outside(
    project: Path, secrets: dict[str, str], connections: Callable[[], tuple[int, list[str]]]
) -> None:
    """Neither in files, logs, databases of MLflow and Prefect, nor in what is printed; alerts are tried."""
    said = vaewatch(project, "train", "--until", str(UNTIL), "--json")
    said += vaewatch(project, "score", "--date", str(UNTIL + timedelta(days=1)), "--json")

    calls, outside = connections()
    (project / "control").write_text(f"a control: {secrets['PGPASSWORD']}")

    assert shown(secrets, said) == []
    assert dict(written(secrets, project)) == {project / "control": ["PGPASSWORD"]}
    assert dict(written(secrets, Path(os.environ["PREFECT_HOME"]))) == {}
    assert (Path(os.environ["PREFECT_HOME"]) / "prefect.db").stat().st_size > 100_000
    assert calls > 20
    assert outside == []


def test_errors_of_a_store_show_no_credentials(
    secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    caplog.set_level(logging.DEBUG)
    store = Store.of("s3://vaewatch/results")

    with pytest.raises(StoreError) as writing:
        store.write_bytes("a", b"")
    with pytest.raises(StoreError) as reading:
        store.find("a")

    assert shown(secrets, f"{writing.value} {reading.value} {caplog.text}".encode()) == []


def test_errors_of_the_registry_show_no_password(secrets: dict[str, str]) -> None:
    uri = f"http://ann:{secrets['PGPASSWORD']}@127.0.0.1:{free_port()}"

    with pytest.raises(RegistryError) as caught, Stores(uri, uri).asked_to("read a model"):
        pass

    assert shown(secrets, str(caught.value).encode()) == []
    assert "http://***@127.0.0.1" in str(caught.value)
