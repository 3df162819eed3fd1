"""Texts to codes: null, unseen, rare, the commonest values, and groups of rare ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vae_core import arrays
from vae_core.rarity import novelty, prior

__all__ = ["NULL", "RARE", "RESERVED", "UNSEEN", "CategoryCodec"]

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

NULL, UNSEEN, RARE, RESERVED = 0, 1, 2, 3  # codes below RESERVED are none of the vocabulary's top
VOCABULARY_LIMIT = 100_000  # distinct values remembered a column
HARDLY = 1e-3  # probability of a new value beyond which one is no news
TEXT_LIMIT = 256  # characters; longer values are never remembered, so always unseen


@dataclass(frozen=True)
class CategoryCodec:
    """Texts as codes: null, unseen, rare, then the commonest values, then groups of rarer ones.

    ``vocabulary`` holds the values seen, commonest first; the first ``n_top`` have a code of their
    own. Of the others those that come in like rows share one (:mod:`vae_core.grouping`), and what is
    left shares ``RARE``. ``unseen`` is the probability that the next value is a new one,
    estimated from the values seen once (Good 1953, equation 9): a column that brings new values
    daily forgives them, one that never did does not.
    """

    name: str
    vocabulary: tuple[str, ...]
    n_top: int
    shares: tuple[float, ...]  # of the top values among all rows
    rare: float  # share of rows with a value seen but neither of the top nor of a group
    unseen: float  # probability of a value never seen
    nulls: float
    rows: int
    counts: tuple[int, ...] = ()  # of the values beyond the top, as in vocabulary
    once: int = 0  # values seen once
    null_evidence: float = 0.0
    new_evidence: float = 0.0  # as ``null_evidence``, of a value never seen
    groups: tuple[int, ...] = ()  # as ``counts``, from 1 on; 0: in none. Empty: there are none

    kind = "categorical"

    @classmethod
    def fit(cls, name: str, values: pa.ChunkedArray, limit: int) -> CategoryCodec:
        """Count values [n]; at most ``limit`` of them get a code of their own."""
        array = arrays.texts(values, name)
        rows = max(len(array), 1)
        words, counts = _counted(array)
        remembered = [
            (word, count) for word, count in zip(words, counts, strict=True) if len(word) <= TEXT_LIMIT
        ][:VOCABULARY_LIMIT]
        top = remembered[:limit]
        shares = tuple(count / rows for _, count in top)
        once = sum(1 for _, count in remembered if count == 1)
        forgotten = sum(counts) - sum(count for _, count in remembered)  # unseen again each time they come
        rare = sum(count for _, count in remembered[limit:]) / rows
        vocabulary = tuple(word for word, _ in remembered)
        return cls(
            name,
            vocabulary,
            len(top),
            shares,
            rare,
            min(prior(once + forgotten, rows), 0.5),
            array.null_count / rows,
            rows,
            tuple(count for _, count in remembered[limit:]),
            once + forgotten,
        )

    def encode(self, values: pa.Array) -> tuple[Ints, Floats32]:
        """Values [n] to codes [n], and what each costs within its code [n], nats."""
        array = arrays.texts(values, self.name)
        place = self.places(array)
        null = np.asarray(pc.is_null(array).to_numpy(zero_copy_only=False), dtype=np.bool_)
        codes = np.where(null, NULL, self._codes[place])
        return codes, self._within(codes, place)

    def places(self, values: pa.Array | pa.ChunkedArray) -> Ints:
        """Places of values [n] in the vocabulary; -1 for null and for values that are not in it."""
        array = arrays.texts(values, self.name)
        places = pc.index_in(array, value_set=self._words.cast(array.type), skip_nulls=True)
        return np.asarray(pc.fill_null(places, -1).to_numpy(zero_copy_only=False), dtype=np.int64)

    def in_groups(self, groups: Ints) -> CategoryCodec:
        """The codec with a code for each of these groups of the values beyond the top; 0 is none."""
        if not groups.any():
            return self
        alone = sum(count for count, group in zip(self.counts, groups, strict=True) if not group)
        return replace(self, groups=tuple(groups.tolist()), rare=alone / self.rows)

    @cached_property
    def _words(self) -> pa.Array:
        return pa.array(self.vocabulary, pa.string())

    def _within(self, codes: Ints, place: Ints) -> Floats32:
        """Nats [n] that tell a value from the others of its code, 0 for the codes of one value.

        Rare values by their counts, those never seen by their novelty.
        """
        news = novelty(self.once, self.rows) + self.new_evidence
        costs = np.where(codes == UNSEEN, news, self._costs[place])
        return np.where(codes == NULL, self.within_null, costs).astype(np.float32)

    @property
    def within_null(self) -> float:
        """Nats that a null costs beyond its probability: where there never was one, it is new."""
        return 0.0 if self.nulls > 0 else novelty(0, self.rows) + self.null_evidence

    @property
    def is_closed(self) -> bool:
        """Whether a value never seen is news: none was seen once alone, or hardly ever."""
        return self.unseen <= max(HARDLY, prior(0, self.rows))

    @cached_property
    def _codes(self) -> Ints:
        """Code of each word of the vocabulary, then that of any other."""
        groups = np.asarray(self.groups or (0,) * len(self.counts), dtype=np.int64)
        beyond = np.where(groups > 0, RESERVED + self.n_top + groups - 1, RARE)
        return np.concatenate([np.arange(self.n_top) + RESERVED, beyond, [UNSEEN]])

    @cached_property
    def _costs(self) -> Floats:
        """Nats that tell each word from the others of its code; rare ones from one more than were seen."""
        codes = np.asarray((*self._codes[:-1], RARE))
        counts = np.asarray((*np.ones(self.n_top), *self.counts, 1.0))
        return np.asarray(np.log(np.bincount(codes, counts)[codes] / counts))

    @cached_property
    def n_groups(self) -> int:
        """Number of groups of rare values: each has a code, after those of the top values."""
        return max(self.groups, default=0)

    def words_of(self, group: int) -> list[tuple[str, int]]:
        """The words of a group, from 1 on, and how many rows each had; the commonest first."""
        beyond = zip(self.vocabulary[self.n_top :], self.counts, self.groups, strict=True)
        return [(word, count) for word, count, found in beyond if found == group]

    @property
    def size(self) -> int:
        """Number of codes."""
        return RESERVED + self.n_top + self.n_groups

    @property
    def priors(self) -> tuple[float | None, float | None, float | None]:
        """Fixed probabilities of null, unseen and rare; None where training rows teach it."""
        null = None if self.nulls > 0 else prior(0, self.rows)
        rare = None if self.rare > 0 else prior(0, self.rows)
        return null, self.unseen, rare

    def share_of(self, codes: Ints) -> Floats:
        """How common each code [n] was in training, as a share of rows."""
        return self._shares[codes]

    @cached_property
    def _shares(self) -> Floats:
        of_groups = np.bincount(self.groups, self.counts)[1:] / self.rows if self.groups else ()
        return np.asarray([self.nulls, 0.0, self.rare, *self.shares, *of_groups])

    def likeliest(self, probabilities: Floats) -> list[str | None]:
        """The likeliest value of each row of probabilities [n, size]; None where that is null."""
        chances = probabilities.copy()
        chances[:, [UNSEEN, RARE]] = 0.0
        chances[:, RESERVED:] *= np.exp(-self._costs[self._first])
        return [
            None if code < RESERVED else self.vocabulary[self._first[code - RESERVED]]
            for code in chances.argmax(axis=1)
        ]

    @cached_property
    def _first(self) -> list[int]:
        """Place of the commonest word of each code, top values and groups."""
        leaders = [self.n_top + self.groups.index(group) for group in range(1, self.n_groups + 1)]
        return [*range(self.n_top), *leaders]

    @property
    def names(self) -> list[str]:
        """What people call each code [size]."""
        words = [self.vocabulary[place] for place in self._first]
        groups = [f"one like {word}" for word in words[self.n_top :]]
        return ["null", "a new value", "a rare value", *words[: self.n_top], *groups]


def _counted(array: pa.Array) -> tuple[list[str], list[int]]:
    """Values and counts, commonest first, equals in the order of their text."""
    counted = pc.value_counts(array.drop_null())
    words, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
    order = sorted(range(len(words)), key=lambda i: (-counts[i], words[i]))
    return [words[i] for i in order], [counts[i] for i in order]
