"""Families: flags of a night that are alike in reasons and in where the model places them, named in words.

Rows are joined by average linkage; those that share a rare value of a category make a family of their own
("flights without arr_time, dest SFO"). A family keeps its id over the nights, and over model versions: it is
known by its reasons and its shared value, and by its latent position as long as the model is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import binom
from sklearn.cluster import AgglomerativeClustering

from flows.errors import legible
from review.looks import Looks

__all__ = ["Family", "Group", "families_from_json", "families_to_json", "grouped", "named", "placed"]

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

APART = 0.9
"""Distance up to which rows are one family; two rows without a common reason are 1 to 1.4 apart.

With it, the flags of the demo's nights fall into families that a person would name; see the tests.
"""
CARRIED = 0.6  # distance of centres up to which a family of a night is one that is known,
SAME_WORDS = 1.2  # where both have the same words
LATENT = 0.5  # weight of the squared latent distance beside that of reasons
SAMPLE = 2_000  # rows joined at once: the distances of all pairs take 32 MB
ROUNDS = 6  # samples taken of what no family has taken up
BY_CHANCE = 1e-4  # probability below which it is no chance that rows share a value
MOST_SHARE = 0.5  # least share of a family's rows that a shared value has
NAMED = 0.12  # least part of a family's reasons that its name tells
MOST_NAMED = 3
FAINT = 0.02  # least part of a centre that is remembered
KEPT = 5_000  # families of other nights that are remembered, those seen last
SHOWN = 40  # letters of a shared value in a name


@dataclass(frozen=True)
class Group:
    """Rows of one night that are alike: their numbers, and the column and value that they share."""

    rows: Rows
    where: tuple[str, str] | None = None


@dataclass(frozen=True)
class Family:
    """What is known of a family.

    Attributes
    ----------
    id
        The same on all nights.
    words
        Its name, without a count of rows.
    where
        Column and value that all its rows share; None where they share none.
    reasons
        Its centre: what a column or a kind of a column has in its reasons; see `Looks`.
    latent
        Its centre in the latent space of a model, by the run that trained it; the newest two.
    first, last
        Nights it was seen on.
    """

    id: str
    words: str
    where: tuple[str, str] | None
    reasons: Mapping[str, float]
    latent: Mapping[str, tuple[float, ...]]
    first: str
    last: str

    def name(self, rows: int) -> str:
        """Its name in words, with the number of its rows in a night."""
        return f"{self.words}, {rows:,} row{'s' if rows != 1 else ''}"


# -- The families of a night --------------------------------------------------------------------------------


def grouped(looks: Looks) -> list[Group]:
    """Groups of a night's rows; each row is in one."""
    found: list[Group] = []
    for rows in _joined(_points(looks)):
        found += _split(looks, rows)
    return sorted(found, key=lambda group: (-group.rows.size, int(group.rows[0])))


def _points(looks: Looks) -> Floats:
    return np.hstack([looks.reasons, np.sqrt(np.float32(LATENT)) * looks.latent])


def _joined(points: Floats) -> list[Rows]:
    """Clusters of points [n, p]: a sample is joined, the others follow the nearest; then what is left."""
    left, found = np.arange(len(points)), list[Rows]()
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        if not left.size:
            break
        taken = np.sort(rng.permutation(left)[:SAMPLE])
        centres = np.stack([points[taken[labels]].mean(axis=0) for labels in _linked(points[taken])])
        nearest, distance = _nearest(points[left], centres)
        near = distance <= APART
        found += [left[near & (nearest == j)] for j in range(len(centres))]
        left = left[~near]
    return [rows for rows in [*found, *([left] if left.size else [])] if rows.size]


def _linked(points: Floats) -> list[Rows]:
    if len(points) == 1:
        return [np.zeros(1, np.int64)]
    joiner = AgglomerativeClustering(None, distance_threshold=APART, linkage="average")
    labels = joiner.fit_predict(points)
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _nearest(points: Floats, centres: Floats) -> tuple[Rows, Floats]:
    """Which centre is nearest to each point [n], and how far it is [n]; a block of points at a time."""
    nearest, distance = np.empty(len(points), np.int64), np.empty(len(points), np.float32)
    for start in range(0, len(points), SAMPLE):
        block = points[start : start + SAMPLE]
        squares = _squares(block, centres)
        nearest[start : start + SAMPLE] = squares.argmin(axis=1)
        distance[start : start + SAMPLE] = np.sqrt(np.maximum(squares.min(axis=1), 0))
    return nearest, distance


