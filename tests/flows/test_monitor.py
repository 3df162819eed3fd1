"""A night is monitored: drift, types, nulls, planted errors; with a real server, MLflow and webhook."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import typer

from flows import alerts
from flows.config import Pipeline, load_pipeline
from flows.context import model_ref, registry_of
from flows.errors import InputError, NoDataError, RegistryError
from flows.expectations import save_suite
from flows.manifest import Manifest
from flows.observation import scored_files
from flows.reference import REFERENCE, read_reference, write_reference
from flows.report import night_report
from flows.scoring import score_files
from flows.sources import find_files
from flows.tables import input_file
from vae_core import VAEDetector
from vae_core.honesty import OURS, Honesty, Power

pytestmark = pytest.mark.slow

DAYS = [f"2024-03-{day:02}" for day in range(1, 6)]
ORDINARY, SHIFTED, MISSING = DAYS[3], DAYS[4], "2024-03-06"
PIPELINE = """
version: 1
name: orders
source: {path: landing, partition: dt, on_missing: fail}
output: results
columns: {key: [id], sensitive: [client]}
decision: {contamination: 0.01}
alerts: {max_flag_share: 0.001}
"""
Webhook = tuple[str, list[dict[str, str]]]


def orders(seed: int, rows: int = 400) -> pa.Table:
    """Return orders; nobody could see a wrong unit in ``noise``, whose usual values span 20 powers of ten."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "id": np.arange(rows) + 1000 * seed,
            "amount": random.normal(50.0, 5.0, rows),
            "fee": random.choice([1.0, 2.5], rows),
            "noise": np.exp(random.normal(0.0, 8.0, rows)),
            "shop": random.choice(["Bern", "Basel"], rows),
            "client": random.choice(["Ada", "Eve"], rows),
            "coupon": pa.array(random.integers(0, 9, rows), mask=random.random(rows) < 0.1),
        }
    )


def shifted(seed: int) -> pa.Table:
    """Return orders in cents, with a coupon in each, of another type, and a shop that is new."""
    table = orders(seed, 900)
    coupon = pc.fill_null(table["coupon"], 0).cast(pa.int32())
    table = table.set_column(6, "coupon", coupon).append_column("note", pa.array(["<b>&"] * 900))
    table = table.set_column(4, "shop", pa.array(["Chur"] * 900))
    return table.set_column(1, "amount", pc.multiply(table["amount"], 100.0))


class Project(NamedTuple):
    """What a project with an ordinary and a shifted night has reported, and the messages that came."""

    root: Path
    nights: dict[str, Manifest]
    seen: dict[str, dict[str, Any]]
    messages: list[dict[str, str]]

    def table(self, name: str, day: str) -> Any:
        """Return a night's table."""
        return pq.ParquetFile(self.root / f"results/{name}/dt={day}/part-0.parquet").read()

    def states(self, day: str) -> dict[tuple[str, str], str]:
        """Return the measures of a night that are not ok."""
        rows = self.seen[day]["findings"]
        return {(one["column"], one["metric"]): one["state"] for one in rows if one["state"] != "ok"}

    def about(self, kind: str) -> list[str]:
        """Return the messages of a kind."""
        return [one["message"] for one in self.messages if one["title"] == f"vaewatch orders: {kind}"]


def registered(pipeline: Pipeline) -> None:
    """Register a model with its training reference; it found 9 of 10 missing amounts when it was trained."""
    columns = pipeline.columns
    known = pa.concat_tables([orders(seed) for seed in range(100, 104)])
    newer = pa.concat_tables([orders(seed) for seed in range(104, 106)])
    detector = VAEDetector(max_steps=150, n_members=1, random_state=0, kinds={"id": "key"}, device="cpu")
    detector.fit(known).calibrate(newer)
    tried = Honesty(0.01, 800, (Power("null", "amount", 10, {OURS: 9}),), (), (), {})
    folder = pipeline.root / "detector"
    detector.save(folder)
    write_reference(folder, detector, known, newer, tried=tried, sensitive=columns.sensitive)
    save_suite(Path(pipeline.suite_path), {"name": "orders", "expectations": [], "meta": {}})
    registry = registry_of(pipeline)
    with registry.start_run("orders", {}) as run:
        registry.register(run, folder, example=known.slice(0, 3).drop_columns(["id"]))


