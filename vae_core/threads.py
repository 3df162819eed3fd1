"""How many threads a product of matrices is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["few_threads", "one_thread"]

LARGE_ACTIVATION = 1_000_000  # cells from which on a second thread pays


@contextmanager
def few_threads(cells: int, device: torch.device) -> Iterator[None]:
    """One thread for small products on a CPU, where threads wait for each other longer than they work.

    ``cells`` is the size of the largest activation. Measured on two busy cores: 48 s with one thread
    where two took 144 s.
    """
    if device.type == "cpu" and cells < LARGE_ACTIVATION:
        with one_thread():
            yield
    else:
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for all products that this thread asks for, whatever other threads have.

    The number of threads is each thread's own in torch; one that starts meanwhile begins with one.
    """
    threads = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if threads > 1:
            torch.set_num_threads(threads)
