"""Runs, versions and aliases in a real MLflow, and the model that it serves."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flows.errors import NoChampionError, RegistryError
from flows.processes import child, free_port
from flows.registry import ModelRef, Registry, folder_digest
from vae_core import VAEDetector

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # what is imported here

OPEN = """
import sys
from flows.registry import Registry
registry = Registry(
    tracking_uri=sys.argv[1], registry_uri=sys.argv[1], artifact_location=sys.argv[2],
    experiment="vaewatch", model_name="orders", live_alias="champion", candidate_alias="challenger",
)
registry.connect()
"""

SCHEMA = pa.schema(
    [
        ("price", pa.float64()),
        ("pieces", pa.int64()),
        ("shop", pa.string()),
        ("paid", pa.bool_()),
        ("made", pa.timestamp("us")),
        ("sent", pa.timestamp("us", tz="UTC")),
        ("colour", pa.dictionary(pa.int32(), pa.string())),
        ("due", pa.date32()),
    ]
)


def orders(rows: int) -> pa.Table:
    """Make orders with every kind of column; each column is null in one row in ten."""
    random = np.random.default_rng(0)
    pieces = random.integers(1, 9, rows)
    days = (np.datetime64("2013-07-01T06:00", "us") + random.integers(0, 10**12, rows)).astype(
        "datetime64[us]"
    )
    columns = (
        pieces * random.normal(9.0, 0.5, rows),
        pieces,
        random.choice(["north", "south"], rows),
        random.random(rows) < 0.9,
        days,
        days,
        random.choice(["red", "blue"], rows),
        days.astype("datetime64[D]"),
    )
    arrays = [
        pa.array(values, mask=random.random(rows) < 0.1).cast(field.type)
        for values, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.table(arrays, schema=SCHEMA)


def at(folder: Path, model: str = "orders") -> Registry:
    """Give a registry whose SQLite file and artifacts lie in a folder."""
    uri = f"sqlite:///{folder}/mlflow.db"
    return Registry(
        tracking_uri=uri,
        registry_uri=uri,
        artifact_location=str(folder / "its artifacts, hübsch"),
        experiment="vaewatch",
        model_name=model,
        live_alias="champion",
        candidate_alias="challenger",
    )


def at_server(uri: str) -> Registry:
    """Give a registry at an address, which keeps the artifacts where it likes."""
    return replace(at(Path()), tracking_uri=uri, registry_uri=uri, artifact_location=None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of one MLflow for all tests of this file."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def registry(home: Path, request: pytest.FixtureRequest) -> Registry:
    """Give a registry with a model name of the test's own."""
    return at(home, request.node.name)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Give the rows that the detector learns."""
    return orders(300)


@pytest.fixture(scope="module")
def detector(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small real detector."""
    folder = tmp_path_factory.mktemp("saved") / "detector"
    VAEDetector(max_epochs=1, random_state=0).fit(table).save(folder)
    return folder


@pytest.fixture(scope="module")
def served(home: Path, detector: Path, table: pa.Table) -> Registry:
    """Register the detector once for the tests that only read it."""
    registry = at(home, "served")
    train(registry, detector, table)
    return registry


def train(registry: Registry, detector: Path, table: pa.Table, *, promote: bool = False) -> ModelRef:
    """Register a version from a run of its own."""
    with registry.start_run("train", {}) as run:
        return registry.register(run, detector, example=table.slice(0, 3), promote=promote)


def client_of(registry: Registry) -> Any:
    """Give MLflow's own client, a second pair of eyes."""
    registry.connect()
    from mlflow import MlflowClient

    return MlflowClient(registry.tracking_uri, registry.registry_uri)


def load(ref: ModelRef, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load the pyfunc as any user of MLflow does."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return mlflow.pyfunc.load_model(f"models:/{ref.name}@champion")


# -- Reaching MLflow ----------------------------------------------------------------------------------------


def test_importing_the_registry_does_not_import_mlflow() -> None:
    command = [sys.executable, "-c", "import sys, flows.registry; print('mlflow' in sys.modules)"]

    answer = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)

    assert answer.stdout == "False\n"


def test_first_use_makes_the_database_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a half-made file nor MLflow's defaults in the current folder stay behind."""
    monkeypatch.chdir(tmp_path)

    at(tmp_path / "new" / "folder").connect()

    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    found = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert found == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.slow
def test_processes_that_start_at_once_share_a_new_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command = [sys.executable, "-c", OPEN, uri, str(tmp_path)]

    started = [subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE) for _ in range(3)]
    said = [process.communicate()[1] for process in started]

    assert [process.returncode for process in started] == [0, 0, 0], said
    assert client_of(at(tmp_path)).search_experiments()


