"""The text of a pipeline file that `vaewatch init` writes: every choice on its line, beside its reason."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.dating import Dating, TrainingSpan
from flows.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.inference import Choice

__all__ = ["TRACKING", "Findings", "listed", "render"]

_LISTED = 250  # columns up to which each has a line, whatever its kind
_COMMENT = 50  # column of the comments

_KINDS = ("ignored", "identifier", "categorical", "boolean", "timestamp", "numeric")  # as they are listed
_BY_TYPE = ("boolean", "timestamp", "numeric")  # kinds that the types alone would tell
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # what YAML takes for something else

TRACKING = """\
# Where runs and models are kept, and what they are called. Relative paths start at this file's folder.
tracking_uri: sqlite:///data/mlflow/mlflow.db     # runs: a SQLite file, or the address of an MLflow server
registry_uri: sqlite:///data/mlflow/mlflow.db     # registered models: usually the same place
artifact_location: data/mlflow/artifacts          # files of each run: a folder, or a URI such as s3://bucket/mlflow
experiment: vaewatch                              # the experiment that holds all runs
model_name: "{pipeline}"                          # the registered model; {pipeline} stands for the pipeline's name
aliases: {live: champion, candidate: challenger}  # the version that scores, and the one that waits to be compared
"""  # noqa: E501  (the project's own mlflow.yml, letter by letter)

_HEAD = """\
# The table {name}, as `vaewatch init` found it in {files}: each comment says why. Yours to correct.
version: 1                                        # version of this format
name: {name:42}  # of the pipeline, its model and its flows
"""

_CONTRACT = """
# The contract, profiled from {rows:,} rows and yours to edit. More bad rows than this share: exit code 3.
validation: {{suite: {suite}, max_quarantined_share: 0.05}}
"""

_TAIL = """
decision: {contamination: 0.005}                  # flag 1 of 200 ordinary rows; or fdr: 0.1, or budget: 200
promotion: {nights: 7, min_recall: 1.0, max_churn: 0.3, automatic: false}  # what a challenger has to show
engine: threads                                   # who does the work

alerts:
  max_flag_share: 0.05                            # a night with more flags than this is alarming as a whole
  breaker_share: 0.2                              # with more odd rows it is one incident, with few flags
  notify: [VAEWATCH_ALERTS]                       # environment variables that hold the addresses to tell

