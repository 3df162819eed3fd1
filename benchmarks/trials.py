"""Kills and races of one night, and a reader that polls all the while."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.forked import Child, forked, result_of
from benchmarks.polling import polled
from benchmarks.workshop import DAY, EARLIER, Workshop, state_of
from flows import scoring
from flows.storage import Store

__all__ = ["Tally", "Trials"]


@dataclass
class Tally:
    """What the trials on one kind of store came to."""

    kills: int = 0
    races: int = 0
    violations: int = 0
    reader_polls: int = 0
    reader_violations: int = 0
    ended_by_the_next: int = 0
    reads_repeated: int = 0

    def figures(self) -> dict[str, Any]:
        """As a dictionary."""
        return asdict(self)


class Trials:
    """Trials on one kind of store.

    Parameters
    ----------
    folder
        For what is needed meanwhile.
    root
        Folder or URI below which each trial has an output folder of its own.
    moments
        Chooses when to kill.
    """

    def __init__(
        self, shop: Workshop, folder: Path, root: str, moments: random.Random, console: Console
    ) -> None:
        self.shop, self.folder, self.root, self.moments, self.console = shop, folder, root, moments, console
        self.tally = Tally()
        self._count = 0

    def run(self, kills: int, pairs: int, fours: int) -> Tally:
        """Do so many trials of each sort."""
        self._prepare()
        sorts = [self._kill] * kills + [lambda: self._race(2)] * pairs + [lambda: self._race(4)] * fours
        with self._reading():
            for i, trial in enumerate(sorts, 1):
                trial()
                if i % 25 == 0:
                    self.console.print(f"{self.root}: {i} of {len(sorts)}")
        return self.tally

    def _prepare(self) -> None:
        """Undisturbed runs: what is expected, and how long it takes."""
        plain = str(self.folder / "undisturbed")
        self.expected: dict[tuple[str, ...], dict[str, Any]] = {}
        for i, versions in enumerate((("1",), ("1", "2"))):
            self.expected[versions] = result_of(partial(self._undisturbed, f"{plain}/{i}", versions))
        times = [self._timed(f"{self.root}/timed-{i}") for i in range(3)]
        self.seconds, self.committing = (sorted(column)[1] for column in zip(*times, strict=True))
        self.console.print(f"undisturbed: {self.seconds:.2f} s, of which {self.committing:.2f} s to commit")

    def _undisturbed(self, output: str, versions: tuple[str, ...]) -> dict[str, Any]:
        self.shop.score(output, "1", EARLIER)
        for version in versions:
            self.shop.score(output, version)
        return state_of(output)

    def _timed(self, output: str) -> tuple[float, float]:
        began = time.monotonic()
        child = self._start(output, "1")
        child.wait_for_line()
        committing = time.monotonic()
        child.wait()
        return time.monotonic() - began, time.monotonic() - committing

    def _start(self, output: str, version: str) -> Child:
        """Start a run that says a line when it begins to commit."""

        def work(say: Callable[[], None]) -> str:
            publish = vars(scoring)["publish"]

            def announced(*arguments: Any) -> None:
                say()
                publish(*arguments)

            vars(scoring)["publish"] = announced
            return self.shop.score(output, version)

        return forked(work)

    def _kill(self) -> None:
        """Kill a run, run again, compare."""
        output, versions = self._output()
        child = self._start(output, versions[-1])
        if self._count % 4 < 2:
            time.sleep(self.moments.uniform(0, 1.05 * self.seconds))
        else:
            child.wait_for_line()
            time.sleep(self.moments.uniform(0, 1.05 * self.committing))
        finished = child.kill()
        again = self._start(output, versions[-1])
        answer = _answer(again)
        self.tally.kills += 1
        self.tally.ended_by_the_next += finished is None and answer == "unchanged"
        self._compare(output, versions, answer in ("scored", "unchanged"), f"killed, then {answer}")

    def _race(self, runs: int) -> None:
        """Start several runs at once, compare."""
        output, versions = self._output()
        children = [self._start(output, versions[-1]) for _ in range(runs)]
        answers = sorted(_answer(child) for child in children)
        self.tally.races += 1
        fair = answers == ["scored", *["unchanged"] * (runs - 1)]
        self._compare(output, versions, fair, ", ".join(answers))

    def _compare(self, output: str, versions: tuple[str, ...], fair: bool, said: str) -> None:
        state = result_of(lambda: state_of(output))
        if fair and state == self.expected[versions]:
            return
        self.tally.violations += 1
        wrong = [name for name, value in state.items() if value != self.expected[versions].get(name)]
        self.console.print(f"violation: {output}: {said}; differs in {wrong}")
        for name in wrong:
            self.console.print(state[name])

    def _output(self) -> tuple[str, tuple[str, ...]]:
        """A new output folder, and the versions that score its night in turn; all but the last one have."""
        self._count += 1
        versions = ("1",) if self._count % 2 else ("1", "2")
        output = f"{self.root}/{self._count}"
        self._lay_out(output, versions)
        self._tell_reader({"output": output, "versions": versions})
        if "://" not in self.root:
            shutil.rmtree(f"{self.root}/{self._count - 3}", ignore_errors=True)
        return output, versions

    def _lay_out(self, output: str, versions: tuple[str, ...]) -> None:
        """Copy the earlier night, and this one as it was scored before, if it was."""
        source = self.folder / "undisturbed" / "0"
        nights = [EARLIER, DAY] if len(versions) > 1 else [EARLIER]
        keys = [key for key in _keys(source) if any(f"dt={day}" in key for day in nights)]
        result_of(lambda: _copied(source, keys, output))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        folder = self.folder / "reading"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._told = folder / "now.json"
        allowed = {"earlier": self._digests(EARLIER, ("1",)), "1": self._digests(DAY, ("1",))}
        allowed["2"] = self._digests(DAY, ("1", "2"))
        reader = forked(lambda _: polled(folder, allowed))
        try:
            yield
        finally:
            (folder / "stop").touch()
            found = reader.wait()
        for problem in found["problems"]:
            self.console.print(f"reader: {problem}")
        for error, times in found["errors"].items():
            self.console.print(f"read again, {times} times: {error}")
        self.tally.reader_polls = found["polls"]
        self.tally.reader_violations = len(found["problems"])
        self.tally.reads_repeated = found["repeated"]

    def _digests(self, day: Any, versions: tuple[str, ...]) -> dict[str, str]:
        """Digests of the night's tables as the last of these versions leaves them."""
        tables = self.expected[versions]["tables"]
        return {name.partition("/")[0]: digest for name, digest in tables.items() if f"dt={day}" in name}

    def _tell_reader(self, now: dict[str, Any]) -> None:
        aside = self._told.with_suffix(".part")
        aside.write_text(json.dumps(now))
        aside.replace(self._told)


def _answer(child: Child) -> str:
    try:
        return str(child.wait())
    except ChildProcessError as error:
        return str(error)


def _keys(folder: Path) -> list[str]:
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    return [name for name in names if not name.startswith(".")]


def _copied(source: Path, keys: list[str], output: str) -> None:
    store = Store.of(output)
    for key in keys:
        store.write_bytes(key, (source / key).read_bytes())
