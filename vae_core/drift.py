"""How far a table has moved from the rows that a model learned from: binned summaries, and their comparison.

A `TableProfile` is what is kept of the training rows: counts in cells, no row, and nothing of columns named
sensitive but counts. `compare` holds a night's rows to it, column by column, by an effect size (does it
matter?) and a test beside it (is it more than chance?). In a large night every difference is significant, so
a state other than ``ok`` takes both; p-values alone decide nothing.

The effect size is the population stability index, sum over bins of ``(q - p) ln(q / p)`` with the shares p
of the training rows and q of the night (Siddiqi, Credit Risk Scorecards, 2006, chapter 8, whose limits 0.1
and 0.25 are taken); counts are smoothed by half a row a bin, so that an empty bin is no infinity. The tests
are Kolmogorov-Smirnov on a grid of 199 quantiles, with the asymptotic p-value of Stephens (1970), and
Pearson's chi-square on counts of values.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special, stats

from vae_core import arrays
from vae_core.exceptions import ColumnError, DataError
from vae_core.schema import ColumnKind, ColumnSpec, TableSchema

__all__ = [
    "CERTAIN",
    "PSI_LIMITS",
    "SHARE_LIMITS",
    "ColumnDrift",
    "ColumnProfile",
    "Rate",
    "Shift",
    "TableProfile",
    "compare",
    "profile_numbers",
    "psi",
    "shift_of",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

FORMAT_VERSION = 1
PSI_LIMITS = (0.1, 0.25)
"""Index from which on a column is watched, and from which on it has drifted (Siddiqi 2006)."""
SHARE_LIMITS = (0.005, 0.02)
"""Change of a share of nulls or unseen values, absolute, from which on it is watched, and has drifted."""
CERTAIN = 0.001
"""p-value above which a difference may be chance, and so has no state but ok."""

QUANTILES = np.linspace(0.005, 0.995, 199)
BIN = 0.1  # share of the training rows that a bin of the index has at least, where values allow it
RARE = 0.01  # share of the training rows below which values share a bin of the index
TOP_VALUES = 64  # values of a category that are counted one by one
MOST_KNOWN = 20_000  # values of a category up to which all of them are known
BUCKETS = 32  # cells that a sensitive category is hashed into
HOURS = 24
EXPECTED = 5.0  # rows expected in a cell of the chi-square test at least; smaller ones are merged


@dataclass(frozen=True)
class ColumnProfile:
    """What is kept of one column: counts in cells.

    Numbers have ``points``, the borders of their cells (the last cell is open); categories their commonest
    ``values`` and one cell for all others, and digests of all values ``known`` (4 bytes each; None where
    there are too many to keep); instants have the hour of the day. A ``hidden`` column is one named
    sensitive: of categories the counts of hash buckets are kept, of numbers and instants the nulls only.
    """

    name: str
    kind: str
    rows: int
    nulls: int
    counts: tuple[int, ...] = ()
    points: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    known: str | None = None
    unseen: float | None = None
    """Expected share of rows whose value the training rows do not have; None where that is not known."""
    hidden: bool = False

    @property
    def null_share(self) -> float:
        """Share of rows without a value."""
        return self.nulls / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class TableProfile:
    """What is kept of a training sample; JSON-able, without rows.

    Parameters
    ----------
    rows
        Rows of the sample.
    columns
        A profile a column.
    scores
        Profile of the anomaly scores of rows that the model was not fitted on; None without.
    """

    rows: int
    columns: tuple[ColumnProfile, ...]
    scores: ColumnProfile | None = None

    @classmethod
    def of(
        cls,
        table: pa.Table,
        schema: TableSchema,
        *,
        later: pa.Table | None = None,
        scores: Floats | None = None,
        sensitive: Collection[str] = (),
    ) -> TableProfile:
        """Summarise a training sample.

        Parameters
        ----------
        table
            The rows that a model learns from.
        schema
            Kinds of its columns; of keys and ignored columns only nulls are counted.
        later
            Newer rows: which share of them has values that ``table`` has not. Without them that share is
            estimated from the values that stand once (Good 1953, equation 9).
        scores
            Anomaly scores [n] of ordinary rows, higher is more anomalous.
        sensitive
            Columns of which no value may be kept.
        """
        columns = [_profiled(table, column, later, column.name in sensitive) for column in schema.columns]
        usual = None if scores is None else profile_numbers("anomaly_score", scores)
        return cls(table.num_rows, tuple(columns), usual)

    def to_json(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TableProfile:
        """Return the profile that `to_json` gave.

        Raises
        ------
        DataError
            It is no profile of this format version.
        """
        version = data.get("format_version")
        if version != FORMAT_VERSION:
            raise DataError(f"a table profile of format 1 is required, however {version=}; train again")
        try:
            scores = data["scores"]
            columns = tuple(_restored(one) for one in data["columns"])
            return cls(data["rows"], columns, scores and _restored(scores))
        except (LookupError, TypeError) as error:
            raise DataError(f"a table profile is required, however {error!r}; train again") from None


def _restored(data: Mapping[str, Any]) -> ColumnProfile:
    lists = {name: tuple(data[name]) for name in ("counts", "points", "values")}
    return ColumnProfile(**{**data, **lists})


# -- Profiles -----------------------------------------------------------------------------------------------


def profile_numbers(name: str, numbers: Floats) -> ColumnProfile:
    """Summarise numbers [n]; NaN is null."""
    present = numbers[~np.isnan(numbers)]
    empty = ColumnProfile(name, ColumnKind.NUMERIC, len(numbers), len(numbers) - len(present))
    points = replace(empty, points=_grid(present))
    return replace(points, counts=_counts(_cells_of_numbers(points, present)))


def _grid(numbers: Floats) -> tuple[float, ...]:
    """Borders of cells: quantiles, and for values that stand often the number just below them, too.

    So a frequent value is a cell of its own, and one that falls below it is seen.
    """
    if not numbers.size:
        return ()
    points, times = np.unique(np.quantile(numbers, QUANTILES, method="inverted_cdf"), return_counts=True)
    below = np.nextafter(points[times > 1], -np.inf)
    finite = np.union1d(points, below)
    return tuple(finite[np.isfinite(finite)].tolist())


def _profiled(table: pa.Table, column: ColumnSpec, later: pa.Table | None, hidden: bool) -> ColumnProfile:
    values = table[column.name]
    empty = ColumnProfile(column.name, str(column.kind), len(values), _nulls(values), hidden=hidden)
    if not column.is_feature or (hidden and column.kind in MEASURES):
        return empty
    if column.kind is ColumnKind.NUMERIC:
        return profile_numbers(column.name, arrays.numbers(values, column.name))
    if column.kind is ColumnKind.CATEGORICAL and not hidden:
        empty = _with_values(empty, values, None if later is None else later[column.name])
    return replace(empty, counts=_counts(cells(empty, values)))


MEASURES = (ColumnKind.NUMERIC, ColumnKind.TIMESTAMP)


def _with_values(profile: ColumnProfile, values: pa.ChunkedArray, later: Any) -> ColumnProfile:
    """The commonest values, digests of all of them, and how often new ones come."""
    counted = pc.value_counts(arrays.texts(values, profile.name).drop_null())
    words, times = counted.field("values"), counted.field("counts").to_numpy()
    order = np.argsort(-times, kind="stable")[:TOP_VALUES]
    top = tuple(words.take(pa.array(order)).to_pylist())
    if len(words) > MOST_KNOWN:
        return replace(profile, values=top)
    known = replace(profile, values=top, known=_packed(_digests(words)), unseen=_once(times))
    share = None if later is None else unseen_rate(known, later)
    return known if share is None or not share.rows else replace(known, unseen=share.value)


def _once(times: Ints) -> float:
    """Probability that the next value is a new one: the share of rows whose value stands once."""
    return float((times == 1).sum() / times.sum()) if times.size else 0.0


def _nulls(values: pa.ChunkedArray) -> int:
    """Number of nulls; NaN is one."""
    return int(pc.sum(pc.is_null(values, nan_is_null=True)).as_py() or 0)


def _digests(words: pa.Array) -> Words:
    """Four bytes of a hash of each text [n]: two of 20,000 values share theirs once in 200,000."""
    from hashlib import blake2b

    joined = b"".join(blake2b(word.encode(), digest_size=4).digest() for word in words.to_pylist())
    return np.frombuffer(joined, dtype="<u4")


def _packed(digests: Words) -> str:
    return base64.b64encode(np.sort(digests).tobytes()).decode("ascii")


def _unpacked(known: str) -> Words:
    return np.frombuffer(base64.b64decode(known), dtype="<u4")


# -- Cells --------------------------------------------------------------------------------------------------


def cells(profile: ColumnProfile, values: pa.ChunkedArray) -> Ints:
    """Number of present values in each cell of a column's profile.

    Raises
    ------
    ColumnError
        The values are not of the profile's kind.
    """
    return CELLS[ColumnKind(profile.kind)](profile, values)


def _cells_of_numbers(profile: ColumnProfile, present: Floats) -> Ints:
    places = np.searchsorted(np.asarray(profile.points), present, side="left")
    return np.bincount(places, minlength=len(profile.points) + 1)


def _cells_of_column(profile: ColumnProfile, values: pa.ChunkedArray) -> Ints:
    numbers = arrays.numbers(values, profile.name)
    return _cells_of_numbers(profile, numbers[~np.isnan(numbers)])


def _cells_of_words(profile: ColumnProfile, values: pa.ChunkedArray) -> Ints:
    words = arrays.texts(values, profile.name).drop_null()
    if profile.hidden:
        counted = pc.value_counts(words)
        places = (_digests(counted.field("values")) % BUCKETS).astype(np.int64)
        return _weighed(places, counted.field("counts").to_numpy(), BUCKETS)
    known = pa.array(profile.values, words.type)
    places = pc.fill_null(pc.index_in(words, value_set=known), len(known)).to_numpy(zero_copy_only=False)
    return np.bincount(places, minlength=len(known) + 1)


def _weighed(places: Ints, times: Ints, size: int) -> Ints:
    return np.bincount(places, weights=times, minlength=size).astype(np.int64)


def _cells_of_truth(profile: ColumnProfile, values: pa.ChunkedArray) -> Ints:
    truth, present = arrays.bits(values, profile.name)
    return np.bincount(truth[present].astype(np.int64), minlength=2)


def _cells_of_hours(profile: ColumnProfile, values: pa.ChunkedArray) -> Ints:
    _, share, present = arrays.instants(values, profile.name)
    return np.bincount((share[present] * HOURS).astype(np.int64), minlength=HOURS)


CELLS: Mapping[ColumnKind, Callable[[ColumnProfile, pa.ChunkedArray], Ints]] = {
    ColumnKind.NUMERIC: _cells_of_column,
    ColumnKind.CATEGORICAL: _cells_of_words,
    ColumnKind.BOOLEAN: _cells_of_truth,
    ColumnKind.TIMESTAMP: _cells_of_hours,
}


def _counts(counted: Ints) -> tuple[int, ...]:
    return tuple(int(count) for count in counted)


# -- Comparison ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """A share of ``rows``, the share that was usual, and how likely chance alone makes them differ so."""

    value: float
    usual: float
    rows: int
    p_value: float

    @property
    def state(self) -> str:
        """``ok``, ``watch`` or ``drift``, by `SHARE_LIMITS`."""
        return _state(abs(self.value - self.usual), self.p_value, SHARE_LIMITS)


@dataclass(frozen=True)
class Shift:
    """How a column's present values moved.

    ``psi`` is the effect size; ``test`` is ``ks`` or ``chi2``, its ``statistic`` the largest distance of the
    distribution functions (0 to 1), or the chi-square sum.
    """

    column: str
    rows: int
    psi: float
    test: str
    statistic: float
    p_value: float

    @property
    def state(self) -> str:
        """``ok``, ``watch`` or ``drift``, by `PSI_LIMITS`."""
        return _state(self.psi, self.p_value, PSI_LIMITS)


@dataclass(frozen=True)
class ColumnDrift:
    """All comparisons of one column; None where there is nothing to compare."""

    column: str
    nulls: Rate
    unseen: Rate | None
    shift: Shift | None


def compare(profile: TableProfile, table: pa.Table) -> list[ColumnDrift]:
    """Hold rows to a profile, column by column; columns that the rows do not have are passed over.

    Parameters
    ----------
    profile
        Of the training rows.
    table
        The rows at hand, features in the types that they were learned with.
    """
    there = set(table.schema.names)
    return [_compared(one, table[one.name]) for one in profile.columns if one.name in there]


def _compared(profile: ColumnProfile, values: pa.ChunkedArray) -> ColumnDrift:
    nulls = _rate(_nulls(values), len(values), profile.nulls, profile.rows)
    if not profile.counts:
        return ColumnDrift(profile.name, nulls, None, None)
    try:
        counted = cells(profile, values)
    except ColumnError:  # of another kind altogether: the schema's business
        return ColumnDrift(profile.name, nulls, None, None)
    return ColumnDrift(profile.name, nulls, unseen_rate(profile, values), _shift(profile, counted))


def shift_of(profile: ColumnProfile, numbers: Floats) -> Shift | None:
    """How numbers [n], such as scores, moved from their profile; None where either has no rows."""
    return _shift(profile, _cells_of_numbers(profile, numbers[~np.isnan(numbers)]))


def unseen_rate(profile: ColumnProfile, values: pa.ChunkedArray) -> Rate | None:
    """Share of present values that the training rows do not have; None where those are not all known."""
    if profile.known is None or profile.unseen is None:
        return None
    counted = pc.value_counts(arrays.texts(values, profile.name).drop_null())
    new = ~np.isin(_digests(counted.field("values")), _unpacked(profile.known))
    times = counted.field("counts").to_numpy()
    known = profile.rows - profile.nulls
    return _rate(int(times[new].sum()), int(times.sum()), round(profile.unseen * known), known)


def _shift(profile: ColumnProfile, counted: Ints) -> Shift | None:
    usual = np.asarray(profile.counts, dtype=np.int64)
    if not (usual.sum() and counted.sum()):
        return None
    numeric = profile.kind == ColumnKind.NUMERIC
    statistic, p_value = _kolmogorov(usual, counted) if numeric else _chi_square(usual, counted)
    bins = _bins(usual) if numeric else _frequent(usual)
    moved = psi(_merged(usual, bins), _merged(counted, bins))
    return Shift(profile.name, int(counted.sum()), moved, "ks" if numeric else "chi2", statistic, p_value)


def psi(usual: Sequence[int] | Ints, counted: Sequence[int] | Ints) -> float:
    """Population stability index of two counts [bins]; 0 for equal shares.

    References
    ----------
    Siddiqi, Credit Risk Scorecards, 2006, chapter 8.
    """
    p, q = (_smoothed(np.asarray(one, dtype=np.float64)) for one in (usual, counted))
    return float(((q - p) * np.log(q / p)).sum())


def _smoothed(counts: Floats) -> Floats:
    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))


def _bins(usual: Ints) -> Ints:
    """Bin of each cell [cells]: neighbours are merged until a bin has a tenth of the rows.

    A frequent value stays a bin of its own, and what lies between two of them another, however few.
    """
    shares, bins, gathered, number = usual / usual.sum(), np.zeros(len(usual), dtype=np.int64), 0.0, 0
    for cell, share in enumerate(shares):
        if cell and (gathered >= BIN or share >= BIN):
            number, gathered = number + 1, 0.0
        bins[cell] = number
        gathered += share
    return bins


def _frequent(usual: Ints) -> Ints:
    """Bin of each cell [cells]: its own for a value that stands often, one for all the rare ones."""
    often = usual >= RARE * usual.sum()
    return np.asarray(np.where(often, np.cumsum(often) - 1, often.sum()))


def _merged(counts: Ints, bins: Ints) -> Ints:
    return _weighed(bins, counts, int(bins.max()) + 1)


def _kolmogorov(usual: Ints, counted: Ints) -> tuple[float, float]:
    """Largest distance of two distribution functions, and its asymptotic p-value (Stephens 1970).

    The distance is taken at the borders of the cells, so it is short of the true one by at most the share
    of the fullest cell between them: half a percent. Ties make the p-value too large, never too small.
    """
    m, n = usual.sum(), counted.sum()
    distance = float(np.abs(np.cumsum(usual) / m - np.cumsum(counted) / n).max())
    root = np.sqrt(m * n / (m + n))
    return distance, float(special.kolmogorov((root + 0.12 + 0.11 / root) * distance))


def _chi_square(usual: Ints, counted: Ints) -> tuple[float, float]:
    """Pearson's chi-square of two counts, cells with few expected rows merged into one, and its p-value."""
    table = np.stack([usual, counted]).astype(np.float64)
    scarce = (table.sum(axis=0) * table.sum(axis=1).min() / table.sum()) < EXPECTED
    table = np.column_stack([table[:, ~scarce], table[:, scarce].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 0.0, 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, float(stats.chi2.sf(statistic, table.shape[1] - 1))


def _rate(some: int, rows: int, some_usual: int, rows_usual: int) -> Rate:
    """A share beside the usual one, and the p-value of their difference."""
    counts = np.array([[some_usual, rows_usual - some_usual], [some, rows - some]])
    p_value = _chance(counts) if rows and rows_usual else 1.0
    return Rate(some / rows if rows else 0.0, some_usual / rows_usual if rows_usual else 0.0, rows, p_value)


def _chance(counts: Ints) -> float:
    """p-value of a two-by-two table: Fisher's exact test where few rows are expected in a cell."""
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    if expected.min() < EXPECTED:
        return float(stats.fisher_exact(counts).pvalue)
    return _chi_square(*counts)[1]


def _state(effect: float, p_value: float, limits: tuple[float, float]) -> str:
    if p_value > CERTAIN or effect < limits[0]:
        return "ok"
    return "drift" if effect >= limits[1] else "watch"
