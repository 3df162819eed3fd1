"""MLflow: training runs, model versions, aliases.

The only module that imports MLflow, besides ``flows/serving.py``, which MLflow itself executes. All
goes through one explicit client: no active run, no process-wide tracking URI, no probing of git or of
installed packages. MLflow is imported on first use.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from flows.errors import NoChampionError, RegistryError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["ModelRef", "Registry", "Run"]

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing leaves the machine
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # no chatter; what fails is raised as a sentence
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a uv project in the current folder is not the model's
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # gives up after 15 s; MLflow's own 7 take 4 minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",  # s
}
"""Environment that MLflow is imported in; what the user has set wins."""

PACKAGES = ("numpy", "pandas", "pyarrow", "safetensors", "scikit-learn", "scipy", "torch")
"""What ``vae_core`` needs where a model is served."""

DIGEST = "vaewatch.digest"
"""Tag of a model version: the digest of its detector folder as it was registered."""

MAX_KEY, MAX_PARAMETER, MAX_DATASET_DIGEST = 250, 6000, 36  # characters; MLflow refuses more


# -- MLflow itself ------------------------------------------------------------------------------------------


@functools.cache
def _mlflow() -> Any:
    """Import MLflow (1.6 CPU-seconds), silently."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])  # who imported it first spoke up
    return mlflow


def _failures() -> tuple[type[Exception], ...]:
    """Whatever MLflow, or a store under it, raises when it cannot do what was asked."""
    from http.client import HTTPException

    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, CommandError, HTTPException, sqlite3.Error, OSError, ImportError


@functools.cache
def _client(tracking_uri: str, registry_uri: str) -> Any:
    """Client of both stores, which are there and answer."""
    for uri in dict.fromkeys((tracking_uri, registry_uri)):
        _make_sure_of(uri)
    return _mlflow().MlflowClient(tracking_uri, registry_uri)


def _make_sure_of(uri: str) -> None:
    """Fail at once where MLflow would retry for minutes; make a SQLite file that is not there yet."""
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    if urlsplit(uri).scheme in {"http", "https"}:
        _knock(uri)
    elif path != uri and path not in {"", ":memory:"}:
        with _locked(Path(path)):
            _create(Path(path))
        _write_nothing(Path(path))


def _knock(server: str) -> None:
    """Raise OSError unless a server answers within 10 seconds, with a refusal if it likes."""
    try:
        urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=10).close()  # noqa: S310 - http or https
    except urllib.error.HTTPError as refusal:
        refusal.close()


