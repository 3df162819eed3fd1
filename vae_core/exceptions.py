"""What can go wrong in the library.

::

    VaeCoreError(Exception)
    ├── ColumnError(ValueError)       a column is missing, or its type cannot be used
    ├── DataError(ValueError)         no rows, no usable columns, values outside of what can be held
    ├── DivergenceError               training left the finite numbers
    └── ModelFileError                a model folder is missing, altered, or of another format

A message says what was required, what came, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ColumnError",
    "DataError",
    "DivergenceError",
    "ModelFileError",
    "VaeCoreError",
]


class VaeCoreError(Exception):
    """Root of the library's own errors."""


class ColumnError(VaeCoreError, ValueError):
    """A column is missing, doubled, or of a type that cannot be used."""


class DataError(VaeCoreError, ValueError):
    """The rows given cannot be learned from."""


class DivergenceError(VaeCoreError):
    """Training left the finite numbers."""


class ModelFileError(VaeCoreError):
    """A model folder is missing, altered, or written by another format."""