def _split(looks: Looks, rows: Rows) -> list[Group]:
    """A group for each value that most of the rows left share, and one for the rest."""
    found: list[Group] = []
    while rows.size:
        shared = _shared(looks, rows)
        if shared is None:
            return [*found, Group(rows)]
        name, value = shared
        has = _holds(looks, rows, name, value)
        found.append(Group(rows[has], shared))
        rows = rows[~has]
    return found


def _shared(looks: Looks, rows: Rows) -> tuple[str, str] | None:
    """The value that most rows share, if it is less by chance than any other and than `BY_CHANCE`."""
    best, least = None, BY_CHANCE
    for name, texts in looks.values.items():
        value, count = _commonest(texts.take(pa.array(rows)))
        if value is None or count < MOST_SHARE * rows.size:
            continue
        if count == 1 and not _is_reason(looks, int(rows[0]), name):
            continue
        usual = looks.usual[name].get(value, looks.usual[name].get("", 0.0))
        chance = float(binom.sf(count - 1, rows.size, usual)) * len(looks.values)
        if chance < least:
            best, least = (name, value), chance
    return best


def _commonest(texts: pa.Array) -> tuple[str | None, int]:
    counts = pc.value_counts(texts.drop_null())
    if not len(counts):
        return None, 0
    most = max(counts.to_pylist(), key=lambda one: (one["counts"], one["values"]))
    return most["values"], most["counts"]


def _is_reason(looks: Looks, row: int, name: str) -> bool:
    """Whether a row is flagged above all for a value of this column that was never seen."""
    part = f"{name}|unseen"
    return part in looks.parts and bool(looks.reasons[row, looks.parts.index(part)] ** 2 > 0.25)


def _holds(looks: Looks, rows: Rows, name: str, value: str) -> npt.NDArray[np.bool_]:
    texts = looks.values[name].take(pa.array(rows))
    return np.asarray(pc.fill_null(pc.equal(texts, value), False).to_numpy(zero_copy_only=False), np.bool_)


# -- Families over the nights -------------------------------------------------------------------------------


def placed(
    looks: Looks, groups: Sequence[Group], known: Sequence[Family], day: date, table: str
) -> tuple[list[str], list[Family]]:
    """Give each row the id of its family: one that is known, else a new one.

    Parameters
    ----------
    looks, groups
        The night's rows and their groups.
    known
        Families of other nights.
    table
        What the rows are called in names: ``flights``.

    Returns
    -------
    ids, families
        The family of each row [n]; all families that are known now, those seen last first, of other nights
        `KEPT` at most.
    """
    ids, families = np.full(len(looks), "", dtype=object), {one.id: one for one in known}
    before = _Known.of(looks, known)
    for group, i in before.recognised(groups):
        old = None if i is None else families[known[i].id]
        family = _new(looks, group, day, table) if old is None else _seen(looks, group.rows, old, day)
        families[family.id] = family
        ids[group.rows] = family.id
    newest = sorted(families.values(), key=lambda one: (one.last, one.id), reverse=True)
    here = set(ids)
    kept = {one.id for one in [one for one in newest if one.id not in here][:KEPT]} | here
    return ids.tolist(), [one for one in newest if one.id in kept]


