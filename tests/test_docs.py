"""What is written down: it runs, it is complete, and it leads somewhere."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel

from flows.cli import app
from flows.config import Pipeline, Tracking
from flows.results import added_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
COMMANDS = (DOCS / "reference" / "command-line.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
EXPECTED_KINDS = r"about [\d.,]+|.* \(\d+%\).*"


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """Place of a page in the project."""
    return str(page.relative_to(ROOT))


@pytest.mark.slow
def test_the_readme_s_library_example_runs_and_says_what_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures may differ between machines; the verdicts, the columns and the values may not."""
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(README, "python")
    promised = blocks(README, "text")[-1].splitlines()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102 (our own text)

    said_first, *reasons = said.getvalue().splitlines()
    assert said_first == promised[0]
    assert [one.split(" expected ")[0] for one in reasons] == [
        one.split(" expected ")[0] for one in promised[1:]
    ]
    assert all(re.fullmatch(EXPECTED_KINDS, one.split(" expected ")[1]) for one in reasons)


def test_the_reference_lists_exactly_the_verbs_of_the_command_line() -> None:
    listed = re.findall(r"^\| `vaewatch (\w+)", COMMANDS, flags=re.MULTILINE)

    assert sorted(listed) == sorted(VERBS)


def test_the_reference_lists_exactly_the_options_of_the_command_line() -> None:
    table = COMMANDS.split("## Options")[1].split("## Exit codes")[0]
    rows = re.findall(r"^\| (`-.*?`) \|", table, flags=re.MULTILINE)
    listed = {option for row in rows for option in re.findall(r"`(--?[a-z-]+)", row)}
    options = {
        option
        for verb in VERBS.values()
        for one in verb.params
        for option in one.opts
        if option.startswith("-")
    }

    assert listed == options


def commands_of(text: str, lines: str) -> Iterator[tuple[str, list[str]]]:
    """Verb and options of each command in a page: those of its console blocks and those in its sentences."""
    quoted = re.findall(r"`(?:\.venv/bin/)?(vaewatch [^`]+)`", text)
    typed = re.findall(r"^(?:\$ )?(?:\.venv/bin/)?(vaewatch .*)$", lines, flags=re.MULTILINE)
    for command in [*quoted, *typed]:
        words = command.split("#")[0].split()
        if words[1].islower() and words[1].isalpha():
            yield words[1], [word for word in words[2:] if re.match(r"--[a-z]", word)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    text = page.read_text()
    named = list(commands_of(text, "\n".join(blocks(text, "console"))))
    unknown = [verb for verb, _ in named if verb not in VERBS]
    strange = [
        (verb, option)
        for verb, options in named
        if verb in VERBS
        for option in options
        if option != "--help" and option not in {name for one in VERBS[verb].params for name in one.opts}
    ]

    assert (unknown, strange) == ([], [])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = page.read_text()
    named = re.findall(r"`make ([a-z]+)`", text)
    named += re.findall(r"^(?:\$ )?make ([a-z]+)", "\n".join(blocks(text, "console")), flags=re.MULTILINE)

    assert set(named) <= targets


def keys_of(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Dotted keys of a settings model; a section counts by its keys."""
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys_of(kind, f"{before}{name}.")
        else:
            yield before + name


@pytest.mark.parametrize(("model", "heading"), [(Pipeline, "## Keys"), (Tracking, "## mlflow.yml")])
def test_the_reference_explains_exactly_the_keys_of_the_settings(
    model: type[BaseModel], heading: str
) -> None:
    page = (DOCS / "reference" / "pipeline-file.md").read_text()
    section = page.split(f"{heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)

    assert {key for cell in cells for key in re.findall("`(.*?)`", cell)} == set(keys_of(model))


@pytest.mark.parametrize("block", blocks((DOCS / "reference" / "pipeline-file.md").read_text(), "yaml"))
def test_the_reference_s_pipeline_is_a_pipeline_and_says_what_the_demo_s_says(block: str) -> None:
    demo = yaml.safe_load((ROOT / "pipelines" / "flights.yml").read_text())

    assert Pipeline.model_validate(yaml.safe_load(block)) == Pipeline.model_validate(demo)


def test_the_reference_explains_every_column_that_we_add_to_flags() -> None:
    page = (DOCS / "reference" / "results.md").read_text()
    section = page.split("## Columns of flags")[1].split("\n## ")[0]
    explained = set(re.findall("`([a-z_0-9]+)`", section))

    assert {name for name in added_names() if not re.match("reason_[23]", name)} <= explained


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    dead = []
    for link in (one for one in links if "://" not in one):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)

    assert dead == []


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)

    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("picture", sorted(DOCS.rglob("*.png")), ids=name_of)
def test_pictures_are_small_and_used(picture: Path) -> None:
    pages = "".join(page.read_text() for page in PAGES)

    assert picture.stat().st_size < 150_000
    assert picture.name in pages
