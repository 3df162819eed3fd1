"""Data Docs: a static site that opens without a network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flows import datadocs
from flows.errors import StoreError


class Loads(HTMLParser):
    """Collects what a browser would load or run on its own; a link that a person may click is not that."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        """Note a tag that a browser would follow."""
        remote = [value for name, value in attrs if name in ("src", "href", "data", "action") and tag != "a"]
        if tag in ("script", "iframe", "object", "embed") or remote:
            self.found.append((tag, *remote))


def loads(page: str) -> list:
    parser = Loads()
    parser.feed(page)
    return parser.found


PAGE = """<!DOCTYPE html><html><head><title>Page</title>
<link rel="stylesheet" href="https://cdn.example/a.css"><LINK href="//cdn.example/b.css"/>
<script src="https://cdn.example/a.js"></script><script>
$("#x").modal(); </script ></head>
<body><img src="https://cdn.example/logo.png?d=1" alt="logo"/><p>kept</p>
<footer><a href="https://example.org/newsletter">Subscribe</a></footer></body></html>"""


def report(folder: Path, run: str, **changes) -> None:
    facts = {"run": run, "suite": "one", "success": True, "evaluated": 3, "failed": [], **changes}
    page = datadocs.run_page(folder, "one", run)
    datadocs.write_text(page, "<p>page</p>")
    datadocs.write_report(page, facts)


def test_an_offline_page_loads_nothing_and_keeps_its_text():
    """Style sheets, fonts, scripts, pictures and the newsletter go; the page is styled from within."""
    page = datadocs.offline(PAGE)

    assert loads(page) == []
    assert "<p>kept</p>" in page
    assert "newsletter" not in page
    assert ".fa-check-circle::before" in page


def test_a_page_forbids_what_slipped_through():
    """The policy stands before all else, so that a browser obeys it for all that follows."""
    page = datadocs.offline(PAGE)

    assert page.index("Content-Security-Policy") < page.index("<title>")
    assert "default-src 'none'" in page


def test_the_index_lists_the_runs_newest_first(tmp_path):
    """One line a run, with its verdict and a link that leads to its page."""
    report(tmp_path, "2013-07-05")
    report(tmp_path, "2013-07-06", success=False, failed=[{"message": "dest: <b>gone</b>"}])
    datadocs.write_index(tmp_path)
    index = (tmp_path / "index.html").read_text()

    assert loads(index) == []
    assert index.index("2013-07-06") < index.index("2013-07-05")
    assert "2 of 3" in index
    assert "dest: &lt;b&gt;gone&lt;/b&gt;" in index
    assert 'href="validations/one/2013-07-06/sample/page.html"' in index


def test_a_second_run_of_a_name_takes_the_place_of_the_first(tmp_path):
    """A night that is run again has one page."""
    report(tmp_path, "2013-07-05", success=False)
    report(tmp_path, "2013-07-05")
    datadocs.write_index(tmp_path)

    assert (tmp_path / "index.html").read_text().count("2013-07-05</a>") == 1
    assert len(list(tmp_path.rglob("page.html"))) == 1


def test_a_name_cannot_lead_out_of_the_folder(tmp_path):
    """Run names are free text."""
    page = datadocs.run_page(tmp_path, "one", "../../../etc/passwd")

    assert page.resolve().is_relative_to(tmp_path / "validations" / "one")


def test_writing_leaves_nothing_aside(tmp_path):
    """A reader sees the old file or the new one, and nobody sees the draft."""
    datadocs.write_text(tmp_path / "page.html", "old")
    datadocs.write_text(tmp_path / "page.html", "new")

    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "new"


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    """One sentence instead of a traceback."""
    (tmp_path / "docs").write_text("a file where the folder should be")

    with pytest.raises(StoreError, match=re.escape(f"cannot write {tmp_path}/docs/index.html: ")):
        datadocs.write_index(tmp_path / "docs")
