"""The quality benchmark from the command line to its files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.figures import duels
from benchmarks.methods import Ours
from benchmarks.protocol import Task
from benchmarks.quality import main
from benchmarks.running import Job


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A numeric table and one with strings and nulls, 60 rows each, the last six far away."""
    far = np.arange(60) >= 54
    numbers = np.random.default_rng(0).normal(size=(60, 2)) + 9.0 * far[:, None]
    words = np.where(far, None, np.tile(["a", "b"], 30)).tolist()
    folder = tmp_path_factory.mktemp("benchmark") / "sets"
    folder.mkdir()
    plain = {"x": numbers[:, 0], "y": numbers[:, 1], "label": far.astype(np.int8)}
    pq.write_table(pa.table(plain), folder / "plain.parquet")
    pq.write_table(pa.table({**plain, "word": words}), folder / "mixed.parquet")
    return folder


@pytest.fixture(scope="module")
def out(sets: Path) -> Path:
    """The folder of results after a run over both sets."""
    _run(sets)
    return sets.parent


def _run(sets: Path, *more: str) -> None:
    out = sets.parent
    places = ["--data", str(sets), "--out", str(out), "--cache", str(out / "cache")]
    main([*places, "--methods", "ours", "ecod", "--seeds", "1", *more])


def test_figures_have_the_names_that_are_promised(out: Path) -> None:
    """By protocol and method; the sets, the seeds, the duels."""
    figures = json.loads((out / "results" / "quality.json").read_text())

    assert figures["datasets"] == ["mixed", "plain"]
    assert figures["seeds"] == [0]
    assert figures["failures"] == []
    for protocol in ("S", "U"):
        assert {"auroc", "aucpr"} <= figures[protocol]["ours"].keys()
        assert figures[protocol]["ECOD"]["auroc"] > 90
        assert sum(figures["wins_ties_losses"][protocol]["ECOD"]["auroc"]) == 2


def test_a_second_run_fits_nothing_and_writes_the_same(
    sets: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sets, two protocols, two methods: eight fits, all of them kept."""
    first = (out / "results" / "quality.json").read_text()

    _run(sets)

    assert "0 fits to do, 8 kept" in capsys.readouterr().out
    assert (out / "results" / "quality.json").read_text() == first


def test_a_lost_fit_is_done_again(sets: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was killed goes on with what is missing."""
    next((out / "cache").glob("plain.0.S.ECOD.*.json")).unlink()

    _run(sets)

    assert "1 fits to do, 7 kept" in capsys.readouterr().out


def test_the_page_holds_means_duels_and_every_set(out: Path) -> None:
    """The Markdown page names both protocols and, under each, both sets."""
    page = (out / "quality.md").read_text()

    heads = [line.split(":")[0] for line in page.splitlines() if line.startswith("## ")]
    duels = "## Sets won - tied (within 0.1 points) - lost"
    assert heads == ["## Means", duels, "## S", "## U", "## How"]
    assert page.count("| plain |") == page.count("| mixed |") == 2


def test_a_method_that_fails_is_counted_as_chance(sets: Path) -> None:
    """AUROC 50, average precision the share of anomalies, and the reason."""
    job = Job(Task("plain", sets / "plain.parquet"), 0, "U", Ours("wrong", {"latent_dim": 0}), 1000)

    outcome = job.outcome()

    assert (outcome.auroc, outcome.aucpr) == (50.0, pytest.approx(10.0))
    assert outcome.failure
    assert "latent_dim must be at least 1" in outcome.failure


def test_other_parameters_data_and_limits_are_other_fits(sets: Path) -> None:
    """The name under which a fit is kept depends on all that it depends on."""
    plain, mixed = (Task(name, sets / f"{name}.parquet") for name in ("plain", "mixed"))
    jobs = [
        Job(plain, 0, "S", Ours(), 1000),
        Job(plain, 1, "S", Ours(), 1000),
        Job(plain, 0, "U", Ours(), 1000),
        Job(plain, 0, "S", Ours(), 50),
        Job(plain, 0, "S", Ours(parameters={"beta": 1.0}), 1000),
        Job(mixed, 0, "S", Ours(), 1000),
    ]

    names = [job.file_name() for job in jobs]

    assert len(set(names)) == len(jobs)
    assert Job(plain, 0, "S", Ours(), 1000).file_name() == names[0]


def test_a_tenth_of_a_point_is_a_tie() -> None:
    """Won by 0.2, tied at 0.05, lost by 5."""
    peer, ours = [80.0, 80.0, 80.0], [80.2, 80.05, 75.0]
    frame = pd.DataFrame(
        {
            "protocol": "S",
            "seed": 0,
            "dataset": list("abc") * 2,
            "method": ["ours"] * 3 + ["KNN"] * 3,
            "auroc": ours + peer,
            "aucpr": peer + peer,
        }
    )

    assert duels(frame) == {"S": {"KNN": {"auroc": [1, 1, 1], "aucpr": [0, 3, 0]}}}


def test_an_unknown_method_is_an_error_that_lists_the_known(sets: Path) -> None:
    """The names that may be given are in the sentence."""
    with pytest.raises(SystemExit, match="must be among ours KNN LOF"):
        _run(sets, "--methods", "oars")
