"""The ensemble: which members learn from what."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from vae_core import VAEDetector
from vae_core.ensemble import MANY, Members, usual_steps
from vae_core.modules import VAE


@pytest.fixture(scope="module")
def contaminated() -> pa.Table:
    """Return 1,500 ordinary rows, then 100 that lie together elsewhere."""
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(size=(1500, 5)), random.normal(4.0, 0.2, size=(100, 5))])
    return pa.table({name: values[:, i] for i, name in enumerate("abcde")})


@pytest.mark.parametrize("total", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("training_data", ["auto", "clean", "contaminated"])
@pytest.mark.parametrize("is_mixed", [True, False])
def test_members_add_up(total: int, training_data: str, is_mixed: bool) -> None:
    """Whatever the training rows are taken for, there are as many members as were asked for."""
    members = Members.of(total, training_data, 1000, is_mixed)

    assert members.trimmed + members.every + members.kept == total


def test_clean_rows_and_very_many_rows_are_not_trimmed() -> None:
    """All members learn from all rows, unless it is said that these are contaminated."""
    assert Members.of(8, "clean", 100, True) == Members.of(8, "auto", MANY, True) == Members(0, 8, 0)
    assert Members.of(8, "contaminated", MANY, False) == Members(4, 0, 4)


def test_the_only_member_of_contaminated_rows_trims() -> None:
    """Said to be contaminated, rows are never all learned from, however few members there are."""
    assert Members.of(1, "contaminated", 100, True) == Members(1, 0, 0)
    assert Members.of(2, "contaminated", 100, True) == Members(1, 0, 1)


@pytest.mark.parametrize("preset", ["default", "textbook"])
def test_a_single_member_is_trained_on_trimmed_batches(contaminated: pa.Table, preset: str) -> None:
    """All epochs are trimmed ones, as many as were foretold, and more of the cluster is flagged."""
    heard: list[int] = []
    asked = {"preset": preset, "n_members": 1, "random_state": 0}
    clean = VAEDetector(training_data="clean", **asked).fit(contaminated)

    detector = VAEDetector(training_data="contaminated", **asked).fit(
        contaminated, on_epoch=lambda record, total: heard.append(total)
    )

    assert {record.phase for record in detector.history_} == {"trimmed"}
    assert set(heard) == {len(heard)}
    trimmed, copied = (np.sum(d.predict(contaminated)[1500:] == -1) for d in (detector, clean))
    assert trimmed > copied


def test_many_rows_are_trained_on_for_longer_unless_contaminated() -> None:
    """It depends on the number of rows, and on what is said of them."""
    few, many = usual_steps(MANY - 1, "auto"), usual_steps(MANY, "auto")
    assert many == usual_steps(MANY, "clean") == 3 * few
    assert usual_steps(MANY, "contaminated") == usual_steps(100, "clean") == few


def test_rows_that_may_be_clean_are_set_aside_in_mixed_tables_alone() -> None:
    """Of numbers, what lies apart is as often ordinary: a quarter of the members trims, no more."""
    assert Members.of(8, "auto", MANY - 1, True) == Members(2, 4, 2)
    assert Members.of(8, "auto", MANY - 1, False) == Members(2, 6, 0)
    assert Members.of(2, "auto", 100, True) == Members.of(2, "auto", 100, False) == Members(1, 1, 0)


def test_self_cleaning_sets_a_cluster_of_anomalies_aside(contaminated: pa.Table) -> None:
    """The far cluster is set aside, told by row numbers, and scores above all other rows."""
    detector = VAEDetector(training_data="contaminated", random_state=0).fit(contaminated)

    assert np.mean(detector.set_aside_ >= 1500) > 0.7
    assert len(detector.set_aside_) >= 90
    scores = detector.score_samples(contaminated)
    assert scores[1500:].max() < np.quantile(scores[:1500], 0.05)


def test_training_data_called_clean_is_learned_whole(contaminated: pa.Table) -> None:
    """Nothing is set aside, no epoch is trimmed, and the cluster counts as ordinary sooner."""
    clean = VAEDetector(training_data="clean", random_state=0).fit(contaminated)
    auto = VAEDetector(random_state=0).fit(contaminated)

    assert not len(clean.set_aside_)
    assert {record.phase for record in clean.history_} == {"all"}
    assert {record.phase for record in auto.history_} == {"trimmed", "all"}
    rank = [np.mean(np.argsort(np.argsort(d.score_samples(contaminated)))[1500:]) for d in (auto, clean)]
    assert rank[0] < rank[1]


def test_epochs_are_numbered_through_all_phases(contaminated: pa.Table) -> None:
    """The callback hears every epoch once, in order, and from the first on how many there will be."""
    heard: list[tuple[int, int]] = []

    detector = VAEDetector(random_state=0, max_epochs=4).fit(
        contaminated, on_epoch=lambda record, total: heard.append((record.epoch, total))
    )

    assert heard == [(epoch, 8) for epoch in range(1, 9)]
    assert [record.epoch for record in detector.history_] == list(range(1, 9))


def test_joined_members_are_what_they_were(contaminated: pa.Table) -> None:
    """One model of two models' members gives each member's output unchanged."""
    detector = VAEDetector(random_state=0, max_epochs=1).fit(contaminated)
    rows = detector.encoder_.encode(contaminated.slice(0, 64))
    parts = [
        VAE(detector.encoder_.layout, (16,), 3, members, 0.05, seed) for members, seed in ((2, 1), (1, 2))
    ]

    whole = VAE.joined(parts)

    assert whole.n_members == 3
    together = whole.encode(rows).mean
    apart = torch.cat([part.encode(rows).mean for part in parts])
    torch.testing.assert_close(together, apart)


def test_trimmed_members_vote_with_variance_one(contaminated: pa.Table) -> None:
    """The variances that a short training brought are gone; those of long-trained members stay."""
    detector = VAEDetector(random_state=0, max_epochs=2).fit(contaminated)
    rows = detector.encoder_.encode(contaminated.slice(0, 64))

    variances = detector.model_.decode(detector.model_.encode(rows).mean).log_variance

    assert (variances[6:] == 0).all()
    assert (variances[:6] != 0).all()


def test_rows_known_to_be_normal_are_never_set_aside(contaminated: pa.Table) -> None:
    """However odd they look; anything but a mask of the rows is refused."""
    far = np.arange(contaminated.num_rows) >= 1500
    detector = VAEDetector(training_data="contaminated", random_state=0, max_steps=300).fit(
        contaminated, normal=far
    )

    assert not (detector.set_aside_ >= 1500).any()
    with pytest.raises(
        ValueError, match="normal must be booleans, one for each of 1600 rows, however it is int64"
    ):
        VAEDetector().fit(contaminated, normal=far.astype(np.int64))
