"""The training flow: sample a window, profile the contract, fit, calibrate, try, log, register."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows import alerts, figures, progress
from flows.config import Pipeline, load_pipeline
from flows.config_errors import absent_names
from flows.context import docs_folder, logical_date, registry_of
from flows.decision import calibration_facts, calibration_sentence
from flows.errors import ConfigError, InputError, NoDataError, SchemaError
from flows.expectations import SAMPLE_ROWS, bad_rows, load_suite, profile, row_rules, save_suite
from flows.expectations import validate as validate_rows
from flows.lifecycle import journal_training, promote
from flows.lineage import lineage_tags
from flows.reference import write_reference
from flows.report import epochs_text
from flows.retries import STORE_FAILED
from flows.sampling import sample
from flows.stake import require_numbers
from flows.storage import Store
from flows.tables import InputFile, window
from flows.verdicts import CONFIRMED, NORMAL, said_of

if TYPE_CHECKING:
    from flows.registry import ModelRef, Run
    from vae_core import VAEDetector
    from vae_core.honesty import Honesty
    from vae_core.training import EpochRecord

__all__ = ["TrainingRows", "draw_rows", "fit_detector", "train"]

CALIBRATION_ROWS = 200_000
SEED = 0
MOST_LOGGED = 1_000  # cleaned rows shown in MLflow
MOST_NAMED = 20  # values of a group shown there


@dataclass(frozen=True)
class TrainingRows:
    """What a model learns from: ``fit`` and ``held_out`` rows, the files they came from, and the window.

    ``set_aside`` rows broke a rule, ``confirmed`` ones are known to be anomalies: both are left out.
    ``normal`` says which rows to fit on are known to be expected [n].
    """

    fit: pa.Table
    held_out: pa.Table
    files: tuple[InputFile, ...]
    first: date
    last: date
    set_aside: int
    confirmed: int = 0
    normal: np.ndarray[Any, np.dtype[np.bool_]] | None = None

    @property
    def expected(self) -> int:
        """How many of the rows to fit on people have said to be expected."""
        return 0 if self.normal is None else int(self.normal.sum())

    @property
    def digest(self) -> str:
        """``sha256:…`` over the digests of the files."""
        joined = "\n".join(f"{file.path} {file.digest}" for file in self.files)
        return f"sha256:{hashlib.sha256(joined.encode()).hexdigest()}"


def draw_rows(pipeline: Pipeline, until: date) -> TrainingRows:
    """Sample the training window; rows that break a row rule of an existing suite are set aside.

    The newest part of the window is held out for calibration. Where no file is dated in it (monthly
    files, a source without dates), a random part of the same share is.

    Raises
    ------
    NoDataError, InputError
        Nothing lies in the window, or a file cannot be read.
    """
    training, source = pipeline.training, pipeline.source
    first = until - training.window + timedelta(days=1)
    files = window(
        pipeline.source_path, first, until, partition=source.partition, date_pattern=source.date_pattern
    )
    border = until - training.calibration
    newest = [file for file in files if file.date > border]
    oldest = [file for file in files if file.date <= border]
    if newest and oldest:
        fit = sample(oldest, training.max_rows, seed=SEED)
        held_out = sample(newest, CALIBRATION_ROWS, seed=SEED, schema=fit.schema)
    else:
        fit, held_out = _random_split(
            sample(files, training.max_rows, seed=SEED), training.calibration / training.window
        )
    rows = _without_bad_rows(pipeline, TrainingRows(fit, held_out, tuple(files), first, until, 0))
    return _without_confirmed(pipeline, rows)


def _random_split(rows: pa.Table, share: float) -> tuple[pa.Table, pa.Table]:
    held_out = np.random.default_rng(SEED).random(rows.num_rows) < share
    return rows.filter(pa.array(~held_out)), rows.filter(pa.array(held_out))


def _without_bad_rows(pipeline: Pipeline, rows: TrainingRows) -> TrainingRows:
    if not Path(pipeline.suite_path).exists():
        return rows
    rules = row_rules(load_suite(Path(pipeline.suite_path)), rows.fit.schema)
    fit, held_out = _good(rules, rows.fit), _good(rules, rows.held_out)
    aside = rows.fit.num_rows + rows.held_out.num_rows - fit.num_rows - held_out.num_rows
    return TrainingRows(fit, held_out, rows.files, rows.first, rows.last, aside)


def _without_confirmed(pipeline: Pipeline, rows: TrainingRows) -> TrainingRows:
    """Leave out what people have confirmed as anomalies: what a model has learned it finds no more.

    What they have said to be expected is marked, so that no model takes it for an anomaly by itself.
    """
    store, columns = Store.of(pipeline.output_path), pipeline.columns
    known = (columns.key, columns.sensitive)
    said = said_of(store, rows.first, rows.last, CONFIRMED, pipeline.prefix)
    masks = [said.among(one, *known) for one in (rows.fit, rows.held_out)]
    fit, held_out = rows.fit.filter(pa.array(~masks[0])), rows.held_out.filter(pa.array(~masks[1]))
    expected = said_of(store, rows.first, rows.last, NORMAL, pipeline.prefix).among(fit, *known)
    left_out = int(masks[0].sum() + masks[1].sum())
    return replace(
        rows,
        fit=fit if left_out else rows.fit,
        held_out=held_out if left_out else rows.held_out,
        confirmed=left_out,
        normal=expected if expected.any() else None,
    )


def _good(rules: Any, table: pa.Table) -> pa.Table:
    batches = [batch.filter(pc.invert(bad_rows(rules, batch)[0])) for batch in table.to_batches()]
    return pa.Table.from_batches(batches, table.schema)


def fit_detector(pipeline: Pipeline, rows: TrainingRows) -> VAEDetector:
    """Fit on the older rows, calibrate on the newer ones.

    A training that was killed goes on where it was, from ``data/checkpoints``.

    Raises
    ------
    InputError
        The rows cannot be learned from.
    ConfigError
        ``training.detector`` names no argument of VAEDetector, or gives one what it cannot be.
    """
    from vae_core.exceptions import ParameterError, VaeCoreError

    detector = _detector(pipeline)
    try:
        detector.fit(
            rows.fit,
            on_epoch=lambda record, total: progress.advance("training", record.epoch, total),
            checkpoint=pipeline.root / "data" / "checkpoints" / pipeline.name,
            normal=rows.normal,
        )
        return detector.calibrate(rows.held_out) if rows.held_out.num_rows else detector
    except ParameterError as error:
        raise ConfigError(f"{pipeline.file}: training.detector: {error}") from error
    except (VaeCoreError, ValueError) as error:
        raise InputError(f"{pipeline.source_path}: {error}") from error


def _detector(pipeline: Pipeline) -> VAEDetector:
    """A detector as the pipeline file wants it, not fitted yet."""
    from vae_core import VAEDetector

    known = sorted(VAEDetector().get_params())
    absent = absent_names(pipeline.training.detector, known)
    if absent:
        raise ConfigError(
            f"{pipeline.file}: training.detector names {absent}, however there are {', '.join(known)}; "
            "correct the names"
        )
    settings = {
        "contamination": pipeline.decision.contamination or 0.005,
        "training_data": pipeline.training.data,
        "random_state": SEED,
    }
    return VAEDetector(**{**settings, "kinds": _kinds(pipeline), **pipeline.training.detector})


def _kinds(pipeline: Pipeline) -> dict[str, str]:
    """Kinds from the pipeline file; a key of one column names its row and is no feature.

    A key under ``ignore`` is no feature either, but still the key: it is asked for, and stands beside scores.
    """
    kinds, keys = dict(pipeline.columns.kinds), pipeline.columns.key
    if len(keys) == 1:
        kinds.setdefault(keys[0], "key")
    return kinds | {name: "key" for name in keys if kinds.get(name) == "ignored"}


def _require_columns(pipeline: Pipeline, table: pa.Table) -> None:
    """Refuse a pipeline file that names columns which the table does not have, or a stake of no numbers."""
    columns = pipeline.columns
    stake = () if columns.value_at_stake is None else (columns.value_at_stake,)
    named = {*columns.kinds, *columns.key, *columns.sensitive, *stake}
    absent = absent_names(named, table.schema.names)
    if absent:
        raise ConfigError(
            f"{pipeline.file}: columns names {absent}, however the table has "
            f"{', '.join(table.schema.names)}; correct the names"
        )
    for name in stake:
        try:
            require_numbers(table.schema, name)
        except SchemaError as error:
            raise ConfigError(f"{pipeline.file}: {error}") from error


def _suite(pipeline: Pipeline, rows: TrainingRows) -> dict[str, Any]:
    """The suite beside the pipeline; profiled from the training rows when there is none yet."""
    path = Path(pipeline.suite_path)
    if not path.exists():
        columns = pipeline.columns
        save_suite(
            path,
            profile(
                rows.fit,
                name=pipeline.name,
                keys=columns.key,
                ignore=_ignored(pipeline, rows.fit.schema),
                booleans=columns.boolean,
            ),
        )
    return load_suite(path)


def _ignored(pipeline: Pipeline, schema: pa.Schema) -> list[str]:
    """Columns that no model looks at, by the pipeline file or by their type: no part of the contract."""
    from vae_core import ColumnKind, TableSchema

    columns = TableSchema.infer(schema, _kinds(pipeline)).columns
    return [column.name for column in columns if column.kind is ColumnKind.IGNORED]


def export_verdicts(pipeline: Pipeline) -> None:
    """Write what people have said since the last night beside the results, so that it counts."""
    from review.nightly import export_all

    export_all(pipeline)


verdicts_task = task(name="export verdicts", cache_policy=NO_CACHE, **STORE_FAILED)(export_verdicts)
draw_task = task(name="draw rows", cache_policy=NO_CACHE, persist_result=False, **STORE_FAILED)(draw_rows)


def try_detector(detector: VAEDetector, rows: TrainingRows) -> Honesty | None:
    """Count the planted errors that the detector and its references find; None without held-out rows."""
    from vae_core.honesty import honesty

    return honesty(detector, rows.fit, rows.held_out, seed=SEED) if rows.held_out.num_rows else None


fit_task = task(name="fit and calibrate", cache_policy=NO_CACHE, persist_result=False)(fit_detector)
try_task = task(name="find planted errors", cache_policy=NO_CACHE, persist_result=False)(try_detector)


def log_and_register(
    pipeline: Pipeline,
    rows: TrainingRows,
    detector: VAEDetector,
    validation: dict[str, Any],
    tried: Honesty | None,
) -> ModelRef:
    """Log the run to MLflow and register the model: the first version as champion, others as challenger."""
    registry, origin = registry_of(pipeline), lineage_tags(pipeline, rows.digest)
    tags = {"pipeline": pipeline.name, "honesty": _verdict(tried), **origin}
    with registry.start_run(f"{pipeline.name} until {rows.last}", tags) as run:
        _log_numbers(run, pipeline, rows, detector)
        run.log_dataset(
            pipeline.name,
            uri=pipeline.source_path,
            digest=rows.digest,
            schema=rows.fit.schema,
            rows=rows.fit.num_rows + rows.held_out.num_rows,
        )
        run.log_dict(validation, "validation.json")
        with tempfile.TemporaryDirectory() as folder:
            _log_pictures(run, detector, Path(folder))
            _log_cleaned(run, pipeline, detector, rows)
            _log_groups(run, pipeline, detector)
            if tried is not None:
                _log_planted(run, tried, Path(folder))
            detector.save(Path(folder) / "detector")
            write_reference(
                Path(folder) / "detector",
                detector,
                rows.fit,
                rows.held_out,
                tried=tried,
                sensitive=pipeline.columns.sensitive,
            )
            return registry.register(run, Path(folder) / "detector", example=_example(detector), tags=origin)


def _log_numbers(run: Run, pipeline: Pipeline, rows: TrainingRows, detector: VAEDetector) -> None:
    run.log_params(
        {
            **{f"detector.{name}": value for name, value in detector.get_params(deep=False).items()},
            "pipeline_digest": pipeline.digest(),
            "window_first": rows.first,
            "window_last": rows.last,
            "features": len(detector.schema_.features),
            "device_used": detector.model_.heads.weight.device,
        }
    )
    run.log_metrics(
        {
            "rows_fitted": rows.fit.num_rows,
            "rows_calibrated": rows.held_out.num_rows,
            "rows_set_aside": rows.set_aside,
            "rows_confirmed": rows.confirmed,
            "rows_expected": rows.expected,
            "rows_cleaned": len(detector.set_aside_),
            "threshold": -detector.offset_,
            "calibration_contamination": detector.calibration_.contamination,
        }
    )
    run.log_history([_figures_of(record) for record in detector.history_])


def _figures_of(record: EpochRecord) -> dict[str, float]:
    return {name: value for name, value in asdict(record).items() if name != "phase"}


def _log_pictures(run: Run, detector: VAEDetector, folder: Path) -> None:
    figures.loss_curve([asdict(record) for record in detector.history_], folder / "loss_curve.png")
    figures.score_histogram(detector.calibration_.scores, -detector.offset_, folder / "score_histogram.png")
    run.log_file(folder / "loss_curve.png", "figures")
    run.log_file(folder / "score_histogram.png", "figures")


def _log_cleaned(run: Run, pipeline: Pipeline, detector: VAEDetector, rows: TrainingRows) -> None:
    """The training rows that some members did not learn from, as a table without sensitive columns."""
    aside = rows.fit.take(pa.array(detector.set_aside_[:MOST_LOGGED], pa.int64()))
    shown = [name for name in aside.schema.names if name not in pipeline.columns.sensitive]
    run.log_table(aside.select(shown).to_pandas(), "set_aside.json")


def _log_groups(run: Run, pipeline: Pipeline, detector: VAEDetector) -> None:
    """Which rare values are learned together, as a table without sensitive columns."""
    found = [
        {
            "column": codec.name,
            "like": words[0][0],
            "values": len(words),
            "rows": sum(count for _, count in words),
            "commonest": ", ".join(word for word, _ in words[:MOST_NAMED]),
        }
        for codec in detector.encoder_.categorical
        if codec.name not in pipeline.columns.sensitive
        for words in map(codec.words_of, range(1, codec.n_groups + 1))
    ]
    if found:
        run.log_table(pa.Table.from_pylist(found).to_pandas(), "groups.json")


def _verdict(tried: Honesty | None) -> str:
    if tried is None:
        return "not tried"
    return f"behind {', '.join(tried.behind)}" if tried.behind else "not behind"


def _log_planted(run: Run, tried: Honesty, folder: Path) -> None:
    by_kind = {kind: {name: tried.share(name, kind) for name in tried.shares()} for kind in tried.kinds}
    found = {"": tried.shares() if tried.planted else {}, **{f"{kind}.": by_kind[kind] for kind in by_kind}}
    run.log_metrics(
        {
            f"honesty.{prefix}{name.lower().replace(' ', '_')}": share
            for prefix, shares in found.items()
            for name, share in shares.items()
        }
    )
    run.log_table(tried.table().to_pandas(), "honesty.json")
    picture = folder / "planted_errors.png"
    figures.planted_errors(by_kind, picture, planted=tried.planted, flagged=tried.contamination)
    run.log_file(picture, "figures")


def _example(detector: VAEDetector) -> pa.Table:
    """Generated rows, so that no real one is stored with the model."""
    features = pa.schema([(column.name, column.arrow_type) for column in detector.schema_.features])
    drawn = detector.sample(3, random_state=SEED)[features.names]
    return pa.Table.from_pandas(drawn, schema=features, preserve_index=False, safe=False)


register_task = task(name="log and register", cache_policy=NO_CACHE, persist_result=False, **STORE_FAILED)(
    log_and_register
)
journal_task = task(name="journal", cache_policy=NO_CACHE, persist_result=False, **STORE_FAILED)(
    journal_training
)
promote_task = task(name="promote", cache_policy=NO_CACHE, persist_result=False, **STORE_FAILED)(promote)


@flow(name="train", validate_parameters=False)
def train(pipeline: str, until: str | None = None) -> dict[str, Any]:
    """Train a model on the window that ends at a date, and register it.

    Parameters
    ----------
    pipeline
        Path of the pipeline file.
    until
        Last date of the window, YYYY-MM-DD; by default the scheduled time of the run less the lag.

    Returns
    -------
    dict
        The training report: window, rows, losses, threshold, model version and alias, validation, and
        how many planted errors the model finds.
    """
    began = perf_counter()
    loaded = load_pipeline(pipeline)
    registry_of(loaded).connect()
    verdicts_task(loaded)
    rows = draw_task(loaded, logical_date(loaded, until, flow_run.scheduled_start_time))
    _require_columns(loaded, rows.fit)
    suite = _suite(loaded, rows)
    checked = _validated(loaded, rows, suite)
    detector: Any = fit_task(loaded, rows)  # Any: mypy takes what has untyped bases for a coroutine
    tried: Any = try_task(detector, rows)
    ref = register_task(loaded, rows, detector, checked, tried)
    journal_task(loaded, ref)
    promotion = _promoted(loaded, ref)
    if promotion is not None and promotion["status"] == "promoted":
        ref = registry_of(loaded).version(ref.version)  # with the alias that it has by now
    report = _report(loaded, rows, detector, ref, checked, tried, perf_counter() - began)
    report["promotion"] = promotion
    create_markdown_artifact(
        _markdown(report), key=f"{_slug(loaded.name)}-training", description=report["until"]
    )
    if registry_of(loaded).candidate_alias in ref.aliases:
        alerts.challenger_ready(loaded, ref.name, ref.version, _said_of(report))
    return report


def _said_of(report: dict[str, Any]) -> str:
    """What people are told of a challenger: whether it sees errors, and why it is not live already."""
    promotion, said = report["promotion"], str(report["honesty"]["sentence"])
    if promotion is None:
        return said
    return f"{said} Automatic promotion: {promotion.get('error') or promotion['status']}."


def _promoted(pipeline: Pipeline, ref: ModelRef) -> dict[str, Any] | None:
    """What became of a challenger where `promotion.automatic` is set; None where nothing was to be done."""
    if not pipeline.promotion.automatic or registry_of(pipeline).candidate_alias not in ref.aliases:
        return None
    try:
        report: dict[str, Any] = promote_task(pipeline, ref.version)
    except NoDataError as error:  # no night to compare on: the challenger waits
        return {"status": "refused", "version": ref.version, "error": str(error), "verdict": None}
    return report


def _validated(pipeline: Pipeline, rows: TrainingRows, suite: dict[str, Any]) -> dict[str, Any]:
    shown = _spread(rows.fit)
    report = validate_rows(
        shown, suite, docs_folder=docs_folder(pipeline), run_name=f"training until {rows.last}"
    )
    if report.contract_broken:
        first = next(failure for failure in report.failed if failure.role == "contract")
        raise NoDataError(
            f"{pipeline.source_path}: training rows that keep the contract {pipeline.suite_path} were "
            f"required, however {first.message}; "
            "mend the data or edit the suite"
        )
    return report.to_dict()


def _spread(table: pa.Table) -> pa.Table:
    """At most SAMPLE_ROWS rows, evenly spaced."""
    if table.num_rows <= SAMPLE_ROWS:
        return table
    return table.take(pa.array(np.linspace(0, table.num_rows - 1, SAMPLE_ROWS).astype(np.int64)))


def _report(
    pipeline: Pipeline,
    rows: TrainingRows,
    detector: VAEDetector,
    ref: ModelRef,
    checked: dict[str, Any],
    tried: Honesty | None,
    seconds: float,
) -> dict[str, Any]:
    last = detector.history_[-1]
    return {
        "pipeline": pipeline.name,
        "first": str(rows.first),
        "until": str(rows.last),
        "files": len(rows.files),
        "rows_fitted": rows.fit.num_rows,
        "rows_calibrated": rows.held_out.num_rows,
        "rows_set_aside": rows.set_aside,
        "rows_confirmed": rows.confirmed,
        "rows_expected": rows.expected,
        "epochs": len(detector.history_),
        "epochs_resumed": detector.resumed_epochs_,
        "rows_cleaned": len(detector.set_aside_),
        "validation_loss": round(last.validation_loss, 4),
        "threshold": round(-detector.offset_, 4),
        "model": {
            "name": ref.name,
            "version": ref.version,
            "run_id": ref.run_id,
            "aliases": list(ref.aliases),
        },
        "columns": detector.schema_.kinds,
        "validation": checked,
        "calibration": calibration_facts(detector.calibration_),
        "honesty": _said(tried),
        "seconds": round(seconds, 1),
    }


def _said(tried: Honesty | None) -> dict[str, Any]:
    """The comparison on planted errors, as plain values."""
    if tried is None:
        return {"verdict": _verdict(tried), "sentence": "No rows were held out to plant errors in."}
    return {
        "verdict": _verdict(tried),
        "sentence": tried.sentence,
        "planted": tried.planted,
        "found": {name: round(share, 4) for name, share in tried.shares().items()} if tried.planted else {},
        "behind": list(tried.behind),
        "behind_in": {kind: list(names) for kind, names in tried.behind_in.items()},
        "not_applicable": list(tried.not_applicable),
    }


def _markdown(report: dict[str, Any]) -> str:
    model = report["model"]
    return "\n".join(
        [
            f"# {report['pipeline']}: model {model['name']} version {model['version']}",
            "",
            f"Window {report['first']} to {report['until']}: {report['rows_fitted']:,} rows fitted, "
            f"{report['rows_calibrated']:,} held out for calibration.",
            "",
            f"{epochs_text(report)}, "
            f"validation loss {report['validation_loss']} nats; threshold {report['threshold']}; "
            f"aliases: {', '.join(model['aliases']) or 'none'}.",
            "",
            f"{calibration_sentence(report['calibration'])}.",
            "",
            report["honesty"]["sentence"],
        ]
    )


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())
