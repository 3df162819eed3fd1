"""A detector as a model that MLflow serves: signature, code, requirements."""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.tracking import mlflow_itself

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["log_model", "mlflow_columns"]

PACKAGES = ("numpy", "pandas", "pyarrow", "safetensors", "scikit-learn", "scipy", "torch")
"""What ``vae_core`` needs where a model is served."""


def mlflow_columns(schema: pa.Schema) -> Any:
    """MLflow's schema of a table, all columns required; any of them may hold nulls."""
    types = mlflow_itself().types
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
    return mlflow_itself().types.schema.AnyType()


def _signature(features: pa.Schema) -> Any:
    """Feature columns in; what ``flows/serving.py`` answers out."""
    mlflow = mlflow_itself()
    measures = ("reconstruction_loss", "anomaly_score", "p_value", "severity")
    answer = [mlflow.types.ColSpec("double", name) for name in measures]
    answer.append(mlflow.types.ColSpec("boolean", "is_anomaly"))
    return mlflow.models.ModelSignature(mlflow_columns(features), mlflow.types.Schema(answer))


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

    mlflow_itself().pyfunc.save_model(
        str(folder),
        mlflow_model=card,
        python_model=str(Path(__file__).with_name("serving.py")),
        code_paths=[str(Path(vae_core.__file__).parent)],
        artifacts={"detector": str(detector)},
        signature=_signature(example.schema),
        input_example=example.cast(_shown(example.schema)).to_pandas(),
        pip_requirements=_requirements(),  # without them MLflow spends a minute on finding out
    )


def log_model(client: Any, run_id: str, detector: Path, example: pa.Table) -> Any:
    """Log a detector as a model of the run."""
    mlflow = mlflow_itself()
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