retention: {scores: 90d, flags: forever}          # what `vaewatch prune` keeps: an age, a count, or forever
"""


@dataclass(frozen=True)
class _Setting:
    """A line of the pipeline file, and why it says so."""

    key: str
    value: str
    why: str


@dataclass(frozen=True)
class Findings:
    """What the files hold.

    Attributes
    ----------
    dating, training
        When: how files are dated, and what to train on.
    files
        Number of files.
    sample
        Rows drawn from all files, in types common to them.
    choices
        What each column is taken for.
    key, why_key
        Columns that name a row, and the reason.
    """

    dating: Dating
    training: TrainingSpan
    files: int
    sample: pa.Table
    choices: tuple[Choice, ...]
    key: tuple[str, ...]
    why_key: str

    @property
    def ignored(self) -> list[str]:
        """Columns that the model does not see."""
        return [choice.column for choice in self.choices if choice.kind in ("ignored", "identifier")]


def render(name: str, path: str, found: Findings, say: Callable[[str], None]) -> str:
    """Return the text of the pipeline file, and tell its choices.

    Parameters
    ----------
    name : str
        Of the pipeline.
    path : str
        Of the source, as it should stand in the file.
    found : Findings
        What the files hold.
    say : callable
        Is told every choice, one line each.

    Raises
    ------
    SchemaError
        No column can be modelled.
    """
    sections = {
        "source": _source(path, found.dating, found.training),
        "training": _training(found.training),
        "schedule": _schedule(found.training),
    }
    prefix = _prefix(found.sample.column_names)
    for title in ("source", "columns", "training", "schedule"):
        _tell(title, sections[title] if title in sections else _column_settings(found), say)
    _tell("", [prefix], say)
    say("all else: the defaults; those in the file have their comment, docs: Pipeline file has the others")
    suite = _quoted(f"pipelines/{name}.expectations.json")
    return "".join(
        [
            _HEAD.format(name=name, files="1 file" if found.files == 1 else f"{found.files:,} files"),
            _section("source", sections["source"]),
            _line(_Setting("output", _quoted(f"data/results/{name}"), "flags/, manifests/ … of each night")),
            _columns(found),
            _CONTRACT.format(rows=found.sample.num_rows, suite=suite),
            _section("training", sections["training"]),
            _section("schedule", sections["schedule"]),
            _TAIL,
            _line(prefix),
        ]
    )


def _source(path: str, dating: Dating, training: TrainingSpan) -> list[_Setting]:
    missing = (
        ("skip", "most nights have none: a file a month") if training.monthly else ("wait", "or skip, fail")
    )
    return [
        _Setting("path", _quoted(path), "where the table lands: a folder or a URI"),
        _Setting("partition", _quoted(dating.partition), dating.why)
        if dating.partition
        else _Setting("date_pattern", _quoted(dating.date_pattern), dating.why),
        _Setting("on_missing", missing[0], f"when a night has not arrived ({missing[1]})"),
    ]


def _training(training: TrainingSpan) -> list[_Setting]:
    return [
        _Setting("window", f"{training.window}d", training.why_window),
        _Setting("calibration", f"{training.calibration}d", training.why_calibration),
        _Setting("max_rows", "2000000", "more than this is sampled, evenly over the window"),
        _Setting("data", "auto", "or clean, contaminated: what you know of the training rows"),
        _Setting("detector", "{}", "keyword arguments of vae_core.VAEDetector"),
    ]


def _schedule(training: TrainingSpan) -> list[_Setting]:
    """Return when to run: a month is dated by its first day, and whole only 31 days later at most."""
    if training.monthly:
        train, trained, lag, why = "0 2 28 * *", "the 28th of each month", "31d", "so that its month is over"
    else:
        train, trained, lag, why = "0 2 * * 0", "Sundays", "1d", "the night before"
    return [
        _Setting(
            "score", '"30 3 * * *"', "each night: minute, hour, day of the month, month, day of the week"
        ),
        _Setting("train", f'"{train}"', trained),
        _Setting("monitor", '"30 5 * * *"', "looks how the night differs from the training rows"),
        _Setting("lag", lag, f"a run scores its date less this: {why}"),
        _Setting("timezone", "UTC", "of the cron lines and dates; files do not tell, correct it for yours"),
    ]


def _prefix(columns: Sequence[str]) -> _Setting:
    from flows.results import added_names

    prefix, why = "", "put before our columns where the table has such names already"
    while clashes := set(columns) & set(added_names(prefix)):
        prefix += "vw_"
        why = f"put before our columns: the table has {listed(sorted(clashes))}"
    return _Setting("prefix", f'"{prefix}"', why)


def _column_settings(found: Findings) -> list[_Setting]:
    """Return key and columns by the entry they stand under, in the order of the file."""
    if len(found.ignored) == len(found.choices):
        raise SchemaError(
            "a column that varies and can be modelled was required, however"
            f" {listed(found.sample.column_names)} came; choose another table"
        )
    wide = len(found.choices) > _LISTED
    kept = [choice for choice in found.choices if not (wide and choice.kind in _BY_TYPE)]
    ranked = sorted(kept, key=lambda choice: _KINDS.index(choice.kind))
    entries = {"ignored": "ignore", "identifier": "ignore"}
    kinds = [_Setting(entries.get(one.kind, one.kind), _quoted(one.column), one.why) for one in ranked]
    return [_Setting("key", f"[{', '.join(map(_quoted, found.key))}]", found.why_key), *kinds]


def _columns(found: Findings) -> str:
    """Return the section of the columns, one a line."""
    key, *kinds = _column_settings(found)
    lines = ["\n", "columns:\n", _line(key, "  ")]
    for entry, settings in itertools.groupby(kinds, lambda setting: setting.key):
        lines.append(f"  {entry}:\n")
        lines += [_commented(f"    - {one.value}", one.why) for one in settings]
    if len(found.choices) > _LISTED:
        lines.append(
            "  # the others, of this wide table, are what their types say: numbers, times, truth values\n"
        )
    lines.append(_line(_Setting("sensitive", "[]", "columns to keep out of row keys and reasons"), "  "))
    lines.append(_line(_Setting("value_at_stake", "null", "a column of money, where a table has one"), "  "))
    return "".join(lines)


def _section(title: str, settings: Sequence[_Setting]) -> str:
    return "".join(["\n", f"{title}:\n", *(_line(setting, "  ") for setting in settings)])


def _line(setting: _Setting, indent: str = "") -> str:
    return _commented(f"{indent}{setting.key}: {setting.value}", setting.why)


def _commented(text: str, why: str) -> str:
    return f"{text.ljust(_COMMENT - 2)}  # {_printable(why)}\n"


def _tell(title: str, settings: Sequence[_Setting], say: Callable[[str], None]) -> None:
    for one in settings:
        say(f"{title}.{one.key}: {one.value} ({_printable(one.why)})".removeprefix("."))


def _quoted(text: str | None) -> str:
    """Return a text as YAML reads it back, with quotes only where they are needed."""
    if text is None:
        return "null"
    if re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./=%-]*", text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def listed(names: Sequence[str]) -> str:
    """Return the first names of many, as text."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
