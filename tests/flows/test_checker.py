"""Great Expectations in a process beside ours."""

import base64
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import checker
from flows.config import Pipeline, load_pipeline
from flows.errors import ConfigError, ServerError, TimeLimitError
from flows.manifest import manifest_key
from flows.suites import save_suite
from flows.tables import InputFile, input_file
from flows.timelimit import time_limit

pytestmark = pytest.mark.slow

DAY = dt.date(2026, 1, 1)
SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float64())])


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A pipeline whose contract wants ids."""
    (tmp_path / "mlflow.yml").write_text("experiment: checker\n")
    (tmp_path / "orders.yml").write_text("version: 1\nname: orders\nsource: {path: .}\noutput: results\n")
    _suite(tmp_path, {"column": "id"})
    return load_pipeline(tmp_path / "orders.yml")


@pytest.fixture(autouse=True)
def _ended() -> None:
    checker.end()


def _suite(folder: Path, kwargs: dict[str, object]) -> None:
    meta = {"vaewatch": {"role": "contract"}}
    rule = {"type": "expect_column_values_to_not_be_null", "kwargs": kwargs, "meta": meta}
    save_suite(folder / "orders.expectations.json", {"name": "orders", "expectations": [rule], "meta": {}})


def _file(folder: Path, ids: list[int | None]) -> InputFile:
    path = folder / f"{len(ids)}.parquet"
    pq.write_table(pa.table({"id": ids, "x": [0.5] * len(ids)}, SCHEMA), path)
    return input_file(str(path), DAY)


def _living() -> subprocess.Popen[str] | None:
    return checker._CHECKER.process


def test_files_are_checked_in_the_other_process(pipeline: Pipeline) -> None:
    """A file that keeps the contract, one that breaks it; Data Docs are written; errors keep their class."""
    files = [_file(pipeline.root, [1, 2]), _file(pipeline.root, [1, 2, None])]
    checker.warm_up(pipeline, DAY)
    checked = checker.check_aside(pipeline, DAY, files, (SCHEMA, []))

    assert checked["report"]["contract_broken"]
    assert [*checked["broken"]] == [files[1].path]
    assert checked["report"]["docs_url"].startswith("file://")

    _suite(pipeline.root, {"column": 7})
    with pytest.raises(ConfigError, match="names of columns were required"):
        checker.check_aside(pipeline, DAY, files, (SCHEMA, []))


def test_a_process_that_is_killed_is_told_and_replaced(
    pipeline: Pipeline, until: Callable[[Callable[[], bool], float], None]
) -> None:
    """A check that gets no answer fails with one sentence; the next one has a new process."""
    checker.warm_up(pipeline, DAY)
    first = _living()
    assert first is not None
    os.kill(first.pid, signal.SIGSTOP)  # it cannot answer, and the request waits in the pipe
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(checker.check_aside, pipeline, DAY, [_file(pipeline.root, [1])], (SCHEMA, []))
        until(checker._CHECKER.turn.locked, 60)
        time.sleep(1)
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(ServerError, match="ended with exit code -9"):
            asked.result()
    checker.warm_up(pipeline, DAY)

    second = _living()
    assert second is not None
    assert second.pid != first.pid


def _go_on(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGCONT)


@pytest.mark.timeout(120, method="thread")  # the alarm is that of the time limit
def test_a_check_that_took_too_long_does_not_answer_the_next_one(pipeline: Pipeline) -> None:
    """It was asked of one file; what is asked of another file later is answered about that one."""
    files = [_file(pipeline.root, [1, 2]), _file(pipeline.root, [1, 2, None])]
    checker.warm_up(pipeline, DAY)
    first = _living()
    assert first is not None
    os.kill(first.pid, signal.SIGSTOP)
    with pytest.raises(TimeLimitError), time_limit(dt.timedelta(seconds=1), "a check"):
        checker.check_aside(pipeline, DAY, files[:1], (SCHEMA, []))
    _go_on(first)

    checked = checker.check_aside(pipeline, DAY, files[1:], (SCHEMA, []))

    assert [*checked["broken"]] == [files[1].path]


def test_an_answer_to_another_check_is_refused_and_its_process_replaced(pipeline: Pipeline) -> None:
    """Answers carry the mark of what was asked, whatever was left unread."""
    file = _file(pipeline.root, [1, None])
    checker.warm_up(pipeline, DAY)
    first = _living()
    assert first is not None
    assert first.stdin is not None
    asked = {"id": "another", "pipeline": "none.yml", "day": str(DAY), "files": [], "optional": []}
    schema = base64.b64encode(SCHEMA.serialize()).decode()
    first.stdin.write(json.dumps({**asked, "schema": schema}) + "\n")
    with pytest.raises(ServerError, match="however that to another came"):
        checker.check_aside(pipeline, DAY, [file], (SCHEMA, []))
    assert _living() is None

    checked = checker.check_aside(pipeline, DAY, [file], (SCHEMA, []))

    assert [*checked["broken"]] == [file.path]


def test_a_finished_night_needs_no_process(pipeline: Pipeline) -> None:
    """Most likely it will be found unchanged."""
    manifest = Path(pipeline.output_path) / manifest_key(DAY)
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    checker.warm_up(pipeline, DAY)

    assert _living() is None


def test_the_process_ends_with_ours_however_we_end() -> None:
    """Killed at once, without a last word: its standard input closes."""
    program = (
        "import os, signal; from flows import checker; print(checker._CHECKER.start().pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ran.returncode == -signal.SIGKILL
    assert ran.stdout.strip().isdigit()  # run() came back: nobody holds its output any more
