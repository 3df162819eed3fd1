"""`vaewatch init`: a pipeline file, its suite and ``mlflow.yml``, inferred from a folder of Parquet files.

Every choice is told and stands with its reason on its line of the pipeline file, for people to judge it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from flows.dating import Dating, TrainingSpan, infer_dating, plan_training
from flows.errors import ConfigError, InputError, SchemaError
from flows.pipeline_text import TRACKING, Findings, listed, render

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.tables import InputFile

__all__ = ["scaffold"]

_SAMPLE_ROWS = 50_000  # of all files; the newest night, where repeated rows lie together, gives twice as many
_SAMPLE_CELLS = 20_000_000
_SAMPLE_FILES = 400


def scaffold(
    path: str,
    *,
    name: str | None = None,
    folder: Path | None = None,
    force: bool = False,
    say: Callable[[str], None],
) -> Path:
    """Infer a pipeline from a folder of Parquet files and write what it needs.

    Parameters
    ----------
    path : str
        Folder of the table, or a URI.
    name : str, optional
        Name of the pipeline; default: that of the folder.
    folder : Path, optional
        Where ``pipelines/NAME.yml``, ``pipelines/NAME.expectations.json`` and, when it is missing,
        ``mlflow.yml`` are written; default: the current directory.
    force : bool
        Replace a pipeline and its suite that are there already.
    say : callable
        Is told every choice, one line each.

    Returns
    -------
    Path
        The pipeline file; `flows.config.load_pipeline` reads it.

    Raises
    ------
    ConfigError
        A file is there already, or the name cannot be one.
    InputError
        The folder is missing, is empty, holds no Parquet, or files that cannot be read.
    SchemaError
        The files are of several tables.
    StoreError
        The place cannot be written.
    """
    from flows.datadocs import write_text
    from flows.suites import profile, save_suite

    folder = (folder or Path.cwd()).absolute()
    path = path if _is_uri(path) else str(Path(path).expanduser().absolute())
    name = _checked_name(name) if name else _name_of(path)
    pipeline = folder / "pipelines" / f"{name}.yml"
    suite = pipeline.with_name(f"{name}.expectations.json")
    if not force:
        _refuse_existing(pipeline, suite)
    found = _look(path, say)
    text = render(name, _relative(path, folder), found, say)
    save_suite(suite, profile(found.sample, name=name, keys=found.key, ignore=found.ignored))
    _write_tracking(folder / "mlflow.yml", say)
    write_text(pipeline, text)
    say(f"wrote {suite} and {pipeline}")
    _say_next(pipeline, found.training, say)
    return pipeline


# --- looking ----------------------------------------------------------------------------------------------


def _look(path: str, say: Callable[[str], None]) -> Findings:
    from flows.inference import choose_columns, choose_key
    from flows.sampling import sample
    from flows.tables import discover

    dating = _dating(path)
    nights = discover(path, partition=dating.partition, date_pattern=dating.date_pattern)
    dates = [day for day in nights if day is not None]
    opened = _opened(_files(path, dating, dates), say)
    partial = _partial(opened)
    files = [file for file, _ in opened]
    rows = max(1_000, min(_SAMPLE_ROWS, _SAMPLE_CELLS // len(opened[0][1])))
    table = sample(files, rows, seed=0)
    if not table.num_rows:
        raise InputError(f"{path}: rows were required, however its files have none; let some arrive")
    oldest, newest = (
        sample([file for file in files if file.date == end.date], 2 * rows, seed=0, schema=table.schema)
        for end in (files[0], files[-1])
    )
    choices = choose_columns(table, partial, (oldest, newest) if len(dates) > 1 else None)
    key, why_key = choose_key([table, newest], choices)
    count = sum(map(len, nights.values()))
    return Findings(dating, plan_training(dates), count, table, choices, key, why_key)


def _dating(path: str) -> Dating:
    from flows.storage import Store

    store = Store.of(path)
    if not store.is_folder():
        came = "it is a file" if Path(path).is_file() else "there is none"
        raise InputError(f"{path}: a folder of Parquet files was required, however {came}; correct the path")
    keys = [stored.key for stored in store.list(suffix=".parquet")]
    return infer_dating(keys) if keys else Dating(None, None, "there are no files, as `discover` will say")


def _files(path: str, dating: Dating, dates: Sequence[date]) -> list[InputFile]:
    """Return the files of all dates, evenly thinned where they are very many."""
    from flows.tables import window

    first, last = (dates[0], dates[-1]) if dates else (date.min, date.min)
    files = window(path, first, last, partition=dating.partition, date_pattern=dating.date_pattern)
    step = (len(files) - 1) / (_SAMPLE_FILES - 1)
    return files if step <= 1 else [files[round(step * i)] for i in range(_SAMPLE_FILES)]


def _opened(files: Sequence[InputFile], say: Callable[[str], None]) -> list[tuple[InputFile, pa.Schema]]:
    """Return the files that can be opened, with their columns; the others are named.

    Raises
    ------
    InputError
        When none can be opened.
    """
    from flows.tables import open_table

    opened = []
    for file in files:
        try:
            with open_table(file) as reader:
                opened.append((file, reader.schema))
        except InputError as error:
            if not opened and file is files[-1]:
                raise
            say(f"passed over {error}")
    return opened


def _partial(opened: Sequence[tuple[InputFile, pa.Schema]]) -> dict[str, str]:
    """Return the columns that only some files have, each with a sentence.

    Raises
    ------
    SchemaError
        When a file shares less than half of its columns with the one whose columns are most usual.
    """
    usual, _ = Counter(tuple(sorted(schema.names)) for _, schema in opened).most_common(1)[0]
    for file, schema in opened:
        shared = set(usual) & set(schema.names)
        if 2 * len(shared) < max(len(usual), len(schema)):
            raise SchemaError(
                f"{file.path}: the columns of the other files ({listed(usual)}) were required, however"
                f" {listed(schema.names)} came; give each table a folder of its own"
            )
    counts = Counter(name for _, schema in opened for name in schema.names)
    return {
        name: f"only in {count:,} of {len(opened):,} files"
        for name, count in counts.items()
        if count < len(opened)
    }


# --- names and places -------------------------------------------------------------------------------------


def _checked_name(name: str) -> str:
    from flows.config_errors import PIPELINE_NAME

    if not re.fullmatch(PIPELINE_NAME.strip("^$"), name):
        raise ConfigError(
            f"a name of 1 to 100 letters, digits, _, - and . was required, however {name!r} came; see --name"
        )
    return name


def _name_of(path: str) -> str:
    """Return the name of the folder, in letters that a name may have."""
    last = path.rstrip("/").rpartition("/")[2].partition("?")[0]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", last).strip("_.")[:100] or "table"


def _relative(path: str, folder: Path) -> str:
    """Return a path below the folder relative to it, any other as it is."""
    place = Path(path)
    return place.relative_to(folder).as_posix() if not _is_uri(path) and folder in place.parents else path


def _is_uri(path: str) -> bool:
    return "://" in path


# --- writing ----------------------------------------------------------------------------------------------


def _refuse_existing(*files: Path) -> None:
    for file in files:
        if file.exists():
            raise ConfigError(
                f"{file} is there already; keep it, choose another --name, or replace it by --force"
            )


def _write_tracking(file: Path, say: Callable[[str], None]) -> None:
    from flows.datadocs import write_text

    if file.exists():
        say(f"{file} is there already and stays")
        return
    write_text(file, TRACKING)
    say(f"wrote {file}")


def _say_next(pipeline: Path, training: TrainingSpan, say: Callable[[str], None]) -> None:
    place = Path(os.path.relpath(pipeline))
    until = f" --until {training.until}" if training.until else ""
    say(f"next: vaewatch train --pipeline {place}{until}")
    day = training.held_back or training.until or "YYYY-MM-DD"
    say(f"then: vaewatch score --pipeline {place} --date {day}")
