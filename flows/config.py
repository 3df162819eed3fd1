"""What a pipeline file and ``mlflow.yml`` say: frozen models, checked once, errors with their line.

A pipeline file names one table: where it lands, its contract, its model, its nights. Relative paths are
resolved against `Pipeline.root`, the nearest folder above the file that holds ``mlflow.yml``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from flows.addresses import without_secrets
from flows.config_errors import ALIAS, HEADER, HIVE_KEY, MODEL_NAME, PIPELINE_NAME, PREFIX, checked
from flows.cron import check_cron
from flows.dates import compile_date_pattern, format_duration, parse_duration
from flows.lined_yaml import read_yaml

__all__ = [
    "ALERT_KINDS",
    "Alerts",
    "Aliases",
    "Columns",
    "Decision",
    "Pipeline",
    "Promotion",
    "Retention",
    "Review",
    "Schedule",
    "Source",
    "Tracking",
    "Training",
    "Validation",
    "json_schema",
    "load_pipeline",
    "load_tracking",
    "parse_duration",
]

TRACKING_FILE = "mlflow.yml"


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("text without NUL, however it holds one")
    return text


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"a number, however {str(value).lower()} came")  # noqa: TRY004 (pydantic gathers these)
    return value


def _positive(span: timedelta) -> timedelta:
    if not span:
        raise ValueError("a span above zero such as 28d, however 0 came")
    return span


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,6}[dhm]$"}),
]
Span = Annotated[Duration, AfterValidator(_positive)]
Share = Annotated[float, BeforeValidator(_no_flag), Field(ge=0, le=1)]
Count = Annotated[int, BeforeValidator(_no_flag), Field(ge=1)]
Name = Annotated[str, Field(min_length=1), AfterValidator(_without_nul)]
Names = tuple[Name, ...]
Address = Annotated[Name, AfterValidator(without_secrets)]


AlertKind = Literal[
    "night_failed",
    "night_late",
    "flag_share",
    "breaker_tripped",
    "challenger_ready",
    "canary_blindness",
    "drift",
    "undated_files",
]
ALERT_KINDS: tuple[AlertKind, ...] = get_args(AlertKind)


class _Section(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # the text under a field is its description in the JSON schema
        protected_namespaces=(),  # Tracking.model_name is MLflow's word
        defer_build=True,  # built when first used: half of the time of importing this module
    )


class Source(_Section):
    """Where the table lands, and how a file's date is known."""

    path: Address
    """Folder of Parquet files, or a URI such as s3://bucket/folder."""
    partition: Annotated[str, Field(pattern=HIVE_KEY)] | None = None
    """Hive key whose value is the date: ``dt`` for dt=2013-07-06/."""
    date_pattern: str | None = None
    """The date in the file names: ``green_tripdata_%Y-%m.parquet``. Without both, the folder is one night."""
    on_missing: Literal["wait", "skip", "fail"] = "wait"
    """What a night does when nothing has arrived."""

    @field_validator("date_pattern")
    @classmethod
    def _known_directives(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compile_date_pattern(pattern)
        return pattern

    @model_validator(mode="after")
    def _one_origin_of_dates(self) -> Self:
        if self.partition is not None and self.date_pattern is not None:
            raise ValueError("dated by partition or date_pattern, however both came; keep one")
        return self


class Columns(_Section):
    """What is known of the columns beforehand; all others are inferred."""

    key: Names = ()
    """Columns that together name a row; they may be features too."""
    ignore: Names = ()
    """Columns that the model must not see."""
    numeric: Names = ()
    """Columns to treat as numbers."""
    categorical: Names = ()
    """Columns to treat as categories, whatever their type."""
    boolean: Names = ()
    """Columns to treat as true or false."""
    timestamp: Names = ()
    """Columns to treat as points in time."""
    sensitive: Names = ()
    """Columns left out of row keys, reports and reasons."""
    value_at_stake: str | None = None
    """Column whose sum over flagged rows tells what a night is worth."""

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each column that the file decides: ``{"tailnum": "categorical", "year": "ignored"}``."""
        lists = {
            "ignored": self.ignore,
            "numeric": self.numeric,
            "categorical": self.categorical,
            "boolean": self.boolean,
            "timestamp": self.timestamp,
        }
        return {name: kind for kind, names in lists.items() for name in names}

    @model_validator(mode="after")
    def _one_kind_each(self) -> Self:
        named = [*self.ignore, *self.numeric, *self.categorical, *self.boolean, *self.timestamp]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(
                f"of one kind each, however {', '.join(twice)} came twice; keep one of its lines"
            )
        return self


class Validation(_Section):
    """The contract of the table."""

    suite: Name | None = None
    """Suite of expectations (JSON); default: NAME.expectations.json beside the pipeline file."""
    max_quarantined_share: Share = 0.05
    """Share of a night's rows that may break row rules before the night counts as unfit."""


class Training(_Section):
    """What the model learns from."""

    window: Span = timedelta(days=181)
    """Span of data that ends at the training date."""
    calibration: Span = timedelta(days=28)
    """Last part of the window, held out for thresholds and p-values."""
    max_rows: Count = 2_000_000
    """Rows drawn from the window at most."""
    data: Literal["auto", "clean", "contaminated"] = "auto"
    """Whether the training rows may hold anomalies."""
    detector: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of VAEDetector."""

    @model_validator(mode="after")
    def _calibration_within_window(self) -> Self:
        if self.calibration >= self.window:
            raise ValueError(
                f"a window longer than its calibration, however {format_duration(self.window)}"
                f" and {format_duration(self.calibration)} came"
            )
        return self


class Decision(_Section):
    """Which rows are flagged; a budget alone, or to cap one of the others."""

    contamination: Annotated[float, BeforeValidator(_no_flag), Field(gt=0, le=0.5)] | None = None
    """Share of ordinary rows flagged."""
    fdr: Annotated[float, BeforeValidator(_no_flag), Field(gt=0, lt=1)] | None = None
    """Share of false alarms among the flags."""
    budget: Count | None = None
    """Rows flagged a night at most."""

    @model_validator(mode="before")
    @classmethod
    def _default(cls, value: Any) -> Any:
        return {"contamination": 0.005} if value == {} else value

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.contamination is not None and self.fdr is not None:
            raise ValueError("ruled by contamination or fdr, however both came; keep one")
        return self


class Promotion(_Section):
    """When a challenger may become champion."""

    nights: Count = 7
    """Nights scored by both."""
    min_recall: Share = 1.0
    """Share of confirmed anomalies that the challenger must flag."""
    max_churn: Share = 0.3
    """Share of flags that may differ."""
    automatic: bool = False
    """Promote without asking."""


class Schedule(_Section):
    """When flows run."""

    score: str = "30 3 * * *"
    """Cron line of the nightly scoring."""
    train: str = "0 2 * * 0"
    """Cron line of the training."""
    monitor: str = "30 5 * * *"
    """Cron line of the monitoring."""
    lag: Duration = timedelta(days=1)
    """A run scores its scheduled date minus this."""
    timezone: str = "UTC"
    """Zone of the cron lines and of the dates, such as America/New_York."""
    catch_up: Annotated[int, BeforeValidator(_no_flag), Field(ge=0, le=366)] = 14
    """A scheduled night first scores those of so many nights before it that were missed."""
    time_limit: Span = timedelta(hours=12)
    """A scheduled night that takes longer fails."""

    @field_validator("score", "train", "monitor")
    @classmethod
    def _cron(cls, line: str) -> str:
        check_cron(line)
        return line

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"a zone such as UTC or Europe/Berlin, however {name!r} came") from None
        return name


class Alerts(_Section):
    """When to tell people."""

    max_flag_share: Share = 0.05
    """Share of flagged rows beyond which a night is alarming as a whole."""
    breaker_share: Annotated[float, BeforeValidator(_no_flag), Field(gt=0, le=1)] = 0.2
    """Share of odd rows beyond which a night is one incident, with few flags, in place of a flood of them."""
    notify: Names = ("VAEWATCH_ALERTS",)
    """Environment variables that hold Apprise addresses, with blanks between them."""
    kinds: tuple[AlertKind, ...] = ALERT_KINDS
    """What is told."""

    @field_validator("notify")
    @classmethod
    def _no_secrets(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
            raise ValueError(  # the value is not shown: an address holds a secret
                "names of environment variables such as VAEWATCH_ALERTS, however something else came;"
                " addresses hold secrets: put them into the variable"
            )
        return names


def _parse_retention(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"a span such as 90d, a count above zero, or forever, however {value} came")
        return value
    return value if value == "forever" else parse_duration(value)


def _format_retention(value: timedelta | int | str) -> int | str:
    return format_duration(value) if isinstance(value, timedelta) else value


def _retention_schema(words: str) -> WithJsonSchema:
    span = {"type": "string", "pattern": f"^({words}|[0-9]{{1,6}}[dhm])$"}
    return WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, span]})


Retained = Annotated[
    timedelta | int | Literal["forever"],
    BeforeValidator(_parse_retention),
    PlainSerializer(_format_retention),
    _retention_schema("forever"),
]


RetainedOrNone = Annotated[
    timedelta | int | Literal["forever", "none"],
    BeforeValidator(lambda value: value if value == "none" else _parse_retention(value)),
    PlainSerializer(_format_retention),
    _retention_schema("forever|none"),
]


class Retention(_Section):
    """What ``vaewatch prune`` keeps: an age such as 90d, the newest so many, or forever."""

    scores: RetainedOrNone = timedelta(days=90)
    """Scores of all rows of a night; ``none`` writes no scores, only flags."""
    flags: Retained = "forever"
    """Flags of a night, with their contributions and their triage."""
    contributions: Retained = "forever"
    """Contributions of the columns to the flags of a night."""
    quarantine: Retained = "forever"
    """Rows of a night that broke row rules."""
    history: Retained = "forever"
    """Flags of a night's earlier scorings, which the last one has replaced."""
    monitor: Retained = "forever"
    """Measures of a monitored night, and its page."""
    docs: Retained = "forever"
    """Data Docs page of a night."""
    models: Retained = "forever"
    """Files of a model version."""


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"an address or network such as 127.0.0.1 or 10.0.0.0/24, however {text!r} came"
        ) from None
    return text


