"""What the doctor finds: one sentence, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from flows.errors import VaewatchError

__all__ = ["Diagnosis", "State", "checked", "failure", "ok", "warning", "worst"]

State = Literal["ok", "warning", "failure"]
_RANK: dict[State, int] = {"ok": 0, "warning": 1, "failure": 2}


@dataclass(frozen=True)
class Diagnosis:
    """One finding.

    Attributes
    ----------
    about
        What was looked at: ``versions``, ``device``, ``source`` …
    state
        ``ok``; ``warning``: nights run, but somebody should know; ``failure``: they do not, or soon will not.
    said
        What was found, in one sentence.
    remedy
        What to do; empty when all is well.
    pipeline
        Whose it is; None where it is the machine's.
    """

    about: str
    state: State
    said: str
    remedy: str = ""
    pipeline: str | None = None


def ok(about: str, said: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(about, "ok", said)


def warning(about: str, said: str, remedy: str) -> Diagnosis:
    """Nights run, but somebody should know."""
    return Diagnosis(about, "warning", said, remedy)


def failure(about: str, said: str, remedy: str) -> Diagnosis:
    """Nights do not run, or soon will not."""
    return Diagnosis(about, "failure", said, remedy)


def checked(about: str, check: Callable[[], Iterable[Diagnosis]], remedy: str) -> Iterator[Diagnosis]:
    """What a check finds; one that cannot be ended is a failure, and holds up no other.

    Parameters
    ----------
    remedy
        What to do about an error that the check raises.
    """
    try:
        yield from check()
    except VaewatchError as error:
        yield failure(about, str(error), remedy)
    except Exception as error:  # whatever is wrong here, the doctor goes on
        yield failure(about, f"it could not be checked: {type(error).__name__}: {error}", remedy)


def worst(found: Iterable[Diagnosis]) -> State:
    """The state of the whole: that of the worst finding."""
    return max((one.state for one in found), key=_RANK.__getitem__, default="ok")
