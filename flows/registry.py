"""The model registry: versions, aliases, and the files of each version.

MLflow's client is that of ``flows/tracking.py``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flows.addresses import public
from flows.errors import NoChampionError, RegistryError
from flows.pyfunc import log_model
from flows.runs import Run
from flows.tracking import Stores, files_at, mlflow_itself

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PRUNED", "ModelRef", "Registry", "Run"]

DIGEST = "vaewatch.digest"
"""Tag of a model version: the digest of its detector folder as it was registered."""

PRUNED = "vaewatch.pruned"
"""Tag of a version whose files are removed: ``begun``, then when it was done."""


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
    tags: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Of the version."""

    @property
    def uri(self) -> str:
        """Address for ``mlflow.pyfunc.load_model`` and ``mlflow models predict``."""
        return f"models:/{self.name}/{self.version}"

    def with_files(self) -> ModelRef:
        """Itself, if its files are there as far as its tags tell.

        Raises
        ------
        RegistryError
            They were pruned.
        """
        if PRUNED in self.tags:
            raise RegistryError(
                f"the files of version {self.version} of model {self.name!r} were required, however "
                "`vaewatch prune` removed them, its record alone is kept; choose another: `vaewatch models`"
            )
        return self


def _ref(found: Any, aliases: Mapping[str, str]) -> ModelRef:
    version = str(found.version)
    carried = tuple(sorted(alias for alias, at in aliases.items() if at == version))
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    tags = dict(found.tags)
    return ModelRef(found.name, version, found.run_id, carried, created, tags.get(DIGEST), tags)


def cached_at(cache: Path, name: str, version: str, run_id: str) -> Path:
    """Where a version's detector folder lies in a local cache once it is downloaded."""
    return cache / quote(name, safe="") / f"{version}-{run_id[:8]}"


