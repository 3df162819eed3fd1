"""Pipeline files and mlflow.yml: what they mean, and what is said when they are wrong."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.config import json_schema, load_pipeline, load_tracking
from flows.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
MINIMAL = "version: 1\nname: orders\nsource: {path: landing}\noutput: results\n"


@pytest.fixture
def pipeline_file(tmp_path: Path) -> Path:
    """Write a minimal pipeline below a folder with mlflow.yml."""
    (tmp_path / "mlflow.yml").write_text("experiment: shop\n")
    (tmp_path / "pipelines").mkdir()
    file = tmp_path / "pipelines" / "orders.yml"
    file.write_text(MINIMAL)
    return file


def error_of(file: Path, text: str) -> str:
    """Return the sentence that a pipeline file's text leads to."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(file)
    return str(caught.value)


def test_the_demo_pipeline_says_what_the_design_says() -> None:
    """Training window, calibration and decision of flights are those that its figures were made with."""
    pipeline = load_pipeline(REPOSITORY / "pipelines" / "flights.yml")

    assert pipeline.name == "flights"
    assert pipeline.source.partition == "dt"
    assert pipeline.training.window == timedelta(days=181)
    assert pipeline.training.calibration == timedelta(days=28)
    assert pipeline.decision.contamination == 0.005
    assert pipeline.columns.kinds == {
        "year": "ignored",
        "month": "ignored",
        "day": "ignored",
        "tailnum": "categorical",
    }
    assert pipeline.schedule.timezone == "America/New_York"
    assert pipeline.root == REPOSITORY


def test_four_lines_make_a_pipeline(pipeline_file: Path) -> None:
    """All but version, name, source and output has a default."""
    pipeline = load_pipeline(pipeline_file)

    assert pipeline.decision.contamination == 0.005
    assert pipeline.source.on_missing == "wait"
    assert pipeline.training.detector == {}
    assert pipeline.retention.flags == "forever"
    assert pipeline.engine == "threads"


def test_paths_start_at_the_folder_of_mlflow_yml(pipeline_file: Path) -> None:
    """Not at the pipeline file and not at the current directory."""
    pipeline = load_pipeline(pipeline_file)
    root = pipeline_file.parents[1]

    assert pipeline.root == root
    assert pipeline.source_path == str(root / "landing")
    assert pipeline.output_path == str(root / "results")
    assert pipeline.suite_path == str(root / "pipelines" / "orders.expectations.json")


def test_without_mlflow_yml_paths_start_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline file alone works from the current directory."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = tmp_path / "elsewhere" / "orders.yml"
    file.write_text(MINIMAL)

    assert load_pipeline(file).source_path == str(tmp_path / "here" / "landing")


def test_uris_and_absolute_paths_stay_as_they_are(pipeline_file: Path) -> None:
    """An object store has no root folder."""
    pipeline_file.write_text(
        "version: 1\nname: a\nsource: {path: 's3://bucket/in'}\noutput: /results\n"
        "validation: {suite: /x/s.json}\n"
    )
    pipeline = load_pipeline(pipeline_file)

    assert pipeline.source_path == "s3://bucket/in"
    assert pipeline.output_path == "/results"
    assert pipeline.suite_path == "/x/s.json"


def test_an_empty_section_means_its_defaults(pipeline_file: Path) -> None:
    """A section whose entries are all commented out is as good as none."""
    pipeline_file.write_text(MINIMAL + "training:\n  # window: 7d\ndecision: {}\n")

    assert load_pipeline(pipeline_file).training.window == timedelta(days=181)
    assert load_pipeline(pipeline_file).decision.contamination == 0.005


