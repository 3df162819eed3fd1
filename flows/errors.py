"""What can go wrong outside of the library, one sentence each.

::

    VaewatchError               exit code 1, printed without a traceback
    ├── ConfigError             a pipeline file, mlflow.yml or a suite says something impossible
    ├── InputError              a data file or folder is not what it should be
    │   ├── SchemaError         its columns or types break the contract
    │   └── NoDataError         nothing there for the asked date
    ├── StoreError              a place cannot be read or written
    ├── RegistryError           MLflow cannot be reached, or refuses
    │   └── NoChampionError     no model is live yet
    └── ServerError             Prefect's server cannot be reached or started

A message says what was required, what came, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "InputError",
    "NoChampionError",
    "NoDataError",
    "RegistryError",
    "SchemaError",
    "ServerError",
    "StoreError",
    "VaewatchError",
]


class VaewatchError(Exception):
    """Root of all errors that a user can mend; ``str(error)`` is the sentence to show."""

    exit_code = 1


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


class RegistryError(VaewatchError):
    """MLflow cannot be reached, or refuses what was asked."""


class NoChampionError(RegistryError):
    """No model version carries the live alias yet."""


class ServerError(VaewatchError):
    """Prefect's server cannot be reached or started."""
