"""Outcomes summed up: means, duels with ours, seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.running import Outcome

__all__ = ["METRICS", "duels", "failures", "frame_of", "means", "per_set", "seconds", "summary"]

METRICS = ("auroc", "aucpr")
TIE = 0.1  # points


def frame_of(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row an outcome."""
    return pd.DataFrame([asdict(outcome) for outcome in outcomes])


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over sets, then over seeds, by (protocol, method); ``*_sd`` is the spread between seeds."""
    by_seed = frame.groupby(["protocol", "method", "seed"], sort=False)[list(METRICS)].mean()
    over_seeds = by_seed.groupby(level=["protocol", "method"], sort=False)
    spread = over_seeds.std(ddof=1).fillna(0.0).add_suffix("_sd")
    return over_seeds.mean().join(spread)


def per_set(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds by (protocol, dataset, method)."""
    return frame.groupby(["protocol", "dataset", "method"], sort=False)[list(METRICS)].mean()


def duels(frame: pd.DataFrame, ours: str = "ours") -> dict[str, dict[str, dict[str, list[int]]]]:
    """Sets won, tied (within 0.1 points) and lost by ours, by protocol, peer and metric."""
    sets = per_set(frame)
    methods = [one for one in frame["method"].unique() if one != ours]
    return {
        protocol: {peer: _duel(sets.loc[protocol], ours, peer) for peer in methods}
        for protocol in frame["protocol"].unique()
    }


def _duel(sets: pd.DataFrame, ours: str, peer: str) -> dict[str, list[int]]:
    wide = sets.unstack("method")
    ahead = {metric: wide[metric][ours].to_numpy() - wide[metric][peer].to_numpy() for metric in METRICS}
    return {metric: _signs(differences) for metric, differences in ahead.items()}


def _signs(differences: npt.NDArray[np.float64]) -> list[int]:
    above, below = int((differences > TIE).sum()), int((differences < -TIE).sum())
    return [above, differences.size - above - below, below]


def seconds(frame: pd.DataFrame) -> pd.DataFrame:
    """CPU-seconds of a fit by method: median and maximum over sets, protocols and seeds."""
    return frame.groupby("method", sort=False)["fit_seconds"].agg(["median", "max"])


def failures(frame: pd.DataFrame) -> list[str]:
    """A sentence for each fit that failed."""
    failed = frame[frame["failure"].notna()]
    return [
        f"{row.method} on {row.dataset}, {row.protocol}, seed {row.seed}: {row.failure}"
        for row in failed.itertuples()
    ]


def summary(frame: pd.DataFrame) -> dict[str, Any]:
    """All figures for a JSON file; AUROC and average precision in percent."""
    table = means(frame)
    protocols = {protocol: _by_method(table.loc[protocol]) for protocol in frame["protocol"].unique()}
    has_ours = "ours" in set(frame["method"])
    return {
        **protocols,
        "datasets": list(frame["dataset"].unique()),
        "seeds": sorted(int(seed) for seed in frame["seed"].unique()),
        "per_set": _nested(per_set(frame)),
        "wins_ties_losses": duels(frame) if has_ours else {},
        "fit_seconds": _by_method(seconds(frame)),
        "failures": failures(frame),
    }


def _by_method(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    return {str(name): _rounded(row) for name, row in table.to_dict("index").items()}


def _nested(sets: pd.DataFrame) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for keys, row in zip(sets.index, sets.to_dict("records"), strict=True):
        protocol, dataset, method = keys
        nested.setdefault(protocol, {}).setdefault(dataset, {})[method] = _rounded(row)
    return nested


def _rounded(row: Mapping[Any, Any]) -> dict[str, float | None]:
    return {str(name): None if pd.isna(value) else round(float(value), 3) for name, value in row.items()}
