"""Figures as tables: on the terminal, and as a Markdown file that says how they came about."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.figures import METRICS, duels, failures, means, per_set, seconds
from benchmarks.protocol import PROTOCOLS

__all__ = ["Grid", "machine", "mean_grid", "page", "shown", "versions"]

Grid = list[list[str]]
"""Rows of cells, the first row the heads."""


def mean_grid(frame: pd.DataFrame) -> Grid:
    """A row a method: AUROC / AUCPR under each protocol, CPU-seconds a fit."""
    table, cost = means(frame), seconds(frame)
    protocols = list(frame["protocol"].unique())
    heads = ["method", *(f"{one}: AUROC / AUCPR" for one in protocols), "fit CPU-s, median", "max"]
    several = frame["seed"].nunique() > 1
    rows = [
        [
            method,
            *(_mean_cell(table.loc[(one, method)], several) for one in protocols),
            f"{cost.loc[method, 'median']:.2f}",
            f"{cost.loc[method, 'max']:.2f}",
        ]
        for method in cost.index
    ]
    return [heads, *rows]


def _mean_cell(row: pd.Series[Any], several: bool) -> str:
    parts = [f"{row[one]:.1f}" + (f" ± {row[one + '_sd']:.1f}" if several else "") for one in METRICS]
    return " / ".join(parts)


def duel_grid(frame: pd.DataFrame) -> Grid:
    """A row a peer: sets that ours wins - ties - loses against it."""
    counts = duels(frame)
    heads = ["ours against", *(f"{one}: {label}" for one in counts for label in ("AUROC", "AUCPR"))]
    peers = [one for one in frame["method"].unique() if one != "ours"]
    cells = {peer: [counts[one][peer][metric] for one in counts for metric in METRICS] for peer in peers}
    return [heads, *([peer, *(" - ".join(map(str, cell)) for cell in cells[peer])] for peer in peers)]


def set_grid(frame: pd.DataFrame, protocol: str) -> Grid:
    """A row a set: AUROC / AUCPR of each method, the best ones bold; last row the mean."""
    sets, table = _part(per_set(frame), protocol), _part(means(frame), protocol)
    methods = list(table.index)
    rows = [[name, *_cells(_part(sets, name).reindex(methods))] for name in frame["dataset"].unique()]
    return [["set", *methods], *rows, ["**mean**", *_cells(table)]]


def _part(table: pd.DataFrame, key: str) -> pd.DataFrame:
    return pd.DataFrame(table.xs(key))


def _cells(figures: pd.DataFrame) -> list[str]:
    texts = {metric: [f"{value:.1f}" for value in figures[metric]] for metric in METRICS}
    best = {metric: f"{figures[metric].max():.1f}" for metric in METRICS}
    bold = {m: [f"**{text}**" if text == best[m] else text for text in texts[m]] for m in METRICS}
    return [" / ".join(pair) for pair in zip(*bold.values(), strict=True)]


def shown(console: Console, grid: Grid) -> None:
    """Print a grid on the terminal."""
    table = Table(*grid[0])
    for row in grid[1:]:
        table.add_row(*row)
    console.print(table)


def page(title: str, introduction: str, frame: pd.DataFrame, command: str) -> str:
    """The whole Markdown page of a comparison with peers."""
    parts = [f"# {title}", introduction, "## Means", markdown(mean_grid(frame))]
    if "ours" in set(frame["method"]):
        parts += ["## Sets won - tied (within 0.1 points) - lost", markdown(duel_grid(frame))]
    for protocol in frame["protocol"].unique():
        parts += [f"## {protocol}: {PROTOCOLS[protocol]}", markdown(set_grid(frame, protocol))]
    parts += [*failure_list(frame), "## How", how(command, frame)]
    return "\n\n".join(parts) + "\n"


def failure_list(frame: pd.DataFrame) -> list[str]:
    """Fits that failed, a line each, under a head; nothing where there are none."""
    lines = [f"- {sentence}" for sentence in failures(frame)]
    return ["## Failed fits (counted as chance)", "\n".join(lines)] if lines else []


def markdown(grid: Grid) -> str:
    """A grid as a Markdown table."""
    ruled = [grid[0], ["---"] * len(grid[0]), *grid[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def how(command: str, frame: pd.DataFrame) -> str:
    """Command, seeds, machine and versions of a page."""
    seeds = ", ".join(str(seed) for seed in sorted(frame["seed"].unique()))
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return (
        f"`{command}` wrote this page; seeds {seeds}. One thread a fit; CPU-seconds are those "
        f"of the fit alone, without reading and preparing the table.\n\n{machine()}; {packages}."
    )


def machine() -> str:
    """Processor, memory, graphics card, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    card = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB{card}, {platform.system()}"


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions(packages: Sequence[str] = ("torch", "numpy", "scikit-learn", "pyod")) -> dict[str, str]:
    """Python's version and those of packages, where they are installed."""
    found = {"Python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