def folder_digest(folder: Path) -> str:
    """Digest of names and contents of all files under a folder: ``sha256:…``."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as source:
            content = hashlib.file_digest(source, "sha256").hexdigest()
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
    train_by
        The command that trains a version, told where none is live.
    """

    tracking_uri: str
    registry_uri: str
    artifact_location: str | None
    experiment: str
    model_name: str
    live_alias: str
    candidate_alias: str
    train_by: str = "vaewatch train"

    @property
    def stores(self) -> Stores:
        """Where its runs and versions are kept."""
        return Stores(self.tracking_uri, self.registry_uri)

    @property
    def public_uri(self) -> str:
        """Where runs are kept, without a password."""
        return public(self.tracking_uri)

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
        except mlflow_itself().MlflowException:
            found = client.get_experiment_by_name(self.experiment)
            if found is None:
                raise
            return str(found.experiment_id)  # another process was faster

    def register(
        self,
        run: Run,
        detector: Path,
        *,
        example: pa.Table,
        promote: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> ModelRef:
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
        tags
            Of the version: what it was made from.

        Returns
        -------
        ModelRef
            The new version and its alias.
        """
        with self.stores.asked_to("register a model") as client:
            logged = log_model(client, run.id, detector, example)
            marks = {**(tags or {}), DIGEST: folder_digest(detector)}
            version = self._create_version(client, run.id, logged, marks)
            live = promote or self.live_alias not in self._aliases(client)
            alias = self.live_alias if live else self.candidate_alias
            client.set_registered_model_alias(self.model_name, alias, version)
            return _ref(client.get_model_version(self.model_name, version), self._aliases(client))

    def _create_version(self, client: Any, run_id: str, logged: Any, tags: Mapping[str, str]) -> str:
        refused = mlflow_itself().MlflowException
        with contextlib.suppress(refused):  # there it is; if not, the next call says why
            client.create_registered_model(self.model_name)
        version = client.create_model_version(
            self.model_name, logged.artifact_location, run_id, dict(tags), model_id=logged.model_id
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
                    f"however there is none; run `{self.train_by}` first"
                )
            return _ref(client.get_model_version(self.model_name, aliases[self.live_alias]), aliases)

    def models(self) -> list[ModelRef]:
        """List all versions, newest first."""
        with self.stores.asked_to("list models") as client:
            aliases = self._aliases(client)
            found = client.search_model_versions(f"name = '{self.model_name}'")
        return sorted((_ref(one, aliases) for one in found), key=lambda ref: int(ref.version), reverse=True)

    def version(self, version: str) -> ModelRef:
        """Find a version by its number.

        Raises
        ------
        RegistryError
            There is none; the sentence lists those that are.
        """
        known = {ref.version: ref for ref in self.models()}
        if version not in known:
            raise RegistryError(
                f"a version of model {self.model_name!r} was required, however {version=} came; "
                f"it has {', '.join(known) or 'none'}: see `vaewatch models`"
            )
        return known[version]

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Write tags to a version, in place of what they said before."""
        with self.stores.asked_to(f"tag version {version}") as client:
            for name, value in tags.items():
                client.set_model_version_tag(self.model_name, version, name, value)

    def run(self, run_id: str) -> Run:
        """The run of this id, open for more to be logged."""
        return Run(run_id, self.stores)

    def aliases(self) -> dict[str, str]:
        """Alias to version, all of them; none while there is no such model."""
        with self.stores.asked_to("read the aliases") as client:
            return self._aliases(client)

    def take_alias(self, alias: str) -> None:
        """Take an alias away from whichever version carries it."""
        with self.stores.asked_to(f"take alias {alias!r} away") as client:
            client.delete_registered_model_alias(self.model_name, alias)

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias at a version; whatever carried it before loses it in the same moment."""
        self.version(version).with_files()
        before = self.aliases().get(alias)
        with self.stores.asked_to(f"move alias {alias!r}") as client:
            client.set_registered_model_alias(self.model_name, alias, version)
        try:
            self.version(version).with_files()
        except RegistryError:  # pruned in the meantime, by who did not see the alias yet
            self.take_alias(alias) if before is None else self.set_alias(alias, before)
            raise

    def discard(self, ref: ModelRef, when: datetime, cache: Path) -> bool:
        """Remove the files of a version, and its local copy; its record, its run and its tags stay.

        Returns
        -------
        bool
            Whether it was done; not so when the version carries an alias by now, or its run made another one.
        """
        if ref.tags.get(PRUNED) != "begun":
            self.tag(ref.version, {PRUNED: "begun"})
        with self.stores.asked_to(f"remove the files of version {ref.version}") as client:
            if ref.version in self._aliases(client).values() or self._shares_files(client, ref):
                client.delete_model_version_tag(ref.name, ref.version, PRUNED)
                return False
            stored = client.get_model_version_download_uri(ref.name, ref.version)
            with contextlib.suppress(FileNotFoundError):
                files_at(stored, self.tracking_uri).delete_artifacts()
            shutil.rmtree(cached_at(cache, ref.name, ref.version, ref.run_id), ignore_errors=True)
            client.set_model_version_tag(ref.name, ref.version, PRUNED, when.isoformat(timespec="seconds"))
        return True

    def _shares_files(self, client: Any, ref: ModelRef) -> bool:
        """Whether another version, maybe of another name, was made from the same run: copies point there."""
        found = client.search_model_versions(f"run_id = '{ref.run_id}'")
        return any((one.name, str(one.version)) != (ref.name, ref.version) for one in found)

    def _aliases(self, client: Any) -> dict[str, str]:
        """Alias -> version; none while there is no such model."""
        try:
            found = client.get_registered_model(self.model_name).aliases
        except mlflow_itself().MlflowException as error:
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
        kept = cached_at(cache, ref.name, ref.version, ref.with_files().run_id)
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
        files = mlflow_itself().artifacts.download_artifacts(
            f"{stored}/artifacts", dst_path=scratch, tracking_uri=self.tracking_uri
        )
        found = list(Path(files).iterdir())
        detector = found[0] if len(found) == 1 else Path(files)  # of what was registered, there is one
        if ref.digest not in {None, folder_digest(detector)}:
            raise RegistryError(
                f"version {ref.version} of model {ref.name!r} was required as it was registered, however its "
                f"files were altered (they are no longer {ref.digest}); restore them, or train a new version"
            )
        return detector
