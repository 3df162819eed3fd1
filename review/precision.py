"""How many of the flags that people looked at were worth it: per night, and per model version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from flows.manifest import Manifest, read_manifest
from flows.storage import Store
from flows.verdicts import CONFIRMED, NORMAL, settled_rows, verdict_days
from review.triaging import read_triage

__all__ = ["NightPrecision", "Share", "by_version", "night_precision", "precisions"]

NIGHTS = 90


@dataclass(frozen=True)
class Share:
    """How many flags were confirmed, of those that were settled; open ones count for nothing."""

    confirmed: int
    settled: int

    @property
    def value(self) -> float | None:
        """In [0, 1]; None where nothing is settled."""
        return self.confirmed / self.settled if self.settled else None

    def __add__(self, other: Share) -> Share:
        return Share(self.confirmed + other.confirmed, self.settled + other.settled)

    def __str__(self) -> str:
        """``75 % (9 of 12)``."""
        if not self.settled:
            return "–"
        return f"{100 * self.confirmed / self.settled:.0f} % ({self.confirmed:,} of {self.settled:,})"


@dataclass(frozen=True)
class NightPrecision:
    """Precision of one night at its budget: among the first ``budget`` rows in each of the two orders.

    Attributes
    ----------
    budget
        Rows a night that its policy lets people look at; of a policy without one, all flags.
    raw
        By score.
    learned
        In the learned order, rows that a rule hides left out.
    """

    dt: date
    version: str
    budget: int
    raw: Share
    learned: Share


def precisions(store: Store, count: int = NIGHTS) -> Iterator[NightPrecision]:
    """Precision of the newest nights that have verdicts, newest first.

    Raises
    ------
    StoreError
        Verdicts or a manifest cannot be read.
    """
    for day in reversed(verdict_days(store)[-count:]):
        manifest, triage = read_manifest(store, day), read_triage(store, day)
        if manifest is not None and triage is not None:
            yield night_precision(manifest, triage.rows, settled_rows(store, day))


def night_precision(manifest: Manifest, rows: pa.Table, settled: Mapping[str, str]) -> NightPrecision:
    """Precision of a night.

    Parameters
    ----------
    rows
        Its triage.
    settled
        Verdict of each row id that has one.
    """
    budget = int(manifest.decision.get("budget") or rows.num_rows)
    ids, hidden = rows["row_id"].to_pylist(), rows["hidden_by"].to_pylist()
    raw = dict(zip(ids, rows["raw_rank"].to_pylist(), strict=True))
    ranked = zip(ids, rows["learned_rank"].to_pylist(), hidden, strict=True)
    shown = sorted((rank, name) for name, rank, rule in ranked if rule is None)[:budget]
    first = [name for name, rank in raw.items() if rank <= budget]
    learned = [name for _, name in shown]
    model = manifest.model.version
    return NightPrecision(manifest.date, model, budget, _share(first, settled), _share(learned, settled))


def by_version(nights: Iterable[NightPrecision]) -> dict[str, tuple[Share, Share]]:
    """Precision of each model version over nights: by score, and in the learned order."""
    found: dict[str, tuple[Share, Share]] = {}
    for night in nights:
        raw, learned = found.get(night.version, (Share(0, 0), Share(0, 0)))
        found[night.version] = (raw + night.raw, learned + night.learned)
    return found


def _share(names: Iterable[str], settled: Mapping[str, str]) -> Share:
    said = [settled[name] for name in names if settled.get(name) in CONFIRMED | NORMAL]
    return Share(sum(one in CONFIRMED for one in said), len(said))
