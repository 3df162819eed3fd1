"""Nights whose store fails: half of the faults are short, the others outlast all tries."""

from __future__ import annotations

import logging
import random
import shutil
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faulty_s3 import FaultyS3
from benchmarks.forked import forked, result_of
from benchmarks.workshop import Workshop, state_of
from flows import lease, night, scoring, storage
from flows.errors import VaewatchError
from flows.retries import STORE_FAILED

__all__ = [
    "HASTE",
    "ClockFault",
    "DiskFault",
    "FaultTally",
    "S3Fault",
    "StoreFault",
    "answer_of",
    "judged",
    "small_disk",
    "tried",
]

HASTE = 10
"""Waits between tries are so many times shorter than those of the nightly flow."""


@dataclass
class FaultTally:
    """What the trials of one fault came to."""

    trials: int = 0
    ridden_out: int = 0
    clear_errors: int = 0
    untouched: int = 0
    complete: int = 0
    begun: int = 0
    healed: int = 0
    violations: int = 0

    def figures(self) -> dict[str, int]:
        """As a dictionary."""
        return asdict(self)


def tried(work: Callable[[], Any]) -> Any:
    """Try as often as the task that scores does, with ``HASTE`` times shorter waits; raise the last error."""
    waits: list[float] = STORE_FAILED["retry_delay_seconds"]
    for wait in waits:
        try:
            return work()
        except VaewatchError as error:
            if not _worth_another_try(error):
                raise
        time.sleep(wait / HASTE)
    return work()


def _worth_another_try(error: VaewatchError) -> bool:
    message = f"{type(error).__name__}: {error}"
    return bool(STORE_FAILED["retry_condition_fn"](None, None, type("State", (), {"message": message})))


def answer_of(work: Callable[[], Any]) -> dict[str, Any]:
    """What became of a run: its result, or its error and whether that is one sentence of ours."""
    try:
        return {"result": work()}
    except VaewatchError as error:
        return {"error": f"{type(error).__name__}: {error}", "clear": "\n" not in str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500], "clear": False}


class StoreFault(ABC):
    """Trials of a fault that a store has while a night is scored.

    Parameters
    ----------
    root
        Folder or URI below which each trial has its results.
    """

    def __init__(
        self, name: str, shop: Workshop, folder: Path, root: str, say: Callable[[str], None]
    ) -> None:
        self.name, self.shop, self.folder, self.root, self.say = name, shop, folder, root, say
        self.chance = random.Random(name)  # noqa: S311
        self.tally = FaultTally()

    @abstractmethod
    def strike(self, number: int, output: str, version: str, seconds: float) -> dict[str, Any]:
        """Run a night while the fault lasts so many seconds; returns its answer."""

    def heal(self) -> None:  # noqa: B027  # some faults pass by themselves
        """Lift the fault."""

    def run(self, trials: int) -> FaultTally:
        """Do so many trials."""
        logging.disable()
        self.expected = [result_of(partial(self._undisturbed, again)) for again in range(2)]
        for number in range(trials):
            self._trial(number)
        return self.tally

    def _undisturbed(self, again: int) -> tuple[Any, Any]:
        """A night's state before the run that is to fail, and after it."""
        output = f"{self.folder}/undisturbed/{self.name.replace(' ', '-')}-{again}"
        before = self._prepared(output, again)
        self.shop.score(output, str(1 + again))
        return before, state_of(output)

    def _prepared(self, output: str, again: int) -> Any:
        if again:
            self.shop.score(output, "1")
        return state_of(output)

    def _trial(self, number: int) -> None:
        again, lasting = number % 2, number // 2 % 2
        output, version = f"{self.root}/{self.name.replace(' ', '-')}-{number}", str(1 + again)
        result_of(lambda: self._prepared(output, again))
        answer = self.strike(number, output, version, 3600.0 if lasting else self.chance.uniform(0.1, 0.5))
        self.heal()
        before, after = self.expected[again]
        state = result_of(lambda: state_of(output))
        judged(self.tally, self.name, answer, state, before, after, self.say)
        healed = result_of(lambda: answer_of(lambda: self.shop.score(output, version)))
        state = result_of(lambda: state_of(output))
        fine = "result" in healed and state == self.expected[again][1]
        self.tally.trials += 1
        self.tally.healed += fine
        self._violation(fine, number, f"not healed: {healed}", state)
        if "://" not in output:
            shutil.rmtree(output, ignore_errors=True)

    def _violation(self, fine: bool, number: int, said: str, state: Any) -> None:
        if not fine:
            self.tally.violations += 1
            self.say(f"violation: {self.name}, trial {number}: {said} {state}")


