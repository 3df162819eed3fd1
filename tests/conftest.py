"""What all tests share: an environment of their own, one Prefect server, the real data."""

from __future__ import annotations

import http.server
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_HOME = tempfile.TemporaryDirectory(prefix="vaewatch-tests-", ignore_cleanup_errors=True)


def pytest_configure() -> None:
    """Keep away from the user's servers, runs and settings, before anything imports Prefect or MLflow."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
        del os.environ[name]
    home = Path(_HOME.name)
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }


def pytest_unconfigure() -> None:
    """Remove what the tests have left in their home."""
    _HOME.cleanup()


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Run a Prefect server with its scheduler for all tests, point Prefect there, yield its API's URL."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.processes import free_port
    from flows.server import prefect_server, url_of

    idle = ("LATE_RUNS", "TRIGGERS", "CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "REPOSSESSOR")
    lean = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in idle}  # they poll all the while
    port = free_port()
    with (
        pytest.MonkeyPatch.context() as patch,
        prefect_server(Path(_HOME.name), port, {**lean, "PREFECT_SERVER_UI_ENABLED": "false"}),
        temporary_settings({PREFECT_API_URL: url_of(port)}),
    ):
        patch.setenv("PREFECT_API_URL", url_of(port))
        yield url_of(port)


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[dict[str, str]]:
    from benchmarks.s3_server import s3_server

    with s3_server() as environment:
        yield environment


@pytest.fixture
def s3(_s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URI of an empty folder of a real S3 server, which the environment points to."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in _s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://vaewatch/{os.urandom(6).hex()}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data beside the checkout; skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data is not there: ../shared/data")
    return folder


@pytest.fixture
def until() -> Callable[[Callable[[], bool], float], None]:
    """Return a function that waits until a condition holds, and fails when it does not in so many seconds."""

    def wait(condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"still not so after {seconds} s"
            time.sleep(0.1)

    return wait


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[int, str]]:
    """Return a function that lists all living processes that this test has started: command by process id."""
    mark = f"VAEWATCH_TEST={os.urandom(8).hex()}"
    monkeypatch.setenv(*mark.split("="))

    def list_commands() -> dict[int, str]:
        processes = [folder for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
        ours = [one for one in processes if mark in _read(one / "environ").split("\0")]
        return {int(one.name): _read(one / "cmdline").replace("\0", " ") for one in ours}

    return list_commands


_RECORDER = """
import json, os, sys
names = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}

def note(event, args):
    if event in names:
        asked = args[names[event]]
        host = asked[0] if isinstance(asked, tuple) else asked
        line = json.dumps([event, str(host), sys.argv[:3]]) + "\\n"
        handle = os.open(os.environ["VAEWATCH_CONNECTIONS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, line.encode())
        os.close(handle)

sys.addaudithook(note)
"""


@pytest.fixture
def connections(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[int, list[str]]]:
    """Let every Python process that this test starts record whom it calls; return who counts the calls.

    Of the calls, those to other machines are listed in full.
    """
    folder = tmp_path_factory.mktemp("recorder")
    (folder / "sitecustomize.py").write_text(_RECORDER)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("VAEWATCH_CONNECTIONS", str(folder / "calls"))

    def list_calls() -> tuple[int, list[str]]:
        kept = folder / "calls"  # not there when nobody was called
        calls = kept.read_text().splitlines() if kept.exists() else []
        return len(calls), [line for line in calls if not _is_own(json.loads(line)[1])]

    return list_calls


def _is_own(host: str) -> bool:
    """Return whether a host is this machine: its loopback, or a socket in its file system."""
    return host in ("localhost", "None", "::1", "0.0.0.0") or host.startswith(("127.", "/"))  # noqa: S104


def _read(file: Path) -> str:
    """Return the text of a file of a process that may have ended meanwhile."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Run a receiver of messages; yield its Apprise address and the list that they come into."""
    received: list[dict[str, str]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"json://127.0.0.1:{server.server_port}/", received
        server.shutdown()
        thread.join()