def test_a_creation_that_was_killed_leaves_no_half_made_database(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN, f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path)]
    process = subprocess.Popen(command, env=ENVIRONMENT)
    while not list(tmp_path.glob(".mlflow.db-*/mlflow.db")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert not (tmp_path / "mlflow.db").exists()
    assert at(tmp_path).models() == []
    assert not list(tmp_path.glob(".mlflow.db-*"))


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(RegistryError, match=r"cannot list models in MLflow at .*refused; check tracking_uri"):
        at_server(f"http://127.0.0.1:{free_port()}").models()


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(RegistryError, match="timed out"):
            at_server(uri).models()

    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:////proc/mlflow/mlflow.db", "No such file or directory"),
        ("sqlite:///{folder}", "unable to open database file"),
        ("sqlite:///{folder}/text.db", "file is not a database"),
        ("sqlite:///{folder}/text.db/mlflow.db", "exists"),
        ("file://{folder}/mlruns", "maintenance mode"),
        ("ftp://somewhere", "unsupported URI"),
        ("http://127.0.0.1:port", "nonnumeric port"),
    ],
)
def test_a_place_that_cannot_hold_runs_is_one_sentence(tmp_path: Path, uri: str, reason: str) -> None:
    (tmp_path / "text.db").write_text("This is a text. " * 100)
    place = uri.format(folder=tmp_path)

    with pytest.raises(
        RegistryError, match=f"^cannot open the registry in MLflow at .*{reason}.*; check [^\n]*$"
    ):
        at_server(place).connect()


def test_an_error_does_not_show_the_password_of_the_address() -> None:
    uri = f"http://ann:secret@127.0.0.1:{free_port()}"

    with pytest.raises(RegistryError, match=r"http://\*\*\*@127") as caught:
        at_server(uri).connect()

    assert "secret" not in str(caught.value)


# -- Runs ---------------------------------------------------------------------------------------------------


