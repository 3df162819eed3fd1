"""A night whose files and results lie on an object store, through the whole flow; meanwhile it goes away."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import checker
from flows.config import Pipeline
from flows.report import top_flags
from flows.storage import Store

pytestmark = pytest.mark.slow


class Door:
    """A port before a server of this machine, through which nobody comes while it is shut."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self.behind, self.open, self.turned_away = (parts.hostname, parts.port), True, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.ends: list[socket.socket] = []
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                guest, _ = self.socket.accept()
                if self.open:
                    self._let_in(guest)
                else:
                    self.turned_away += 1
                    guest.close()

    def _let_in(self, guest: socket.socket) -> None:
        host = socket.create_connection(self.behind)
        self.ends += [guest, host]
        for ends in ((guest, host), (host, guest)):
            threading.Thread(target=_pass_on, args=ends, daemon=True).start()

    def shut(self) -> None:
        """Let nobody in any more, and those who are in out."""
        self.open = False
        for one in self.ends:
            with suppress(OSError):  # gone already
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the port back."""
        self.shut()
        self.socket.shutdown(socket.SHUT_RDWR)
        for one in (self.socket, *self.ends):
            one.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def door(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """Return a door before the S3 server; who checks samples has to go through it, too."""
    checker.end()
    with closing(Door(os.environ["AWS_ENDPOINT_URL"])) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.address)
        yield found
    checker.end()


@pytest.fixture
def goes_away(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store go away when a sample is checked, and come back after the first failure."""
    from flows import validate
    from flows.retries import store_failed

    once = iter([door.shut])

    def shut(*_: Any) -> None:
        next(once, lambda: None)()

    def come_back(*failed: Any) -> bool:
        door.open = True
        return store_failed(*failed)

    task = validate.check_task.with_options(retry_condition_fn=come_back, on_running=[shut])
    monkeypatch.setattr(validate, "check_task", task)


def arrive(pipeline: Pipeline, project: Any, day: date, rows: int) -> None:
    """Put a night's file into the bucket, in place of one that is there."""
    file = project.land(day, rows=rows, odd=3)
    Store.of(pipeline.source_path).write_bytes(f"dt={day}/a.parquet", file.read_bytes())


def table(pipeline: Pipeline, key: str) -> pa.Table:
    return pq.ParquetFile(io.BytesIO(Store.of(pipeline.output_path).read_bytes(key))).read()


@pytest.mark.usefixtures("prefect_server", "goes_away")
def test_a_night_goes_from_one_bucket_to_the_other(
    project: Any, days: Callable[[int], list[date]], s3: str, door: Door
) -> None:
    """Though the store is away for a while; found done the second time, made anew when its file changes."""
    from flows.score import score

    (day,) = days(1)
    pipeline: Pipeline = project.pipeline("remote", landing=f"{s3}/landing", output=f"{s3}/results")
    arrive(pipeline, project, day, rows=200)

    first, again = score(str(pipeline.file), str(day)), score(str(pipeline.file), str(day))
    arrive(pipeline, project, day, rows=201)
    late = score(str(pipeline.file), str(day))

    assert door.turned_away > 0
    assert [one["status"] for one in (first, again, late)] == ["scored", "unchanged", "scored"]
    assert (first["rows_scored"], first["rows_flagged"], late["rows_scored"]) == (200, 3, 201)
    assert first["validation"]["contract_broken"] is False
    assert first["files"][0]["path"] == f"{s3}/landing/dt={day}/a.parquet"
    flags = table(pipeline, f"flags/dt={day}/part-0.parquet")
    assert flags.num_rows == 3
    assert {row["row_id"] for row in top_flags(pipeline, day)} == set(flags.column("row_id").to_pylist())
    assert table(pipeline, f"scores/dt={day}/part-0.parquet").num_rows == 201
    assert late["changes"]["files_changed"] == [first["files"][0]["path"]]
    assert not [one.key for one in Store.of(pipeline.output_path).list(".staging")]