@contextlib.contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Hold the lock file beside a database; the system lets go of it when the process ends."""
    import fcntl

    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _create(database: Path) -> None:
    """Let MLflow make its tables aside, then move them into place whole.

    MLflow migrates an empty file 67 times, without a lock: two processes on it crash, one that is killed
    leaves half of the tables, and every step waits for the disk (6 s; without waiting 1 s).
    """
    if database.exists() and database.stat().st_size > 0:
        return
    for killed in database.parent.glob(f".{database.name}-*"):
        shutil.rmtree(killed, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(dir=database.parent, prefix=f".{database.name}-") as scratch,
        _unsynced(),
    ):
        aside = Path(scratch) / "mlflow.db"
        _mlflow().MlflowClient(f"sqlite:///{aside}", f"sqlite:///{aside}")
        aside.replace(database)


@contextlib.contextmanager
def _unsynced() -> Iterator[None]:
    """Open SQLite connections that do not wait for the disk."""
    from sqlalchemy import Engine, event

    def relax(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


def _write_nothing(database: Path) -> None:
    """Raise sqlite3.Error unless the file is a SQLite database that can be written."""
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def _reason(error: Exception) -> str:
    """First line of an error, shortened, without its full stop."""
    lines = str(getattr(error, "reason", error)).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0], 240, placeholder=" …").rstrip(" .")


def _public(uri: str) -> str:
    """Hide the password of an address."""
    return re.sub(r"(://[^/@:]*):[^@/]*@", r"\1:***@", uri)


@dataclass(frozen=True)
class _Stores:
    """Where MLflow keeps runs and versions."""

    tracking_uri: str
    registry_uri: str

    @contextlib.contextmanager
    def asked_to(self, action: str) -> Iterator[Any]:
        """Yield the client; a failure becomes the sentence that ``action`` did not work."""
        try:
            yield _client(self.tracking_uri, self.registry_uri)
        except _failures() as error:
            raise RegistryError(
                f"cannot {action} in MLflow at {_public(self.tracking_uri)}: {_reason(error)}; "
                "check tracking_uri in mlflow.yml, and that this place can be reached and written"
            ) from error


# -- Runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """An open training run, as `Registry.start_run` yields it; all methods raise `RegistryError`."""

    id: str
    stores: _Stores

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; long values are cut where MLflow would refuse them."""
        param = _mlflow().entities.Param
        with self.stores.asked_to("log parameters") as client:
            found = [param(_key(name), str(value)[:MAX_PARAMETER]) for name, value in params.items()]
            client.log_batch(self.id, params=found)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log figures that belong to the run as a whole."""
        self.log_history([{"epoch": 0, **metrics}])

    def log_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log the figures of every epoch in one request; the key ``epoch`` is their step."""
        metric, now = _mlflow().entities.Metric, int(time.time() * 1000)
        with self.stores.asked_to("log metrics") as client:
            found = [
                metric(_key(name), float(value), now, int(record["epoch"]))
                for record in history
                for name, value in record.items()
                if name != "epoch"
            ]
            client.log_batch(self.id, metrics=found)

    def log_dataset(self, name: str, *, uri: str, digest: str, schema: pa.Schema, rows: int) -> None:
        """Log the training data as the run's input: where it lies, its columns and its rows."""
        entities = _mlflow().entities
        source = json.dumps({"uri": uri})
        columns = json.dumps({"mlflow_colspec": _columns(schema).to_dict()})
        profile = json.dumps({"num_rows": rows, "num_elements": rows * len(schema)})
        tag = entities.InputTag("mlflow.data.context", "training")
        kind = urlsplit(uri).scheme or "local"
        found = entities.Dataset(name, digest[:MAX_DATASET_DIGEST], kind, source, columns, profile)
        with self.stores.asked_to("log the training data") as client:
            client.log_inputs(self.id, [entities.DatasetInput(found, [tag])])

    def log_dict(self, content: Mapping[str, object], path: str) -> None:
        """Log a report as a JSON file at ``path`` within the run's files."""
        with self.stores.asked_to("log a report") as client:
            client.log_dict(self.id, dict(content), path)

    def log_table(self, table: pd.DataFrame, path: str) -> None:
        """Log a table that MLflow's page shows as one, at ``path``, which ends in ``.json``."""
        with self.stores.asked_to("log a table") as client:
            client.log_table(self.id, table.copy(), path)

    def log_file(self, file: Path, folder: str) -> None:
        """Log a file, such as a picture, into ``folder`` of the run's files."""
        with self.stores.asked_to("log a file") as client:
            client.log_artifact(self.id, str(file), folder)

    def log_folder(self, source: Path, folder: str) -> None:
        """Log what a local folder holds into ``folder`` of the run's files."""
        with self.stores.asked_to("log a folder") as client:
            client.log_artifacts(self.id, str(source), folder)

    def end(self, status: str) -> None:
        """Close the run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        with self.stores.asked_to("end the run") as client:
            client.set_terminated(self.id, status)


def _key(name: str) -> str:
    """Name of a parameter or metric in the characters and length that MLflow takes."""
    return re.sub(r"[^\w/.\- ]", "_", name, flags=re.ASCII)[:MAX_KEY]


# -- Models -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelRef:
    """A registered model version."""

    name: str
    version: str
    run_id: str
    """Of the training run."""
    aliases: tuple[str, ...]
    """Sorted."""
    created: datetime
    """In UTC."""
    digest: str | None
    """Of its detector folder as registered; None when something else than vaewatch registered it."""

    @property
    def uri(self) -> str:
        """Address for ``mlflow.pyfunc.load_model`` and ``mlflow models predict``."""
        return f"models:/{self.name}/{self.version}"


def _ref(found: Any, aliases: Mapping[str, str]) -> ModelRef:
    version = str(found.version)
    carried = tuple(sorted(alias for alias, at in aliases.items() if at == version))
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    return ModelRef(found.name, version, found.run_id, carried, created, found.tags.get(DIGEST))


def folder_digest(folder: Path) -> str:
    """Digest of names and contents of all files under a folder: ``sha256:…``."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _keep(fetched: Path, kept: Path, digest: str | None) -> None:
    """Move a verified folder into the cache, unless another process has just done so."""
    if kept.is_dir() and digest != folder_digest(kept):
        shutil.rmtree(kept)
    try:
        fetched.rename(kept)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise


def _columns(schema: pa.Schema) -> Any:
    """MLflow's schema of a table, all columns required; any of them may hold nulls."""
    types = _mlflow().types
    return types.Schema([types.ColSpec(_column_type(field.type), field.name) for field in schema])


