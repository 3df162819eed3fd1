"""VAEDetector: fit on rows, score rows, say why. The façade over the rest of the package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from vae_core import explanation, scoring
from vae_core.bounds import BOUNDS, row_bounds
from vae_core.calibration import Calibration, severity
from vae_core.checkpoint import Checkpoint
from vae_core.columns import BooleanCodec
from vae_core.encoding import EncodedBatch, TableEncoder
from vae_core.ensemble import Members, train_ensemble, usual_steps
from vae_core.evidence import weighed
from vae_core.exceptions import ColumnError, DataError, ModelFileError
from vae_core.expectation import Expectation, expect
from vae_core.generation import generate
from vae_core.modules import VAE
from vae_core.parameters import (
    refuse,
    refuse_other,
    require_number,
    require_seed,
    require_whole,
    require_widths,
)
from vae_core.persistence import load_folder, restore, save_folder, schema_from_json, schema_to_json
from vae_core.presets import PRESETS, Preset
from vae_core.repair import Repairer
from vae_core.restored import checked, number, require_numbers, require_size
from vae_core.schema import TableSchema
from vae_core.tabular import as_frame, as_table, from_matrix, is_frame, is_table
from vae_core.training import EpochRecord, TrainingPlan, choose_device

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
    """Scores of n rows, float64 [n] each but ``column_losses`` [n, c], or [n, 0] where not asked for.

    ``reconstruction_loss`` in nats; ``anomaly_score`` and ``severity`` (0 to 100) grow with anomaly,
    ``p_value`` (0 to 1) falls. The last two are found when they are first asked for: of a night's rows few
    are looked at.
    """

    reconstruction_loss: Floats
    anomaly_score: Floats
    column_losses: Floats
    calibration: Calibration

    @cached_property
    def p_value(self) -> Floats:
        """Share of calibration rows at least as anomalous, in (0, 1]."""
        return self.calibration.p_values(self.anomaly_score)

    @cached_property
    def severity(self) -> Floats:
        """``min(100, -10 log10 p_value)``."""
        return severity(self.p_value)

    def of(self, rows: npt.NDArray[np.bool_]) -> Scores:
        """Scores of the rows in a mask [n]; of all rows these very ones, with what is already found."""
        if rows.all():
            return self
        losses, scores = self.reconstruction_loss[rows], self.anomaly_score[rows]
        return Scores(losses, scores, self.column_losses[rows], self.calibration)


class VAEDetector(ClassNamePrefixFeaturesOutMixin, TransformerMixin, OutlierMixin, BaseEstimator):
    """Finds the rows of a table that do not belong, by a variational autoencoder's reconstruction loss.

    Numbers, categories, booleans and timestamps each have a likelihood of their own; nulls and values
    never seen are evidence, not errors. Scores come from the posterior mean: deterministic, and
    independent of the batch that a row comes in.

    Parameters
    ----------
    contamination : float, default=0.01
        Share of rows to call anomalous, in (0, 0.5]; sets ``offset_``.
    preset : {"default", "textbook"}, default="default"
        Where arguments left open take their values from. ``textbook`` is the autoencoder of Kingma &
        Welling: one member, numbers under a Gaussian of variance 1, ``beta`` 1 from the first step, no
        masking. An argument that is given is taken, whatever the preset.
    training_data : {"auto", "clean", "contaminated"}, optional
        Whether anomalies are to be expected among the training rows. ``clean`` trains all members on all
        rows; ``contaminated`` trains half of them, or the only one, on batches without the fifth whose
        numbers cost most, and the others without the rows that those set aside; ``auto`` has a quarter of
        the first sort, with categories or nulls a quarter of the second, and from 50,000 rows on is
        ``clean``. By default auto, textbook clean.
    bound : {"elbo", "iwae"}, optional
        Ranks rows by minus the evidence lower bound, or minus the importance-weighted bound, instead of by
        the reconstruction loss: ``anomaly_score`` and all that follows from it. Reconstruction losses,
        feature scores and reasons stay. Takes 32 passes of the decoder a row.
    kinds : mapping of str to str, optional
        Column name to ``numeric``, ``categorical``, ``boolean``, ``timestamp``, ``key`` or ``ignored``,
        where the type says too little.
    hidden_dims : sequence of int, default=(64, 64)
        Widths of the encoder's hidden layers; the decoder mirrors them.
    latent_dim : int, default=8
        Dimensions of the latent.
    n_members : int, optional
        Autoencoders trained and scored jointly; a soft maximum of their scores is taken. By default 8,
        textbook 1.
    beta : float, optional
        Weight of the KL divergence in the loss; by default 0.03, and 1 for tables with categories or nulls;
        textbook 1.
        A heavier weight keeps rare patterns of nulls and rare categories from being copied through.
    min_scale : float, optional
        Smallest standard deviation that the decoder may claim of a number, in standard deviations of its
        column: deviations far below it count for little. In (0, 1); by default 0.05, and 0.22 for tables
        with categories or nulls, where numbers known too precisely would drown the other columns. Textbook:
        no variance is learned unless this is given.
    learning_rate : float, optional
        Of Adam. By default 3e-3, textbook 1e-3.
    batch_size : int, optional
        Rows a step; by default 128 up to 32,768 rows and one 256th of larger tables, at most 2,048.
    max_epochs : int, default=30
        Upper bound on passes over the rows.
    max_steps : int, optional
        Upper bound on steps of Adam; keeps large tables affordable. By default 800, and from 50,000 rows
        on 2,400.
    patience : int, optional
        Epochs without a better loss on held-out rows before training ends and goes back to the best
        epoch; by default training runs to its end.
    masking : float, optional
        Probability that a nullable or categorical input cell is hidden while training, in [0, 1); by default
        0.2, textbook 0.
    max_categories : int, default=64
        Values of a categorical column with a code of their own; of rarer ones those that come in like rows
        share one, and what is left shares another.
    device : str or torch.device, default="auto"
        ``auto`` is CUDA where there is one; otherwise any torch device.
    random_state : int or RandomState, optional
        Same seed, same machine: same weights. At least 0.

    Attributes
    ----------
    offset_ : float
        ``decision_function`` is ``score_samples`` minus this.
    history_ : list of EpochRecord
        Losses of each epoch.
    resumed_epochs_ : int
        Epochs that an earlier call of ``fit``, killed on its way, had left in ``checkpoint``.
    set_aside_ : ndarray of int64
        Numbers of the training rows that the members that clean set aside; not saved with the model.
    parameters_ : dict
        The parameters that ``fit`` was called with, and the contamination of ``calibrate``: they are what is
        saved. Those that ``set_params`` changes later wait for the next call.
    bound_ : {"elbo", "iwae"} or None
        What rows are ranked by.
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
        preset: str = "default",
        training_data: str | None = None,
        bound: str | None = None,
        kinds: Mapping[str, str] | None = None,
        hidden_dims: Sequence[int] = (64, 64),
        latent_dim: int = 8,
        n_members: int | None = None,
        beta: float | None = None,
        min_scale: float | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        max_epochs: int = 30,
        max_steps: int | None = None,
        patience: int | None = None,
        masking: float | None = None,
        max_categories: int = 64,
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.contamination = contamination
        self.preset = preset
        self.training_data = training_data
        self.bound = bound
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

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        on_epoch: OnEpoch | None = None,
        checkpoint: str | Path | None = None,
        normal: npt.ArrayLike | None = None,
    ) -> Self:
        """Learn what rows usually look like.

        Parameters
        ----------
        X
            Rows: pandas or Polars frame, Arrow table, or matrix [n, d]; anomalies may be among them.
        y
            Ignored.
        on_epoch
            Called after each epoch with its record and the greatest number of epochs.
        checkpoint
            Folder in which training keeps its state, every ten seconds, until it is complete. Killed and
            called again with the same rows, parameters and seed, it goes on from there and ends with the
            same weights and history; what another training left there is not taken up.
        normal
            Which of the rows are known to be normal, however odd they look, bool [n]: none of them is set
            aside.

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
        kept = None if checkpoint is None else Checkpoint(checkpoint)
        trained = train_ensemble(
            self._new_model,
            rows,
            self._plan(len(rows), seed),
            self._members(len(rows)),
            on_epoch,
            kept,
            _mask(normal, len(rows), "normal"),
        )
        self.resumed_epochs_ = kept.resumed if kept else 0
        self.model_, self.history_ = trained.model, trained.history
        self._remember()
        self.set_aside_ = np.flatnonzero(trained.set_aside)
        scores = self._take_reference(rows)
        if self._preset().weighs_news:
            self._weigh_news(scores)
            del rows
            scores = self._take_reference(self.encoder_.encode(table))
        self._decide_by(scores)
        if kept:
            kept.clear()
        return self

    def _check_parameters(self) -> None:
        self._check_lasting()
        refuse_other("training_data", self.training_data, (None, "auto", "clean", "contaminated"))
        require_number("beta", self.beta, "at least 0", lambda v: v >= 0, optional=True)
        require_number("learning_rate", self.learning_rate, "positive", lambda v: v > 0, optional=True)
        require_number("masking", self.masking, "in [0, 1)", lambda v: 0 <= v < 1, optional=True)
        for name in ("latent_dim", "max_epochs", "max_categories"):
            require_whole(name, getattr(self, name))
        for name in ("n_members", "batch_size", "max_steps", "patience"):
            require_whole(name, getattr(self, name), optional=True)
        require_widths(self.hidden_dims)
        require_seed(self.random_state)
        choose_device(self.device)

    def _check_lasting(self) -> None:
        """Check what a fitted detector still needs: to be calibrated, or to be made from a file."""
        require_number("contamination", self.contamination, "in (0, 0.5]", lambda v: 0 < v <= 0.5)
        require_number("min_scale", self.min_scale, "in (0, 1)", lambda v: 0 < v < 1, optional=True)
        refuse_other("preset", self.preset, tuple(PRESETS))
        refuse_other("bound", self.bound, (None, *BOUNDS))
        if not isinstance(self.kinds, Mapping | None):
            refuse(
                "kinds", self.kinds, "a mapping of column names to kinds", "give one such as {'id': 'key'}"
            )

    def _remember(self) -> None:
        """Keep the parameters as they are now, as JSON values."""
        self.parameters_ = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params(deep=False).items()
        }
        self.parameters_["hidden_dims"] = [int(width) for width in self.hidden_dims]
        self.parameters_["kinds"] = dict(self.kinds) if self.kinds else None
        self.parameters_["device"] = str(self.device)
        if not isinstance(self.parameters_["random_state"], int):
            self.parameters_["random_state"] = None  # a generator has moved on
        self.bound_ = self.bound

    def _new_model(self, members: int, seed: int) -> VAE:
        hidden_dims = tuple(self.hidden_dims)
        model = VAE(self.encoder_.layout, hidden_dims, self.latent_dim, members, self._min_scale(), seed)
        return model.to(choose_device(self.device))

    def _members(self, rows: int) -> Members:
        total = self._preset().n_members if self.n_members is None else self.n_members
        return Members.of(total, self._known(), rows, self.encoder_.layout.is_mixed)

    def _known(self) -> str:
        return self.training_data or self._preset().training_data

    def _preset(self) -> Preset:
        return PRESETS[self.preset]

    def _beta(self) -> float:
        beta = self._preset().beta if self.beta is None else self.beta
        return beta if beta is not None else (1.0 if self.encoder_.layout.is_mixed else 0.03)

    def _min_scale(self) -> float | None:
        if self.min_scale is not None or self._preset().unit_variance:
            return self.min_scale
        return 0.22 if self.encoder_.layout.is_mixed else 0.05

    def _plan(self, rows: int, seed: int) -> TrainingPlan:
        automatic = int(np.clip(2 ** round(np.log2(max(rows / 256, 1))), 128, 2048))
        return TrainingPlan(
            beta=float(self._beta()),
            learning_rate=float(self.learning_rate or self._preset().learning_rate),
            batch_size=self.batch_size or automatic,
            max_epochs=self.max_epochs,
            max_steps=self.max_steps or usual_steps(rows, self._known()),
            patience=self.patience,
            masking=self._preset().masking if self.masking is None else self.masking,
            warm_up=self._preset().warm_up,
            variance_weight=self._preset().variance_weight,
            seed=seed,
        )

    def _take_reference(self, rows: EncodedBatch) -> Floats:
        """What is usual, from the training rows; their anomaly scores [n]."""
        losses = scoring.row_losses(self.model_, rows)
        self.usual_losses_ = np.median(losses.columns, axis=0)
        ranked = self._ranked(rows, losses)
        self.reference_ = scoring.Reference.of(ranked)
        return self.reference_.anomaly_scores(ranked)

    def _weigh_news(self, scores: Floats) -> None:
        """Let what training never had count as much as ordinary rows that come as seldom."""
        codecs = self.encoder_.codecs
        self.encoder_.codecs = weighed(codecs, self.usual_losses_, self.reference_, scores)
        self.model_.layout = self.encoder_.layout
        bits = [codec for codec in self.encoder_.measured if isinstance(codec, BooleanCodec)]
        self.model_.fix_bits([codec.logit for codec in bits])

    def _ranked(self, rows: EncodedBatch, losses: scoring.RowLosses | None = None) -> Floats:
        """What rows are ranked by [k, n]: reconstruction losses, or minus ``bound``; higher is worse."""
        if self.bound_ is not None:
            return -row_bounds(self.model_, rows, self.bound_)
        return (losses or scoring.row_losses(self.model_, rows)).members

    def _decide_by(self, scores: Floats) -> None:
        self.calibration_ = Calibration.of(scores, held_out=False)
        self.offset_ = -float(np.quantile(scores, 1.0 - self.contamination))

    def calibrate(self, X: Any, *, confirmed: npt.ArrayLike | None = None) -> Self:
        """Take p-values and ``offset_`` from rows that the model was not fitted on.

        The newest rows before the ones to be scored are the right ones: what they contain counts as usual.

        Parameters
        ----------
        X
            The rows, n of them.
        confirmed
            Which of them are known to be anomalies, bool [n]: these are left out.

        Raises
        ------
        DataError
            No row is left.
        ValueError
            ``confirmed`` is no mask of the rows, or ``contamination`` not in (0, 0.5].
        """
        check_is_fitted(self)
        self._check_lasting()
        scores = self._anomaly_scores(X)
        left_out = _mask(confirmed, scores.size)
        kept = scores[~left_out]
        self.calibration_ = Calibration.of(kept, confirmed=int(left_out.sum()))
        self.offset_ = -self.calibration_.threshold(self.contamination)
        self.parameters_["contamination"] = float(self.contamination)
        return self

    def score_samples(self, X: Any) -> Floats:
        """Minus the anomaly score of each row [n]: higher is more normal, scikit-learn's sign."""
        return -self._anomaly_scores(X)

    def _anomaly_scores(self, X: Any) -> Floats:
        table = self._table(X, reset=False)  # refuses before fit
        if self.bound_ is not None:
            return self.reference_.anomaly_scores(self._ranked(self.encoder_.encode(table)))
        losses = scoring.table_losses(self.model_, self.encoder_, table, columns=False)
        return self.reference_.anomaly_scores(losses.members)

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
        rows = self._encoded(X)  # refuses before fit
        losses = scoring.row_losses(self.model_, rows).columns
        wide = np.zeros((len(losses), len(self.schema_.columns)))
        wide[:, [column.is_feature for column in self.schema_.columns]] = losses
        return wide

    def score_batch(self, batch: Any, *, columns: bool = True) -> Scores:
        """All scores of a batch in one pass; losses of its cells only if ``columns``.

        Several threads may score batches at once.
        """
        table = self._table(batch, reset=False)  # refuses before fit
        losses = scoring.table_losses(self.model_, self.encoder_, table, columns=columns)
        ranked = losses.members if self.bound_ is None else self._ranked(self.encoder_.encode(table))
        anomaly = self.reference_.anomaly_scores(ranked)
        return Scores(losses.total, anomaly, losses.columns, self.calibration_)

    def explain(self, rows: Any, top: int = 3) -> list[list[explanation.Reason]]:
        """The ``top`` reasons of each row at most, the cell to blame most first; meant for flagged rows.

        Takes a few hundred times as long as scoring a row: cells are hidden, replaced and scored again.
        """
        require_whole("top", top)
        table = self._table(rows, reset=False)
        repairer = Repairer(self.model_, self.encoder_, self.usual_losses_)
        return explanation.reasons(repairer, table, self.encoder_.encode(table), top)

    def expected(self, X: Any) -> pd.DataFrame:
        """What the model expected of each row, in the input's columns and types.

        Keys and ignored columns come back as they are; timestamps keep their day. The rows of a pandas frame
        keep their index.
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
        return as_frame(pa.table(columns), like=X)

    def transform(self, X: Any) -> Floats:
        """Latent means of each row [n, latent_dim], of the first member."""
        rows = self._encoded(X)
        return scoring.latent_means(self.model_, rows)

    @property
    def _n_features_out(self) -> int:
        """Columns of ``transform``, for scikit-learn's ``get_feature_names_out`` and ``set_output``."""
        return self.model_.latent_dim

    def sample(self, n: int, random_state: int | None = None) -> pd.DataFrame:
        """``n`` rows generated from the prior, in the input's columns and types; keys are null."""
        check_is_fitted(self)
        require_whole("n", n, least=0)
        require_seed(random_state)
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
        tail = {key: value for key, value in asdict(self.calibration_).items() if key != "scores"}
        return {
            "parameters": self.parameters_,
            "offset": self.offset_,
            "schema": schema_to_json(self.schema_),
            "named": hasattr(self, "feature_names_in_"),
            "encoder": self.encoder_.to_json(),
            "calibration": tail,
            "history": [asdict(record) for record in self.history_],
        }

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device | None = None) -> VAEDetector:
        """Read a folder written by :meth:`save`; nothing is unpickled.

        Parameters
        ----------
        folder
            Where the detector lies.
        device
            Where it is to score; by default as it was fitted.

        Raises
        ------
        ModelFileError
            The folder is missing, altered, or of another format version, or its device is not there.
        ValueError
            ``device`` is none, or not there.
        """
        if device is not None:
            choose_device(device)
        meta, tensors = load_folder(folder)
        try:
            return cls._restored(meta, tensors, device)
        except ModelFileError as error:
            raise ModelFileError(f"{folder}: {error}") from error
        except MISFITS as error:
            raise ModelFileError(
                f"{folder} must describe a detector of this version, however: {error!r}; train again"
            ) from error

    @classmethod
    def _restored(
        cls, meta: dict[str, Any], tensors: dict[str, torch.Tensor], device: str | torch.device | None
    ) -> VAEDetector:
        parameters = {**meta["parameters"], "hidden_dims": tuple(meta["parameters"]["hidden_dims"])}
        detector = cls(**parameters)
        detector._check_lasting()
        detector.device = _saved_device(detector.device) if device is None else device
        detector._remember()
        detector.schema_ = schema_from_json(meta["schema"])
        detector.n_features_in_ = len(detector.schema_.columns)
        if meta["named"]:
            detector.feature_names_in_ = np.array(detector.schema_.names, dtype=object)
        detector.encoder_ = TableEncoder.from_json(detector.schema_, meta["encoder"])
        widths = (*detector.hidden_dims, detector.latent_dim)
        require_size(widths, sum(tensor.numel() for tensor in tensors.values()))
        detector.model_ = detector._new_model(_count(tensors), 0)
        restore(
            detector.model_,
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")},
        )
        plain = {name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith("model.")}
        detector.reference_ = scoring.Reference(plain["reference.median"], plain["reference.spread"])
        detector.usual_losses_ = plain["usual_losses"]
        require_numbers("reference.median", detector.reference_.median, detector.model_.n_members)
        require_numbers("reference.spread", detector.reference_.spread, detector.model_.n_members)
        require_numbers("usual_losses", detector.usual_losses_, len(detector.schema_.features))
        require_numbers("calibration.scores", plain["calibration.scores"])
        detector.calibration_ = checked(
            Calibration, {**meta["calibration"], "scores": plain["calibration.scores"]}
        )
        detector.offset_ = number("offset", meta["offset"])
        detector.history_ = [checked(EpochRecord, record) for record in meta["history"]]
        return detector

    def _encoded(self, X: Any) -> EncodedBatch:
        table = self._table(X, reset=False)
        return self.encoder_.encode(table)

    def _table(self, X: Any, *, reset: bool) -> pa.Table:
        """Any kind of rows as an Arrow table; checks names and numbers of columns against ``fit``."""
        if not reset:
            check_is_fitted(self)
        if is_table(X):
            table = as_table(X)
            return self._frame(X, table, reset=reset) if is_frame(X) else self._arrow(table, reset=reset)
        matrix = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,
            ensure_min_samples=1,
        )
        return from_matrix(matrix, _numbered(matrix.shape[1]) if reset else self.schema_.names)

    def _frame(self, X: Any, table: pa.Table, *, reset: bool) -> pa.Table:
        if reset:
            _refuse_nothing(table)
        validate_data(self, X, reset=reset, skip_check_array=True)
        return table if reset else self._named(X, table)

    def _named(self, X: Any, table: pa.Table) -> pa.Table:
        """The table; that of a frame numbered like the matrix learned from by the names of its columns."""
        names = _numbered(self.n_features_in_)
        learned_matrix = self.schema_.names == names and isinstance(X, pd.DataFrame)
        if not learned_matrix or set(X.columns) != set(range(len(names))):
            return table
        return table.rename_columns([names[int(j)] for j in X.columns])

    def _arrow(self, table: pa.Table, *, reset: bool) -> pa.Table:
        if reset:
            _refuse_nothing(table)
            self.n_features_in_ = table.num_columns
            self.feature_names_in_ = np.array(table.schema.names, dtype=object)
            return table
        doubled = [name for name, count in Counter(table.schema.names).items() if count > 1]
        if not set(doubled).isdisjoint(self.schema_.names):
            raise ColumnError(
                f"column names must be unique, however {doubled} stand more than once; rename them"
            )
        return table

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's tags: nulls and texts are welcome, scores depend on the row alone."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags


