"""The command line: quick to start, one sentence for each mistake, nothing half-written."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import main

DAYS = ["2024-03-01", "2024-03-02", "2024-03-03", "2024-03-04"]
PIPELINE = """
version: 1
name: orders
source: {path: landing, partition: dt}
output: results
columns: {key: [id]}
training: {window: 3d, calibration: 1d, detector: {max_steps: 30, n_members: 1}}
decision: {budget: 3}
"""
HEAVY = ("torch", "mlflow", "prefect", "great_expectations", "pandas")
VERBS = ["init", "check", "train", "score", "backfill", "diff", "redecide", "flags", "models"]
VERBS += ["schema", "deploy", "up", "demo"]


class Outcome(NamedTuple):
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


def orders(seed: int, rows: int = 300) -> pa.Table:
    """Return a small table."""
    rng = np.random.default_rng(seed)
    columns = {
        "id": np.arange(rows) + 1000 * seed,
        "amount": rng.normal(50.0, 5.0, rows),
        "shop": rng.choice(["Bern", "Basel"], rows),
    }
    return pa.table(columns)


def land(root: Path, day: str, table: pa.Table, name: str = "a.parquet") -> Path:
    """Let a file arrive."""
    file = root / "landing" / f"dt={day}" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file


def project(root: Path, text: str = PIPELINE) -> Path:
    """Write the settings of a project."""
    (root / "pipelines").mkdir(parents=True)
    (root / "pipelines" / "orders.yml").write_text(text)
    (root / "mlflow.yml").write_text("experiment: tests\n")
    return root


def written(root: Path) -> set[str]:
    """Return the names of all that a night brings, or leaves behind, below the output folder."""
    results = root / "results"
    return {str(file.relative_to(results)) for file in results.rglob("*") if file.is_file()} - kept_by_us(
        results
    )


def kept_by_us(results: Path) -> set[str]:
    """Return the names of what is kept beside the nights: leases, alerts, which model was live, triage."""
    folders = (results / name for name in (".leases", ".alerts", "journal", "triage"))
    return {str(file.relative_to(results)) for folder in folders for file in folder.rglob("*")}


@pytest.fixture
def vaewatch(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Return a function that runs a command in a folder, as the console script does."""

    def run(*words: str, cwd: Path = tmp_path) -> Outcome:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["vaewatch", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        code = end.value.code
        assert code is None or isinstance(code, int)
        return Outcome(code or 0, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Path:
    """Return a project with a champion that has seen three days of orders."""
    from flows.server import api
    from flows.train import train

    root = project(tmp_path_factory.mktemp("trained"))
    for seed, day in enumerate(DAYS[:3]):
        land(root, day, orders(seed))
    with api(root):
        train(str(root / "pipelines" / "orders.yml"), DAYS[2])
    return root


@pytest.fixture
def scored_into(trained: Path, tmp_path: Path) -> Path:
    """Return the trained project, its fourth night empty and its results away."""
    import shutil

    for folder in (trained / "results", trained / "landing" / f"dt={DAYS[3]}"):
        shutil.rmtree(folder, ignore_errors=True)
    return trained


def assert_one_sentence(outcome: Outcome, *parts: str) -> None:
    """Assert exit code 1 and exactly one line on stderr, which holds all parts."""
    assert outcome.code == 1, outcome
    assert re.fullmatch(r"vaewatch: [^\n]+\n", outcome.err), outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    for part in parts:
        assert part in outcome.err


def test_help_costs_less_than_half_a_second_of_processor_time() -> None:
    command = [Path(sys.executable).with_name("vaewatch"), "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    shown = subprocess.run(command, capture_output=True, text=True, check=True)

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"vaewatch --help: {seconds:.2f} CPU-seconds")
    assert seconds < 0.5
    assert set(VERBS) <= set(re.findall(r"^  (\w+) ", shown.stdout, re.MULTILINE))


def test_help_imports_nothing_heavy() -> None:
    """Each of these costs more than all else together."""
    program = (
        "import sys\n"
        "from flows.cli import main\n"
        "sys.argv = ['vaewatch', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stderr.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_line_to_paste(vaewatch: Callable[..., Outcome], verb: str) -> None:
    code, out, _ = vaewatch(verb, "--help")

    assert code == 0
    assert re.search(rf"^\s*vaewatch {verb}( .+)?$", out.replace("Usage: vaewatch", ""), re.MULTILINE)


def test_an_unknown_option_is_a_mistake_of_usage(vaewatch: Callable[..., Outcome]) -> None:
    assert vaewatch("score", "--dated", "2024-03-01").code == 2


def test_a_folder_without_pipelines_is_told_how_to_make_one(vaewatch: Callable[..., Outcome]) -> None:
    assert_one_sentence(vaewatch("models"), "a pipeline file was required", "vaewatch init PATH")


def test_several_pipelines_have_to_be_told_apart(vaewatch: Callable[..., Outcome], tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "pipelines" / "more.yml").write_text(PIPELINE.replace("orders", "more"))

    assert_one_sentence(vaewatch("models"), "orders.yml", "more.yml", "--pipeline")


def test_an_unknown_pipeline_file_is_named(vaewatch: Callable[..., Outcome]) -> None:
    assert_one_sentence(vaewatch("models", "--pipeline", "pipelines/gone.yml"), "pipelines/gone.yml")


def test_an_unknown_key_is_named_with_its_line(vaewatch: Callable[..., Outcome], tmp_path: Path) -> None:
    project(tmp_path, PIPELINE + "scheduel: {}\n")

    assert_one_sentence(vaewatch("score", "--date", DAYS[0]), "orders.yml", "line 9", "scheduel", "schedule")


@pytest.mark.parametrize("verb", ["flags", "score", "check"])
def test_a_date_in_another_order_is_shown(vaewatch: Callable[..., Outcome], trained: Path, verb: str) -> None:
    outcome = vaewatch(verb, "--date", "1/3/2024", cwd=trained)

    assert_one_sentence(outcome, "a date written YYYY-MM-DD was required, however '1/3/2024' came")


def test_flags_of_a_night_that_is_not_scored_say_how_to_score_it(
    vaewatch: Callable[..., Outcome], tmp_path: Path
) -> None:
    project(tmp_path)

    assert_one_sentence(vaewatch("flags", "--date", DAYS[0]), f"vaewatch score --date {DAYS[0]}")
    assert written(tmp_path) == set()


def test_the_schema_of_pipeline_files_is_json(vaewatch: Callable[..., Outcome]) -> None:
    code, out, err = vaewatch("schema")

    assert (code, err) == (0, "")
    assert "source" in json.loads(out)["properties"]


def test_a_missing_source_folder_is_named(
    vaewatch: Callable[..., Outcome], tmp_path: Path, prefect_server: str
) -> None:
    project(tmp_path)

    outcome = vaewatch("train", "--until", DAYS[2])

    assert_one_sentence(outcome, f"{tmp_path}/landing: a folder of Parquet files was required")
    assert written(tmp_path) == set()


def test_an_empty_source_folder_is_named(
    vaewatch: Callable[..., Outcome], tmp_path: Path, prefect_server: str
) -> None:
    (project(tmp_path) / "landing").mkdir()

    assert_one_sentence(vaewatch("train", "--until", DAYS[2]), f"{tmp_path}/landing", "it is empty")
    assert written(tmp_path) == set()


def test_a_training_file_that_is_no_parquet_is_named(
    vaewatch: Callable[..., Outcome], tmp_path: Path, prefect_server: str
) -> None:
    file = land(project(tmp_path), DAYS[2], orders(0))
    file.write_text("id,amount\n1,2\n")

    assert_one_sentence(vaewatch("train", "--until", DAYS[2]), str(file))
    assert written(tmp_path) == set()


def test_a_key_that_is_no_column_is_named(
    vaewatch: Callable[..., Outcome], tmp_path: Path, prefect_server: str
) -> None:
    land(project(tmp_path, PIPELINE.replace("key: [id]", "key: [order]")), DAYS[2], orders(0))

    assert_one_sentence(vaewatch("train", "--until", DAYS[2]), "order", "id, amount, shop")
    assert written(tmp_path) == set()


def test_a_detector_setting_that_does_not_exist_is_named(
    vaewatch: Callable[..., Outcome], tmp_path: Path, prefect_server: str
) -> None:
    land(project(tmp_path, PIPELINE.replace("max_steps", "max_stpes")), DAYS[2], orders(0))

    outcome = vaewatch("train", "--until", DAYS[2])

    assert_one_sentence(outcome, "orders.yml: training.detector names max_stpes (did you mean max_steps?)")


def test_training_says_how_many_planted_errors_the_model_finds(
    vaewatch: Callable[..., Outcome], tmp_path: Path, prefect_server: str
) -> None:
    for seed, day in enumerate(DAYS[:3]):
        land(project(tmp_path) if seed == 0 else tmp_path, day, orders(seed))

    code, out, _ = vaewatch("train", "--until", DAYS[2])

    assert code == 0
    assert re.search(
        r"^(The model finds fewer planted errors than|Of [\d,]+ planted errors VAE) .+\.$", out, re.MULTILINE
    )


def test_a_window_without_files_is_named(
    vaewatch: Callable[..., Outcome], tmp_path: Path, prefect_server: str
) -> None:
    land(project(tmp_path), DAYS[2], orders(0))

    assert_one_sentence(vaewatch("train", "--until", "2020-01-01"), "2019-12-30 to 2020-01-01", DAYS[2])


def test_without_a_champion_scoring_says_how_to_train_one(
    vaewatch: Callable[..., Outcome], tmp_path: Path, prefect_server: str
) -> None:
    land(project(tmp_path), DAYS[0], orders(0))

    outcome = vaewatch("score", "--date", DAYS[0])

    assert_one_sentence(outcome, "champion", f"vaewatch train --pipeline {tmp_path}/pipelines/orders.yml")
    assert written(tmp_path) == set()


def test_without_a_version_there_is_none_to_list_or_to_roll_back_to(
    vaewatch: Callable[..., Outcome], tmp_path: Path
) -> None:
    said = f"no model version yet: vaewatch train --pipeline {project(tmp_path)}/pipelines/orders.yml"

    listed = vaewatch("models")

    assert (listed.code, listed.out) == (0, f"orders has {said}\n")
    assert_one_sentence(vaewatch("rollback"), said)
    assert json.loads(vaewatch("models", "--json").out) == []


def test_a_process_of_its_own_says_no_more_than_that_sentence(tmp_path: Path, prefect_server: str) -> None:
    """Neither Prefect nor MLflow adds logs of their own."""
    land(project(tmp_path), DAYS[0], orders(0))
    command = [Path(sys.executable).with_name("vaewatch"), "score", "--date", DAYS[0]]

    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert_one_sentence(Outcome(ran.returncode, ran.stdout, ran.stderr), "champion", "vaewatch train")
    assert ran.stdout == ""


def test_a_night_that_has_not_arrived_is_named(vaewatch: Callable[..., Outcome], scored_into: Path) -> None:
    outcome = vaewatch("score", "--date", DAYS[3], cwd=scored_into)

    assert_one_sentence(outcome, f"files of {DAYS[3]} were required")
    assert written(scored_into) == set()


BAD_FILES = {
    "a missing column": (orders(9).drop_columns(["amount"]), "missing: amount"),
    "a renamed column": (orders(9).rename_columns(["id", "amounts", "shop"]), "new: amounts"),
    "a type that cannot be cast": (
        orders(9).set_column(1, "amount", pa.array([[1.0]] * 300)),
        "amount is list<",
    ),
    "text in a column of numbers": (
        orders(9).set_column(1, "amount", pa.array(["50"] * 300)),
        "amount is string, double was expected",
    ),
    "a name of ours": (orders(9).append_column("severity", pa.array(range(300))), "set `prefix`"),
}


@pytest.mark.parametrize(("table", "said"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_night_of_one_bad_file_is_rejected_in_one_sentence(
    vaewatch: Callable[..., Outcome], scored_into: Path, table: pa.Table, said: str
) -> None:
    """The report and the account are written; flags and scores are not."""
    file = land(scored_into, DAYS[3], table)

    outcome = vaewatch("score", "--date", DAYS[3], cwd=scored_into)

    assert_one_sentence(outcome, str(file), said)
    assert written(scored_into) - {name for name in written(scored_into) if name.startswith("docs/")} == {
        f"rejected/dt={DAYS[3]}/part-0.parquet",
        f"manifests/dt={DAYS[3]}.json",
    }


def test_a_check_says_of_each_file_why_it_cannot_be_read(
    vaewatch: Callable[..., Outcome], scored_into: Path
) -> None:
    file = land(scored_into, DAYS[3], orders(9).drop_columns(["amount"]))

    outcome = vaewatch("check", "--date", DAYS[3], cwd=scored_into)
    told = vaewatch("check", "--date", DAYS[3], "--json", cwd=scored_into)

    assert_one_sentence(outcome, f"vaewatch: {file}: ", "missing: amount")
    assert json.loads(told.out)["rejected"].keys() == {str(file)}


def test_flags_of_a_night_of_which_nothing_could_be_scored_say_why(
    vaewatch: Callable[..., Outcome], scored_into: Path
) -> None:
    file = land(scored_into, DAYS[3], orders(9).drop_columns(["amount"]))
    vaewatch("score", "--date", DAYS[3], cwd=scored_into)

    shown = vaewatch("flags", "--date", DAYS[3], cwd=scored_into)

    assert shown.code == 0
    assert shown.out.startswith(f"{DAYS[3]}  no file could be scored: {file}: ")
    assert "missing: amount" in shown.out


def test_a_night_of_one_file_that_is_no_parquet_is_rejected_in_one_sentence(
    vaewatch: Callable[..., Outcome], scored_into: Path
) -> None:
    file = land(scored_into, DAYS[3], orders(9))
    file.write_text("id,amount,shop\n1,50,Bern\n")

    outcome = vaewatch("score", "--date", DAYS[3], cwd=scored_into)

    assert_one_sentence(outcome, str(file))
    assert not any(name.startswith(("flags", "scores")) for name in written(scored_into))


def test_a_night_that_was_scored_keeps_its_results_when_its_file_breaks(
    vaewatch: Callable[..., Outcome], scored_into: Path
) -> None:
    file = land(scored_into, DAYS[3], orders(9))
    assert vaewatch("score", "--date", DAYS[3], cwd=scored_into).code == 0
    results = scored_into / "results"
    before = {name: (results / name).read_bytes() for name in written(scored_into) if "docs/" not in name}
    file.write_text("id,amount,shop\n1,50,Bern\n")

    outcome = vaewatch("score", "--date", DAYS[3], cwd=scored_into)

    assert_one_sentence(outcome, str(file), "stay as they are")
    assert before == {name: (results / name).read_bytes() for name in before}


def test_a_night_with_one_bad_file_among_good_ones_is_committed_with_code_3(
    vaewatch: Callable[..., Outcome], scored_into: Path
) -> None:
    land(scored_into, DAYS[3], orders(9))
    bad = land(scored_into, DAYS[3], orders(8).drop_columns(["amount"]), "b.parquet")

    code, out, err = vaewatch("score", "--date", DAYS[3], "--json", cwd=scored_into)

    report = json.loads(out)
    assert code == 3
    assert re.fullmatch(rf"vaewatch: {re.escape(str(bad))}: [^\n]+\n", err)
    assert (report["files_in"], report["files_scored"], report["files_rejected"]) == (2, 1, 1)
    assert f"flags/dt={DAYS[3]}/part-0.parquet" in written(scored_into)


def test_too_many_bad_rows_end_with_code_3_and_say_where_they_are(
    vaewatch: Callable[..., Outcome], scored_into: Path
) -> None:
    ids = pa.array([None] * 100 + list(range(200)), pa.int64())
    land(scored_into, DAYS[3], orders(9).set_column(0, "id", ids))

    code, _, err = vaewatch("score", "--date", DAYS[3], cwd=scored_into)

    assert code == 3
    assert re.fullmatch(
        r"vaewatch: at most 5% of rows may break row rules, however 100 of 300 did; see .+/quarantine\n", err
    )


def test_an_output_that_cannot_be_written_is_named(
    vaewatch: Callable[..., Outcome], scored_into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(scored_into, DAYS[3], orders(9))
    (scored_into / "results").write_text("a file where the folder should be")

    try:
        outcome = vaewatch("score", "--date", DAYS[3], cwd=scored_into)
        assert_one_sentence(outcome, f"{scored_into}/results")
        assert (scored_into / "results").read_text() == "a file where the folder should be"
    finally:
        (scored_into / "results").unlink()


def test_a_night_is_scored_shown_and_recognised(vaewatch: Callable[..., Outcome], scored_into: Path) -> None:
    odd = orders(9).to_pandas()
    odd.loc[7, "amount"] = 9_999.0
    land(scored_into, DAYS[3], pa.Table.from_pandas(odd, preserve_index=False))

    first = vaewatch("score", "--date", DAYS[3], cwd=scored_into)
    again = vaewatch("score", "--date", DAYS[3], cwd=scored_into)
    shown = vaewatch("flags", "--date", DAYS[3], "--rows", "1", cwd=scored_into)

    assert (first.code, first.err, again.code, shown.code) == (0, "", 0, 0)
    assert re.search(rf"{DAYS[3]} +300 rows +0 quarantined +3 flagged", first.out)
    assert "already scored" in again.out
    assert '{"id": 9007}' in shown.out
    assert "amount 9999 (beyond all training values), expected about" in shown.out


def test_a_night_without_flags_says_so(vaewatch: Callable[..., Outcome], scored_into: Path) -> None:
    land(scored_into, DAYS[3], orders(9))
    vaewatch("score", "--date", DAYS[3], cwd=scored_into)
    moved = vaewatch("redecide", "--date", DAYS[3], "--fdr", "0.0001", cwd=scored_into)

    shown = vaewatch("flags", "--date", DAYS[3], cwd=scored_into)

    assert (moved.code, shown.code) == (0, 0)
    assert moved.out.startswith(f"{DAYS[3]}  fdr 0.01 % in place of budget 3: 0 flagged, 3 before;")
    assert "Hardly any" not in moved.out
    assert shown.out == f"{DAYS[3]}  no flags, 300 rows scored\n"


def test_a_night_is_checked_without_being_scored(vaewatch: Callable[..., Outcome], scored_into: Path) -> None:
    land(scored_into, DAYS[3], orders(9))

    code, out, err = vaewatch("check", "--date", DAYS[3], cwd=scored_into)

    assert (code, err) == (0, "")
    assert "expectations hold" in out
    assert not any(name.startswith(("flags", "manifests")) for name in written(scored_into))


def test_models_are_listed_with_their_aliases(vaewatch: Callable[..., Outcome], trained: Path) -> None:
    code, out, _ = vaewatch("models", "--json", cwd=trained)

    assert code == 0
    assert [(one["name"], one["version"], one["aliases"]) for one in json.loads(out)] == [
        ("orders", "1", ["champion"])
    ]