def _column_type(arrow_type: pa.DataType) -> Any:
    """MLflow's type of a column where that takes what pandas and JSON make of it; otherwise "any".

    Measured with MLflow 3.17: ``double`` refuses int64, and ``long`` the floats that pandas makes of
    integers with nulls; ``boolean`` turns a null of a JSON request into False; ``datetime`` refuses time
    zones and reads the milliseconds of ``DataFrame.to_json`` as nanoseconds. "any" leaves all of them to
    ``flows/serving.py``, which knows the learned types.
    """
    import pyarrow.types as is_

    if is_.is_floating(arrow_type):
        return "double"
    if is_.is_string(arrow_type) or is_.is_large_string(arrow_type):
        return "string"
    return _mlflow().types.schema.AnyType()


def _signature(features: pa.Schema) -> Any:
    """Feature columns in; what ``flows/serving.py`` answers out."""
    mlflow = _mlflow()
    measures = ("reconstruction_loss", "anomaly_score", "p_value", "severity")
    answer = [mlflow.types.ColSpec("double", name) for name in measures]
    answer.append(mlflow.types.ColSpec("boolean", "is_anomaly"))
    return mlflow.models.ModelSignature(_columns(features), mlflow.types.Schema(answer))


def _shown(features: pa.Schema) -> pa.Schema:
    """Types of the example in a model's folder: JSON has no decimals and no durations."""
    import pyarrow as pa

    def plain(arrow_type: pa.DataType) -> pa.DataType:
        if pa.types.is_decimal(arrow_type):
            return pa.float64()
        return pa.int64() if pa.types.is_duration(arrow_type) else arrow_type

    return pa.schema([(field.name, plain(field.type)) for field in features])


