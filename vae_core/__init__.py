"""Tables in, scores and reasons out: a variational autoencoder for the rows that do not belong."""

from vae_core.calibration import Calibration, benjamini_hochberg, severity
from vae_core.detector import Scores, VAEDetector
from vae_core.exceptions import (
    ColumnError,
    DataError,
    DivergenceError,
    ModelFileError,
    ParameterError,
    VaeCoreError,
)
from vae_core.explanation import Reason
from vae_core.schema import ColumnKind, ColumnSpec, SchemaDiff, TableSchema

__all__ = [
    "Calibration",
    "ColumnError",
    "ColumnKind",
    "ColumnSpec",
    "DataError",
    "DivergenceError",
    "ModelFileError",
    "ParameterError",
    "Reason",
    "SchemaDiff",
    "Scores",
    "TableSchema",
    "VAEDetector",
    "VaeCoreError",
    "benjamini_hochberg",
    "severity",
]
