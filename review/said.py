"""What is said of rows: a row, a verdict, a line of the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from review.errors import ReviewError

__all__ = [
    "MOVING",
    "ORPHAN",
    "VERDICTS",
    "Change",
    "RowRef",
    "Saying",
    "Verdict",
    "named_reviewer",
    "tidy_note",
]

VERDICTS = ("anomaly", "expected", "data error", "investigating")
ORPHAN = "orphan-"
"""What the row id of a verdict begins with whose row is gone."""
MOVING = "moving-"  # within a transaction, between two places
MOST_CHARACTERS = 10_000  # of a note


@dataclass(frozen=True)
class RowRef:
    """A row of a night; its key finds it again after the night was scored anew."""

    dt: date
    row_id: str
    row_key: str | None


@dataclass(frozen=True)
class Verdict:
    """What somebody has said of a row.

    Attributes
    ----------
    id
        Counts up.
    dt, row_id, row_key
        The row, where it is now; an orphan's ``row_id`` starts with ``orphan-``.
    verdict
        One of `VERDICTS`; None for one that was withdrawn.
    note, reviewer
        In the reviewer's words, and who that is.
    decided_at
        In UTC.
    supersedes
        Id of the row's verdict before it; None for the first.
    batch
        The same for all rows that were settled together.
    """

    id: int
    dt: date
    row_id: str
    row_key: str | None
    verdict: str | None
    note: str
    reviewer: str
    decided_at: datetime
    supersedes: int | None
    batch: str

    @property
    def is_orphan(self) -> bool:
        """Whether its row is no longer among those of the night."""
        return self.row_id.startswith(ORPHAN)


@dataclass(frozen=True)
class Change:
    """One line of the log: who did what to how many rows of which night."""

    at: datetime
    author: str
    action: str
    dt: date | None
    count: int
    detail: str


@dataclass(frozen=True)
class Saying:
    """A verdict to be written, checked.

    Raises
    ------
    ReviewError
        There is no such verdict, or no reviewer, or the note is too long.
    """

    verdict: str | None
    note: str
    reviewer: str

    def __post_init__(self) -> None:
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise ReviewError(
                f"a verdict of {', '.join(VERDICTS)} was required, however {self.verdict[:40]!r} came; "
                "choose one"
            )
        object.__setattr__(self, "note", tidy_note(self.note))
        object.__setattr__(self, "reviewer", named_reviewer(self.reviewer))


def named_reviewer(name: str) -> str:
    """Who decides, as it is stored.

    Raises
    ------
    ReviewError
        There is no name, or one that cannot be shown.
    """
    text = name.strip()
    if not text or len(text) > 320 or not text.isprintable():
        raise ReviewError("a reviewer's name was required, however none that can be shown came; log in again")
    return text


def tidy_note(note: str) -> str:
    """A note without signs that cannot be shown.

    Raises
    ------
    ReviewError
        It is longer than `MOST_CHARACTERS`.
    """
    text = "".join(sign for sign in note if sign in "\n\t" or sign.isprintable()).strip()
    if len(text) > MOST_CHARACTERS:
        raise ReviewError(
            f"a note of {MOST_CHARACTERS:,} characters at most was required, however {len(text):,} came; "
            "shorten it"
        )
    return text