def scored(pipeline: Pipeline, day: str) -> Manifest:
    """Land and score a night, and tell of it, as the nightly flow does."""
    table = shifted(8) if day == SHIFTED else orders(int(day[-2:]))
    folder = Path(pipeline.source_path) / f"dt={day}"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "orders.parquet")
    files = find_files(pipeline, date.fromisoformat(day))
    manifest = score_files(pipeline, date.fromisoformat(day), files, model_ref(pipeline), {}).manifest
    alerts.night_scored(pipeline, manifest)
    return manifest


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: str, webhook: Webhook
) -> Iterator[Project]:
    """Score five nights, the last one shifted; monitor two of them, one twice; ask for a sixth, twice."""
    from flows.monitor import monitor
    from flows.score import score

    root = tmp_path_factory.mktemp("monitored")
    (root / "mlflow.yml").write_text("experiment: tests\n")
    (root / "orders.yml").write_text(PIPELINE)
    pipeline, file = load_pipeline(root / "orders.yml"), str(root / "orders.yml")
    registered(pipeline)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEWATCH_ALERTS", webhook[0])
        webhook[1].clear()
        nights = {day: scored(pipeline, day) for day in DAYS}
        seen = {day: monitor(file, day) for day in (ORDINARY, SHIFTED, SHIFTED)}
        for _ in range(2):
            with pytest.raises(NoDataError):
                score(file, MISSING)
            with pytest.raises(NoDataError, match=f"{MISSING} is not: `vaewatch score --date {MISSING}`"):
                monitor(file, MISSING)
        yield Project(root, nights, seen, webhook[1])


def test_the_training_reference_is_part_of_the_registered_model(project: Project) -> None:
    """Its digest covers it, it holds no value of a sensitive column, and a version without it is refused."""
    pipeline = load_pipeline(project.root / "orders.yml")
    kept = registry_of(pipeline).download(model_ref(pipeline), project.root / "data" / "models")
    stored = next((project.root / "data/mlflow/artifacts").rglob(REFERENCE))
    text = stored.read_text()
    reference = read_reference(kept)

    assert VAEDetector.load(kept).schema_.names == tuple(orders(0).schema.names)
    assert reference is not None
    assert reference.profile.rows == 1600
    assert reference.power == {("null", "amount"): 0.9}
    assert not [name for name in ("Ada", "Eve") if name in text]
    stored.write_text(text.replace("Bern", "Brno"))
    with pytest.raises(RegistryError, match="files were altered"):
        registry_of(pipeline).download(model_ref(pipeline, "1"), project.root / "elsewhere")
    stored.write_text(text)


def test_an_ordinary_night_has_not_drifted(project: Project) -> None:
    columns = {place: state for place, state in project.states(ORDINARY).items() if state != "blind"}

    assert columns == {(None, "flagged_share"): "over"}


def test_a_shifted_night_names_the_columns_whose_types_nulls_and_values_changed(project: Project) -> None:
    states = project.states(SHIFTED)

    assert states["coupon", "type_changed"] == states["note", "new_column"] == "changed"
    assert states["coupon", "null_share"] == states["amount", "psi"] == states["shop", "psi"] == "drift"
    assert states["shop", "unseen_share"] == states[None, "rows"] == states[None, "score_psi"] == "drift"
    assert ("fee", "psi") not in states
    assert "Types changed: coupon (int64 → int32)." in project.seen[SHIFTED]["sentences"]
    assert (
        "Shares of values never seen changed: shop (0.000% → 100.000%)." in project.seen[SHIFTED]["sentences"]
    )


def test_most_of_the_shifted_night_is_one_incident_and_nothing_is_lost(project: Project) -> None:
    night, scores = project.nights[SHIFTED], project.table("scores", SHIFTED)
    assert night.incident is not None
    assert night.incident["sentence"].startswith("900 of 900 rows (100%) are odd")
    assert (
        night.not_certified == "most of the night is odd: its ordinary rows are not like the calibration rows"
    )
    assert scores.num_rows == pc.sum(scores["is_anomaly"]).as_py() == 900
    assert project.nights[ORDINARY].incident is None
    assert project.seen[SHIFTED]["sentences"][0] == f"{night.incident['sentence']}."


