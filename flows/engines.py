"""Who does the work of a night's shards: threads of this process, or the workers of a Dask cluster.

An engine calls one function on many shards, hands the outcomes back in order, and takes new shards only as
fast as they are worked off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flows.errors import ConfigError, ServerError

if TYPE_CHECKING:
    from prefect import Task
    from prefect_dask.task_runners import DaskTaskRunner

__all__ = ["Dask", "Engine", "Threads", "engine_of", "usable_cores"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_PATIENCE = 15  # seconds for a cluster to answer
_AHEAD = 2  # shards, or portions of them, handed out for each worker: one in work, one that waits
_PORTION = 3.0  # seconds of work that are worth a task run of Prefect's
_MOST = 16  # items in a portion


class Engine(Protocol):
    """Calls a function on items, at once as far as it can."""

    def map(
        self, function: Callable[[Item], Outcome], items: Iterable[Item]
    ) -> Generator[tuple[Item, Outcome]]:
        """Yield each item and its outcome, in order; items are taken as they are worked off."""


class Threads:
    """Threads of this process.

    Parameters
    ----------
    workers
        How many; by default the cores that this process may use.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or usable_cores()

    def map(
        self, function: Callable[[Item], Outcome], items: Iterable[Item]
    ) -> Generator[tuple[Item, Outcome]]:
        """Yield each item and its outcome, in order."""
        pool = ThreadPoolExecutor(self.workers, "shard")
        try:
            submitted = ((item, pool.submit(function, item).result) for item in items)
            yield from _in_order(submitted, self.workers * _AHEAD)
        finally:
            pool.shutdown(cancel_futures=True)


class Dask:
    """Workers of a Dask cluster that is running, through Prefect's task runner.

    Neighbouring items of some seconds of work are one task run of the flow: handing one out costs the flow
    and Prefect's server a tenth of a second, which a cluster of quick workers would wait for. Functions and
    items are pickled, so both must come from modules that the workers can import; source and results must
    be folders that they all see.

    Parameters
    ----------
    address
        Of the cluster's scheduler, such as ``tcp://scheduler:8786``; by default the one that Dask's own
        configuration names (``DASK_SCHEDULER_ADDRESS``).
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address or _configured_address()

    def map(
        self, function: Callable[[Item], Outcome], items: Iterable[Item]
    ) -> Generator[tuple[Item, Outcome]]:
        """Yield each item and its outcome, in order."""
        with _connected(self.address) as runner:
            task, portions = _task(function), _Portions()
            submitted = ((part, runner.submit(task, {"items": part}).result) for part in portions.of(items))
            for part, (outcomes, seconds) in _in_order(submitted, _threads_of(runner) * _AHEAD):
                portions.weigh(seconds / len(part))
                yield from zip(part, outcomes, strict=True)


class _Portions:
    """Cuts items into portions of `_PORTION` seconds of work, as soon as it is known what an item takes."""

    def __init__(self) -> None:
        self.size = 1

    def of(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Yield neighbouring items, none before it is asked for."""
        waiting = iter(items)
        while part := list(islice(waiting, self.size)):
            yield part

    def weigh(self, seconds: float) -> None:
        """Cut further items by what one of them took."""
        self.size = max(1, min(int(_PORTION / seconds), _MOST)) if seconds > 0 else _MOST


def engine_of(setting: str | dict[str, Any], output: str) -> Engine:
    """The engine that a pipeline's ``engine`` asks for.

    Raises
    ------
    ConfigError
        A cluster is asked for without its address, or where its workers cannot see the stage of the output.
    """
    kind, value = next(iter(setting.items())) if isinstance(setting, dict) else (setting, None)
    if kind == "dask" and "://" in output:
        raise ConfigError(
            f"engine: dask requires an output folder that all workers see, however output is {output};"
            " name such a folder, or write engine: threads"
        )
    return Dask(value) if kind == "dask" else Threads(value)


def usable_cores() -> int:
    """Cores that this process may use, by affinity and by the limits of its container."""
    from joblib import cpu_count

    return int(cpu_count())


def _in_order(
    submitted: Iterator[tuple[Item, Callable[[], Outcome]]], ahead: int
) -> Iterator[tuple[Item, Outcome]]:
    """Yield outcomes in order, with so many items submitted ahead."""
    waiting: deque[tuple[Item, Callable[[], Outcome]]] = deque()
    for item, outcome in submitted:
        waiting.append((item, outcome))
        if len(waiting) >= ahead:
            item, outcome = waiting.popleft()
            yield item, outcome()
    for item, outcome in waiting:
        yield item, outcome()


def _configured_address() -> str:
    dask = _dask()
    address = dask.config.get("scheduler-address", None)
    if not address:
        raise ConfigError(
            "the address of a Dask cluster is required, however there is none;"
            " write engine: {dask: tcp://HOST:8786}, or set DASK_SCHEDULER_ADDRESS"
        )
    return str(address)


def _dask() -> Any:
    try:
        import dask
        import prefect_dask  # noqa: F401  # its absence is what this is to tell
    except ImportError as error:
        raise ConfigError(
            f"engine: dask requires prefect-dask, however it cannot be imported ({error}); "
            "run pip install --upgrade 'vaewatch[dask]'"
        ) from error
    return dask


@contextmanager
def _connected(address: str) -> Iterator[DaskTaskRunner]:
    """A task runner on the cluster at an address."""
    _dask()
    from prefect_dask.task_runners import DaskTaskRunner

    with DaskTaskRunner(address=address, client_kwargs={"timeout": _PATIENCE}) as runner:
        try:
            runner.client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, TimeoutError) as error:
            reason = " ".join(str(error).split()).rstrip(".")[:200]
            raise ServerError(
                f"a Dask cluster with workers was required at {address}, however: {reason}; start it"
            ) from error
        yield runner


def _threads_of(runner: DaskTaskRunner) -> int:
    """Shards that the cluster can work on at once."""
    threads: dict[str, int] = runner.client.nthreads()  # type: ignore[no-untyped-call]
    return max(1, sum(threads.values()))


@lru_cache(maxsize=8)
def _task(function: Callable[[Any], Outcome]) -> Task[[list[Any]], tuple[list[Outcome], float]]:
    """A task that works off items; its outcomes, and the seconds that they took."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    @task(name=_name(function), cache_policy=NO_CACHE)
    def work(items: list[Any]) -> tuple[list[Outcome], float]:
        began = perf_counter()
        return [function(item) for item in items], perf_counter() - began

    return work


def _name(function: Any) -> str:
    """What a task run shows of a function, or of the one that a partial calls."""
    return str(getattr(function, "func", function).__name__).replace("_", " ")
