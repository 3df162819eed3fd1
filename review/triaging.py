"""What people and rules add to the flags of a night: ``triage/dt=DAY/part-0.parquet``, one row a flag.

``flags/`` is never rewritten for it. Families need the model and are found once for the flags as they are;
ranks and marks of hidden rows follow the verdicts and rules, whenever those change, without the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.errors import StoreError
from flows.manifest import read_manifest
from flows.storage import Store
from flows.tables import PartWriter
from flows.verdicts import CONFIRMED, NORMAL, settled_rows, verdict_days
from review.looks import column_figures
from review.ranking import FEWEST, FEWEST_EACH, Evidence, Ranking, blended
from review.rules import Rule, applies, hidden_by, needed_columns

__all__ = [
    "TRIAGE",
    "About",
    "Triage",
    "evidence_of",
    "flags_digest",
    "read_triage",
    "reordered",
    "rerank",
    "triage_key",
]

TRIAGE = pa.schema(
    [
        ("row_id", pa.string()),
        ("row_key", pa.string()),
        ("family_id", pa.string()),
        ("family_name", pa.string()),
        ("raw_rank", pa.int64()),
        ("learned_score", pa.float64()),
        ("learned_rank", pa.int64()),
        ("hidden_by", pa.int64()),
    ]
)
"""Ranks count from 1, the most anomalous; ``hidden_by`` is the number of a rule, null where none hides a row.

``learned_score`` is the probability that a reviewer confirms the flag, null before there are enough verdicts;
``learned_rank`` is the raw one then.
"""

_ABOUT = b"vaewatch.triage"
KEPT_NIGHTS = 90  # nights whose verdicts are learned from
MOST_VERDICTS = 5_000  # learned from; of more, those of the newest nights


@dataclass(frozen=True)
class About:
    """What a night's triage rests on.

    Attributes
    ----------
    flags
        Digest of the flags that families were found for.
    origin
        Digest of flags, verdicts and rules.
    verdicts
        How many verdicts the order was learned from; 0 while it is the raw one.
    said
        The same in a sentence.
    digest
        Of the table's content.
    """

    flags: str
    origin: str
    verdicts: int
    said: str
    digest: str = ""


@dataclass(frozen=True)
class Triage:
    """A night's triage: a table of `TRIAGE`, in the order of the flags, and what it rests on."""

    rows: pa.Table
    about: About


def triage_key(day: date) -> str:
    """Where a night's triage lies below the output folder."""
    return f"triage/dt={day}/part-0.parquet"


def flags_key(day: date) -> str:
    """Where a night's flags lie below the output folder."""
    return f"flags/dt={day}/part-0.parquet"


def contributions_key(day: date) -> str:
    """Where a night's contributions lie below the output folder."""
    return f"contributions/dt={day}/part-0.parquet"


def flags_digest(store: Store, day: date) -> str | None:
    """Digest of a night's flags, by its manifest; None where it is not scored, or has no table of flags.

    Raises
    ------
    StoreError
        The manifest cannot be read.
    """
    manifest = read_manifest(store, day)
    outputs = manifest.outputs if manifest else ()
    return next((one.digest for one in outputs if one.path == flags_key(day)), None)


