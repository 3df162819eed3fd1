"""Training that is killed goes on where it was."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from vae_core import ModelFileError, VAEDetector
from vae_core.checkpoint import Checkpoint, Standing
from vae_core.training import EpochRecord

SETTINGS = {
    "n_members": 3,
    "hidden_dims": (16,),
    "max_epochs": 3,
    "max_steps": 30,
    "random_state": 0,
    "device": "cpu",
}


@pytest.fixture
def table(table: pa.Table) -> pa.Table:
    """Return few rows of each kind of column."""
    return table.slice(0, 300)


@pytest.fixture(autouse=True)
def _every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write after each epoch; ten seconds are longer than these trainings."""
    monkeypatch.setattr(Checkpoint, "due", lambda self: True)


def killed_at(epoch: int, detector: VAEDetector, rows: pa.Table, folder: Path) -> None:
    """Fit in a child process that is killed with signal 9 as soon as an epoch is over."""
    child = os.fork()
    if not child:
        detector.fit(rows, checkpoint=folder, on_epoch=lambda record, _: _die(record.epoch == epoch))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def _die(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)


def interrupted(detector: VAEDetector, rows: pa.Table, folder: Path) -> None:
    """Fit and stop in the second epoch, leaving the state of the first two."""

    def stop(record: EpochRecord, _: int) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.fit(rows, checkpoint=folder, on_epoch=stop)


def same(one: VAEDetector, other: VAEDetector) -> bool:
    """Tell whether weights, history and thresholds are equal, bit for bit."""
    weights = [detector.model_.state_dict() for detector in (one, other)]
    return (
        all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        and one.history_ == other.history_
        and one.offset_ == other.offset_
    )


@pytest.mark.parametrize(("patience", "epochs"), [(None, (2, 3, 5)), (1, (2, 4))])
def test_a_killed_training_ends_as_an_undisturbed_one(
    table: pa.Table, tmp_path: Path, patience: int | None, epochs: tuple[int, ...]
) -> None:
    """Killed in either phase or between them, it has the same history and the same weights bit for bit."""
    settings = {**SETTINGS, "patience": patience}
    whole = VAEDetector(**settings).fit(table)

    for epoch in (epoch for epoch in epochs if epoch < len(whole.history_)):
        killed_at(epoch, VAEDetector(**settings), table, tmp_path / "kept")
        detector = VAEDetector(**settings).fit(table, checkpoint=tmp_path / "kept")

        assert same(detector, whole)
        assert detector.resumed_epochs_ == epoch
        assert not (tmp_path / "kept").exists()


def test_a_training_may_be_killed_again_and_again(table: pa.Table, tmp_path: Path) -> None:
    """Each child goes on from the one before it, and the callback hears every epoch from the first on."""
    whole = VAEDetector(**SETTINGS).fit(table)
    for epoch in range(2, len(whole.history_), 2):
        killed_at(epoch, VAEDetector(**SETTINGS), table, tmp_path)
    heard: list[EpochRecord] = []

    detector = VAEDetector(**SETTINGS).fit(
        table, checkpoint=tmp_path, on_epoch=lambda record, _: heard.append(record)
    )

    assert same(detector, whole)
    assert heard == whole.history_


@pytest.mark.parametrize("other", [{"random_state": 1}, {"hidden_dims": (8,)}, {"rows": 299}])
def test_the_state_of_another_training_is_not_taken_up(
    table: pa.Table, tmp_path: Path, other: dict[str, object]
) -> None:
    """Other rows, another seed or other parameters start from the beginning."""
    interrupted(VAEDetector(**SETTINGS), table, tmp_path)
    rows = table.slice(0, int(other.get("rows", table.num_rows)))
    settings = {**SETTINGS, **{name: value for name, value in other.items() if name != "rows"}}

    detector = VAEDetector(**settings).fit(rows, checkpoint=tmp_path)

    assert detector.resumed_epochs_ == 0
    assert same(detector, VAEDetector(**settings).fit(rows))


@pytest.mark.parametrize("harm", ["garbage", "cut", "edited"])
def test_a_spoiled_state_is_not_taken_up(table: pa.Table, tmp_path: Path, harm: str) -> None:
    """A file that is not whole, or not what was written, is as none."""
    interrupted(VAEDetector(**SETTINGS), table, tmp_path)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes({"garbage": b"x" * 100, "cut": data[: len(data) // 2], "edited": bytes(data)}[harm])

    detector = VAEDetector(**SETTINGS).fit(table, checkpoint=tmp_path)

    assert detector.resumed_epochs_ == 0
    assert same(detector, VAEDetector(**SETTINGS).fit(table))


def test_what_is_kept_holds_no_code(table: pa.Table, tmp_path: Path) -> None:
    """Files are safetensors: a JSON header whose length comes first, then plain numbers."""
    interrupted(VAEDetector(**SETTINGS), table, tmp_path)
    (path,) = tmp_path.iterdir()

    data = path.read_bytes()

    assert path.name == "trimmed.training.safetensors"
    assert data[8:9] == b"{"
    assert data[8 : 8 + int.from_bytes(data[:8], "little")].rstrip().endswith(b"}")


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    """Only what was kept is removed."""
    checkpoint = Checkpoint(tmp_path)
    checkpoint.keep("all", "run", Standing({"done": 1}, {"x": torch.arange(3)}))
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")

    found = checkpoint.standing("all", "run")
    checkpoint.clear()

    assert found is not None
    assert (found.facts, found.tensors["x"].tolist()) == ({"done": 1}, [0, 1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_written_is_named(table: pa.Table, tmp_path: Path) -> None:
    """The sentence says which, why, and what to do."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")

    with pytest.raises(ModelFileError, match=r"file must be a folder that training can keep its state in"):
        VAEDetector(**SETTINGS).fit(table, checkpoint=tmp_path / "file")
