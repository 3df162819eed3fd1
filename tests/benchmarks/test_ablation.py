"""Tables of the ablation and of the mixed sets."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.ablation import DEFAULT, VARIANTS, difference_grid
from benchmarks.mixed import mixed_tasks
from benchmarks.protocol import Task
from vae_core import VAEDetector


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_parameters_of_the_detector(name: str) -> None:
    """Each variant makes a detector, and only the default changes nothing."""
    variant = VARIANTS[name]
    assert VAEDetector(**variant.parameters)
    assert bool(variant.parameters or variant.parts) == (name != DEFAULT)


def test_variants_are_shown_as_differences_from_the_default() -> None:
    """Two sets of one group: means of 80 and 70; the variant is 5 above and 10 below."""
    frame = pd.DataFrame(
        {
            "protocol": "S",
            "seed": 0,
            "dataset": ["a", "b"] * 2,
            "method": [DEFAULT] * 2 + ["other"] * 2,
            "auroc": [75.0, 85.0, 80.0, 90.0],
            "aucpr": [60.0, 80.0, 50.0, 70.0],
            "fit_seconds": [1.0, 1.0, 2.0, 2.0],
        }
    )

    grid = difference_grid(frame, {"numeric": [Task("a", Path("a")), Task("b", Path("b"))], "mixed": []})

    assert grid == [
        ["variant", "numeric, S", "fit CPU-s, median"],
        [DEFAULT, "80.0 / 70.0", "1.00"],
        ["other", "+5.0 / -10.0", "2.00"],
    ]


def test_mixed_sets_are_split_as_they_are_meant(shared_data: Path) -> None:
    """nsl_kdd trains on another file; identifiers of ai4i2020 are keys."""
    tasks = {task.name: task for task in mixed_tasks(shared_data / "labelled", ["*"])}
    case = tasks["nsl_kdd"].case("S", seed=0, limit=1000)

    assert list(tasks) == ["nsl_kdd", "kdd99_http", "kdd99_smtp", "ai4i2020"]
    assert (case.train.num_rows, case.test.num_rows) == (1000, 1000)
    assert set(tasks["ai4i2020"].kinds) == {"UDI", "Product ID"}


def test_absent_mixed_sets_are_named(tmp_path: Path) -> None:
    """The sentence names the folder and the files."""
    with pytest.raises(SystemExit, match=r"must hold kdd99_smtp\.parquet"):
        mixed_tasks(tmp_path, ["kdd99_smtp"])
