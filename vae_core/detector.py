"""VAEDetector: fit on rows, score rows, say why. The façade over the rest of the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from vae_core import explanation, scoring
from vae_core.calibration import Calibration, severity
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.exceptions import ColumnError, DataError, ModelFileError
from vae_core.expectation import Expectation, expect
from vae_core.generation import generate
from vae_core.modules import VAE
from vae_core.persistence import load_folder, restore, save_folder, schema_from_json, schema_to_json
from vae_core.schema import TableSchema
from vae_core.tabular import as_frame, as_table, from_matrix, is_table
from vae_core.training import EpochRecord, TrainingPlan, choose_device, train_vae

__all__ = ["Scores", "VAEDetector"]

Floats = npt.NDArray[np.float64]
OnEpoch = Callable[[EpochRecord, int], None]

MISFITS = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    pa.ArrowException,
)
"""What restoring raises on a well-formed model.json whose values are not a detector's."""


@dataclass(frozen=True)
class Scores:
    """Scores of n rows, float64 [n] each but ``column_losses`` [n, c].

    ``reconstruction_loss`` in nats; ``anomaly_score`` and ``severity`` (0 to 100) grow with anomaly,
    ``p_value`` (0 to 1) falls.
    """

    reconstruction_loss: Floats
    anomaly_score: Floats
    p_value: Floats
    severity: Floats
    column_losses: Floats


