"""Detection quality on labelled tables, ours beside PyOD's detectors: ``make bench-quality``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from benchmarks.methods import CONDITIONS, PEERS, methods_named
from benchmarks.options import command, measured, parser, published
from benchmarks.protocol import tasks_of
from benchmarks.tables import page

__all__ = ["main"]

INTRODUCTION = """\
AUROC and average precision (AUCPR) in percent, of the anomaly score against the labels, mean over seeds
(± is the standard deviation between seeds of the mean over sets).

- **S**: trained on a random half of the normal rows, tested on the other half and all anomalies.
- **U**: trained on all rows without their labels, tested on the same rows.

At most {rows:,} rows of a set, its share of anomalies kept. {conditions}"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of a command line."""
    options = parser(str(__doc__), "../shared/data/adbench")
    options.add_argument("--methods", nargs="+", default=["ours", *PEERS], help="ours and PyOD's classes")
    given = options.parse_args(arguments)
    console = Console()
    frame = measured(given, tasks_of(given.data, given.sets), methods_named(given.methods), console)
    title = "Detection quality on labelled tables"
    introduction = INTRODUCTION.format(rows=given.rows, conditions=CONDITIONS)
    text = page(title, introduction, frame, command("quality", arguments))
    published("quality", text, frame, given, console)


if __name__ == "__main__":
    main(sys.argv[1:])
