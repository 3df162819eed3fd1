"""MLflow runs: what a training, or the test of a challenger, leaves to be looked at."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.pyfunc import mlflow_columns
from flows.tracking import Stores, files_at, mlflow_itself

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Run"]

MAX_KEY, MAX_PARAMETER, MAX_DATASET_DIGEST = 250, 6000, 36  # characters; MLflow refuses more


@dataclass(frozen=True)
class Run:
    """An open training run, as `Registry.start_run` yields it; all methods raise `RegistryError`."""

    id: str
    stores: Stores

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; long values are cut where MLflow would refuse them."""
        param = mlflow_itself().entities.Param
        with self.stores.asked_to("log parameters") as client:
            found = [param(_key(name), str(value)[:MAX_PARAMETER]) for name, value in params.items()]
            client.log_batch(self.id, params=found)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log figures that belong to the run as a whole."""
        self.log_history([{"epoch": 0, **metrics}])

    def log_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log the figures of every epoch in one request; the key ``epoch`` is their step."""
        metric, now = mlflow_itself().entities.Metric, int(time.time() * 1000)
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
        entities = mlflow_itself().entities
        source = json.dumps({"uri": uri})
        columns = json.dumps({"mlflow_colspec": mlflow_columns(schema).to_dict()})
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

    def discard_file(self, path: str) -> None:
        """Remove a file of the run; nothing happens when it is gone already."""
        with self.stores.asked_to("remove a file") as client:
            stored = client.get_run(self.id).info.artifact_uri
            with contextlib.suppress(FileNotFoundError):
                files_at(stored, self.stores.tracking_uri).delete_artifacts(path)

    def origin(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Parameters of the run, and ``uri`` and ``rows`` of the data that it learned from."""
        with self.stores.asked_to("read a run") as client:
            found = client.get_run(self.id)
        inputs: dict[str, Any] = {}
        for one in found.inputs.dataset_inputs:
            inputs = {
                "uri": json.loads(one.dataset.source).get("uri"),
                "rows": json.loads(one.dataset.profile).get("num_rows"),
            }
        return dict(found.data.params), inputs

    def end(self, status: str) -> None:
        """Close the run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        with self.stores.asked_to("end the run") as client:
            client.set_terminated(self.id, status)


def _key(name: str) -> str:
    """Name of a parameter or metric in the characters and length that MLflow takes."""
    return re.sub(r"[^\w/.\- ]", "_", name, flags=re.ASCII)[:MAX_KEY]
