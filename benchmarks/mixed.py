"""Detection quality on tables of mixed types, ours beside one-hot peers: ``make bench-mixed``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console

from benchmarks.methods import CONDITIONS, PEERS, methods_named
from benchmarks.options import command, measured, parser, published
from benchmarks.protocol import Task
from benchmarks.tables import page

__all__ = ["main", "mixed_tasks"]

INTRODUCTION = """\
AUROC and average precision (AUCPR) in percent, of the anomaly score against the labels, mean over seeds
(± is the standard deviation between seeds of the mean over sets).

- **S**: trained on normal rows, tested on others and all anomalies. nsl_kdd: trained on the normal rows of
  its training file, tested on its test file, whose rows are of a later time; other sets: trained on a random
  half of the normal rows.
- **U**: trained on all rows without their labels, tested on the same rows (nsl_kdd: its test file).

At most {rows:,} rows of a file, its share of anomalies kept. ai4i2020's identifiers are keys, which no method
looks at. {conditions}"""

AI4I_KEYS = {"UDI": "key", "Product ID": "key"}


def mixed_tasks(folder: Path, patterns: Sequence[str]) -> list[Task]:
    """The sets of mixed types in a folder, those whose names match one of the patterns.

    Raises
    ------
    SystemExit
        A file is not there.
    """
    tasks = [
        Task("nsl_kdd", folder / "nsl_kdd_test.parquet", folder / "nsl_kdd_train20.parquet"),
        Task("kdd99_http", folder / "kdd99_http.parquet"),
        Task("kdd99_smtp", folder / "kdd99_smtp.parquet"),
        Task("ai4i2020", folder / "ai4i2020.parquet", kinds=AI4I_KEYS),
    ]
    chosen = [task for task in tasks if any(fnmatch(task.name, one) for one in patterns)]
    missing = [task.file.name for task in chosen if not task.file.exists()]
    if missing:
        raise SystemExit(
            f"{folder} must hold {' '.join(missing)}, however it does not; "
            "name another folder with DATA=… (or --data) or other --sets"
        )
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    options = parser(str(__doc__), "../shared/data/labelled")
    peers = ["ours", "IForest", "KNN", "PCA", "VAE"]
    options.add_argument("--methods", nargs="+", default=peers, help=f"among ours {' '.join(PEERS)}")
    given = options.parse_args(arguments)
    console = Console()
    tasks = mixed_tasks(given.data, given.sets)
    frame = measured(given, tasks, methods_named(given.methods), console)
    title = "Detection quality on tables of mixed types"
    introduction = INTRODUCTION.format(rows=given.rows, conditions=CONDITIONS)
    text = page(title, introduction, frame, command("mixed", arguments))
    published("mixed", text, frame, given, console)


if __name__ == "__main__":
    main(sys.argv[1:])
