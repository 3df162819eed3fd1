"""What an engine adds to the work of its shards: threads, and a local Dask cluster of two processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows.engines import Dask, Engine, Threads

if TYPE_CHECKING:
    from benchmarks.speed.ours import Ours

__all__ = ["dask_overhead", "threads_overhead"]

WORKERS = 2
_WORK: list[Callable[[], float]] = []


def threads_overhead(ours: Ours, files: Sequence[Path], shards: int) -> float:
    """Share that the engine adds, with one thread, so that it is the same on a busy machine."""
    return _overhead(ours, Threads(1), 1, files, shards)


def dask_overhead(ours: Ours, files: Sequence[Path], shards: int, root: Path) -> float:
    """The same of a warm cluster of two processes; the time that one waits for the other counts.

    Flow, scheduler and Prefect's server run beside the workers, so on two cores their time counts, too.
    """
    with _flow_api(root), _cluster() as address:  # workers inherit Prefect's settings
        return _in_flow(partial(_overhead, ours, Dask(address), WORKERS, files, shards))


def _overhead(ours: Ours, engine: Engine, workers: int, files: Sequence[Path], shards: int) -> float:
    """Seconds of all workers over those that they spent inside of shards, less 1."""
    mine = replace(ours, engine=engine)
    mine(*files[:workers])  # starts what must be started, and loads the model
    listed = [files[i % len(files)] for i in range(shards)]
    began = time.perf_counter()
    night = mine.night(*listed)
    spent = workers * (time.perf_counter() - began)
    return spent / sum(night.seconds) - 1


def _in_flow(work: Callable[[], float]) -> float:
    """The outcome of a function that runs as a flow.

    It stands in a list of the module, as Prefect sends a flow's own function along with each task run.
    """
    from prefect import flow

    _WORK[:] = [work]
    return flow(name="speed")(_work)()


def _work() -> float:
    return _WORK[0]()


@contextmanager
def _cluster() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield str(cluster.scheduler_address)


@contextmanager
def _flow_api(root: Path) -> Iterator[None]:
    from flows.server import api

    with api(root):
        yield