def _requirements() -> list[str]:
    """Pinned packages of the served model, without the mark of a local build such as ``+cpu``."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in PACKAGES]


def _save_pyfunc(folder: Path, card: Any, detector: Path, example: pa.Table) -> None:
    """Write the model folder that MLflow serves: code, detector, signature, requirements."""
    import vae_core

    _mlflow().pyfunc.save_model(
        str(folder),
        mlflow_model=card,
        python_model=str(Path(__file__).with_name("serving.py")),
        code_paths=[str(Path(vae_core.__file__).parent)],
        artifacts={"detector": str(detector)},
        signature=_signature(example.schema),
        input_example=example.cast(_shown(example.schema)).to_pandas(),
        pip_requirements=_requirements(),  # without them MLflow spends a minute on finding out
    )


def _log_model(client: Any, run_id: str, detector: Path, example: pa.Table) -> Any:
    """Log a detector as a model of the run."""
    mlflow = _mlflow()
    experiment = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment, name="detector", source_run_id=run_id)
    ids = {"run_id": run_id, "model_id": logged.model_id, "model_uuid": logged.model_id}
    card = mlflow.models.Model(artifact_path=logged.artifact_location, **ids)
    with tempfile.TemporaryDirectory() as scratch:
        _save_pyfunc(Path(scratch) / "model", card, detector, example)
        client.log_model_artifacts(logged.model_id, f"{scratch}/model")
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [mlflow.entities.LoggedModelOutput(logged.model_id, step=0)])
    return logged


# -- The registry -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Runs and versions of one pipeline's model.

    Every method raises `RegistryError`, one sentence, when MLflow cannot be reached (within 20 seconds),
    cannot be written, or refuses.

    Parameters
    ----------
    tracking_uri, registry_uri
        Where MLflow keeps runs and versions: ``sqlite:///FILE``, ``https://SERVER``, another database.
    artifact_location
        Folder or address of the experiment's files; None leaves it to the server. MLflow fixes it when
        the experiment is created.
    experiment, model_name
        Their names in MLflow.
    live_alias, candidate_alias
        Aliases of the version that scores, and of the newest one that does not.
    """

    tracking_uri: str
    registry_uri: str
    artifact_location: str | None
    experiment: str
    model_name: str
    live_alias: str
    candidate_alias: str

    @property
    def stores(self) -> _Stores:
        """Where its runs and versions are kept."""
        return _Stores(self.tracking_uri, self.registry_uri)

    def connect(self) -> None:
        """Reach MLflow; an empty SQLite file gets its tables (1 CPU-second, once)."""
        with self.stores.asked_to("open the registry"):
            pass

    @contextlib.contextmanager
    def start_run(self, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
        """Open a run; it ends with the block, as finished, failed or killed."""
        with self.stores.asked_to("start a run") as client:
            opened = client.create_run(self._experiment_id(client), run_name=name, tags=dict(tags))
        run = Run(opened.info.run_id, self.stores)
        try:
            yield run
        except BaseException as error:
            with contextlib.suppress(RegistryError):  # the first error is the one to show
                run.end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        run.end("FINISHED")

    def _experiment_id(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(self.experiment, artifact_location=self.artifact_location))
        except _mlflow().MlflowException:
            found = client.get_experiment_by_name(self.experiment)
            if found is None:
                raise
            return str(found.experiment_id)  # another process was faster

    def register(self, run: Run, detector: Path, *, example: pa.Table, promote: bool = False) -> ModelRef:
        """Log a saved detector as a pyfunc, and register it as the model's next version.

        The logged model is ``flows/serving.py`` as code, the detector's folder, and a copy of the package
        ``vae_core``: it serves where vaewatch is not installed, and holds no pickle.

        Parameters
        ----------
        run
            The training run.
        detector
            Folder that ``VAEDetector.save`` wrote.
        example
            A few rows: the detector's feature columns in their types, from which the signature is drawn.
            They are stored with the model, so take generated ones where rows are sensitive.
        promote
            Make the version live at once. The first one always is; a later one becomes the candidate.

        Returns
        -------
        ModelRef
            The new version and its alias.
        """
        with self.stores.asked_to("register a model") as client:
            logged = _log_model(client, run.id, detector, example)
            version = self._create_version(client, run.id, logged, folder_digest(detector))
            live = promote or self.live_alias not in self._aliases(client)
            alias = self.live_alias if live else self.candidate_alias
            client.set_registered_model_alias(self.model_name, alias, version)
            return _ref(client.get_model_version(self.model_name, version), self._aliases(client))

    def _create_version(self, client: Any, run_id: str, logged: Any, digest: str) -> str:
        with contextlib.suppress(_mlflow().MlflowException):  # there it is; if not, the next call says why
            client.create_registered_model(self.model_name)
        version = client.create_model_version(
            self.model_name, logged.artifact_location, run_id, {DIGEST: digest}, model_id=logged.model_id
        ).version
        link = json.dumps([{"name": self.model_name, "version": version}])
        client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})
        return str(version)

    def champion(self) -> ModelRef:
        """Find the version that is live.

        Raises
        ------
        NoChampionError
            None is; the sentence says how to train one.
        """
        with self.stores.asked_to("find the live model") as client:
            aliases = self._aliases(client)
            if self.live_alias not in aliases:
                raise NoChampionError(
                    f"a version of model {self.model_name!r} with alias {self.live_alias!r} was required, "
                    "however there is none; run `vaewatch train --pipeline FILE` first"
                )
            return _ref(client.get_model_version(self.model_name, aliases[self.live_alias]), aliases)

    def models(self) -> list[ModelRef]:
        """List all versions, newest first."""
        with self.stores.asked_to("list models") as client:
            aliases = self._aliases(client)
            found = client.search_model_versions(f"name = '{self.model_name}'")
        return sorted((_ref(one, aliases) for one in found), key=lambda ref: int(ref.version), reverse=True)

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias at a version; whatever carried it before loses it in the same moment."""
        known = [ref.version for ref in self.models()]
        if version not in known:
            raise RegistryError(
                f"a version of model {self.model_name!r} was required, however {version=} came; "
                f"it has {', '.join(known) or 'none'}: see `vaewatch models`"
            )
        with self.stores.asked_to(f"move alias {alias!r}") as client:
            client.set_registered_model_alias(self.model_name, alias, version)

    def _aliases(self, client: Any) -> dict[str, str]:
        """Alias -> version; none while there is no such model."""
        try:
            found = client.get_registered_model(self.model_name).aliases
        except _mlflow().MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
        return {alias: str(version) for alias, version in found.items()}

    def download(self, ref: ModelRef, cache: Path) -> Path:
        """Bring a version's detector folder into a local cache; unaltered copies are used again.

        Parameters
        ----------
        ref
            Which version.
        cache
            Folder of the cache; a version lies at ``NAME/VERSION-RUN``.

        Returns
        -------
        Path
            The detector folder, whose digest is the registered one.

        Raises
        ------
        RegistryError
            The registered files are gone, or were altered.
        """
        kept = cache / quote(ref.name, safe="") / f"{ref.version}-{ref.run_id[:8]}"
        if kept.is_dir() and ref.digest in {None, folder_digest(kept)}:
            return kept
        with self.stores.asked_to(f"download version {ref.version} of {ref.name}") as client:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".") as scratch:
                _keep(self._fetch(client, ref, scratch), kept, ref.digest)
        return kept

    def _fetch(self, client: Any, ref: ModelRef, scratch: str) -> Path:
        """Download a version's detector folder; it must be what was registered."""
        stored = client.get_model_version_download_uri(ref.name, ref.version)
        files = _mlflow().artifacts.download_artifacts(
            f"{stored}/artifacts", dst_path=scratch, tracking_uri=self.tracking_uri
        )
        (detector,) = Path(files).iterdir()
        if ref.digest not in {None, folder_digest(detector)}:
            raise RegistryError(
                f"version {ref.version} of model {ref.name!r} was required as it was registered, however its "
                f"files were altered (they are no longer {ref.digest}); restore them, or train a new version"
            )
        return detector
