"""Pictures are whole, say what they show, and can be drawn of anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.figures import MAX_DOTS, loss_curve, night, planted_errors, score_histogram

PNG = b"\x89PNG\r\n\x1a\n"


def history(epochs: int) -> list[dict[str, float]]:
    """Make the record of a training run whose held-out loss falls and rises again."""
    return [
        {
            "epoch": epoch,
            "train_loss": 20.0 / epoch,
            "validation_loss": 20.0 / epoch + 0.1 * epoch,
            "train_reconstruction": 15.0 / epoch,
            "train_kl": 0.1 * epoch,
            "beta": min(epoch / 10, 1.0),
            "phase": "trimmed" if epoch < 5 else "all",
            "learning_rate": 1e-3,
        }
        for epoch in range(1, epochs + 1)
    ]


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Read a picture [height, width, 4]."""
    from matplotlib.image import imread

    assert path.read_bytes().startswith(PNG)
    return np.asarray(imread(path))


def red(path: Path) -> int:
    """Count the pixels in the colour of anomalies."""
    colours = pixels(path)[:, :, :3]
    return int((np.abs(colours - np.array([0xD1, 0x44, 0x0C]) / 255).max(axis=2) < 0.02).sum())


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_a_loss_curve_can_be_drawn_from_the_first_epoch_on(tmp_path: Path, epochs: int) -> None:
    loss_curve(history(epochs), tmp_path / "loss.png")

    assert pixels(tmp_path / "loss.png").shape == (672, 1260, 4)


@pytest.mark.parametrize(
    "scores", [[], [1.0], [1.0, 1.0, 1.0], [0.0, np.nan, np.inf, -np.inf], [-9.0, -8.5, 40.0]]
)
def test_a_histogram_can_be_drawn_of_any_scores(tmp_path: Path, scores: list[float]) -> None:
    score_histogram(np.array(scores), 3.0, tmp_path / "scores.png")

    assert pixels(tmp_path / "scores.png").shape == (672, 1260, 4)


def test_rows_beyond_the_threshold_stand_out_in_a_histogram(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=1000)

    score_histogram(scores, 0.0, tmp_path / "half.png")
    score_histogram(scores, 9.0, tmp_path / "none.png")

    assert red(tmp_path / "half.png") > 10 * red(tmp_path / "none.png")


def test_a_night_shows_its_anomalies_and_their_names(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).gamma(2.0, size=900)
    scores[[4, 300, 301]] = [12.0, 15.0, 14.0]

    night(scores, 11.0, tmp_path / "bare.png", title="orders, 6 July", names={})
    night(scores, 11.0, tmp_path / "named.png", title="orders, 6 July", names={300: "order 17", 4: "order 3"})
    night(scores, 99.0, tmp_path / "calm.png", title="orders, 6 July", names={})

    assert red(tmp_path / "bare.png") > red(tmp_path / "calm.png")
    assert not np.array_equal(pixels(tmp_path / "bare.png"), pixels(tmp_path / "named.png"))


@pytest.mark.parametrize("rows", [0, 1, MAX_DOTS * 3])
def test_a_night_of_any_size_can_be_drawn(tmp_path: Path, rows: int) -> None:
    night(np.zeros(rows), 1.0, tmp_path / "night.png", title="orders", names={})

    assert pixels(tmp_path / "night.png").shape == (672, 1260, 4)


def test_the_same_night_gives_the_same_picture(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).gamma(2.0, size=MAX_DOTS * 2)

    for name in ("one.png", "two.png"):
        night(scores, 9.0, tmp_path / name, title="orders", names={})

    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("kinds", [0, 1, 10])
def test_planted_errors_of_any_number_of_kinds_can_be_drawn(tmp_path: Path, kinds: int) -> None:
    shares = {f"kind_{i}": {"VAE": 0.9, "PCA": 0.5, "Isolation Forest": 0.0} for i in range(kinds)}

    planted_errors(shares, tmp_path / "planted.png", planted=kinds * 500, flagged=0.005)

    assert pixels(tmp_path / "planted.png").shape == (672, 1260, 4)


def test_importing_figures_does_not_import_matplotlib() -> None:
    command = [sys.executable, "-c", "import sys, flows.figures; print('matplotlib' in sys.modules)"]

    answer = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )

    assert answer.stdout == "False\n"