def test_an_incident_ends_the_command_with_3(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.cli import _exit_by

    report = night_report(project.nights[SHIFTED], "scored", 1.0, None)
    with pytest.raises(typer.Exit) as end:
        _exit_by(load_pipeline(project.root / "orders.yml"), report)

    assert end.value.exit_code == 3
    assert re.fullmatch(r"vaewatch: 900 of 900 rows [^\n]+\n", capsys.readouterr().err)


def test_a_night_that_was_monitored_twice_has_one_table(project: Project) -> None:
    rows = pd.read_parquet(project.root / "results" / "monitor")

    assert not rows.duplicated(["dt", "column", "metric"]).any()
    assert set(rows.dt.astype(str)) == {ORDINARY, SHIFTED}
    assert list(rows.columns[:6]) == ["column", "metric", "value", "reference", "threshold", "state"]
    assert len(rows) == sum(len(report["findings"]) for report in project.seen.values())


def test_a_column_in_which_errors_cannot_be_seen_is_said_to_be_blind(project: Project) -> None:
    blind = {one["column"]: one for one in project.seen[ORDINARY]["findings"] if one["state"] == "blind"}
    powers = [one for one in project.seen[ORDINARY]["findings"] if one["metric"].startswith("power_")]

    assert blind["noise"]["metric"] == "power_unit_slip_1000"
    assert blind["noise"]["value"] < 0.5 == blind["noise"]["threshold"]
    assert "amount" not in blind
    assert {"amount", "fee", "shop", "client", "coupon", "noise"} == {one["column"] for one in powers}
    then = {one["column"]: one["reference"] for one in powers if one["metric"] == "power_null"}
    assert (then["amount"], then["fee"]) == (0.9, None)


def test_each_cause_is_told_once_though_all_was_run_twice(project: Project) -> None:
    """The webhook is a real receiver."""
    told = {
        kind: len(project.about(kind))
        for kind in (
            "flag share",
            "breaker tripped",
            "drift",
            "canary blindness",
            "night failed",
            "night late",
        )
    }

    assert told == {
        "flag share": sum(night.rows_flagged > 0 for night in project.nights.values() if not night.incident),
        "breaker tripped": 1,
        "drift": 1,
        "canary blindness": 1,
        "night failed": 1,
        "night late": 1,
    }
    assert "coupon (int64 → int32)" in project.about("drift")[0]
    assert "unit slip 1000 in noise" in project.about("canary blindness")[0]


def test_alerts_are_events_of_prefect_s_server_too(project: Project, until: Any) -> None:
    from prefect.client.orchestration import get_client

    wanted = {"vaewatch.breaker_tripped", "vaewatch.drift", "vaewatch.night_failed"}

    def emitted() -> set[str]:
        resources = [f"vaewatch.pipeline.{load_pipeline(project.root / 'orders.yml').name}"]
        with get_client(sync_client=True) as client:
            answer = client._client.post(
                "/events/filter", json={"filter": {"resource": {"id": resources}}, "limit": 50}
            )
        return {one["event"] for one in answer.json()["events"]}

    until(lambda: wanted <= emitted(), 60.0)


def test_the_measures_are_points_of_the_model_s_run_in_mlflow(project: Project) -> None:
    model = project.seen[SHIFTED]["model"]
    client = mlflow.MlflowClient(f"sqlite:///{project.root}/data/mlflow/mlflow.db")
    points = {one.step: one.value for one in client.get_metric_history(model["run_id"], "monitor.psi.amount")}
    days = [(pd.Timestamp(day) - pd.Timestamp("1970-01-01")).days for day in (ORDINARY, SHIFTED)]
    pages = {one.path for one in client.list_artifacts(model["run_id"], "monitor")}

    assert sorted(points) == days
    assert points[days[0]] < 0.1 < 0.25 < points[days[1]]
    assert pages == {f"monitor/{day}.html" for day in (ORDINARY, SHIFTED)}


def test_the_page_loads_nothing_and_escapes_what_stands_in_the_data(project: Project) -> None:
    page = Path(project.seen[SHIFTED]["page"]).read_text()
    links = set(re.findall(r"""(?:href|src)=["']([^"'#][^"']*)""", page))

    assert not links
    assert "<script" not in page
    assert "<b>&" not in page
    assert page.count("<svg") == 5
    assert "Types changed: coupon (int64 → int32)." in page


def test_prefect_s_page_shows_what_stands_out(project: Project) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = {one.key: one for one in client.read_artifacts() if one.description == SHIFTED}

    assert "Types changed: coupon" in found["orders-monitor"].data
    assert {one["state"] for one in json.loads(found["orders-measures"].data)} >= {"drift", "changed"}


def test_a_night_whose_files_are_gone_says_so(project: Project, tmp_path: Path) -> None:
    from flows.monitor import _files

    pipeline, manifest = load_pipeline(project.root / "orders.yml"), project.nights[DAYS[0]]
    other = shutil.copy(project.root / f"landing/dt={ORDINARY}/orders.parquet", tmp_path)

    assert len(scored_files(manifest, _files(pipeline, manifest))) == 1
    with pytest.raises(InputError, match=r"none of 1 is there as it was"):
        scored_files(manifest, [input_file(other, manifest.date)])
