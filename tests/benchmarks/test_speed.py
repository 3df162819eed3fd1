"""A tiny run of the speed benchmark: that it still runs, and that its figures are what they say."""

import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.speed import parts
from benchmarks.speed.command import main
from benchmarks.speed.data import Table, batch, schema
from benchmarks.speed.goals import Figure, Part, nested
from benchmarks.speed.memory import peak
from benchmarks.speed.pairs import Rounds
from benchmarks.speed.parts import Bench
from benchmarks.speed.rules import suite
from benchmarks.speed.start import _Clock
from flows.expectations import bad_rows, row_rules


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Sizes that take seconds; models are fitted once."""
    return Bench(3_000, 1, tmp_path_factory.mktemp("speed"), shards=2, sampled=1_000, group=2_000, texts=20)


def test_the_table_has_its_33_columns_and_is_written_once(tmp_path: Path) -> None:
    """24 doubles, 4 texts, 2 integers, a truth value, a time, an id; a second call leaves the file alone."""
    (file,) = Table(tmp_path, 1_000).files()
    first = file.stat().st_mtime_ns
    table = pq.read_table(Table(tmp_path, 1_000).files()[0])

    assert table.schema == schema()
    assert table.shape == (1_000, 33)
    assert file.stat().st_mtime_ns == first
    assert len(set(table.column("id").to_pylist())) == 1_000


def test_every_row_of_the_table_keeps_all_60_rules() -> None:
    """Else the benchmark would measure quarantine."""
    rows = batch(0, 5_000, np.random.default_rng(0))
    rules = row_rules(suite(), rows.schema)

    assert len(rules) == 60
    assert not pa.compute.any(bad_rows(rules, rows)[0]).as_py()


def test_ratios_are_medians_of_pairs() -> None:
    """3, 2 and 10 times as much as the two others together."""
    rounds = Rounds({"a": [6.0, 4.0, 20.0], "b": [1.0, 1.0, 1.0], "c": [1.0, 1.0, 1.0]})

    assert rounds.ratio("a", "b", "c") == 3.0


def test_a_figure_knows_its_goal_and_its_place() -> None:
    """At most or at least; a dot leads into a nested object."""
    figures = [Figure("a.b", "x", 1.2, 1.15), Figure("a.c", "y", 7.0, 6.5, most=False), Figure("d", "z", 1.0)]

    assert [figure.met for figure in figures] == [False, True, None]
    assert nested(figures) == {"a": {"b": 1.2, "c": 7.0}, "d": 1.0}


def test_scoring_is_measured_over_its_floors(bench: Bench) -> None:
    """Both models; every stage of the profile took time: its functions still have these names."""
    part = parts.scoring(bench)

    assert [figure.key for figure in part.figures] == ["score_over_floor", "score_over_floor_ensemble"]
    assert all(figure.value > 1 for figure in part.figures)
    stages = {row[0]: float(row[1]) for row in part.tables["Where the time goes, single"][1:]}
    assert all(stages[name] > 0 for name in ("read", "cast", "encode and score", "write"))


def test_peers_flag_rows_of_the_same_table(bench: Bench) -> None:
    """Each reads Parquet and leaves Parquet; all are measured."""
    part = parts.peers(bench)

    assert {"pyod32_over_ours", "pyod8192_over_ours", "pandas_over_ours"} <= set(nested(part.figures))
    assert pq.read_metadata(bench.scratch / "flagged.parquet").num_rows == pytest.approx(10, abs=40)


def test_memory_is_that_of_a_process_of_its_own(bench: Bench) -> None:
    """All rows are scored as often as their file is listed."""
    bench.ours("single")
    found = peak(bench.folder / "single-model", bench.table.files(), bench.scratch, workers=1, times=2)

    assert found.rows == 2 * bench.rows
    assert found.bytes > 100 * 2**20


def test_the_command_writes_page_and_figures(bench: Bench, tmp_path: Path) -> None:
    """Figures by their names, with machine and load; parts that were measured before stay."""
    before = Part([Figure("rules_share", "rules", 0.1, 0.2)], {"T": [["a"], ["b"]]}, [], [1.0, 1.0])
    kept = {"rows": 3_000, "parts": {"rules": before.to_json()}}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "speed.json").write_text(json.dumps(kept))
    line = ["--rows", "3000", "--rounds", "1", "--parts", "workers", "--out", str(tmp_path)]
    main([*line, "--cache", str(bench.folder)])

    found = json.loads((tmp_path / "results" / "speed.json").read_text())
    page = (tmp_path / "speed.md").read_text()
    assert found["two_workers_speedup"] > 0
    assert found["rules_share"] == 0.1
    assert {"machine", "load", "rows", "versions"} <= set(found)
    assert "make bench-speed ARGS='--rows 3000" in page
    assert "| rules | 0.1 | ≤ 0.2 | met |" in page


def test_a_clock_tells_blocks_from_those_within_them() -> None:
    """The outer block has what the inner one leaves; together they are the whole."""
    clock = _Clock()
    began = time.process_time()
    with clock.of("outer"):
        with clock.of("inner"):
            sum(range(2_000_000))
        sum(range(1_000_000))
    whole = time.process_time() - began

    assert clock.seconds["inner"] > clock.seconds["outer"] > 0
    assert sum(clock.seconds.values()) == pytest.approx(whole, rel=0.1)
