"""People at the page: their browsers, the proxy that some come through, the flows that run meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from pathlib import Path
from typing import TypeVar

from playwright.sync_api import Page

from flows.config import Pipeline
from flows.processes import free_port

__all__ = ["NEXT", "NIGHT", "PATIENCE", "SIZES", "Serve", "Visitor", "flows_of", "memory_of", "proxy"]

NIGHT, NEXT = date(2013, 7, 6), date(2013, 7, 7)
"""The night when a crash closed the airport of San Francisco, and the one after."""

SCREENSHOTS = Path(__file__).parent / "screenshots"
"""Kept as artefacts of a run; git ignores them."""

SIZES = {"1280": (1280, 800), "1920": (1920, 1080), "phone": (390, 844)}
PATIENCE = 60_000  # milliseconds; machines that run tests are busy
ROW = 33  # pixels

STILL = """
!document.querySelector('[data-stale="true"]')
&& !document.querySelector('[data-testid=stMain] [data-testid=stSkeleton]')
"""

T = TypeVar("T")
Serve = Callable[[Pipeline], AbstractContextManager[str]]


def flows_of(root: Path, work: Callable[[], T]) -> T:
    """Run flows of a project in a thread of their own: Playwright has an event loop in this one."""
    from flows.server import api

    def run() -> T:
        with api(root):
            return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


class Visitor:
    """One person with a browser of their own.

    ``foreign`` are the addresses beyond this machine that the page has asked for, ``errors`` what it has
    thrown, ``dialogs`` what it has popped up.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self._note(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))

    def _note(self, url: str) -> None:
        if not url.startswith((self.address, self.address.replace("http", "ws", 1), "data:", "blob:")):
            self.foreign.append(url)

    def visit(self, path: str = "") -> None:
        """Open an address of the page, and wait until it is drawn."""
        self.page.goto(f"{self.address}/{path}")
        self.page.wait_for_selector("h1")
        self.wait()

    def wait(self) -> None:
        """Wait until nothing is computed any more."""
        self.page.wait_for_timeout(150)
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        self.page.wait_for_function(STILL)

    def text(self) -> str:
        """Return all text that is drawn, cells of tables left out."""
        return self.page.inner_text('[data-testid="stMain"]')

    def sees(self, text: str) -> None:
        """Wait until a text is drawn; fails when it is not."""
        self.page.get_by_test_id("stMain").get_by_text(text).first.wait_for()
        self.wait()

    def press(self, name: str) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name).first.click()
        self.wait()

    def key(self, key: str) -> None:
        """Press a key, with nothing in focus."""
        self.page.evaluate("document.activeElement.blur()")
        self.page.keyboard.press(key)
        self.wait()

    def follow(self, name: str) -> None:
        """Follow a link."""
        self.page.get_by_role("link", name=name).first.click()
        self.wait()

    def table(self, name: str = "") -> list[dict[str, str]]:
        """Return what is in sight of a table, the first of that name, as a screen reader is told it."""
        frames = self.page.get_by_test_id("stDataFrame")
        named = frames.filter(has=self.page.locator(f"[aria-label*='{name}']")) if name else frames
        grid = named.first.locator("canvas table")
        grid.wait_for(state="attached")
        heads, *rows = grid.evaluate(
            "table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return [dict(zip(heads, row, strict=False)) for row in rows]

    def verdicts(self, wanted: str) -> bool:
        """Return whether all flags in sight have a verdict, as soon as they have, or after some seconds."""
        deadline = time.monotonic() + PATIENCE / 2_000
        while True:  # a table tells screen readers a little later than it draws
            found = {row.get("Verdict") for row in self.table("Flagged rows")}
            if found == {wanted} or time.monotonic() > deadline:
                return found == {wanted}
            self.page.wait_for_timeout(200)

    def click_cell(self, row: int, x: int, number: int = 0) -> None:
        """Click into a table: a row, counted from 0, and pixels from its left edge."""
        frame = self.page.get_by_test_id("stDataFrame").nth(number)
        frame.scroll_into_view_if_needed()
        box = frame.bounding_box()
        assert box is not None
        self.page.mouse.click(box["x"] + x, box["y"] + ROW * (row + 1.5))
        self.wait()

    def shot(self, name: str) -> Path:
        """Keep a picture of the whole page."""
        SCREENSHOTS.mkdir(exist_ok=True)
        size = self.page.viewport_size or {"width": 1280, "height": 800}
        tall = self.page.evaluate("document.querySelector('[data-testid=stMain]')?.scrollHeight || 0")
        self.page.set_viewport_size({"width": size["width"], "height": min(max(size["height"], tall), 4000)})
        self.page.wait_for_timeout(500)
        file = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=file)
        self.page.set_viewport_size(size)
        return file


@contextmanager
def proxy(target: str, header: str, name: str | None) -> Iterator[str]:
    """Run a reverse proxy that tells a name in a header, in place of what visitors send; yield its URL."""
    loop = asyncio.new_event_loop()
    host, port = target.removeprefix("http://").split(":")
    own = free_port()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            kept = [
                line
                for line in head[1:-2]
                if not line.lower().startswith((header.lower(), "connection: keep"))
            ]
            told = [] if name is None else [f"{header}: {name}"]
            upgrade = any(line.lower().startswith("upgrade") for line in kept)
            told += [] if upgrade else ["Connection: close"]
            there_reader, there = await asyncio.open_connection(host, int(port))
            there.write("\r\n".join([head[0], *kept, *told, "", ""]).encode("latin-1"))
            await asyncio.gather(_pump(reader, there), _pump(there_reader, writer))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve_one, "127.0.0.1", own)
        ready.set()
        async with server:
            await server.serve_forever()

    ready = threading.Event()
    task: list[asyncio.Task[None]] = []

    def main() -> None:
        asyncio.set_event_loop(loop)
        task.append(loop.create_task(run()))
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task[0])
        rest = asyncio.all_tasks(loop)
        for one in rest:
            one.cancel()
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=main)
    thread.start()
    ready.wait(10)
    yield f"http://127.0.0.1:{own}"
    loop.call_soon_threadsafe(task[0].cancel)
    thread.join()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def memory_of(pid: int) -> float:
    """Return the largest resident memory that a process tree has had, in MiB."""
    peaks = []
    for one in [pid, *_below(pid)]:
        status = Path(f"/proc/{one}/status").read_text().splitlines()
        peaks += [int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")]
    return max(peaks, default=0.0)


def _below(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *_below(int(child))]
    return found