def test_a_budget_alone_is_the_whole_decision(pipeline_file: Path) -> None:
    """The default contamination does not sneak in beside it; asked for both, both hold."""
    pipeline_file.write_text(MINIMAL + "decision: {budget: 200}\n")
    alone = load_pipeline(pipeline_file).decision
    pipeline_file.write_text(MINIMAL + "decision: {budget: 200, fdr: 0.1}\n")
    both = load_pipeline(pipeline_file).decision

    assert (alone.contamination, alone.fdr, alone.budget) == (None, None, 200)
    assert (both.contamination, both.fdr, both.budget) == (None, 0.1, 200)


def test_a_pipeline_cannot_be_changed(pipeline_file: Path) -> None:
    """What was checked stays as it was checked."""
    pipeline = load_pipeline(pipeline_file)

    with pytest.raises(ValidationError, match="frozen"):
        pipeline.name = "other"


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        ("trainng: {window: 3d}", 5, "trainng is no known key, did you mean training?"),
        ("training:\n  windw: 3d", 6, "training.windw is no known key, did you mean window?"),
        ("hue: red", 5, "hue is no known key, remove it or use one of version, name, source"),
        ("name: again", 5, "name came twice (first in line 2), keep one"),
        ("training:\n  calibration: 1d\n  window: 10", 7, "training.window must be a whole number of days"),
        ("training: {window: 0d}", 5, "training.window must be a span above zero"),
        (
            "training: {window: 3d}",
            5,
            "training must be a window longer than its calibration, however 3d and 28d",
        ),
        (
            "training: {max_rows: 0}",
            5,
            "training.max_rows must be greater than or equal to 1, however 0 came",
        ),
        (
            "training: {data: dirty}",
            5,
            "training.data must be 'auto', 'clean' or 'contaminated', however 'dirty'",
        ),
        ("training: {detector: [1]}", 5, "training.detector must be keys with values such as {a: 1}"),
        (
            "decision: {contamination: 0.7}",
            5,
            "contamination must be less than or equal to 0.5, however 0.7 came",
        ),
        ("decision: {contamination: .nan}", 5, "decision.contamination must be a finite number"),
        ("decision: {budget: true}", 5, "decision.budget must be a number, however true came"),
        ("decision: {fdr: 0.1, contamination: 0.1}", 5, "decision must be ruled by contamination or fdr"),
        ("columns: {key: id}", 5, "columns.key must be a list such as [a, b], however 'id' came"),
        (
            "columns:\n  key:\n    - id\n    - no",
            8,
            "columns.key.1 must be text (put it in quotes), however False",
        ),
        ("columns: {ignore: [a], numeric: [a]}", 5, "columns must be of one kind each, however a came twice"),
        (
            "promotion: {automatic: maybe}",
            5,
            "promotion.automatic must be true or false, however 'maybe' came",
        ),
        (
            "schedule: {score: '61 3 * * *'}",
            5,
            "schedule.score must be a cron line whose minute lies within 0-59",
        ),
        (
            "schedule: {timezone: Mars/Olympus}",
            5,
            "schedule.timezone must be a zone such as UTC or Europe/Berlin",
        ),
        ("schedule: {timezone: America}", 5, "schedule.timezone must be a zone"),
        ("schedule: {timezone: ../../etc/passwd}", 5, "schedule.timezone must be a zone"),
        ("engine: ray", 5, "engine must be threads, {threads: 4}, dask or {dask: tcp://HOST:8786}, however"),
        ("engine: {threads: 0}", 5, "engine must be threads, {threads: 4}, dask or"),
        ("engine: {dask: elsewhere}", 5, "engine must be threads, {threads: 4}, dask or"),
        ("retention: {flags: never}", 5, "retention.flags must be a whole number of days"),
        ("prefix: 'a b'", 5, "prefix must be letters, digits or _, however 'a b' came"),
        ("validation: {max_quarantined_share: 2}", 5, "must be less than or equal to 1, however 2 came"),
    ],
)
def test_a_mistake_is_named_with_its_line(pipeline_file: Path, lines: str, line: int, said: str) -> None:
    """One sentence: file, line, key, what was required, what came."""
    sentence = error_of(pipeline_file, f"{MINIMAL}{lines}\n")

    assert sentence.startswith(f"{pipeline_file}, line {line}: ")
    assert said in sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "however it holds nothing"),
        ("- a\n- b\n", "however it holds a list"),
        ("version: 1\n", "line 1: name is required, add it (and 2 more)"),
        (MINIMAL.replace("1", "2", 1), "line 1: version must be 1, however 2 came"),
        (MINIMAL.replace("orders", ".hidden"), "line 2: name must be 1 to 100 letters, digits, _ - or ."),
        (MINIMAL.replace("orders", "a/b"), "line 2: name must be 1 to 100 letters, digits, _ - or ."),
        (MINIMAL.replace("{path: landing}", "landing"), "line 3: source must be keys with values"),
        (MINIMAL.replace("landing", "2022-01-01"), "line 3: source.path must be text (put it in quotes)"),
        (
            MINIMAL.replace("landing", "x, partition: dt, date_pattern: '%Y-%m'"),
            "line 3: source must be dated by partition or date_pattern, however both came",
        ),
        (
            MINIMAL.replace("landing", "x, date_pattern: '%Y'"),
            "line 3: source.date_pattern must be %Y and %m",
        ),
        (MINIMAL + "a: : b\n", "line 5: valid YAML was required, however mapping values are not allowed"),
        (MINIMAL + "tab:\n\t- x\n", "line 6: valid YAML was required"),
        (MINIMAL + "prefix: &p x\nengine: *p\n", "line 6: write out what *p stands for"),
        (MINIMAL + "prefix: !!python/object/apply:os.getcwd []\n", "line 5: valid YAML was required"),
        (MINIMAL + "prefix: \0\n", "valid YAML was required"),
        (MINIMAL.replace("landing", '"land\\0ing"'), "source.path must be text without NUL"),
        ("[" * 100_000, "line 1: at most 20 levels of nesting were required"),
        ("# " + "x" * 1_000_000, "at most 1,000,000 bytes of YAML were required"),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused(pipeline_file: Path, text: str, said: str) -> None:
    """Whatever a file holds, one sentence comes back, and nothing in it is executed."""
    assert said in error_of(pipeline_file, text)


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    """A wrong path, a folder and bytes that are no text are told apart."""
    (tmp_path / "latin.yml").write_bytes(b"name: caf\xe9")

    with pytest.raises(
        ConfigError, match=r"no\.yml: a readable YAML file was required, however: No such file"
    ):
        load_pipeline(tmp_path / "no.yml")
    with pytest.raises(ConfigError, match="however: Is a directory"):
        load_pipeline(tmp_path)
    with pytest.raises(ConfigError, match="YAML in UTF-8 was required, however byte 9 is none"):
        load_pipeline(tmp_path / "latin.yml")


