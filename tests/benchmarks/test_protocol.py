"""What is trained on and what is tested: S, U, labels, limits."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.protocol import Task, clean_split, read_set, subsample, tasks_of, verdict

LABELS = np.arange(200) % 10 == 0


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """200 rows that hold their number; every tenth is an anomaly."""
    file = tmp_path / "numbered.parquet"
    pq.write_table(pa.table({"number": np.arange(200), "label": LABELS.astype(np.int8)}), file)
    return file


def _numbers(table: pa.Table) -> set[int]:
    return set(table.column("number").to_pylist())


def test_clean_training_holds_half_of_the_normals_and_no_anomaly(numbered: Path) -> None:
    """S trains on 90 of the 180 normal rows; the other 90 and all 20 anomalies are tested."""
    case = Task("numbered", numbered).case("S", seed=0, limit=1000)

    assert [number for number in _numbers(case.train) if number % 10 == 0] == []
    assert (case.train.num_rows, case.test.num_rows, case.labels.sum()) == (90, 110, 20)


def test_tested_rows_are_disjoint_from_trained_ones_and_labels_stay_with_their_rows(numbered: Path) -> None:
    """Under S no row is in both tables, and none is lost."""
    case = Task("numbered", numbered).case("S", seed=3, limit=1000)

    assert _numbers(case.train) & _numbers(case.test) == set()
    assert _numbers(case.train) | _numbers(case.test) == set(range(200))
    assert case.labels.tolist() == [number % 10 == 0 for number in case.test["number"].to_pylist()]


def test_contaminated_training_is_on_the_tested_rows(numbered: Path) -> None:
    """Under U all rows are trained on, without the label, and the same are tested."""
    case = Task("numbered", numbered).case("U", seed=0, limit=1000)

    assert case.is_same_rows
    assert case.train.column_names == ["number"]
    assert case.train.num_rows == 200


def test_a_training_file_of_its_own_gives_its_normals(numbered: Path, tmp_path: Path) -> None:
    """Under S the normals of the training file are trained on, all of the other file is tested."""
    training = tmp_path / "training.parquet"
    pq.write_table(pa.table({"number": np.arange(500, 510), "label": [0, 1] * 5}), training)

    case = Task("pair", numbered, training).case("S", seed=0, limit=1000)

    assert _numbers(case.train) == {500, 502, 504, 506, 508}
    assert _numbers(case.test) == set(range(200))


def test_seeds_draw_other_halves_and_one_seed_the_same(numbered: Path) -> None:
    """The split depends on the seed alone."""
    task = Task("numbered", numbered)
    first, again, other = (_numbers(task.case("S", seed, 1000).train) for seed in (0, 0, 1))

    assert first == again
    assert first != other


def test_a_limit_keeps_the_share_of_anomalies() -> None:
    """100 of 200 rows hold 10 of 20 anomalies; of rare ones, one stays."""
    kept = subsample(LABELS, 100, np.random.default_rng(0))
    rare = subsample(np.arange(10_000) == 7, 50, np.random.default_rng(0))

    assert (kept.size, LABELS[kept].sum()) == (100, 10)
    assert (rare.size, 7 in rare) == (50, True)


def test_an_odd_normal_is_tested() -> None:
    """Of three normals one is trained on."""
    train, test = clean_split(np.array([False, True, False, False]), np.random.default_rng(0))

    assert (train.size, test.size) == (1, 3)


def test_auroc_and_average_precision_of_a_case_done_by_hand() -> None:
    """Anomalies in places 1 and 3 of 4: three of four pairs are in order; precisions 1 and 2/3."""
    auroc, aucpr = verdict(np.array([True, False, True, False]), np.array([0.9, 0.5, 0.4, 0.1]))

    assert auroc == pytest.approx(75.0)
    assert aucpr == pytest.approx(100 * (1 + 2 / 3) / 2)


@pytest.mark.parametrize("labels", [[0, 1, 0], [0.0, 1.0, 0.0], [False, True, False], ["0", "1", "0"]])
def test_labels_of_any_type_are_read(tmp_path: Path, labels: list[object]) -> None:
    """Integers, floats, truth values and digits mean the same."""
    pq.write_table(pa.table({"x": [1, 2, 3], "label": labels}), tmp_path / "set.parquet")

    rows, found = read_set(tmp_path / "set.parquet")

    assert rows.column_names == ["x"]
    assert found.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"x": [1, 2, 3]}, "must have a column 'label'"),
        ({"x": [1, 2, 3], "label": [0, 2, 1]}, "must be 0 or 1"),
        ({"x": [1, 2, 3], "label": [0, None, 1]}, "must be 0 or 1"),
        ({"x": [1, 2, 3], "label": [0, 0, 0]}, "must hold an anomaly and two normal rows"),
    ],
)
def test_a_file_that_is_no_labelled_set_is_named(
    tmp_path: Path, columns: dict[str, list[int]], part: str
) -> None:
    """The error is a sentence with the file's name."""
    pq.write_table(pa.table(columns), tmp_path / "set.parquet")

    with pytest.raises(SystemExit, match=rf"set\.parquet.*{part}"):
        read_set(tmp_path / "set.parquet")


def test_sets_are_chosen_by_pattern(numbered: Path) -> None:
    """A name may hold wildcards; a folder without a match is an error."""
    assert [task.name for task in tasks_of(numbered.parent, ["num*"])] == ["numbered"]
    with pytest.raises(SystemExit, match="none of its 1 Parquet files does"):
        tasks_of(numbered.parent, ["other"])
