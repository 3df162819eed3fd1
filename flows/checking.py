"""A bounded sample of a night, and each file that breaks the contract. Needs no server."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from flows.casts import plan_casts
from flows.config import Pipeline
from flows.context import docs_folder
from flows.errors import InputError
from flows.expectations import SAMPLE_ROWS, Report, load_suite
from flows.expectations import validate as validate_rows
from flows.sampling import sample
from flows.tables import InputFile, open_table

__all__ = ["check_files"]

SAMPLE_BYTES = 8 * 1024 * 1024  # pandas and Great Expectations take many times this


def check_files(pipeline: Pipeline, day: date, files: list[InputFile], expected: Any) -> dict[str, Any]:
    """Validate a sample of readable files against the suite.

    Parameters
    ----------
    expected
        Arrow schema that files are cast to, and optional columns, as of `night.expected_schema`.

    Returns
    -------
    dict
        ``report`` (None when no file could be read), ``broken``: path to the contract rules it breaks, and
        ``rejected``: path to why it could not be read.
    """
    rejected = {file.path: why for file in files if (why := _misfit(file, expected)) is not None}
    readable = [file for file in files if file.path not in rejected]
    if not readable:
        return {"report": None, "broken": {}, "rejected": rejected}
    suite = load_suite(Path(pipeline.suite_path))
    report = _report(pipeline, readable, expected, suite, docs_folder(pipeline), str(day))
    broken = _broken_files(pipeline, readable, expected, suite) if report.contract_broken else {}
    return {"report": report.to_dict(), "broken": broken, "rejected": rejected}


def _misfit(file: InputFile, expected: Any) -> str | None:
    """Why a file does not open, or has not the columns; None where all is well. Scoring rejects it, too."""
    try:
        with open_table(file) as reader:
            plan_casts(expected[0], reader.schema, expected[1])
    except InputError as error:
        said = str(error)
        return said if said.startswith(file.path) else f"{file.path}: {said}"
    return None


def _report(
    pipeline: Pipeline,
    files: list[InputFile],
    expected: Any,
    suite: dict[str, Any],
    docs: Path | None,
    name: str,
) -> Report:
    schema = expected[0]
    try:
        rows = sample(files, SAMPLE_ROWS, seed=0, schema=schema, fitting=True, max_bytes=SAMPLE_BYTES)
    except InputError:
        rows = schema.empty_table()
    return validate_rows(rows, suite, docs_folder=docs, run_name=name)


def _broken_files(
    pipeline: Pipeline, files: list[InputFile], expected: Any, suite: dict[str, Any]
) -> dict[str, str]:
    """Which files break the contract, each by itself, and how."""
    found = {}
    for file in files:
        report = _report(pipeline, [file], expected, suite, None, file.key)
        if report.contract_broken:
            rules = [failure for failure in report.failed if failure.role == "contract"]
            found[file.path] = "; ".join(rule.message for rule in rules)
    return found