def judged(
    tally: FaultTally,
    name: str,
    answer: dict[str, Any],
    state: Any,
    before: Any,
    after: Any,
    say: Callable[[str], None],
) -> None:
    """Count what a run said, and in what state it left the night."""
    ended, then, now = "result" in answer, _tables(before), _tables(after)
    whole = all(_tables(state).get(one) in (then.get(one), now.get(one)) for one in {*then, *now})
    complete, untouched = state == after, state != after and _seen(state) == _seen(before)
    tally.ridden_out += ended
    tally.clear_errors += not ended and answer["clear"]
    tally.complete += complete
    tally.untouched += untouched
    tally.begun += whole and not complete and not untouched
    if not (whole and (complete or not ended) and (ended or answer["clear"])):
        tally.violations += 1
        say(f"violation: {name}: {answer} {state}")


def _tables(state: dict[str, Any]) -> dict[str, str]:
    tables: dict[str, str] = state.get("tables", {})
    return tables


def _seen(state: dict[str, Any]) -> Any:
    """What readers see of a night: not what a run has left behind the scenes."""
    return state.get("manifest"), _tables(state)


class S3Fault(StoreFault):
    """A fault of an S3 server; ``name`` is one of `faulty_s3.KINDS`."""

    server: FaultyS3

    def strike(self, number: int, output: str, version: str, seconds: float) -> dict[str, Any]:
        """Let the fault begin at some request of the run."""
        begins = {"killed in mid-read": 25, "killed in mid-write": 12}.get(self.name, 60)
        self.server.fail(self.name, self.chance.randrange(begins), seconds, number)
        answer: dict[str, Any] = result_of(
            lambda: answer_of(lambda: tried(lambda: self.shop.score(output, version)))
        )
        return answer

    def heal(self) -> None:
        """Let the server work again."""
        self.server.heal()


class DiskFault(StoreFault):
    """A disk without space: all but a few bytes of it are taken."""

    def strike(self, number: int, output: str, version: str, seconds: float) -> dict[str, Any]:
        """Fill the disk; somebody makes room after a while."""
        ballast = Path(self.root) / "ballast"
        free = shutil.disk_usage(self.root).free
        left = self.chance.randrange(0, 260_000)
        ballast.write_bytes(b"\0" * max(free - left, 0))
        room = threading.Timer(seconds, lambda: ballast.unlink(missing_ok=True))
        child = forked(lambda _: answer_of(lambda: tried(lambda: self.shop.score(output, version))))
        room.start()
        answer: dict[str, Any] = child.wait()
        room.cancel()
        return answer

    def heal(self) -> None:
        """Make room."""
        (Path(self.root) / "ballast").unlink(missing_ok=True)


class ClockFault(StoreFault):
    """A clock that jumps, once or with every look at it, by hours, days or years, forth and back."""

    def strike(self, number: int, output: str, version: str, seconds: float) -> dict[str, Any]:
        """Score by such a clock."""
        answer: dict[str, Any] = result_of(lambda: self._by_jumping_clock(number, output, version, seconds))
        return answer

    def _by_jumping_clock(self, number: int, output: str, version: str, seconds: float) -> dict[str, Any]:
        clock = _JumpingClock(random.Random(number), often=seconds > 1)  # noqa: S311
        for module in (lease, night):
            vars(module)["datetime"] = clock.datetime()
        vars(storage)["time"] = clock
        return answer_of(lambda: scoring and self.shop.score(output, version))


class _JumpingClock:
    """Stands for the module ``time``: its monotonic clock goes on, the other one jumps."""

    def __init__(self, chance: random.Random, *, often: bool) -> None:
        self._chance, self._often = chance, often
        self._offset, self._looks = 0.0, chance.randrange(4)
        self.monotonic, self.sleep = time.monotonic, time.sleep

    def time(self) -> float:
        """Seconds since 1970, as far as this clock knows."""
        self._looks -= 1
        if self._looks == 0 or self._often:
            self._offset = self._chance.choice((-1, 1)) * self._chance.choice((3600, 86_400 * 40, 3.2e7 * 20))
        return time.time() + self._offset

    def datetime(self) -> type[datetime]:
        """The class ``datetime`` by this clock."""
        clock = self

        class Jumping(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz) + timedelta(seconds=clock.time() - time.time())

        return Jumping


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a disk of so many megabytes, which takes root's rights on Linux."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(
            f"a small disk was required, however: {done.stderr.strip()}; run as root, or --faults others"
        )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
