"""How loops are compiled: on first use, kept on disk, without holding Python's lock.

Modules of compiled loops are imported inside the functions that need them: numba's own import
takes half a CPU-second, and who only looks at a table should not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["compiled", "contracted"]

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """``function`` as machine code, with IEEE arithmetic to the letter, in the order written.

    A value comes out the same wherever it stands in its array.
    """
    return _compiled(function)


def contracted(function: Function) -> Function:
    """``function`` as machine code that may round a product and a sum once instead of twice.

    A quarter faster. For arrays of one fixed length, whose every place goes through the same instructions.
    """
    return _compiled(function, fastmath={"contract"})


def _compiled(function: Function, **options: Any) -> Function:
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        loop = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder that can be written to: each process compiles anew
        loop = numba.njit(**options)(function)
    return loop  # type: ignore[no-any-return]
