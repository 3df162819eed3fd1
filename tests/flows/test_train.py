"""What a training refuses before it costs anything, and what it says of the rows that it cleaned away."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from flows.config import Pipeline, load_pipeline
from flows.errors import ConfigError
from flows.registry import Registry
from flows.runs import Run
from flows.train import TrainingRows, _log_cleaned, _log_groups, _require_columns, fit_detector
from vae_core import VAEDetector

TABLE = pa.table({"id": [1], "amount": [2.5], "shop": ["Bern"], "coupon": pa.array([7], pa.decimal128(9, 2))})
PIPELINE = """
version: 1
name: orders
source: {{path: landing}}
output: results
columns: {{{columns}}}
"""


def pipeline(folder: Path, columns: str) -> Pipeline:
    (folder / "mlflow.yml").touch()
    (folder / "orders.yml").write_text(PIPELINE.format(columns=columns))
    return load_pipeline(folder / "orders.yml")


@pytest.mark.parametrize(
    "columns", ["", "key: [id], sensitive: [shop]", "value_at_stake: coupon, ignore: [id]"]
)
def test_columns_that_are_there_pass(tmp_path: Path, columns: str) -> None:
    _require_columns(pipeline(tmp_path, columns), TABLE)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            "sensitive: [shop, shoe]",
            r"columns names shoe \(did you mean shop\?\), however the table has id, amount, shop, coupon",
        ),
        ("value_at_stake: price", r"columns names price, however the table has"),
        ("key: [id, nr], categorical: [color]", r"columns names color, nr, however"),
        ("value_at_stake: shop", r"value_at_stake`: a column shop of numbers was required, however it holds"),
    ],
)
def test_columns_that_are_not_there_or_hold_no_numbers_are_named(
    tmp_path: Path, columns: str, said: str
) -> None:
    """The pipeline file is named, too: there is something to correct."""
    with pytest.raises(ConfigError, match=rf"orders\.yml: .*{said}"):
        _require_columns(pipeline(tmp_path, columns), TABLE)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("max_step: 60", r"names max_step \(did you mean max_steps\?\), however there are .*max_steps"),
        ("colour: red", r"names colour, however there are "),
        ("max_steps: sixty", r"max_steps must be .* 'sixty'"),
        ("latent_dim: 0", r"latent_dim must be at least 1.* however it is 0"),
        ("preset: fastest", r"preset must be one of "),
    ],
)
def test_a_setting_of_the_detector_that_cannot_be_is_told_with_the_pipeline_file(
    tmp_path: Path, setting: str, said: str
) -> None:
    """The data is not to blame, and no word is Python's."""
    rows = TrainingRows(TABLE, TABLE, (), date(2024, 1, 1), date(2024, 1, 1), 0)
    wrong = pipeline(tmp_path, "")
    training = wrong.training.model_copy(update={"detector": yaml.safe_load(setting)})

    with pytest.raises(ConfigError, match=rf"orders\.yml: training\.detector:? {said}") as refused:
        fit_detector(wrong.model_copy(update={"training": training}), rows)

    assert "VAEDetector" not in str(refused.value)


def registry_in(folder: Path) -> Registry:
    return Registry(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        registry_uri=f"sqlite:///{folder / 'mlflow.db'}",
        artifact_location=str(folder / "artifacts"),
        experiment="orders",
        model_name="orders",
        live_alias="champion",
        candidate_alias="challenger",
    )


def logged(registry: Registry, run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A table of a run, as MLflow's client reads it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)
    from mlflow import MlflowClient

    client = MlflowClient(registry.tracking_uri)
    experiment = client.get_run(run.id).info.experiment_id
    return pd.DataFrame(client.load_table(experiment, name, run_ids=[run.id]))


def test_rows_that_members_did_not_learn_from_are_a_table_in_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row each, its sensitive columns left out."""
    random = np.random.default_rng(0)
    amount = np.concatenate([random.normal(size=1500), random.normal(4.0, 0.2, size=100)])
    columns = {name: amount + random.normal(scale=0.5, size=1600) for name in "abcd"}
    table = pa.table({"id": np.arange(1600), "shop": ["Bern"] * 1600, **columns})
    detector = VAEDetector(kinds={"id": "key"}, random_state=0).fit(table)
    rows = TrainingRows(table, table, (), date(2024, 1, 1), date(2024, 1, 1), 0)
    registry = registry_in(tmp_path)

    with registry.start_run("train", {}) as run:
        _log_cleaned(run, pipeline(tmp_path, "key: [id], sensitive: [shop]"), detector, rows)

    shown = logged(registry, run, "set_aside.json", monkeypatch)
    assert list(shown.columns) == ["id", "a", "b", "c", "d"]
    assert list(shown["id"]) == list(detector.set_aside_)
    assert np.mean(shown["id"] >= 1500) > 0.7
    np.testing.assert_allclose(shown["a"], columns["a"][detector.set_aside_])


def test_values_that_are_learned_together_are_a_table_in_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row a group, the commonest value first; sensitive columns are left out."""
    random = np.random.default_rng(0)
    shop, clerk = random.integers(4, size=4000), random.integers(10, size=4000)
    names = [f"{'ABCD'[one]}{number}" for one, number in zip(shop, clerk, strict=True)]
    table = pa.table({"shop": [f"S{one}" for one in shop], "clerk": names, "patient": names})
    detector = VAEDetector(max_categories=4, max_steps=2, random_state=0).fit(table)
    registry = registry_in(tmp_path)

    with registry.start_run("train", {}) as run:
        _log_groups(run, pipeline(tmp_path, "sensitive: [patient]"), detector)

    shown = logged(registry, run, "groups.json", monkeypatch)
    assert set(shown["column"]) == {"clerk"}
    assert shown["values"].sum() == len(set(names)) - 4
    assert all(len({name[0] for name in words.split(", ")}) == 1 for words in shown["commonest"])
    assert list(shown["like"]) == [words.split(", ")[0] for words in shown["commonest"]]