def test_the_digest_covers_what_shapes_a_night(pipeline_file: Path) -> None:
    """Decision, columns, source, prefix and the suite's content count; schedules and training do not."""
    digest = load_pipeline(pipeline_file).digest()
    same = [
        "schedule: {score: '0 1 * * *'}",
        "training: {window: 60d}",
        "retention: {scores: 1d}",
        "engine: threads",
    ]
    other = ["decision: {budget: 9}", "columns: {ignore: [a]}", "prefix: va_", "columns: {sensitive: [a]}"]

    def digest_with(line: str) -> str:
        pipeline_file.write_text(MINIMAL + line + "\n")
        return load_pipeline(pipeline_file).digest()

    assert digest.startswith("sha256:")
    assert {digest_with(line) for line in same} == {digest}
    assert len({digest, *(digest_with(line) for line in other)}) == 1 + len(other)


def test_an_edited_suite_changes_the_digest(pipeline_file: Path) -> None:
    """Nights validated by other rules are other nights."""
    pipeline = load_pipeline(pipeline_file)
    before = pipeline.digest()
    Path(pipeline.suite_path).write_text("{}")

    assert pipeline.digest() != before


def test_the_digest_does_not_depend_on_the_checkout(pipeline_file: Path, tmp_path: Path) -> None:
    """The same file in another folder names the same nights."""
    other = tmp_path / "moved"
    other.mkdir()
    (other / "mlflow.yml").touch()
    (other / "orders.yml").write_text(MINIMAL)

    assert load_pipeline(other / "orders.yml").digest() == load_pipeline(pipeline_file).digest()