def _count(tensors: Mapping[str, torch.Tensor]) -> int:
    """Members of a saved model."""
    return len(tensors["model.heads.bias"])


def _mask(chosen: npt.ArrayLike | None, rows: int, name: str = "confirmed") -> npt.NDArray[np.bool_]:
    """Chosen rows as a mask [n]; none where nothing is said."""
    if chosen is None:
        return np.zeros(rows, dtype=np.bool_)
    mask = np.asarray(chosen)
    if mask.shape != (rows,) or mask.dtype != np.bool_:
        raise ValueError(
            f"{name} must be booleans, one for each of {rows} rows, however it is {mask.dtype} {mask.shape}"
        )
    return mask


def _refuse_nothing(table: pa.Table) -> None:
    if table.num_columns == 0:
        raise ColumnError("at least one column is required, however there are 0; name the columns to read")
    if table.num_rows == 0:
        raise DataError(
            "at least one row is required to learn from, however there are 0 rows; widen the window"
        )


def _saved_device(device: Any) -> str:
    """The device that a detector was fitted on.

    Raises
    ------
    ModelFileError
        It is not there.
    """
    try:
        choose_device(device)
    except ValueError as error:
        raise ModelFileError(f"{error}, by load(folder, device='cpu')") from None
    return str(device)


def _numbered(n: int) -> tuple[str, ...]:
    """Names for ``n`` columns that have none: x0, x1, …."""
    return tuple(f"x{j}" for j in range(n))


def _seed(random_state: int | np.random.RandomState | None) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    generator = random_state if random_state is not None else np.random.RandomState()
    return int(generator.randint(2**31 - 1))