class VAEDetector(TransformerMixin, OutlierMixin, BaseEstimator):
    """Finds the rows of a table that do not belong, by a variational autoencoder's reconstruction loss.

    Numbers, categories, booleans and timestamps each have a likelihood of their own; nulls and values
    never seen are evidence, not errors. Scores come from the posterior mean: deterministic, and
    independent of the batch that a row comes in.

    Parameters
    ----------
    contamination : float, default=0.01
        Share of rows to call anomalous, in (0, 0.5]; sets ``offset_``.
    kinds : mapping of str to str, optional
        Column name to ``numeric``, ``categorical``, ``boolean``, ``timestamp``, ``key`` or ``ignored``,
        where the type says too little.
    hidden_dims : sequence of int, default=(64, 64)
        Widths of the encoder's hidden layers; the decoder mirrors them.
    latent_dim : int, default=8
        Dimensions of the latent.
    n_members : int, default=3
        Autoencoders trained and scored jointly; their scores are averaged.
    beta : float, optional
        Weight of the KL divergence in the loss; by default 0.3, and 1 for tables with categories or nulls.
        A heavier weight keeps rare patterns of nulls and rare categories from being copied through.
    min_scale : float, optional
        Smallest standard deviation that the decoder may claim of a number, in standard deviations of its
        column: deviations far below it count for little. In (0, 1); by default 0.05, and 0.22 for tables
        with categories or nulls, where numbers known too precisely would drown the other columns.
    learning_rate : float, default=1e-3
        Of Adam.
    batch_size : int, optional
        Rows a step; by default 128 up to 32,768 rows and one 256th of larger tables, at most 2,048.
    max_epochs : int, default=30
        Upper bound on passes over the rows.
    max_steps : int, default=3000
        Upper bound on steps of Adam; keeps large tables affordable.
    patience : int, default=5
        Epochs without a better loss on held-out rows before training ends.
    masking : float, default=0.2
        Probability that a nullable or categorical input cell is hidden while training.
    max_categories : int, default=64
        Values of a categorical column with a code of their own; rarer ones share one.
    device : str, default="auto"
        ``auto`` is CUDA where there is one; otherwise any torch device.
    random_state : int or RandomState, optional
        Same seed, same machine: same weights.

    Attributes
    ----------
    offset_ : float
        ``decision_function`` is ``score_samples`` minus this.
    history_ : list of EpochRecord
        Losses of each epoch.
    schema_ : TableSchema
        Columns and kinds.
    calibration_ : Calibration
        Reference scores: of the training rows after ``fit``, of held-out rows after ``calibrate``.
    n_features_in_, feature_names_in_
        As in scikit-learn; all columns, ignored ones too.

    References
    ----------
    Kingma & Welling, Auto-Encoding Variational Bayes, ICLR 2014; Higgins et al., beta-VAE, ICLR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(500, 3))
    >>> detector = VAEDetector(random_state=0).fit(rows)
    >>> detector.predict(np.array([[0.0, 0.0, 0.0], [9.0, -9.0, 9.0]])).tolist()
    [1, -1]
    """

    def __init__(
        self,
        contamination: float = 0.01,
        *,
        kinds: Mapping[str, str] | None = None,
        hidden_dims: Sequence[int] = (64, 64),
        latent_dim: int = 8,
        n_members: int = 3,
        beta: float | None = None,
        min_scale: float | None = None,
        learning_rate: float = 1e-3,
        batch_size: int | None = None,
        max_epochs: int = 30,
        max_steps: int = 3000,
        patience: int = 5,
        masking: float = 0.2,
        max_categories: int = 64,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.contamination = contamination
        self.kinds = kinds
        self.hidden_dims = hidden_dims
        self.latent_dim = latent_dim
        self.n_members = n_members
        self.beta = beta
        self.min_scale = min_scale
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.patience = patience
        self.masking = masking
        self.max_categories = max_categories
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, on_epoch: OnEpoch | None = None) -> Self:
        """Learn what rows usually look like.

        Parameters
        ----------
        X
            Rows: pandas or Polars frame, Arrow table, or matrix [n, d]; anomalies may be among them.
        y
            Ignored.
        on_epoch
            Called after each epoch with its record and the greatest number of epochs.

        Raises
        ------
        DataError, ColumnError, ValueError
            Nothing to learn from, or a column or parameter that cannot be used.
        DivergenceError
            Training left the finite numbers.
        """
        self._check_parameters()
        table = self._table(X, reset=True)
        self.schema_ = TableSchema.infer(table, self.kinds)
        self.encoder_ = TableEncoder(self.schema_, self.max_categories).fit(table)
        rows = self.encoder_.encode(table)
        seed = _seed(self.random_state)
        self.model_ = self._new_model(seed)
        self.history_ = train_vae(self.model_, rows, self._plan(len(rows), seed), on_epoch)
        return self._take_reference(rows)

    def _check_parameters(self) -> None:
        if not 0 < self.contamination <= 0.5:
            raise ValueError(f"contamination must be in (0, 0.5], however it is {self.contamination}")
        if self.min_scale is not None and not 0 < self.min_scale < 1:
            raise ValueError(f"min_scale must be in (0, 1), however it is {self.min_scale}")
        for name in ("latent_dim", "n_members", "max_epochs", "max_steps", "max_categories"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, however it is {getattr(self, name)}")

    def _new_model(self, seed: int) -> VAE:
        model = VAE(
            self.encoder_.layout,
            tuple(self.hidden_dims),
            self.latent_dim,
            self.n_members,
            self._min_scale(),
            seed,
        )
        return model.to(choose_device(self.device))

    def _beta(self) -> float:
        return self.beta if self.beta is not None else (1.0 if self.encoder_.layout.is_mixed else 0.3)

    def _min_scale(self) -> float:
        return (
            self.min_scale
            if self.min_scale is not None
            else (0.22 if self.encoder_.layout.is_mixed else 0.05)
        )

    def _plan(self, rows: int, seed: int) -> TrainingPlan:
        automatic = int(np.clip(2 ** round(np.log2(max(rows / 256, 1))), 128, 2048))
        return TrainingPlan(
            beta=self._beta(),
            learning_rate=self.learning_rate,
            batch_size=self.batch_size or automatic,
            max_epochs=self.max_epochs,
            max_steps=self.max_steps,
            patience=self.patience,
            masking=self.masking,
            seed=seed,
        )

    def _take_reference(self, rows: EncodedBatch) -> Self:
        losses = scoring.row_losses(self.model_, rows)
        self.reference_ = scoring.Reference.of(losses.members)
        self.usual_losses_ = np.median(losses.columns, axis=0)
        return self._decide_by(self.reference_.anomaly_scores(losses.members))

    def _decide_by(self, scores: Floats) -> Self:
        self.calibration_ = Calibration.of(scores)
        self.offset_ = -float(np.quantile(scores, 1.0 - self.contamination))
        return self

    def calibrate(self, X: Any) -> Self:
        """Take p-values and ``offset_`` from rows that the model was not fitted on.

        The newest rows before the ones to be scored are the right ones: what they contain counts as usual.
        """
        self._decide_by(self._anomaly_scores(X))
        self.offset_ = -self.calibration_.threshold(self.contamination)
        return self

    def score_samples(self, X: Any) -> Floats:
        """Minus the anomaly score of each row [n]: higher is more normal, scikit-learn's sign."""
        return -self._anomaly_scores(X)

    def _anomaly_scores(self, X: Any) -> Floats:
        return self.reference_.anomaly_scores(self._losses(X).members)

    def decision_function(self, X: Any) -> Floats:
        """``score_samples`` minus ``offset_`` of each row [n]: below 0 is an anomaly."""
        check_is_fitted(self)
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """-1 for an anomaly, +1 for a normal row, [n]."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> Floats:
        """Share of calibration rows at least as anomalous as each row [n], in (0, 1]."""
        check_is_fitted(self)
        return self.calibration_.p_values(self._anomaly_scores(X))

    def feature_scores(self, X: Any) -> Floats:
        """Loss of each cell [n, columns] in nats, columns as in ``feature_names_in_``; keys cost 0.

        Rows sum to the reconstruction loss.
        """
        losses = self._losses(X).columns
        wide = np.zeros((len(losses), len(self.schema_.columns)))
        wide[:, [column.is_feature for column in self.schema_.columns]] = losses
        return wide

    def score_batch(self, batch: Any) -> Scores:
        """All scores of a batch in one pass."""
        losses = self._losses(batch)
        anomaly = self.reference_.anomaly_scores(losses.members)
        p_values = self.calibration_.p_values(anomaly)
        return Scores(losses.total, anomaly, p_values, severity(p_values), losses.columns)

    def explain(self, rows: Any, top: int = 3) -> list[list[explanation.Reason]]:
        """The ``top`` reasons of each row, largest share first."""
        table = self._table(rows, reset=False)
        encoded = self.encoder_.encode(table)
        losses = scoring.row_losses(self.model_, encoded).columns
        expectation = expect(self.model_, self.encoder_, encoded)
        return explanation.reasons(self.encoder_, table, losses, self.usual_losses_, expectation, top)

    def expected(self, X: Any) -> pd.DataFrame:
        """What the model expected of each row, in the input's columns and types.

        Keys and ignored columns come back as they are; timestamps keep their day.
        """
        table = self._table(X, reset=False)
        expectation: Expectation = expect(self.model_, self.encoder_, self.encoder_.encode(table))
        columns = {
            column.name: expectation.column(column.name, table)
            if column.is_feature
            else table.column(column.name)
            for column in self.schema_.columns
            if column.is_feature or column.name in table.schema.names
        }
        return as_frame(pa.table(columns))

    def transform(self, X: Any) -> Floats:
        """Latent means of each row [n, latent_dim], of the first member."""
        rows = self._encoded(X)
        return scoring.latent_means(self.model_, rows)

    def sample(self, n: int, random_state: int | None = None) -> pd.DataFrame:
        """``n`` rows generated from the prior, in the input's columns and types; keys are null."""
        check_is_fitted(self)
        return as_frame(generate(self.model_, self.encoder_, n, random_state))

    def save(self, folder: str | Path) -> None:
        """Write the fitted detector as a folder of safetensors and JSON."""
        check_is_fitted(self)
        arrays = {
            "reference.median": self.reference_.median,
            "reference.spread": self.reference_.spread,
            "usual_losses": self.usual_losses_,
            "calibration.scores": self.calibration_.scores,
        }
        tensors = {f"model.{name}": tensor for name, tensor in self.model_.state_dict().items()}
        tensors |= {
            name: torch.from_numpy(np.asarray(array, dtype=np.float64)) for name, array in arrays.items()
        }
        save_folder(folder, self._meta(), tensors)

    def _meta(self) -> dict[str, Any]:
        parameters = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params(deep=False).items()
        }
        parameters["hidden_dims"] = [int(width) for width in self.hidden_dims]
        parameters["kinds"] = dict(self.kinds) if self.kinds else None
        if not isinstance(parameters["random_state"], int):
            parameters["random_state"] = None  # a generator has moved on
        tail = {key: value for key, value in asdict(self.calibration_).items() if key != "scores"}
        return {
            "parameters": parameters,
            "offset": self.offset_,
            "schema": schema_to_json(self.schema_),
            "named": hasattr(self, "feature_names_in_"),
            "encoder": self.encoder_.to_json(),
            "calibration": tail,
            "history": [asdict(record) for record in self.history_],
        }

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> VAEDetector:
        """Read a folder written by :meth:`save`; nothing is unpickled.

        Raises
        ------
        ModelFileError
            The folder is missing, altered, or of another format version.
        """
        meta, tensors = load_folder(folder)
        try:
            return cls._restored(meta, tensors, device)
        except MISFITS as error:
            raise ModelFileError(
                f"{folder} must describe a detector of this version, however: {error!r}; train again"
            ) from error

    @classmethod
    def _restored(
        cls, meta: dict[str, Any], tensors: dict[str, torch.Tensor], device: str | None
    ) -> VAEDetector:
        parameters = {**meta["parameters"], "hidden_dims": tuple(meta["parameters"]["hidden_dims"])}
        detector = cls(**parameters)
        detector.device = device or detector.device
        detector.schema_ = schema_from_json(meta["schema"])
        detector.n_features_in_ = len(detector.schema_.columns)
        if meta["named"]:
            detector.feature_names_in_ = np.array(detector.schema_.names, dtype=object)
        detector.encoder_ = TableEncoder.from_json(detector.schema_, meta["encoder"])
        detector.model_ = detector._new_model(0)
        restore(
            detector.model_,
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")},
        )
        plain = {name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith("model.")}
        detector.reference_ = scoring.Reference(plain["reference.median"], plain["reference.spread"])
        detector.usual_losses_ = plain["usual_losses"]
        detector.calibration_ = Calibration(scores=plain["calibration.scores"], **meta["calibration"])
        detector.offset_ = float(meta["offset"])
        detector.history_ = [EpochRecord(**record) for record in meta["history"]]
        return detector

    def _encoded(self, X: Any) -> EncodedBatch:
        table = self._table(X, reset=False)
        return self.encoder_.encode(table)

    def _losses(self, X: Any) -> scoring.RowLosses:
        rows = self._encoded(X)  # refuses before fit
        return scoring.row_losses(self.model_, rows)

    def _table(self, X: Any, *, reset: bool) -> pa.Table:
        """Any kind of rows as an Arrow table; checks names and numbers of columns against ``fit``."""
        if not reset:
            check_is_fitted(self)
        if isinstance(X, pa.Table | pa.RecordBatch):
            return self._arrow(as_table(X), reset=reset)
        if is_table(X):
            return self._frame(X, reset=reset)
        matrix = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,
            ensure_min_samples=1,
        )
        return from_matrix(matrix, _numbered(matrix.shape[1]) if reset else self.schema_.names)

    def _frame(self, X: Any, *, reset: bool) -> pa.Table:
        table = as_table(X)
        validate_data(self, X, reset=reset, skip_check_array=True)
        if reset:
            _refuse_no_rows(table)
        return table

    def _arrow(self, table: pa.Table, *, reset: bool) -> pa.Table:
        if reset:
            _refuse_no_rows(table)
            self.n_features_in_ = table.num_columns
            self.feature_names_in_ = np.array(table.schema.names, dtype=object)
        return table

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's tags: nulls and texts are welcome, scores depend on the row alone."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags


def _refuse_no_rows(table: pa.Table) -> None:
    if table.num_rows == 0:
        raise DataError(
            "at least one row is required to learn from, however there are 0 rows; widen the window"
        )
    if table.num_columns == 0:
        raise ColumnError("at least one column is required, however there are 0; name the columns to read")


def _numbered(n: int) -> tuple[str, ...]:
    """Names for ``n`` columns that have none: x0, x1, …."""
    return tuple(f"x{j}" for j in range(n))


def _seed(random_state: int | np.random.RandomState | None) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    generator = random_state if random_state is not None else np.random.RandomState()
    return int(generator.randint(2**31 - 1))