def test_tracking_has_defaults_below_the_root(tmp_path: Path) -> None:
    """Without mlflow.yml runs go to a SQLite file, their files to a folder beside it."""
    tracking = load_tracking(tmp_path)

    assert tracking.tracking_uri == f"sqlite:///{tmp_path}/data/mlflow/mlflow.db"
    assert tracking.registry_uri == tracking.tracking_uri
    assert tracking.artifact_location == f"{tmp_path}/data/mlflow/artifacts"
    assert tracking.model_name_for("flights") == "flights"
    assert (tracking.aliases.live, tracking.aliases.candidate) == ("champion", "challenger")


def test_tracking_reads_mlflow_yml(tmp_path: Path) -> None:
    """Addresses stay, relative files and folders are resolved."""
    (tmp_path / "mlflow.yml").write_text(
        "tracking_uri: http://127.0.0.1:5000\nregistry_uri: sqlite:///r.db\n"
        "artifact_location: s3://bucket/runs\nmodel_name: 'shop-{pipeline}'\naliases: {live: live}\n"
    )
    tracking = load_tracking(tmp_path)

    assert tracking.tracking_uri == "http://127.0.0.1:5000"
    assert tracking.registry_uri == f"sqlite:///{tmp_path}/r.db"
    assert tracking.artifact_location == "s3://bucket/runs"
    assert tracking.model_name_for("orders") == "shop-orders"
    assert tracking.aliases.live == "live"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("experimnt: a", "line 1: experimnt is no known key, did you mean experiment?"),
        ("tracking_uri: ./mlruns", "line 1: tracking_uri must be sqlite:///FILE or the address of a server"),
        ("model_name: 'a/{pipeline}'", "line 1: model_name must be a name without / and :"),
        ("model_name: '{pipeline.name}'", "line 1: model_name must be a name without / and :"),
        (
            "aliases: {live: a, candidate: a}",
            "line 1: aliases must be two different aliases, however both are a",
        ),
    ],
)
def test_a_mistake_in_mlflow_yml_is_named(tmp_path: Path, line: str, said: str) -> None:
    """The same kind of sentence as for a pipeline file."""
    (tmp_path / "mlflow.yml").write_text(line + "\n")

    with pytest.raises(ConfigError) as caught:
        load_tracking(tmp_path)
    assert said in str(caught.value)


def test_the_schema_describes_each_key() -> None:
    """An editor can show what a key means, and spans are texts with a unit."""
    schema = json_schema()

    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Training"]["properties"]["window"]["pattern"] == "^[0-9]{1,6}[dhm]$"
    assert (
        schema["$defs"]["Decision"]["properties"]["fdr"]["description"]
        == "Share of false alarms among the flags."
    )
    assert json.loads(json.dumps(schema)) == schema


def test_a_pipeline_survives_its_own_dump(pipeline_file: Path) -> None:
    """The dumped values read back as the same pipeline: spans are written as people write them."""
    pipeline = load_pipeline(REPOSITORY / "pipelines" / "flights.yml")
    dumped = pipeline.model_dump(mode="json", exclude_none=True)
    pipeline_file.write_text(json.dumps(dumped))  # JSON is YAML

    assert dumped["training"]["window"] == "181d"
    assert (dumped["retention"]["scores"], dumped["retention"]["flags"]) == ("90d", "forever")
    assert load_pipeline(pipeline_file).model_dump() == pipeline.model_dump()
