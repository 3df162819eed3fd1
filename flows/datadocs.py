"""Data Docs as a static site that opens without a network: pages made offline, and an index of runs."""

from __future__ import annotations

import html
import json
import os
import re
from pathlib import Path
from typing import Any

from flows.errors import StoreError

__all__ = ["offline", "run_page", "suite_page", "write_index", "write_report", "write_text"]

POLICY = """<meta charset="UTF-8"><meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">"""
"""Forbids a browser to load or run anything from elsewhere, whatever a page still asks for."""

REMOTE = re.compile(
    r"<link\b[^>]*>|<script\b.*?</script\s*>|<footer\b.*?</footer\s*>", re.DOTALL | re.IGNORECASE
)
"""Style sheets, fonts, scripts (useless without the remote ones) and the newsletter's footer."""

LOGO = re.compile(r"<img\b[^>]*>", re.IGNORECASE)


def run_page(folder: Path, suite: str, run_name: str) -> Path:
    """Tell where the page of a run lies: as deep below the index as the links of GX's pages expect."""
    return folder / "validations" / Path(*suite.split(".")) / _safe(run_name) / "sample" / "page.html"


def suite_page(folder: Path, suite: str) -> Path:
    """Tell where the page of a suite lies, which the pages of its runs link to."""
    return folder / "expectations" / Path(*suite.split(".")).with_suffix(".html")


def offline(page: str) -> str:
    """Free a page of Great Expectations from all that it would load from outside."""
    page = LOGO.sub("Data Docs", REMOTE.sub("", page))
    page = page.replace("<head>", f"<head>{POLICY}", 1)
    return page.replace("</head>", f"<style>{_style()}</style></head>", 1)


def write_index(folder: Path) -> None:
    """Write ``index.html``: one line a run, the newest name first, with a link to its page."""
    reports = sorted(folder.glob("validations/**/report.json"), key=lambda path: path.parts[-3], reverse=True)
    lines = "\n".join(line for line in (_line_if_there(folder, path) for path in reports) if line)
    write_text(folder / "index.html", INDEX.format(policy=POLICY, style=_style(), lines=lines))


def write_report(page: Path, facts: dict[str, Any]) -> None:
    """Write what the index says of a run beside its page: the report, and the names of run and suite."""
    write_text(page.with_name("report.json"), json.dumps(facts, indent=2))


def write_text(path: Path, text: str) -> None:
    """Write a file aside and put it in its place, so that nobody reads a half of it.

    Raises
    ------
    StoreError
        The place cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; check the folder and its rights") from error


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) or "_"


def _style() -> str:
    return Path(__file__).with_name("datadocs.css").read_text(encoding="utf-8")


def _line_if_there(folder: Path, path: Path) -> str:
    """The line of a run; empty when it was pruned meanwhile."""
    try:
        return _line(folder, path)
    except FileNotFoundError:
        return ""


def _line(folder: Path, path: Path) -> str:
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    mark = "check-circle text-success" if report["success"] else "times text-danger"
    link = html.escape(path.with_name("page.html").relative_to(folder).as_posix())
    run, suite = html.escape(report["run"]), html.escape(report["suite"])
    passed = f"{report['evaluated'] - len(report['failed'])} of {report['evaluated']}"
    failed = "<br>".join(html.escape(failure["message"]) for failure in report["failed"][:5])
    cells = [f'<i class="fas fa-{mark}"></i>', f'<a href="{link}">{run}</a>', suite, passed, failed]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


INDEX = """<!DOCTYPE html>
<html lang="en"><head>{policy}<title>Data Docs</title><style>{style}</style></head>
<body><nav class="navbar sticky-top"><span class="navbar-brand">Data Docs</span></nav>
<div class="container-fluid pt-4"><h1>Validation runs</h1>
<p class="lead">What the suite of expectations found on a sample of each run.</p>
<table class="table"><thead><tr><th></th>
<th>Run</th><th>Suite</th><th>Passed</th><th>Not as expected</th></tr></thead><tbody>
{lines}
</tbody></table></div></body></html>
"""
