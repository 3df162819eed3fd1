"""Great Expectations in a process of its own, beside ours.

Importing it takes 5 seconds of CPU. `warm_up` starts the process, so that it imports while we import Prefect,
MLflow and torch; `check_aside` asks it. It stays for the next night, and ends with us, however we end: its
standard input closes.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from datetime import date
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa

from flows import errors
from flows.checking import check_files
from flows.config import Pipeline, load_pipeline
from flows.errors import ServerError, VaewatchError
from flows.expectations import prepare
from flows.manifest import manifest_key
from flows.storage import Store
from flows.tables import InputFile

__all__ = ["check_aside", "end", "warm_up"]


class _Checker:
    """The process, started when it is first needed, and again should it end."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.turn = threading.Lock()

    def start(self) -> subprocess.Popen[str]:
        """The running process."""
        if self.process is not None and self.process.poll() is not None:
            self.end()
        if self.process is None:
            self.process = subprocess.Popen(  # the command is ours
                [sys.executable, "-m", "flows.checker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is told to us, and we end it
            )
        return self.process

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request, and wait for its answer; a process that was left in the middle of it is ended."""
        with self.turn:
            process = self.start()
            try:
                answer = _exchange(process, {**request, "id": uuid4().hex})
            except OSError:
                answer = None
            except BaseException:  # a time limit, say: the answer would be read as that of the next request
                self.end()
                raise
        if answer is None:
            raise ServerError(
                "the process that asks Great Expectations was to answer, however it ended with exit code "
                f"{process.wait()}; see that there is memory for it, and run again"
            )
        return answer

    def end(self) -> None:
        """End the process; between two checks it holds nothing."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def _exchange(process: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any] | None:
    """Write a request, and return the answer that comes back; None when the process has ended."""
    if process.stdin is None or process.stdout is None:
        return None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    return _matching(json.loads(line), request) if line.endswith("\n") else None


def _matching(answer: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    if answer["id"] != request["id"]:
        raise ServerError(
            f"the answer to check {request['id']} was required, however that to {answer['id']} came from the"
            " process that asks Great Expectations; it is ended, run again"
        )
    return answer


_CHECKER = _Checker()


@atexit.register
def end() -> None:
    """End the process; the next check would start another."""
    _CHECKER.end()


def warm_up(pipeline: Pipeline, day: date) -> None:
    """Start the process for a night that is not finished: most likely it is to be checked."""
    if not Store.of(pipeline.output_path).exists(manifest_key(day)):
        with _CHECKER.turn:
            _CHECKER.start()


def check_aside(pipeline: Pipeline, day: date, files: list[InputFile], expected: Any) -> dict[str, Any]:
    """Validate a sample of readable files in the other process; see `checking.check_files`.

    Raises
    ------
    VaewatchError
        What `check_files` raises.
    ServerError
        The process ended, or answered something else.
    """
    schema, optional = expected
    answer = _CHECKER.ask(
        {
            "pipeline": str(pipeline.file),
            "day": str(day),
            "files": [{**asdict(file), "date": str(file.date)} for file in files],
            "schema": base64.b64encode(schema.serialize()).decode(),
            "optional": list(optional),
        }
    )
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    checked: dict[str, Any] = answer["checked"]
    return checked


def _answered(request: dict[str, Any]) -> dict[str, Any]:
    """Check what was asked, as plain values."""
    try:
        files = [InputFile(**{**one, "date": date.fromisoformat(one["date"])}) for one in request["files"]]
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(request["schema"])))
        day = date.fromisoformat(request["day"])
        expected = (schema, request["optional"])
        return {"checked": check_files(load_pipeline(request["pipeline"]), day, files, expected)}
    except VaewatchError as error:
        return {"error": type(error).__name__, "message": str(error)}


def _serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests, a line each, until there are no more."""
    prepare()  # now, while nobody waits
    for request in requests:
        asked = json.loads(request)
        answers.write(json.dumps({"id": asked["id"], **_answered(asked)}) + "\n")
        answers.flush()


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    _serve(sys.stdin, own)