class Proxy(_Section):
    """A reverse proxy that logs people in, and tells who they are."""

    header: Annotated[str, Field(pattern=HEADER)] = "X-Forwarded-User"
    """Header that holds the name; the proxy must replace what a visitor sends in it."""
    addresses: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Field(min_length=1)]
    """Addresses or networks that the proxy connects from; others are not let in."""


class Review(_Section):
    """Who may see and who may settle what was found."""

    reviewers: Names = ()
    """Names that may decide; ``*`` stands for any signs, as in *@example.org."""
    viewers: Names = ()
    """Names that may look; sensitive columns are masked for them."""
    oidc: bool = False
    """Names are e-mail addresses of a login by OpenID Connect, set up by VAEWATCH_OIDC_… variables."""
    proxy: Proxy | None = None
    """Names come from a reverse proxy."""

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.oidc and self.proxy is not None:
            raise ValueError("a login by oidc or by proxy, however both came; keep one")
        return self


def _engine(value: Any) -> Any:
    match value:
        case "threads" | "dask":
            return value
        case {"threads": int(count), **rest} if not rest and count > 0 and count is not True:
            return value
        case {"dask": str(address), **rest} if not rest and _is_uri(address):
            return value
    raise ValueError(f"threads, {{threads: 4}}, dask or {{dask: tcp://HOST:8786}}, however {value!r} came")


