"""What can go wrong outside of the library, one sentence each.

::

    VaewatchError               exit code 1, printed without a traceback
    ├── ConfigError             a pipeline file, mlflow.yml or a suite says something impossible
    ├── InputError              a data file or folder is not what it should be
    │   ├── SchemaError         its columns or types break the contract
    │   └── NoDataError         nothing there for the asked date
    ├── StoreError              a place cannot be read or written: worth another try
    │   └── UnreadableError     one file is not there, is no file, or may not be read
    ├── BusyError               another run holds what this one needs, for too long
    ├── RegistryError           a model version is not there, or not what it should be
    │   ├── NoChampionError     no model is live yet
    │   └── RegistryAwayError   MLflow cannot be reached, or refuses
    ├── ServerError             Prefect's server cannot be reached or started
    └── TimeLimitError          a scheduled night takes longer than it may

A message says what was required, what came, and what to do. Names of columns and files are part of it, and
strangers choose them: whatever is no printable character is shown as its escape, so that no line of a log and
no command to a terminal can be smuggled in.
"""

from __future__ import annotations

__all__ = [
    "BusyError",
    "ConfigError",
    "InputError",
    "NoChampionError",
    "NoDataError",
    "RegistryAwayError",
    "RegistryError",
    "SchemaError",
    "ServerError",
    "StoreError",
    "UnreadableError",
    "VaewatchError",
    "legible",
]


MOST_SHOWN = 4_000  # letters of a sentence
_TAIL = 250  # of them at its end


def legible(text: str) -> str:
    """Return text on one line, unprintable characters as escapes, and not too much of it.

    Of a sentence that quotes endless values the middle is left out: what to do about it stands at its end.
    """
    shown = _cut(text)
    if shown.isprintable():
        return shown
    return _cut("".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in shown))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 2 * _TAIL]} … {text[-_TAIL:]}"


class VaewatchError(Exception):
    """Root of all errors that a user can mend; ``str(error)`` is the sentence to show."""

    exit_code = 1

    def __str__(self) -> str:
        return legible(super().__str__())


class ConfigError(VaewatchError):
    """A pipeline file, ``mlflow.yml`` or a suite of expectations says something impossible."""


class InputError(VaewatchError):
    """A data file or folder is missing, unreadable, or not what it should be."""


class SchemaError(InputError):
    """The columns or types of a file break the contract of its table."""


class NoDataError(InputError):
    """Nothing has arrived for the asked date."""


class StoreError(VaewatchError):
    """A place for results cannot be read or written, or holds something altered by hand."""


class UnreadableError(StoreError):
    """One file is not there, is no regular file, or may not be read; another try would not help."""


class BusyError(VaewatchError):
    """Another run holds what this one needs, and did not let go in time."""


class RegistryError(VaewatchError):
    """A model version is not there, or is not what it should be."""


class NoChampionError(RegistryError):
    """No model version carries the live alias yet."""


class RegistryAwayError(RegistryError):
    """MLflow cannot be reached, or refuses what was asked: worth another try."""


class ServerError(VaewatchError):
    """Prefect's server cannot be reached or started; the end of its log may follow, a line each, indented."""

    def __str__(self) -> str:
        first, *log = Exception.__str__(self).split("\n")
        return "\n    ".join([legible(first), *map(legible, log)])


class TimeLimitError(VaewatchError):
    """A scheduled night takes longer than ``schedule.time_limit``."""