def test_a_run_keeps_parameters_figures_and_files(registry: Registry, tmp_path: Path) -> None:
    """What MLflow would refuse, such as long values and odd names, is cut to what it takes."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").write_text("<p>")
    (tmp_path / "curve.png").write_bytes(b"png")
    epochs = [{"epoch": epoch, "train_loss": 9.0 - epoch, "beta": 0.1} for epoch in range(700)]

    with registry.start_run("train", {"pipeline": "orders"}) as run:
        run.log_params({"latent_dim": 8, "loss of Größe (€)": None, "columns": "x" * 7000})
        run.log_metrics({"rows_a_second": 5e5})
        run.log_history(epochs)
        run.log_dict({"success": True}, "reports/validation.json")
        run.log_table(pd.DataFrame({"column": ["price", None], "loss": [1.0, 2.0]}), "reports/columns.json")
        run.log_file(tmp_path / "curve.png", "figures")
        run.log_folder(tmp_path / "docs", "docs")

    client = client_of(registry)
    data = client.get_run(run.id).data
    assert {key: value[:4] for key, value in data.params.items()} == {
        "latent_dim": "8",
        "loss of Gr__e ___": "None",
        "columns": "xxxx",
    }
    assert data.metrics == {"rows_a_second": 5e5, "train_loss": 9.0 - 699, "beta": 0.1}
    assert len(client.get_metric_history(run.id, "train_loss")) == 700
    assert data.tags["pipeline"] == "orders"
    assert sorted(file.path for file in client.list_artifacts(run.id)) == ["docs", "figures", "reports"]
    assert len(client.list_artifacts(run.id, "reports")) == 2


def test_a_run_names_the_data_that_it_learned_from(registry: Registry) -> None:
    with registry.start_run("train", {}) as run:
        run.log_dataset("orders", uri="/data/orders", digest=f"sha256:{'0' * 64}", schema=SCHEMA, rows=300)

    (found,) = client_of(registry).get_run(run.id).inputs.dataset_inputs
    assert found.dataset.name == "orders"
    assert json.loads(found.dataset.source) == {"uri": "/data/orders"}
    assert json.loads(found.dataset.profile)["num_rows"] == 300
    assert [column["name"] for column in json.loads(found.dataset.schema)["mlflow_colspec"]] == SCHEMA.names
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]


@pytest.mark.parametrize(
    ("raised", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_ends_as_its_block_does(
    registry: Registry, raised: type[BaseException] | None, status: str
) -> None:
    def block() -> Iterator[str]:
        with registry.start_run("train", {}) as run:
            yield run.id
            if raised:
                raise raised

    lines = block()
    run_id = next(lines)
    with pytest.raises(raised or StopIteration):
        next(lines)

    assert client_of(registry).get_run(run_id).info.status == status


def test_runs_that_start_at_once_share_a_new_experiment(home: Path) -> None:
    registry = replace(at(home), experiment="new")

    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: registry.start_run("train", {}).__enter__().id, range(4)))

    client = client_of(registry)
    assert len({client.get_run(run).info.experiment_id for run in runs}) == 1


def test_an_artifact_folder_that_cannot_be_written_is_one_sentence(home: Path) -> None:
    registry = replace(at(home), experiment="nowhere", artifact_location="/proc/mlflow")

    with (
        pytest.raises(RegistryError, match=r"^cannot log a report in MLflow at .*No such file.*; check"),
        registry.start_run("train", {}) as run,
    ):
        run.log_dict({"success": True}, "reports/validation.json")


def test_an_experiment_that_mlflow_refuses_is_one_sentence(home: Path) -> None:
    with (
        pytest.raises(RegistryError, match=r"^cannot start a run in MLflow at .*; check"),
        replace(at(home), experiment="x" * 600).start_run("train", {}),
    ):
        raise AssertionError("no run can start")


# -- Versions and aliases -----------------------------------------------------------------------------------


def test_the_first_version_is_live_and_the_next_one_a_candidate(
    registry: Registry, detector: Path, table: pa.Table
) -> None:
    first = train(registry, detector, table)
    second = train(registry, detector, table)

    assert (first.version, first.aliases) == ("1", ("champion",))
    assert (second.version, second.aliases) == ("2", ("challenger",))
    assert registry.champion() == first
    assert registry.models() == [second, first]
    assert abs((datetime.now(UTC) - second.created).total_seconds()) < 60
    assert second.uri == f"models:/{registry.model_name}/2"


def test_a_version_that_is_promoted_at_once_takes_over(
    registry: Registry, detector: Path, table: pa.Table
) -> None:
    train(registry, detector, table)
    second = train(registry, detector, table, promote=True)

    assert registry.champion() == second
    assert [ref.aliases for ref in registry.models()] == [("champion",), ()]


def test_an_alias_moves_and_moves_back(registry: Registry, detector: Path, table: pa.Table) -> None:
    train(registry, detector, table)
    train(registry, detector, table)

    registry.set_alias("champion", "2")
    promoted = registry.champion()
    registry.set_alias("champion", "1")

    assert (promoted.version, promoted.aliases) == ("2", ("challenger", "champion"))
    assert registry.champion().version == "1"


def test_an_alias_cannot_name_a_version_that_is_not_there(
    registry: Registry, detector: Path, table: pa.Table
) -> None:
    train(registry, detector, table)

    with pytest.raises(RegistryError, match=r"however version='7' came; it has 1: see `vaewatch models`"):
        registry.set_alias("champion", "7")


def test_without_a_live_version_the_error_says_how_to_get_one(registry: Registry) -> None:
    with pytest.raises(NoChampionError, match=r"alias 'champion' was required, .* run `vaewatch train"):
        registry.champion()


def test_a_version_knows_its_run_and_the_run_its_version(served: Registry) -> None:
    ref = served.champion()

    client = client_of(served)
    (output,) = client.get_run(ref.run_id).outputs.model_outputs
    tags = client.get_logged_model(output.model_id).tags
    assert json.loads(tags["mlflow.modelVersions"]) == [{"name": "served", "version": 1}]


# -- The detector's folder ----------------------------------------------------------------------------------


def test_a_download_is_what_was_saved_and_is_kept(served: Registry, detector: Path, tmp_path: Path) -> None:
    ref = served.champion()

    first = served.download(ref, tmp_path)
    made = first.stat().st_ino
    second = served.download(ref, tmp_path)

    assert folder_digest(first) == folder_digest(detector) == ref.digest
    assert second == first
    assert second.stat().st_ino == made
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_kept_copy_that_was_altered_is_brought_again(served: Registry, tmp_path: Path) -> None:
    ref = served.champion()
    kept = served.download(ref, tmp_path)
    victim = next(path for path in kept.rglob("*") if path.is_file())
    victim.write_bytes(b"altered")
    (kept / "more").write_bytes(b"added")

    again = served.download(ref, tmp_path)

    assert again == kept
    assert folder_digest(again) == ref.digest


def test_registered_files_that_were_altered_are_refused(
    registry: Registry, detector: Path, table: pa.Table, tmp_path: Path
) -> None:
    ref = train(registry, detector, table)
    stored = Path(client_of(registry).get_model_version_download_uri(ref.name, ref.version))
    next(path for path in (stored / "artifacts").rglob("*") if path.is_file()).write_bytes(b"altered")

    with pytest.raises(
        RegistryError, match="was required as it was registered, however its files were altered"
    ):
        registry.download(ref, tmp_path)

    assert not list(tmp_path.rglob("*.json"))


def test_a_copy_from_a_registry_that_began_anew_is_not_taken_for_its_successor(
    detector: Path, table: pa.Table, tmp_path: Path
) -> None:
    """Version 1 of one database and version 1 of the next are two models."""
    folders = [
        registry.download(train(registry, detector, table), tmp_path / "cache")
        for registry in (at(tmp_path / "old"), at(tmp_path / "new"))
    ]

    assert folders[0] != folders[1]


# -- What MLflow serves -------------------------------------------------------------------------------------


def test_the_model_folder_holds_code_and_weights_and_no_pickle(served: Registry) -> None:
    ref = served.champion()
    stored = Path(client_of(served).get_model_version_download_uri(ref.name, ref.version))

    names = {path.relative_to(stored).as_posix() for path in stored.rglob("*") if path.is_file()}

    assert {"MLmodel", "serving.py", "code/vae_core/__init__.py", "input_example.json"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pyc", ".pt"))]
    requirements = (stored / "requirements.txt").read_text().split()
    assert f"torch=={importlib.metadata.version('torch').partition('+')[0]}" in requirements


def test_the_signature_names_all_features_and_answers(
    served: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types that MLflow would misread or refuse are left to the model, as "Any"."""
    signature = load(served.champion(), served, monkeypatch).metadata.signature

    found = {column.name: repr(column.type) for column in signature.inputs}
    assert found == dict.fromkeys(SCHEMA.names, "Any") | {"price": "double", "shop": "string"}
    assert [column.name for column in signature.outputs][:2] == ["reconstruction_loss", "anomaly_score"]


