"""In which order columns are shown."""

from __future__ import annotations

from review.flagged import Flagged
from review.views.desk import Desk

__all__ = ["in_order"]


def in_order(here: Desk, flagged: Flagged) -> list[str]:
    """The table's own columns: keys first, then what is blamed most; what the model does not see last."""
    last = set(here.pipeline.columns.ignore)
    first = [name for name in dict.fromkeys([*here.keys, *flagged.choices("column")]) if name in flagged.own]
    rest = [name for name in flagged.own if name not in first]
    return [*first, *(name for name in rest if name not in last), *(name for name in rest if name in last)]
