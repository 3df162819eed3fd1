"""What work costs: CPU seconds and memory."""

import subprocess
import sys

import numpy as np

from flows.stopwatch import peak_memory


def test_the_peak_of_a_process_is_its_own() -> None:
    """A small process that a large one starts does not count the large one's memory."""
    held = np.ones(40_000_000)  # 320 MB
    code = "from flows.stopwatch import peak_memory; print(peak_memory())"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert peak_memory() > held.nbytes
    assert 1_000_000 < int(done.stdout) < 100_000_000


def test_a_peak_stays_when_the_memory_is_given_back() -> None:
    before = peak_memory()
    size = before // 8 + 10_000_000

    np.ones(size)

    assert peak_memory() > before