def read_triage(store: Store, day: date) -> Triage | None:
    """The triage of a night; None where there is none, or none that can be read: it is made anew then."""
    try:
        with store.open_input(triage_key(day)) as source:
            table = pq.ParquetFile(source).read()
        about = About(**json.loads(table.schema.metadata[_ABOUT]))
        rows = table.replace_schema_metadata(None).select(TRIAGE.names).cast(TRIAGE)
    except (StoreError, pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None
    return Triage(rows, about) if about.digest == _content(rows) else None


def write_triage(store: Store, day: date, triage: Triage) -> None:
    """Write a night's triage in one step, in place of what was there.

    Raises
    ------
    StoreError
        The place refuses.
    """
    about = replace(triage.about, digest=_content(triage.rows))
    schema = TRIAGE.with_metadata({_ABOUT: json.dumps(asdict(about)).encode()})
    with store.stage("triage") as stage:
        with PartWriter(stage / "triage.parquet", schema, keep_empty=True) as writer:
            for batch in triage.rows.combine_chunks().to_batches():
                writer.write(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
        store.commit(stage / "triage.parquet", triage_key(day))


def rerank(store: Store, day: date, rules: Sequence[Rule], *, prefix: str = "") -> Triage | None:
    """Bring a night's ranks and marks of hidden rows to what verdicts and rules say now; families stay.

    Parameters
    ----------
    store
        The results.
    rules
        Those that hold.
    prefix
        Of our columns, as in the pipeline file.

    Returns
    -------
    Triage or None
        None where the flags have no families yet: the flow finds them, with the model.

    Raises
    ------
    StoreError
        The results cannot be read or written.
    """
    before, digest = read_triage(store, day), flags_digest(store, day)
    if before is None or digest is None or before.about.flags != digest:
        return None
    families = before.rows.select(["row_id", "family_id", "family_name"])
    return reordered(store, day, families, digest, rules, prefix=prefix, before=before)


def reordered(
    store: Store,
    day: date,
    families: pa.Table,
    digest: str,
    rules: Sequence[Rule],
    *,
    prefix: str = "",
    before: Triage | None = None,
) -> Triage:
    """Write the triage of a night whose families are known.

    Parameters
    ----------
    families
        ``row_id``, ``family_id``, ``family_name`` of each flag.
    digest
        Of the flags that they were found for.
    before
        What is there already: nothing is written where nothing changes.
    """
    evidence = evidence_of(store, prefix)
    holding = [rule for rule in rules if applies(rule, day)]
    origin = _digest([digest, evidence.digest, *(repr(rule) for rule in holding), *TRIAGE.names])
    if before is not None and before.about.origin == origin:
        return before
    flags = _flags_with(store, day, families, holding, prefix)
    ranking = Ranking.of(evidence)
    rows = _ranked(flags, store, day, ranking, prefix)
    hidden = hidden_by(holding, flags, day, prefix=prefix).cast(pa.int64())
    rows = rows.append_column("hidden_by", hidden).select(TRIAGE.names).cast(TRIAGE)
    verdicts = 0 if ranking is None else ranking.verdicts
    triage = Triage(rows, About(digest, origin, verdicts, said(ranking, evidence)))
    write_triage(store, day, triage)
    return triage


def rank_of(scores: npt.NDArray[np.float64], ties: npt.NDArray[np.float64] | None = None) -> npt.NDArray[Any]:
    """Ranks [n] from 1, the highest score first; equal ones by ``ties``, then in their order."""
    keys = (-scores,) if ties is None else (-ties, -scores)
    ranks = np.empty(len(scores), np.int64)
    ranks[np.lexsort(keys)] = np.arange(1, len(scores) + 1)
    return ranks


def said(ranking: Ranking | None, evidence: Evidence) -> str:
    """What the order of flags rests on, in a sentence."""
    found, confirmed = len(evidence), int(evidence.confirmed.sum())
    kinds = f"{confirmed:,} confirmed, {found - confirmed:,} expected"
    known = f"{found:,} verdict{'s' if found != 1 else ''} ({kinds})"
    there = f"there {'is' if found == 1 else 'are'} {known if found else 'none'}"
    if ranking is not None:
        return f"The order of flags is learned from {known}."
    if evidence.is_enough:
        return f"Flags are in the order of their score: what is learned from {known} finds no more of them."
    return (
        f"Flags are in the order of their score: to learn another one takes {FEWEST} verdicts, {FEWEST_EACH} "
        f"confirmed and {FEWEST_EACH} expected ones at least; so far {there}."
    )


# -- What is learned from -----------------------------------------------------------------------------------


def evidence_of(store: Store, prefix: str = "") -> Evidence:
    """Scores and losses per column of the flags that people have settled, of the newest nights.

    Raises
    ------
    StoreError
        Verdicts or results cannot be read.
    """
    found, count = [], 0
    for day in reversed(verdict_days(store)[-KEPT_NIGHTS:]):
        settled = {row: one for row, one in settled_rows(store, day).items() if one in CONFIRMED | NORMAL}
        some = _evidence_of_night(store, day, settled, prefix) if settled else None
        if some is not None and count + len(some) <= MOST_VERDICTS:
            found.append(some)
            count += len(some)
    return Evidence.joined(found)


def _evidence_of_night(store: Store, day: date, settled: dict[str, str], prefix: str) -> Evidence | None:
    if not (store.exists(flags_key(day)) and store.exists(contributions_key(day))):
        return None
    names = [f"{prefix}row_id", f"{prefix}anomaly_score"]
    flags = _table(store, flags_key(day), names)
    flags = flags.filter(pc.is_in(flags[names[0]], pa.array(list(settled), pa.string())))
    losses = column_figures(flags[names[0]], _batches(store, contributions_key(day)), "loss")
    confirmed = [settled[row] in CONFIRMED for row in flags[names[0]].to_pylist()]
    return Evidence(losses[0], flags[names[1]].to_numpy(), losses[1], np.asarray(confirmed, np.bool_))


def _flags_with(store: Store, day: date, families: pa.Table, rules: Sequence[Rule], prefix: str) -> pa.Table:
    """Those columns of the flags that ranks and rules need, and the families beside them."""
    needed = [f"{prefix}{name}" for name in ("row_id", "row_key", "anomaly_score")]
    needed += [name for rule in rules for name in needed_columns(rule, prefix)]
    flags = _table(store, flags_key(day), needed)
    places = pc.index_in(flags[f"{prefix}row_id"].combine_chunks(), families["row_id"].combine_chunks())
    for name in ("family_id", "family_name"):
        if name in flags.schema.names:  # the table's own: what is ours goes by that name here
            flags = flags.drop_columns([name])
        flags = flags.append_column(name, families[name].combine_chunks().take(places))
    return flags


def _ranked(flags: pa.Table, store: Store, day: date, ranking: Ranking | None, prefix: str) -> pa.Table:
    scores = flags[f"{prefix}anomaly_score"].to_numpy()
    ids, raw = flags[f"{prefix}row_id"], rank_of(scores)
    columns: dict[str, Any] = {"row_id": ids, "row_key": flags[f"{prefix}row_key"]}
    columns |= {name: flags[name] for name in ("family_id", "family_name")}
    if ranking is None or not len(scores):
        learned, order = pa.nulls(len(scores), pa.float64()), raw
    else:
        names, losses = column_figures(ids, _batches(store, contributions_key(day)), "loss")
        chances = ranking.chances(names, scores, losses)
        learned, order = pa.array(chances), rank_of(blended(chances, scores), scores)
    return pa.table({**columns, "raw_rank": raw, "learned_score": learned, "learned_rank": order})


# -- Parquet ------------------------------------------------------------------------------------------------


def _table(store: Store, key: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a table of results, each once, those that are not there left out."""
    with _refusals(store, key), store.open_input(key) as source:
        file = pq.ParquetFile(source)
        there = set(file.schema_arrow.names)
        return file.read([name for name in dict.fromkeys(columns) if name in there])


def _batches(store: Store, key: str) -> Iterator[pa.RecordBatch]:
    with _refusals(store, key), store.open_input(key) as source:
        yield from pq.ParquetFile(source).iter_batches(columns=["row_id", "column", "loss", "share"])


@contextmanager
def _refusals(store: Store, key: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StoreError(
            f"{store.uri(key)}: a table of results was required, however {reason}; score the night again"
        ) from error


def _digest(parts: Sequence[str]) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()}"


def _content(rows: pa.Table) -> str:
    return _digest([json.dumps(column.to_pylist()) for column in rows.columns])
