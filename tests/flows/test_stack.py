"""The whole stack starts with one call, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from flows.config import load_pipeline
from flows.errors import ServerError
from flows.server import running
from flows.stack import MLFLOW_PORT, PREFECT_PORT, _mlflow, up

pytestmark = pytest.mark.slow

Marked = Callable[[], dict[int, str]]
Until = Callable[[Callable[[], bool], float], None]

PIPELINE = """
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
"""
UP = """
import sys
from pathlib import Path
from flows.config import load_pipeline
from flows.stack import up
pipeline = load_pipeline(sys.argv[1])
up(pipeline.root, [pipeline], lambda line: print(line, flush=True))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project's folder, of which Prefect knows nothing else."""
    (tmp_path / "mlflow.yml").write_text("experiment: tests\n")
    (tmp_path / "orders.yml").write_text(PIPELINE)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    return tmp_path


@pytest.fixture
def stack(project: Path, marked: Marked) -> Iterator[subprocess.Popen[str]]:
    """Start the stack of a project as a command of its own."""
    assert marked() == {}
    command = [sys.executable, "-c", UP, str(project / "orders.yml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def _lines_until_up(stack: subprocess.Popen[str]) -> list[str]:
    assert stack.stdout is not None
    lines = [stack.stdout.readline().strip()]
    while lines[-1] and not lines[-1].startswith("Ctrl-C"):
        lines.append(stack.stdout.readline().strip())
    return lines


def _listening(pids: set[int]) -> list[tuple[str, int]]:
    """Return address and port of every listening socket of these processes."""
    sockets = {
        str(one.readlink()) for pid in pids for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()
    }
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    ours = [row[1].split(":") for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return [(address, int(port, 16)) for address, port in ours]


def _refused(port: int, method: str = "GET", **headers: str) -> bool:
    """Return whether a server refuses a request, at whatever path, and gives no page leave to read it.

    The channel between the scheduler and its runs hangs up on whoever does not know its token.
    """
    for path in ("/", "/health", "/api/health", "/api/2.0/mlflow/experiments/search", "/graphql"):
        with contextlib.suppress(httpx.RemoteProtocolError):
            answer = httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers)
            if answer.status_code != 403 or "access-control-allow-origin" in answer.headers:
                return False
    return True


@pytest.fixture
def taken_ports() -> Iterator[None]:
    """Hold the ports where people expect the pages, unless somebody holds them already."""
    with socket.socket() as one, socket.socket() as other:
        for holder, port in ((one, PREFECT_PORT), (other, MLFLOW_PORT)):
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                holder.bind(("127.0.0.1", port))
                holder.listen()
        yield


@pytest.mark.usefixtures("taken_ports")
def test_the_stack_runs_until_ctrl_c_and_leaves_no_process(
    project: Path,
    connections: Callable[[], tuple[int, list[str]]],
    stack: subprocess.Popen[str],
    marked: Marked,
) -> None:
    """It listens on the loopback alone, answers no foreign page, and calls nobody outside."""
    lines = _lines_until_up(stack)
    addresses = dict(line.split() for line in lines if "http" in line)

    assert lines[0].startswith(f"Port {PREFECT_PORT} is taken, so Prefect gets ")
    assert lines[1].startswith(f"Port {MLFLOW_PORT} is taken, so MLflow gets ")
    page = httpx.get(f"{addresses['Prefect']}/ui-settings").json()
    assert page["api_url"] == f"{addresses['Prefect']}/api"
    deployments = [
        f"{page['api_url']}/deployments/name/orders/{name}" for name in ("score-nightly", "train-weekly")
    ]
    assert [httpx.get(url).status_code for url in deployments] == [200, 200]
    assert "MLflow" in httpx.get(addresses["MLflow"]).text
    assert httpx.get(addresses["Review"]).status_code == 200
    assert running(project) == f"{addresses['Prefect']}/api"
    with pytest.raises(ServerError, match=r"^the stack of .* is up already, at http://127.0.0.1:"):
        up(project, [load_pipeline(project / "orders.yml")], print)

    listening = _listening({pid for pid in marked() if pid != os.getpid()})
    assert {address for address, _ in listening} == {"0100007F"}
    for port in {port for _, port in listening}:
        assert _refused(port, host="evil.example")
        assert _refused(port, host=f"10.evil.example:{port}")
        assert _refused(port, origin="http://evil.example")
        assert _refused(port, "POST", origin="http://evil.example")
        assert _refused(port, "OPTIONS", origin="http://evil.example")

    stack.send_signal(signal.SIGINT)
    rest, errors = stack.communicate(timeout=60)

    calls, outside = connections()
    assert calls > 10
    assert outside == []
    assert (stack.returncode, rest, errors) == (0, "Stopped.\n", "")
    assert marked() == {}
    assert running(project) is None


def test_the_page_of_an_mlflow_server_of_the_user_s_own_is_not_started_again(project: Path) -> None:
    (project / "mlflow.yml").write_text("tracking_uri: http://mlflow.example:5000\n")

    with contextlib.ExitStack() as stack:
        assert _mlflow(project, print, stack) == ([], "http://mlflow.example:5000")


def test_a_part_that_dies_ends_the_stack_and_is_named(stack: subprocess.Popen[str], marked: Marked) -> None:
    _lines_until_up(stack)
    (page,) = [
        pid
        for pid, command in marked().items()
        if "-m mlflow server" in command and "processes" not in command
    ]
    os.kill(page, signal.SIGKILL)
    _, errors = stack.communicate(timeout=60)

    assert stack.returncode == 1
    assert "ServerError: MLflow's page ended with exit code" in errors
    assert "the end of its log, " in errors
    assert marked() == {}


def test_the_stack_stops_on_sigterm_while_it_starts(
    stack: subprocess.Popen[str], marked: Marked, until: Until
) -> None:
    until(lambda: any("flows.prefect_page" in command for command in marked().values()), 30)
    stack.send_signal(signal.SIGTERM)
    rest, errors = stack.communicate(timeout=60)

    assert (stack.returncode, rest.splitlines()[-1], errors) == (0, "Stopped.", "")
    assert marked() == {}
