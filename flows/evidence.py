"""The gate's verdict as people read it: a page, a table and JSON in the challenger's MLflow run."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.promotion import Verdict
    from flows.registry import Run

__all__ = ["criteria_rows", "log_evidence", "markdown"]

HEADS = ["criterion", "verdict", "required", "found"]
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left}
.failed{background:#fdd}.passed{background:#dfd}"""


def criteria_rows(verdict: Verdict) -> list[list[str]]:
    """One row a criterion: its name, verdict, what was required, what was found."""
    return [[one.name, one.verdict, one.required, one.found] for one in verdict.criteria]


def log_evidence(run: Run, verdict: Verdict) -> str:
    """Log a verdict to a run, in a folder of its own; returns the folder's path within the run's files."""
    import pandas as pd

    folder = f"gate/{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    run.log_dict(verdict.to_dict(), f"{folder}/verdict.json")
    run.log_table(pd.DataFrame(criteria_rows(verdict), columns=HEADS), f"{folder}/criteria.json")
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in (("verdict.md", markdown(verdict)), ("verdict.html", page(verdict))):
            file = Path(scratch) / name
            file.write_text(text, encoding="utf-8")
            run.log_file(file, folder)
    return folder


def title(verdict: Verdict) -> str:
    """The verdict in one line."""
    word = "may replace" if verdict.passed else "may not replace"
    return f"{verdict.model}: version {verdict.challenger} {word} version {verdict.champion}"


def _tables(verdict: Verdict) -> list[tuple[str, list[str], list[list[str]]]]:
    """Heading, heads and rows of each table of the page."""
    found = [("Criteria", HEADS, criteria_rows(verdict))]
    for name, rows in (("Nights", verdict.nights), ("Planted errors", verdict.canaries)):
        if rows:
            found.append((name, list(rows[0]), [[str(value) for value in row.values()] for row in rows]))
    return found


def markdown(verdict: Verdict) -> str:
    """The verdict as a page in Markdown."""
    parts = [f"# {title(verdict)}"]
    for name, heads, rows in _tables(verdict):
        parts += ["", f"## {name}", "", _line(heads), _line(["---"] * len(heads)), *map(_line, rows)]
    return "\n".join(parts) + "\n"


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def page(verdict: Verdict) -> str:
    """The verdict as a page in HTML that loads nothing."""
    body = [f"<h1>{html.escape(title(verdict))}</h1>"]
    for name, heads, rows in _tables(verdict):
        cells = "".join(_row("td", row) for row in rows)
        body.append(f"<h2>{name}</h2><table>{_row('th', heads)}{cells}</table>")
    head = f'<meta charset="utf-8"><title>{html.escape(title(verdict))}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _row(tag: str, cells: Sequence[str]) -> str:
    shown = "".join(
        f"<{tag}{f' class={chr(34)}{cell}{chr(34)}' if cell in ('passed', 'failed') else ''}>"
        f"{html.escape(cell)}</{tag}>"
        for cell in cells
    )
    return f"<tr>{shown}</tr>"