def test_the_served_model_scores_as_the_detector_does(
    served: Registry, detector: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows come as pandas reads them from Parquet: with nulls of every column and one column too many."""
    frame = table.to_pandas().assign(colour=table["colour"].cast(pa.string()).to_pandas(), more=1)
    frame.index = pd.Index(range(1000, 1300))

    answer = load(served.champion(), served, monkeypatch).predict(frame)

    own = VAEDetector.load(detector)
    scores = own.score_batch(table)
    pd.testing.assert_index_equal(answer.index, frame.index)
    np.testing.assert_allclose(answer["anomaly_score"].to_numpy(), scores.anomaly_score, rtol=1e-6)
    np.testing.assert_allclose(answer["p_value"].to_numpy(), scores.p_value, rtol=1e-6)
    assert list(answer["is_anomaly"]) == list(-scores.anomaly_score < own.offset_)


@pytest.mark.parametrize("name", SCHEMA.names)
def test_a_column_of_nulls_only_can_be_scored(
    served: Registry, table: pa.Table, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    empty = pa.nulls(3, SCHEMA.field(name).type)
    rows = table.slice(0, 3).set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), empty)

    answer = load(served.champion(), served, monkeypatch).predict(rows.to_pandas())

    assert np.isfinite(answer["anomaly_score"]).all()


def test_no_rows_give_no_answers(served: Registry, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = load(served.champion(), served, monkeypatch).predict(table.slice(0, 0).to_pandas())

    assert answer.shape == (0, 5)


def variants(column: str) -> dict[str, pd.Series[Any]]:
    """Give one value and a null in every make that people hand in."""
    made = pd.Timestamp("2013-07-06 18:00")
    return {
        "pieces": {
            "int64": pd.Series([3, 4]),
            "float64": pd.Series([3.0, None]),
            "Int64": pd.Series([3, None], dtype="Int64"),
            "objects": pd.Series([3, None], dtype=object),
        },
        "paid": {
            "bool": pd.Series([True, False]),
            "boolean": pd.Series([True, None], dtype="boolean"),
            "objects": pd.Series([True, None], dtype=object),
        },
        "made": {
            "instants": pd.Series([made, None]),
            "instants with a zone": pd.Series([made, None]).dt.tz_localize("UTC"),
            "text": pd.Series([made.isoformat(), None]),
            "milliseconds": pd.Series([made.timestamp() * 1000, None]),
        },
        "due": {
            "dates": pd.Series([made.date(), None], dtype=object),
            "text": pd.Series(["2013-07-06", None]),
        },
        "colour": {
            "text": pd.Series(["red", None]),
            "category": pd.Series(["red", None], dtype="category"),
        },
    }[column]


@pytest.mark.parametrize("column", ["pieces", "paid", "made", "due", "colour"])
def test_one_value_scores_alike_in_every_make(
    served: Registry, table: pa.Table, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    rows = table.slice(0, 2).to_pandas()
    model = load(served.champion(), served, monkeypatch)

    scores = {
        make: model.predict(rows.assign(**{column: values}))["anomaly_score"][0]
        for make, values in variants(column).items()
    }

    assert len({round(score, 9) for score in scores.values()}) == 1, scores


def test_a_value_of_another_type_is_named(
    served: Registry, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table.slice(0, 2).to_pandas().assign(pieces=[1.5, 2.0])

    with pytest.raises(ValueError, match="column 'pieces' was learned as int64, however: "):
        load(served.champion(), served, monkeypatch).predict(rows)


SERVE = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "flows":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/served@champion")
print(len(model.predict(pandas.read_parquet(sys.argv[1]))))
print(sys.modules["vae_core"].__file__)
"""


@pytest.mark.slow
def test_the_model_serves_where_vaewatch_is_not_installed(
    served: Registry, table: pa.Table, tmp_path: Path
) -> None:
    """It brings its own copy of the library."""
    table.to_pandas().to_parquet(tmp_path / "rows.parquet")
    env = {**ENVIRONMENT, "MLFLOW_TRACKING_URI": served.tracking_uri}
    command = [sys.executable, "-c", SERVE, str(tmp_path / "rows.parquet")]

    answer = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stderr
    rows, origin = answer.stdout.split("\n")[:2]
    assert rows == "300"
    assert Path(origin).match("artifacts/code/vae_core/__init__.py")


@pytest.mark.slow
def test_the_command_line_of_mlflow_predicts_from_json(
    served: Registry, detector: Path, table: pa.Table, tmp_path: Path
) -> None:
    """The request holds nulls of every column, as None, and instants as text."""
    frame = table.slice(0, 20).to_pandas()
    request = frame.to_json(orient="split", date_format="iso", index=False)
    (tmp_path / "request.json").write_text(json.dumps({"dataframe_split": json.loads(request)}))
    env = {**ENVIRONMENT, "MLFLOW_TRACKING_URI": served.tracking_uri}
    command = [
        *(sys.executable, "-m", "mlflow", "models", "predict", "-m", "models:/served@champion"),
        *("-i", "request.json", "-o", "answer.json", "--env-manager", "local"),
    ]

    answer = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stderr
    found = json.loads((tmp_path / "answer.json").read_text())["predictions"]
    expected = VAEDetector.load(detector).score_batch(table.slice(0, 20)).anomaly_score
    np.testing.assert_allclose([row["anomaly_score"] for row in found], expected, rtol=1e-3)


TRAIN = """
import pyarrow.parquet as pq
from pathlib import Path
with registry.start_run("train", {}) as run:
    run.log_params({"a": 1})
    registry.register(run, Path(sys.argv[3]), example=pq.read_table(sys.argv[4]).slice(0, 3))
registry.download(registry.champion(), Path(sys.argv[2]) / "cache")
"""


@pytest.mark.slow
def test_nothing_of_mlflow_is_printed(detector: Path, table: pa.Table, tmp_path: Path) -> None:
    """Not even on the first use, with its migrations."""
    import pyarrow.parquet as pq

    pq.write_table(table, tmp_path / "rows.parquet")
    arguments = [
        f"sqlite:///{tmp_path}/mlflow.db",
        str(tmp_path),
        str(detector),
        str(tmp_path / "rows.parquet"),
    ]
    command = [sys.executable, "-c", OPEN + TRAIN, *arguments]
    env = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("MLFLOW_")}

    answer = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


@pytest.mark.slow
def test_the_same_works_through_a_server(
    detector: Path, table: pa.Table, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server keeps the files, and the client has no folder in common with it."""
    uri = f"http://127.0.0.1:{free_port()}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--port", uri.rpartition(":")[2], "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"),
        *("--serve-artifacts", "--artifacts-destination", str(tmp_path / "artifacts")),
    ]
    env = {**ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    registry = at_server(uri)
    at(tmp_path).connect()
    with child("MLflow", command, log=tmp_path / "log", env=env) as server:
        server.wait_for(f"{uri}/health")

        train(registry, detector, table)
        kept = registry.download(registry.champion(), tmp_path / "cache")

    assert folder_digest(kept) == folder_digest(detector)
    assert capfd.readouterr() == ("", "")
