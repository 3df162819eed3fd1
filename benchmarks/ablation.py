"""Each ingredient of the default taken away, one at a time: ``make bench-ablation``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console

from benchmarks.figures import METRICS, failures, means, seconds, summary
from benchmarks.methods import Ours
from benchmarks.mixed import mixed_tasks
from benchmarks.options import command, measured, parser, written
from benchmarks.protocol import Task, tasks_of
from benchmarks.tables import Grid, failure_list, how, markdown, shown
from vae_core.encoding import EncodedBatch
from vae_core.ensemble import Members
from vae_core.modules import VAE
from vae_core.presets import PRESETS
from vae_core.scoring import Reference

__all__ = ["DEFAULT", "VARIANTS", "difference_grid", "main"]

DEFAULT = "default"

Floats = npt.NDArray[np.float64]


def _nothing(_: VAE, rows: EncodedBatch) -> npt.NDArray[np.bool_]:
    """Nothing stands in for the rows that members set aside."""
    return np.zeros(len(rows), dtype=np.bool_)


def _mean(reference: Reference, members: Floats) -> Floats:
    """Members are averaged: one that finds a row odd counts for its share only."""
    standard = (members - reference.median[:, None]) / reference.spread[:, None]
    return np.asarray(np.arcsinh(standard).mean(axis=0))


def _half(total: int, _: str, __: int, is_mixed: bool) -> Members:
    """Half of the members trim."""
    kept = total // 4 if is_mixed else 0
    return Members(total // 2, total - total // 2 - kept, kept)


def _cleaned(total: int, *_: Any) -> Members:
    """Some members learn without the rows set aside, whatever the columns are."""
    return Members(total // 4, total - total // 4 * 2, total // 4)


def _kept_variances(_: VAE) -> None:
    """Trimmed members vote with the variances that they learned."""


RECIPE = PRESETS["default"]


def _recipe(**changes: Any) -> Mapping[str, Any]:
    """The library with another recipe."""
    return {"vae_core.detector.PRESETS": {"default": replace(RECIPE, **changes)}}


VARIANTS: dict[str, Ours] = {
    one.name: one
    for one in (
        Ours(DEFAULT),
        Ours("one member", {"n_members": 1}),
        Ours("training_data clean: no trimmed members", {"training_data": "clean"}),
        Ours("training_data contaminated", {"training_data": "contaminated"}),
        Ours(
            "variances of trimmed members", parts={"vae_core.modules.VAE.forget_variances": _kept_variances}
        ),
        Ours("half of the members trimmed", parts={"vae_core.ensemble.Members.of": _half}),
        Ours("no rows set aside", parts={"vae_core.ensemble._set_aside": _nothing}),
        Ours("rows set aside of numbers, too", parts={"vae_core.ensemble.Members.of": _cleaned}),
        Ours(
            "mean of the members, no soft maximum",
            parts={"vae_core.scoring.Reference.anomaly_scores": _mean},
        ),
        Ours("no variance weight", parts=_recipe(variance_weight=0.0)),
        Ours("no warm-up of beta", parts=_recipe(warm_up=0.0)),
        Ours("learning rate 1e-3", {"learning_rate": 1e-3}),
        Ours("min_scale 0.22", {"min_scale": 0.22}),
        Ours("no masking", {"masking": 0.0}),
        Ours("no evidence of what is new", parts=_recipe(weighs_news=False)),
    )
}
"""Ours with one ingredient taken away or changed."""

INTRODUCTION = """\
First row: AUROC / AUCPR in percent of VAEDetector's defaults, mean over {numeric} numeric and {mixed} mixed
tables. Other rows: how many points each variant is above (+) or below (-) it.
S: trained on clean rows; U: trained on all rows. At most {rows:,} rows of a set, its share of anomalies
kept."""

Group = tuple[str, str]
"""Name of a group of sets, and a protocol."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    options = parser(str(__doc__), "../shared/data/adbench", seeds=1)
    add = options.add_argument
    add("--mixed", type=Path, default=Path("../shared/data/labelled"), help="folder of the mixed tables")
    add("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="besides the default")
    given = options.parse_args(arguments)
    console = Console()
    groups = {"numeric": tasks_of(given.data, given.sets), "mixed": _mixed(given.mixed, given.sets)}
    variants = [VARIANTS[name] for name in dict.fromkeys([DEFAULT, *given.variants])]
    frame = measured(given, [task for tasks in groups.values() for task in tasks], variants, console)
    grid = difference_grid(frame, groups)
    shown(console, grid)
    for sentence in failures(frame):
        console.print(f"failed, counted as chance: {sentence}")
    counts = {name: len(tasks) for name, tasks in groups.items()}
    introduction = INTRODUCTION.format(rows=given.rows, **counts)
    page = _page(introduction, grid, frame, command("ablation", arguments))
    written("ablation", page, summary(frame), given, console)


def _mixed(folder: Path, patterns: Sequence[str]) -> list[Task]:
    """The mixed sets, where their folder exists."""
    return mixed_tasks(folder, patterns) if folder.is_dir() else []


def difference_grid(frame: pd.DataFrame, groups: dict[str, list[Task]]) -> Grid:
    """A row a variant: the default's figures, then differences from them; median CPU-seconds of a fit."""
    tables = _tables(frame, groups)
    heads = ["variant", *(f"{name}, {protocol}" for name, protocol in tables)]
    cost = seconds(frame)["median"]
    rows = [
        [variant, *(_cell(table, variant) for table in tables.values()), f"{cost[variant]:.2f}"]
        for variant in frame["method"].unique()
    ]
    return [[*heads, "fit CPU-s, median"], *rows]


def _tables(frame: pd.DataFrame, groups: dict[str, list[Task]]) -> dict[Group, pd.DataFrame]:
    parts = {
        name: frame[frame["dataset"].isin([task.name for task in tasks])] for name, tasks in groups.items()
    }
    return {
        (name, protocol): pd.DataFrame(means(part).xs(protocol))
        for name, part in parts.items()
        for protocol in part["protocol"].unique()
    }


def _cell(table: pd.DataFrame, variant: str) -> str:
    if variant == DEFAULT:
        return " / ".join(f"{table[metric][DEFAULT]:.1f}" for metric in METRICS)
    return " / ".join(f"{table[metric][variant] - table[metric][DEFAULT]:+.1f}" for metric in METRICS)


def _page(introduction: str, grid: Grid, frame: pd.DataFrame, line: str) -> str:
    parts = ["# The default's ingredients, one at a time", introduction, markdown(grid)]
    return "\n\n".join([*parts, *failure_list(frame), "## How", how(line, frame)]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