EngineSetting = Annotated[
    str | dict[str, int | str],
    BeforeValidator(_engine),
    WithJsonSchema(
        {
            "oneOf": [
                {"enum": ["threads", "dask"]},
                {
                    "type": "object",
                    "properties": {"threads": {"type": "integer", "minimum": 1}},
                    "required": ["threads"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"dask": {"type": "string"}},
                    "required": ["dask"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class Pipeline(_Section):
    """One table: its source, contract, model and nights."""

    version: Literal[1]
    """Version of this format."""
    name: Annotated[str, Field(pattern=PIPELINE_NAME)]
    """Name of the pipeline, of its model and of its flows."""
    source: Source
    output: Address
    """Folder of the results, or a URI."""
    columns: Columns = Field(default_factory=Columns)
    validation: Validation = Field(default_factory=Validation)
    training: Training = Field(default_factory=Training)
    decision: Decision = Field(default_factory=lambda: Decision(contamination=0.005))
    promotion: Promotion = Field(default_factory=Promotion)
    schedule: Schedule = Field(default_factory=Schedule)
    engine: EngineSetting = "threads"
    """Who scores: ``threads`` (a core each), ``{threads: 4}``, ``dask`` or ``{dask: tcp://HOST:8786}``."""
    alerts: Alerts = Field(default_factory=Alerts)
    retention: Retention = Field(default_factory=Retention)
    review: Review = Field(default_factory=Review)
    prefix: Annotated[str, Field(pattern=PREFIX)] = ""
    """Put before the names of our columns, for tables that have such columns already."""

    _file: Path = PrivateAttr(default=Path("pipeline.yml"))
    _root: Path = PrivateAttr(default=Path())

    @property
    def file(self) -> Path:
        """The pipeline file."""
        return self._file

    @property
    def root(self) -> Path:
        """Folder that relative paths are resolved against."""
        return self._root

    @property
    def source_path(self) -> str:
        """Absolute path or URI of the source."""
        return _resolve(self.root, self.source.path)

    @property
    def output_path(self) -> str:
        """Absolute path or URI of the results."""
        return _resolve(self.root, self.output)

    @property
    def suite_path(self) -> str:
        """Absolute path of the suite of expectations."""
        beside = self.file.parent / f"{self.name}.expectations.json"
        return _resolve(self.root, self.validation.suite or str(beside.absolute()))

    def digest(self) -> str:
        """Return ``sha256:…`` over what shapes a night's result.

        Schedules, alerts, retention, promotion and training do not count: nights scored before stand.
        """
        content = self.model_dump(
            mode="json", include={"source", "columns", "validation", "decision", "prefix"}
        )
        del content["source"]["on_missing"]
        content["breaker_share"] = self.alerts.breaker_share
        suite = Path(self.suite_path)
        content["validation"]["suite"] = _sha256(suite.read_bytes()) if suite.is_file() else None
        return _sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


class Aliases(_Section):
    """Names of the model versions that play a part."""

    live: Annotated[str, Field(pattern=ALIAS)] = "champion"
    """The version that scores."""
    candidate: Annotated[str, Field(pattern=ALIAS)] = "challenger"
    """The version that waits to be compared."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.live == self.candidate:
            raise ValueError(f"two different aliases, however both are {self.live}")
        return self


class Tracking(_Section):
    """Where MLflow keeps runs and models, and what they are called."""

    tracking_uri: str = "sqlite:///data/mlflow/mlflow.db"
    """SQLite file or server of the runs."""
    registry_uri: str = ""
    """SQLite file or server of the models; default: the same."""
    artifact_location: Address = "data/mlflow/artifacts"
    """Folder or URI of the files of each run."""
    experiment: Name = "vaewatch"
    """Experiment that holds the runs."""
    model_name: Annotated[str, Field(pattern=MODEL_NAME)] = "{pipeline}"
    """Registered model; ``{pipeline}`` stands for the pipeline's name."""
    aliases: Aliases = Field(default_factory=Aliases)

    @field_validator("tracking_uri", "registry_uri")
    @classmethod
    def _database_or_server(cls, uri: str) -> str:
        if uri and not _is_uri(uri):
            raise ValueError(f"sqlite:///FILE or the address of a server, however {uri!r} came")
        return without_secrets(uri)

    def model_name_for(self, pipeline: str) -> str:
        """Return the registered model's name for a pipeline."""
        return self.model_name.replace("{pipeline}", pipeline)


def load_pipeline(path: str | Path) -> Pipeline:
    """Read and check a pipeline file.

    Raises
    ------
    ConfigError
        One sentence that names file, line, key and what was required.
    """
    file = Path(path).expanduser()
    pipeline = checked(Pipeline, file, read_yaml(file))
    pipeline._file = file.resolve()
    pipeline._root = _root_of(pipeline._file)
    return pipeline


def load_tracking(root: Path) -> Tracking:
    """Read ``mlflow.yml`` of a folder, defaults when it is missing; its paths come back absolute.

    Addresses that hold a password come from the environment, in place of those of the file:
    ``VAEWATCH_TRACKING_URI``, ``VAEWATCH_REGISTRY_URI``.

    Raises
    ------
    ConfigError
        One sentence that names file, line, key and what was required.
    """
    file = root / TRACKING_FILE
    tracking = checked(Tracking, file, read_yaml(file)) if file.exists() else Tracking()
    tracking_uri = _resolve_database(root, os.environ.get("VAEWATCH_TRACKING_URI") or tracking.tracking_uri)
    registry_uri = os.environ.get("VAEWATCH_REGISTRY_URI") or tracking.registry_uri
    return tracking.model_copy(
        update={
            "tracking_uri": tracking_uri,
            "registry_uri": _resolve_database(root, registry_uri) or tracking_uri,
            "artifact_location": _resolve(root, tracking.artifact_location),
        }
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a pipeline file, for editors."""
    return Pipeline.model_json_schema()


def _is_uri(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def _resolve(root: Path, path: str) -> str:
    return path if _is_uri(path) else str((root / Path(path).expanduser()).resolve())


def _resolve_database(root: Path, uri: str) -> str:
    scheme, found, path = uri.partition(":///")
    return f"{scheme}:///{_resolve(root, path)}" if found and scheme.startswith("sqlite") else uri


def _root_of(file: Path) -> Path:
    return next((folder for folder in file.parents if (folder / TRACKING_FILE).is_file()), Path.cwd())


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
