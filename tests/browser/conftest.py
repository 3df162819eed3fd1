"""A real browser before a real page: the distribution's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, sync_playwright

from flows.config import Pipeline, load_pipeline
from flows.demo import _days, flights_csv
from flows.processes import free_port
from flows.review_page import review_page
from tests.browser.people import NEXT, NIGHT, SIZES, Serve, Visitor, flows_of

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
FIRST = date(2013, 6, 1)
FLIGHTS = """
version: 1
name: flights
source: {path: landing, partition: dt}
output: results
columns: {key: [carrier, flight, origin, time_hour], ignore: [year, month, day], categorical: [tailnum]}
training: {window: 30d, calibration: 14d, detector: {max_steps: 300, n_members: 1, min_scale: 0.22}}
decision: {budget: 20}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the distribution's Chromium once for the tests of a file.

    No longer: its event loop runs in this thread meanwhile, and whoever asks for one gets another answer.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found is not None, "the tests of the page need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield chromium
        chromium.close()


def _land(root: Path, day: date, rows: pd.DataFrame, name: str = "flights.parquet") -> None:
    folder = root / "landing" / f"dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / name, index=False)


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Pipeline:
    """Train on June, score the night of 6 July: a file of it is torn, and one has rows without an origin.

    The night after it has arrived: the airport stays closed, all flights come once more.
    """

    def work() -> None:
        from flows.score import score
        from flows.train import train

        train(str(file), "2013-06-30")
        score(str(file), str(NIGHT))

    root = tmp_path_factory.mktemp("flights")
    (root / "mlflow.yml").write_text("experiment: tests\n")
    file = root / "flights.yml"
    file.write_text(FLIGHTS)
    for day, rows in _days(flights_csv()):
        if FIRST <= day <= NIGHT:
            _land(root, day, rows)
    tonight = pd.read_parquet(root / f"landing/dt={NIGHT}/flights.parquet")
    tomorrow = tonight.assign(day=NEXT.day, time_hour=tonight["time_hour"] + pd.Timedelta(days=1))
    _land(root, NEXT, tomorrow)
    _land(root, NIGHT, tomorrow[:3].assign(origin=None), "late.parquet")
    (root / f"landing/dt={NIGHT}/torn.parquet").write_bytes(b"PAR1 and then nothing")
    flows_of(root, work)
    return load_pipeline(file)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Return a function that runs the page of a pipeline on this machine, and yields its address."""
    monkeypatch.delenv("VAEWATCH_REVIEW_DB", raising=False)

    @contextmanager
    def run(pipeline: Pipeline) -> Iterator[str]:
        port = free_port()
        with review_page([pipeline], address="127.0.0.1", port=port):
            yield f"http://127.0.0.1:{port}"

    return run


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Return a function that lets another person come to an address."""
    contexts = []

    def come(address: str, size: str = "1280", scheme: str = "light") -> Visitor:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            accept_downloads=True,
        )
        contexts.append(context)
        return Visitor(context.new_page(), address)

    yield come
    for context in contexts:
        context.close()
