"""What a rule would have hidden on nights past: to be seen before it is saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.errors import UnreadableError
from flows.storage import Store
from review.errors import ReviewError
from review.rules import Rule, checked, matches, needed_columns
from review.store import RowRef, Verdict, VerdictStore

__all__ = ["Night", "Rehearsal", "past_nights", "rehearse"]

NIGHTS = 90
EXAMPLES = 5


class Night(NamedTuple):
    """A night past: its flags, and what has been said of them by ``row_id``."""

    dt: date
    flags: pa.Table
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True)
class Rehearsal:
    """What a rule would have hidden.

    Attributes
    ----------
    nights
        How many nights were looked at.
    hidden
        Flags that the rule would have hidden.
    confirmed, data_errors
        How many of them people have said to be an anomaly, or a data error.
    examples
        Some of them, confirmed ones first.
    """

    nights: int
    hidden: int
    confirmed: int
    data_errors: int
    examples: tuple[RowRef, ...]

    @property
    def words(self) -> str:
        """``over the last 90 nights it would have hidden 312 flags, 2 of them confirmed anomalies``."""
        if not self.nights:
            return "there is no night to rehearse it on"
        nights = "night" if self.nights == 1 else f"{self.nights:,} nights"
        hidden = f"{_counted(self.hidden, 'flag')}, {self._of_them}" if self.hidden else "no flag"
        return f"over the last {nights} it would have hidden {hidden}"

    @property
    def _of_them(self) -> str:
        if self.confirmed:
            errors = f" and {_counted(self.data_errors, 'data error')}" if self.data_errors else ""
            what = "a confirmed anomaly" if self.confirmed == 1 else "confirmed anomalies"
            return f"{self.confirmed:,} of them {what}{errors}"
        if self.data_errors:
            what = "a data error" if self.data_errors == 1 else "data errors"
            return f"{self.data_errors:,} of them {what}"
        return "none of them confirmed"


def rehearse(rule: Rule, nights: Iterable[Night], *, prefix: str = "") -> Rehearsal:
    """Count what a rule would have hidden; when it ends does not matter to nights past.

    Raises
    ------
    RuleError
        The rule is impossible.
    """
    checked(rule)
    counts: Counter[str] = Counter()
    confirmed, others = [], []
    for night in nights:
        hidden = night.flags.filter(pa.array(matches(rule, night.flags, prefix=prefix)))
        said = [_said(night, row_id) for row_id in hidden[f"{prefix}row_id"].to_pylist()]
        counts.update(
            nights=1, hidden=len(said), confirmed=said.count("anomaly"), errors=said.count("data error")
        )
        is_confirmed = np.array([one in ("anomaly", "data error") for one in said], dtype=np.bool_)
        confirmed += _rows(night.dt, hidden.filter(pa.array(is_confirmed)), prefix)
        others += _rows(night.dt, hidden.filter(pa.array(~is_confirmed)), prefix)
    examples = (*confirmed[:EXAMPLES], *others[:EXAMPLES])[:EXAMPLES]
    return Rehearsal(counts["nights"], counts["hidden"], counts["confirmed"], counts["errors"], examples)


def past_nights(
    rule: Rule, results: Store, verdicts: VerdictStore, *, last: date, count: int = NIGHTS, prefix: str = ""
) -> Iterator[Night]:
    """The newest scored nights up to one, newest first, with no more columns than the rule needs."""
    days = {_day(one.key) for one in results.list("flags", ".parquet")}
    for day in sorted((day for day in days if day is not None and day <= last), reverse=True)[:count]:
        yield Night(day, _flags(rule, results, day, prefix), verdicts.current(day))


def _flags(rule: Rule, results: Store, day: date, prefix: str) -> pa.Table:
    columns = [f"{prefix}row_id", f"{prefix}row_key", *needed_columns(rule, prefix)]
    flags = _read(results, f"flags/dt={day}/part-0.parquet", columns)
    if rule.family_id is None:
        return flags
    try:
        families = _read(results, f"triage/dt={day}/part-0.parquet", ["row_id", "family_id"])
    except UnreadableError:  # a night without families
        return flags
    by_row = dict(zip(families["row_id"].to_pylist(), families["family_id"].to_pylist(), strict=True))
    ids = [by_row.get(one) for one in flags[f"{prefix}row_id"].to_pylist()]
    return flags.append_column("family_id", pa.array(ids, pa.string()))


def _read(results: Store, key: str, columns: list[str]) -> pa.Table:
    try:
        with results.open_input(key) as source:
            file = pq.ParquetFile(source)
            there = set(file.schema_arrow.names)
            return file.read([name for name in dict.fromkeys(columns) if name in there])
    except pa.ArrowException as error:
        raise ReviewError(
            f"{results.uri(key)}: a night's table was required, however {str(error).splitlines()[0][:200]}; "
            "score the night again"
        ) from error


def _said(night: Night, row_id: str) -> str | None:
    found = night.verdicts.get(row_id)
    return None if found is None else found.verdict


def _rows(dt: date, flags: pa.Table, prefix: str) -> list[RowRef]:
    few = flags.slice(0, EXAMPLES).select([f"{prefix}row_id", f"{prefix}row_key"])
    return [RowRef(dt, *row.values()) for row in few.to_pylist()]


def _day(key: str) -> date | None:
    try:
        return date.fromisoformat(PurePosixPath(key).parts[1].removeprefix("dt="))
    except (ValueError, IndexError):
        return None


def _counted(count: int, one: str) -> str:
    return f"{count:,} {one if count == 1 else one + 's'}"
