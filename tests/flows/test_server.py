"""Every command finds a Prefect server, or brings one."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.errors import ServerError
from flows.server import announced, api, environment, running

COMMAND = """
import sys
from pathlib import Path
from flows.server import api
with api(Path(sys.argv[1])):
    from prefect import flow, get_run_logger
    @flow
    def night(date):
        get_run_logger().info("a log line")
        raise ValueError(date)
    try:
        night("2013-07-06")
    except ValueError as error:
        print(error)
"""


def test_the_server_that_the_user_names_is_taken(tmp_path: Path, prefect_server: str) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    with api(tmp_path) as url:
        key = flow(lambda: flow_run.id, name="who-am-i")()
        with get_client(sync_client=True) as client:
            recorded = client.read_flow_run(key)

    assert url == prefect_server
    assert recorded.state_name == "Completed"
    assert not (tmp_path / "data").exists()


def test_a_named_server_that_does_not_answer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")

    with pytest.raises(
        ServerError, match=r"^PREFECT_API_URL names http://127.0.0.1:1/api, however nothing answers"
    ):
        api(tmp_path).__enter__()


@pytest.mark.slow
def test_without_a_server_each_command_brings_one_even_two_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marked: Callable[[], dict[int, str]]
) -> None:
    """The first two commands of a project start together; both record their run and leave no process."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_HOME")
    command = [sys.executable, "-c", COMMAND, str(tmp_path)]
    commands = [subprocess.Popen(command, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    outputs = [one.communicate() for one in commands]

    assert outputs == [("2013-07-06\n", "")] * 2  # and no chatter
    assert marked() == {}
    with sqlite3.connect(tmp_path / "data" / "prefect" / "prefect.db") as database:
        assert database.execute("select state_type from flow_run").fetchall() == [("FAILED",)] * 2
        assert database.execute("select count(*) from log where message = 'a log line'").fetchone() == (2,)


def test_the_server_of_a_living_stack_is_found(tmp_path: Path, prefect_server: str) -> None:
    (tmp_path / "data" / "prefect").mkdir(parents=True)

    with announced(tmp_path, prefect_server):
        assert running(tmp_path) == prefect_server
    assert running(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": "http://127.0.0.1:1/api", "pid": %d}'])
def test_a_stack_that_is_gone_is_not_found(tmp_path: Path, text: str) -> None:
    file = tmp_path / "data" / "prefect" / "server.json"
    file.parent.mkdir(parents=True)
    file.write_text(text.replace("%d", str(os.getpid())))

    assert running(tmp_path) is None


def test_a_stack_that_was_killed_is_not_found(tmp_path: Path, prefect_server: str) -> None:
    """Another server may answer at its address by now."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    file = tmp_path / "data" / "prefect" / "server.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"url": prefect_server, "pid": gone.pid}))

    assert running(tmp_path) is None


def test_what_the_user_has_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")

    assert environment(tmp_path)["PREFECT_HOME"] == "/elsewhere"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "data").write_text("a file where a folder should be")

    with pytest.raises(ServerError, match=r"^the folder of Prefect's runs cannot be written: .*data"):
        api(tmp_path).__enter__()
