"""One row: where its values lie among training rows, which ordinary rows are like it, what came earlier."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.manifest import Manifest, ManifestInput, ManifestModel
from flows.storage import Store
from flows.tables import input_file
from review.earlier import earlier, lasting
from review.nearest import nearest
from review.parts import Reason, brief, parts_of
from review.text import cut, escaped, shown
from review.training import Distribution, reference_file, training_of
from vae_core import VAEDetector
from vae_core.drift import TableProfile

DAY = date(2024, 3, 1)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Distribution]:
    """Return the distributions that are kept of a thousand orders, as training writes them."""
    rng = np.random.default_rng(0)
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    table = pa.table(
        {
            "amount": pa.array(rng.normal(50.0, 10.0, 1000)),
            "shop": rng.choice(["Bern", "Basel"], 1000, p=[0.9, 0.1]),
            "card": [f"card {i}" for i in range(1000)],
            "at": [noon + timedelta(minutes=int(m)) for m in rng.integers(0, 60, 1000)],
        }
    )
    schema = VAEDetector(max_epochs=1, n_members=1, max_steps=1).fit(table).schema_
    file = reference_file(tmp_path_factory.mktemp("root"), "orders", "3", "0123456789")
    file.parent.mkdir(parents=True)
    profile = TableProfile.of(table, schema, sensitive=["card"])
    file.write_text(json.dumps({"profile": profile.to_json(), "power": []}))
    return training_of(file)


def test_a_number_has_its_rank(training: dict[str, Distribution]) -> None:
    amount = training["amount"]

    assert amount.rank(50.0) == pytest.approx(0.5, abs=0.05)
    assert amount.place(1_000.0) == "higher than 99.5 % of the training rows"
    assert amount.place(None) == "null in 0 % of the training rows"
    assert sum(share for _, _, share in amount.bars()) == pytest.approx(0.99, abs=0.01)
    assert amount.ranks(np.array([50.0]))[0] == amount.rank(50.0)


def test_a_category_has_its_share(training: dict[str, Distribution]) -> None:
    assert training["shop"].place("Bern").startswith("9")
    assert training["shop"].place("Chur") == "in no training row"
    assert dict(training["shop"].commonest("Bern"))["all others"] == 0


def test_an_instant_has_its_hour(training: dict[str, Distribution]) -> None:
    said = training["at"].place(datetime(2024, 5, 1, 12, 30, tzinfo=UTC))

    assert said == "100 % of the training rows fall into hour 12"


def test_of_sensitive_columns_nothing_is_told(training: dict[str, Distribution]) -> None:
    assert training["card"].place("card 3") == ""
    assert "card 3" not in str(training["card"])


def test_without_a_reference_nothing_is_told(tmp_path: Path) -> None:
    assert training_of(tmp_path / "reference.json") == {}


def _manifest(file: Path) -> Manifest:
    digest = input_file(str(file), DAY).digest
    rows = pq.read_metadata(file).num_rows
    return Manifest(
        pipeline="orders",
        date=DAY,
        files_in=1,
        files_scored=1,
        files_rejected=0,
        rows_in=rows,
        rows_scored=rows,
        rows_quarantined=0,
        rows_flagged=1,
        inputs=(ManifestInput(path=str(file), size=1, digest=digest, rows=rows, status="scored"),),
        outputs=(),
        pipeline_digest="",
        model=ManifestModel(name="orders", version="3", run_id="0"),
        decision={},
        certified=False,
        scored_at="",
    )


@pytest.fixture
def landed(tmp_path: Path) -> Path:
    """Return a file of six orders of which the first is odd, and their scores."""
    file = tmp_path / "landing" / f"dt={DAY}" / "a.parquet"
    scores = tmp_path / "results" / "scores" / f"dt={DAY}" / "part-0.parquet"
    for one in (file, scores):
        one.parent.mkdir(parents=True)
    amounts = [900.0, 51.0, 30.0, 50.0, 70.0, 52.0]
    pq.write_table(pa.table({"id": range(6), "amount": amounts, "shop": ["Bern"] * 5 + ["Basel"]}), file)
    key = f"dt={DAY}/a.parquet"
    rows = {
        "id": range(6),
        "row_id": [f"r{i}" for i in range(6)],
        "batch_file": [key] * 6,
        "row_number": range(6),
        "severity": [40.0, 1.0, 12.0, 2.0, 3.0, 4.0],
        "is_anomaly": [True] + [False] * 5,
    }
    pq.write_table(pa.table(rows), scores)
    return file


def test_the_nearest_rows_are_ordinary_and_like_it_where_it_is_not_to_blame(
    landed: Path, training: dict[str, Distribution]
) -> None:
    store = Store.of(landed.parents[2] / "results")
    row = {"id": 0, "amount": 900.0, "shop": "Basel"}

    by_shop = nearest(store, _manifest(landed), row, ["amount", "shop"], [], training)
    blamed = nearest(store, _manifest(landed), row, ["amount", "shop", "id"], ["amount"], training, count=1)

    assert by_shop.rows[0]["id"] == 5
    assert {one["id"] for one in by_shop.rows} == {1, 3, 4, 5}  # neither the flag nor a row that is odd, too
    assert blamed.rows[0]["id"] == 5
    assert by_shop.distances == sorted(by_shop.distances)


def test_a_file_that_changed_since_is_not_read(landed: Path, training: dict[str, Distribution]) -> None:
    manifest = _manifest(landed)
    pq.write_table(pa.table({"id": [1]}), landed)

    found = nearest(Store.of(landed.parents[2] / "results"), manifest, {"id": 1}, ["id"], [], training)

    assert (found.rows, "changed since" in found.trouble) == ([], True)


def test_earlier_rows_have_the_same_key_but_for_its_instants(landed: Path) -> None:
    schema = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", "UTC"))])
    wanted = lasting('{"id": 4, "at": "2024-03-02 10:00:00+00:00"}', schema)

    found, nights = earlier(Store.of(landed.parents[2] / "results"), [DAY, DAY - timedelta(days=1)], wanted)

    assert wanted == {"id": 4}
    assert nights == 2
    assert [(one.date, one.row_id, one.severity, one.flagged) for one in found] == [(DAY, "r4", 3.0, False)]
    assert lasting("no json", schema) == {}


def test_columns_come_by_their_share_with_what_a_reason_expected(tmp_path: Path) -> None:
    file = tmp_path / f"contributions/dt={DAY}/part-0.parquet"
    file.parent.mkdir(parents=True)
    rows = {
        "row_id": ["r1", "r1", "r2"],
        "column": ["a", "b", "a"],
        "loss": [1.0, 3.0, 9.0],
        "share": [0.2, 0.8, 1.0],
        "expected": ["about 1", "about 2", "about 3"],
    }
    pq.write_table(pa.table(rows), file)
    reasons = [Reason("b", "value", "9", "about 7", 0.5)]

    parts = parts_of(Store.of(tmp_path), DAY, "r1", reasons)
    veiled = parts_of(Store.of(tmp_path), DAY, "r1", reasons, hidden=["b"])

    assert [(one.column, one.expected) for one in parts] == [("b", "about 7"), ("a", "about 1")]
    assert veiled[0].expected == "(sensitive)"
    assert parts_of(Store.of(tmp_path / "nowhere"), DAY, "r1", reasons) == []
    assert brief(reasons[0]) == "b 9; expected about 7"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (3.0, "3"),
        (0.1 + 0.2, "0.3"),
        ("a\x00\u202eb", "a��b"),
        (b"\x01\xff", "01 ff"),
        (True, "True"),
    ],
)
def test_a_cell_is_text(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_long_cell_is_cut_and_its_length_told() -> None:
    assert cut("x" * 1_000_000, 5) == "xxxxx… (1,000,000 characters)"
    assert escaped("<b>*a*</b> [x](y)") == r"\<b\>\*a\*\<\/b\> \[x\]\(y\)"