@dataclass(frozen=True)
class _Known:
    """Centres of known families beside the rows of a night.

    ``reasons`` [k, m] are over the night's parts, ``other`` [k] the squares of parts that the night has not,
    ``latent`` [k, d] not a number for families of other models; ``told`` are what names are made of, and
    ``sharing`` the numbers of the families by what they share.
    """

    looks: Looks
    reasons: Floats
    other: Floats
    latent: Floats
    told: npt.NDArray[np.object_]
    sharing: Mapping[tuple[str, str] | None, Rows]

    @staticmethod
    def of(looks: Looks, families: Sequence[Family]) -> _Known:
        place = {part: j for j, part in enumerate(looks.parts)}
        reasons = np.zeros((len(families), len(place)), np.float32)
        other = np.zeros(len(families), np.float32)
        latent = np.full((len(families), looks.latent.shape[1]), np.nan, np.float32)
        told = np.empty(len(families), object)
        sharing: dict[tuple[str, str] | None, list[int]] = {}
        for i, family in enumerate(families):
            latent[i] = family.latent.get(looks.run_id, np.nan)
            told[i] = _gist(family.reasons)
            sharing.setdefault(family.where, []).append(i)
            for part, value in family.reasons.items():
                if part in place:
                    reasons[i, place[part]] = value
                else:
                    other[i] += value**2
        numbers = {where: np.asarray(found, np.int64) for where, found in sharing.items()}
        return _Known(looks, reasons, other, latent, told, numbers)

    def recognised(self, groups: Sequence[Group]) -> Iterator[tuple[Group, int | None]]:
        """The groups with the numbers of the families that they are (None: a new one).

        Rows that hold the value of a known family leave their group for it, if they are near.
        """
        left: dict[tuple[str, str] | None, list[Group]] = {}
        for group in groups:
            rows = group.rows
            for part, i in self._claimed(rows) if group.where is None else ():
                yield part, i
                rows = np.setdiff1d(rows, part.rows)
            if rows.size:
                left.setdefault(group.where, []).append(Group(rows, group.where))
        for where, some in left.items():
            for start in range(0, len(some), SAMPLE):
                block = some[start : start + SAMPLE]
                yield from zip(block, self._nearest(block, where), strict=True)

    def _claimed(self, rows: Rows) -> Iterator[tuple[Group, int]]:
        for where in self._held(rows):
            held = rows[_holds(self.looks, rows, *where)]
            for i in self.sharing[where]:
                near = held[self._far(self.looks.reasons[held], None, np.asarray([i]))[:, 0] <= CARRIED]
                if near.size:
                    yield Group(near, where), int(i)
                    held = np.setdiff1d(held, near)

    def _held(self, rows: Rows) -> list[tuple[str, str]]:
        """Values of known families that some of the rows hold."""
        names = sorted({where[0] for where in self.sharing if where is not None} & set(self.looks.values))
        values = {name: pc.unique(self.looks.values[name].take(pa.array(rows))).to_pylist() for name in names}
        return [(name, value) for name in names for value in values[name] if (name, value) in self.sharing]

    def _nearest(self, groups: Sequence[Group], where: tuple[str, str] | None) -> list[int | None]:
        """The number of the family that each group is; a shared value says more than the latent position."""
        alike = self.sharing.get(where)
        if alike is None:
            return [None] * len(groups)
        reasons = np.stack([self.looks.reasons[group.rows].mean(axis=0) for group in groups])
        latent = np.stack([self.looks.latent[group.rows].mean(axis=0) for group in groups])
        far = self._far(reasons, latent if where is None else None, alike)
        told = np.asarray([_gist(_reasons(self.looks, group.rows)) for group in groups], object)
        same = told[:, None] == self.told[alike][None]
        far = np.where(far <= np.where(same, SAME_WORDS, CARRIED), far, np.inf)
        best = far.argmin(axis=1)
        return [int(alike[j]) if np.isfinite(far[i, j]) else None for i, j in enumerate(best)]

    def _far(self, reasons: Floats, latent: Floats | None, families: Rows) -> Floats:
        """How far points [n] are from centres [k]; in latent space too, where it is the same one."""
        squares = _squares(reasons, self.reasons[families]) + self.other[families]
        if latent is not None:
            here = np.isfinite(self.latent[families]).all(axis=1)
            squares += LATENT * here * _squares(latent, np.nan_to_num(self.latent[families]))
        return np.asarray(np.sqrt(np.maximum(squares, 0)), np.float32)


