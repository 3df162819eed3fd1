"""What can go wrong in the library.

::

    VaeCoreError(Exception)
    ├── ColumnError(ValueError)       a column is missing, or its type cannot be used
    ├── DataError(ValueError)         no rows, no usable columns, values outside of what can be held
    ├── DivergenceError               training left the finite numbers
    ├── ModelFileError                a model folder is missing, altered, or of another format
    └── ParameterError(ValueError)    a parameter is none of what it may be

A message says what was required, what came, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ColumnError",
    "DataError",
    "DivergenceError",
    "ModelFileError",
    "ParameterError",
    "VaeCoreError",
]


MOST_SAID = 4_000
"""Letters of a sentence."""


class VaeCoreError(Exception):
    """Root of the library's own errors.

    Of a sentence that quotes endless values the middle is left out: what to do about it stands at its end.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= MOST_SAID else f"{text[: MOST_SAID - 300]} … {text[-250:]}"


class ColumnError(VaeCoreError, ValueError):
    """A column is missing, doubled, or of a type that cannot be used."""


class DataError(VaeCoreError, ValueError):
    """The rows given cannot be learned from."""


class DivergenceError(VaeCoreError):
    """Training left the finite numbers."""


class ModelFileError(VaeCoreError):
    """A model folder is missing, altered, or written by another format."""


class ParameterError(VaeCoreError, ValueError):
    """A parameter of a detector is none of what it may be."""
