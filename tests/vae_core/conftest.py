"""Small tables and a detector fitted once, for all tests of the library."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from vae_core import VAEDetector

START = 1_577_836_800_000_000  # 2020-01-01, microseconds since 1970
DAY = 86_400_000_000


def make_table(rows: int, seed: int = 0) -> pa.Table:
    """Return a table of each kind of column; ``double`` is twice ``x``, ``shop`` is its sign."""
    random = np.random.default_rng(seed)
    shop = random.choice(["north", "south"], rows)
    x = np.abs(random.normal(5.0, 1.0, rows)) * np.where(shop == "north", 1, -1)
    seconds = random.integers(0, 360, rows) * DAY + (9 + 8 * random.random(rows)) * DAY // 24
    return pa.table(
        {
            "id": [f"row-{i}" for i in range(rows)],
            "x": x,
            "double": 2 * x + random.normal(0, 0.1, rows),
            "shop": shop,
            "open": random.random(rows) < 0.7,
            "at": pa.array(START + seconds.astype(np.int64), pa.timestamp("us")),
            "discount": pa.array(random.normal(size=rows), mask=random.random(rows) < 0.3),
        }
    )


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def table_of() -> Callable[..., pa.Table]:
    """Return the maker of tables: ``table_of(rows, seed)``."""
    return make_table


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """Return the training rows of ``detector``."""
    return make_table(1500)


@pytest.fixture(scope="session")
def fresh() -> pa.Table:
    """Return rows like the training rows that nothing was fitted on."""
    return make_table(1500, seed=1)


@pytest.fixture(scope="session")
def detector(table: pa.Table) -> VAEDetector:
    """Return a detector fitted on ``table``; tests must not change it."""
    return VAEDetector(random_state=0, device="cpu").fit(table)