def _squares(points: Floats, centres: Floats) -> Floats:
    """Squared distances of points [n, p] and centres [k, p]."""
    product = points @ centres.T
    return np.asarray((points**2).sum(1)[:, None] - 2 * product + (centres**2).sum(1)[None], np.float32)


def _new(looks: Looks, group: Group, day: date, table: str) -> Family:
    reasons, where = _reasons(looks, group.rows), group.where
    words = named(reasons, where, table)
    mark = json.dumps([str(day), words, sorted(reasons.items())])
    name = f"f{hashlib.blake2b(mark.encode(), digest_size=5).hexdigest()}"
    return Family(name, words, where, reasons, _centre(looks, group.rows), str(day), str(day))


def _seen(looks: Looks, rows: Rows, family: Family, day: date) -> Family:
    """A family, seen again; its centre stays, and is found anew in the space of a new model."""
    latent = family.latent if looks.run_id in family.latent else {**family.latent, **_centre(looks, rows)}
    newest = dict(list(latent.items())[-2:])
    first, last = min(family.first, str(day)), max(family.last, str(day))
    return replace(family, latent=newest, first=first, last=last)


def _reasons(looks: Looks, rows: Rows) -> dict[str, float]:
    centre = looks.reasons[rows].mean(axis=0)
    return {looks.parts[j]: round(float(centre[j]), 4) for j in np.flatnonzero(centre > FAINT)}


def _centre(looks: Looks, rows: Rows) -> dict[str, tuple[float, ...]]:
    return {looks.run_id: tuple(round(float(x), 4) for x in looks.latent[rows].mean(axis=0))}


# -- Words --------------------------------------------------------------------------------------------------


def named(reasons: Mapping[str, float], where: tuple[str, str] | None, table: str) -> str:
    """A family in words: ``flights without arr_time and air_time, dest SFO``.

    Parameters
    ----------
    reasons
        As in `Family`.
    where
        Column and value that all rows share.
    table
        What the rows are called.
    """
    parts: dict[str, list[str]] = {}
    for name, _, kind in (part.rpartition("|") for part in _told(reasons)):
        parts.setdefault(kind, []).append(name)
    nulls, odd = (_listed(parts.get(kind, [])) for kind in ("null", "value"))
    new = _listed([name for name in parts.get("unseen", []) if where is None or name != where[0]])
    said = [f"without {nulls}"] if nulls else []
    said += [f"with a new {new}"] if new else []
    said += [f"with unusual {odd}"] if odd else []
    if where is not None:
        is_new = where[0] in parts.get("unseen", [])
        shared = f"{where[0]} {_short(where[1])}"
        said.append(f"with {shared}, never seen before" if is_new else shared)
    if not said:
        return table
    first, *rest = said
    return ", ".join([f"{table}{' ' if first.startswith('with') else ', '}{first}", *rest])


def _told(reasons: Mapping[str, float]) -> list[str]:
    """Columns and kinds worth telling, those with most part in the reasons first."""
    weights = {part: 2 * value**2 for part, value in reasons.items() if "|" in part}
    least = min(NAMED, max(weights.values(), default=0.0))
    told = [part for part, weight in weights.items() if weight >= least]
    return sorted(told, key=lambda part: (-weights[part], part))[:MOST_NAMED]


def _gist(reasons: Mapping[str, float]) -> str:
    return " ".join(sorted(_told(reasons)))


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _short(value: str) -> str:
    line = legible(" ".join(value.split()))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


# -- On disk ------------------------------------------------------------------------------------------------


def families_to_json(families: Sequence[Family]) -> bytes:
    """Families as they are kept beside the nights."""
    return json.dumps({"format_version": 1, "families": [asdict(one) for one in families]}, indent=1).encode()


def families_from_json(data: bytes) -> list[Family]:
    """What `families_to_json` wrote.

    Raises
    ------
    ValueError, KeyError, TypeError
        It is something else.
    """
    return [_from_json(one) for one in json.loads(data)["families"]]


def _from_json(fields: dict[str, Any]) -> Family:
    where = fields["where"]
    latent = {run: tuple(centre) for run, centre in fields["latent"].items()}
    return Family(**{**fields, "where": None if where is None else (where[0], where[1]), "latent": latent})
