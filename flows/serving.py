"""The model as MLflow serves it.

MLflow copies this file into the model and executes it there; beside it lie the detector's folder and
the code of ``vae_core``, and nothing else of vaewatch. No module of vaewatch imports it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

if TYPE_CHECKING:
    from vae_core.schema import ColumnSpec


class ServedDetector(PythonModel):
    """A saved detector behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the detector; MLflow has put the model's own copy of ``vae_core`` on the path."""
        from vae_core import VAEDetector

        self.detector = VAEDetector.load(context.artifacts["detector"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score rows, each by itself.

        Parameters
        ----------
        context, params
            Of MLflow; not used.
        model_input
            The detector's feature columns in any order.

        Returns
        -------
        pd.DataFrame
            One row an input row, with its index: ``reconstruction_loss`` (nats), ``anomaly_score`` (higher
            is worse), ``p_value``, ``severity`` (0 to 100), ``is_anomaly`` (by the detector's own threshold).
        """
        scores = self.detector.score_batch(as_arrow(model_input, self.detector.schema_.features))
        measures = ("reconstruction_loss", "anomaly_score", "p_value", "severity")
        answer = {name: getattr(scores, name) for name in measures}
        answer["is_anomaly"] = -scores.anomaly_score < self.detector.offset_
        return pd.DataFrame(answer, index=model_input.index)


def as_arrow(frame: pd.DataFrame, columns: Iterable[ColumnSpec]) -> pa.Table:
    """Give what pandas and JSON made of the columns the types that were learned.

    Integers with nulls come as floats, instants as text (ISO 8601) or as milliseconds since 1970, which
    ``DataFrame.to_json`` writes; and a null of any column as None, NaN, NaT or NA.

    Raises
    ------
    ValueError
        The values of a column are not of its type; the message names it.
    """
    return pa.table({column.name: _learned(frame[column.name], column.arrow_type) for column in columns})


def _learned(values: pd.Series, arrow_type: pa.DataType) -> pa.Array:
    plain = arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type
    instants = pa.types.is_timestamp(plain) or pa.types.is_date(plain)
    if values.isna().all():
        return pa.nulls(len(values), plain)
    try:
        return (_instants(values) if instants else pa.array(values, from_pandas=True)).cast(plain)
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"column {values.name!r} was learned as {plain}, however: {reason}") from None


def _instants(values: pd.Series) -> pa.Array:
    """Instants from text, milliseconds, dates or instants, in UTC where they do not say."""
    if pd.api.types.is_numeric_dtype(values):
        found = pd.to_datetime(values, utc=True, unit="ms")
    else:
        found = pd.to_datetime(values, utc=True, format="ISO8601")
    return pc.assume_timezone(pa.array(found.dt.tz_localize(None)), "UTC")


set_model(ServedDetector())
