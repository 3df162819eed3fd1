"""The flights of 2013 that left New York City, as the benchmarks learn and test on them."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from flows.demo import flights_csv
from vae_core import VAEDetector

__all__ = ["fitted_on_flights", "flights"]

KINDS = {"year": "ignored", "month": "ignored", "day": "ignored", "tailnum": "categorical"}
LEARNED, CALIBRATED = 60_000, 8_000  # rows


def flights() -> tuple[pa.Table, pa.Table]:
    """A sample of January to June to learn from, and all of July.

    Raises
    ------
    ConfigError
        The package that holds the data is not installed.
    """
    table = pd.read_csv(flights_csv(), parse_dates=["time_hour"])
    half_year = table[table["month"] <= 6].sample(LEARNED, random_state=0)
    july = table[table["month"] == 7]
    return pa.Table.from_pandas(half_year, preserve_index=False), pa.Table.from_pandas(
        july, preserve_index=False
    )


def fitted_on_flights(seed: int = 0) -> tuple[VAEDetector, pa.Table, pa.Table]:
    """A detector fitted and calibrated on January to June, its rows, and ordinary rows of July.

    Ordinary are complete rows that the detector itself finds usual: p-value above 0.05.
    """
    learned, july = flights()
    detector = VAEDetector(kinds=KINDS, random_state=seed).fit(learned.slice(CALIBRATED))
    detector.calibrate(learned.slice(0, CALIBRATED))
    complete = july.drop_null()
    return detector, learned, complete.filter(pa.array(detector.p_values(complete) > 0.05))
