"""The readers of files that strangers may have written, and mutants of what they read.

A mutant is a well-formed file with bytes changed, or one whose JSON, YAML or table says something odd while
its digests are right, so that the reader does not stop at the first gate.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from flows.config import load_pipeline, load_tracking
from flows.errors import VaewatchError
from flows.journal import SCHEMA, Journal
from flows.lease import night_lease
from flows.manifest import Manifest, ManifestInput, ManifestModel, ManifestOutput
from flows.rules import row_rules
from flows.storage import LocalStore
from flows.suites import load_suite, profile
from flows.verdicts import CONFIRMED, confirmed_rows, said_of, settled_rows
from vae_core import VAEDetector
from vae_core.exceptions import ModelFileError

__all__ = ["Reader", "mutant", "readers"]

DAY = date(2024, 3, 1)
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1e308, -0.0, float("nan"), float("inf"), 2**63, 10**400, 1.5),
    *(
        "",
        "\0",
        "..",
        "../../etc/passwd",
        "{0.__class__}",
        "%s%n",
        "a\nb",
        "x" * 10_000,
        "\ud800",
        "1e999",
        "NaN",
    ),
    *([], {}, [[]], [None], {"": None}, {"a": {"a": {}}}),
)
"""Values that no writer of ours writes."""

Seal = Callable[[Any], bytes]


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes
    ----------
    name
        What is read.
    good
        A file that it reads, as bytes.
    read
        Reads a file's bytes; raises our errors, and no other.
    parse, seal
        The file's content as JSON values, and back to bytes with right digests; None where it has no such.
    """

    name: str
    good: bytes
    read: Callable[[bytes], object]
    parse: Callable[[bytes], Any] | None = None
    seal: Seal | None = None

    def survives(self, data: bytes) -> bool:
        """Read a file; return whether it was accepted, and raise what is no error of ours."""
        try:
            self.read(data)
        except (VaewatchError, ModelFileError) as error:
            _require_one_sentence(error)
            return False
        return True


def _require_one_sentence(error: Exception) -> None:
    text = str(error)
    if not text or len(text) > 4_000:
        raise AssertionError(f"an error in a sentence was required, however {text[:200]!r} came") from error


def mutant(reader: Reader, seed: int) -> bytes:
    """Return a file that differs from a good one in a few places."""
    rng = random.Random(seed)  # noqa: S311
    if reader.parse is None or reader.seal is None or rng.random() < 0.3:
        return _bytes_changed(reader.good, rng)
    content = copy.deepcopy(reader.parse(reader.good))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        content = _value_changed(content, rng)
    with suppress(Exception):  # not everything can be said in JSON, YAML or a table
        return reader.seal(content)
    return _bytes_changed(reader.good, rng)


def _bytes_changed(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        at, length = rng.randrange(len(changed) + 1), rng.choice((1, 1, 4, 64, 1024))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at : at + length] = rng.randbytes(min(length, 64))
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = changed[at : at + length]
        else:
            changed[at : at + 1] = bytes([1 << rng.randrange(8)])
    return bytes(changed)


def _value_changed(content: Any, rng: random.Random) -> Any:
    """Return the content with one value somewhere in it replaced, dropped, doubled or renamed."""
    places = list(_places(content))
    if not places:
        return rng.choice(ODD)
    holder, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif kind == 1:
        holder[f"{key} "] = holder[key]
    elif kind == 2:
        other, at = rng.choice(places)
        holder[key] = copy.deepcopy(other[at]) if at in other or isinstance(other, list) else None
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD))
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = (
        range(len(content))
        if isinstance(content, list)
        else list(content)
        if isinstance(content, dict)
        else ()
    )
    for key in keys:
        yield content, key
        yield from _places(content[key])


@contextmanager
def readers(folder: Path) -> Iterator[dict[str, Reader]]:
    """Make good files of each kind below a folder, and yield their readers by name."""
    made = [_manifest(), _lease(folder), _pipeline(folder), _tracking(folder), _suite(folder)]
    made += [_verdicts(folder), _journal(folder), *_model(folder)]
    yield {one.name: one for one in made}


def _json(content: Any) -> bytes:
    return json.dumps(content).encode("utf-8", "surrogatepass")


def _manifest() -> Reader:
    good = Manifest(
        pipeline="orders",
        date=DAY,
        files_in=2,
        files_scored=1,
        files_rejected=1,
        rows_in=9,
        rows_scored=8,
        rows_quarantined=1,
        rows_flagged=1,
        inputs=(
            ManifestInput(path="/in/a", size=1, digest="blake2b:1", rows=9, status="scored"),
            ManifestInput(
                path="/in/b", size=1, digest="blake2b:2", rows=None, status="rejected", reason="bad"
            ),
        ),
        outputs=(ManifestOutput(path=f"flags/dt={DAY}/part-0.parquet", rows=1, digest="sha256:1", size=3),),
        pipeline_digest="sha256:2",
        model=ManifestModel(name="orders", version="1", run_id="r"),
        decision={"budget": 3},
        certified=True,
        scored_at="2024-03-02T03:30:00+00:00",
    )

    def seal(content: Any) -> bytes:
        if isinstance(content, dict):
            content.pop("digest", None)
            canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
            content["digest"] = f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
        return _json(content)

    return Reader("manifest", good.to_json().encode(), _read_manifest, json.loads, seal)


def _read_manifest(data: bytes) -> None:
    manifest = Manifest.from_json(data)
    Manifest.from_json(manifest.to_json())
    manifest.succession()


def _lease(folder: Path) -> Reader:
    record = {
        "token": 3,
        "run": "",
        "host": "h",
        "process": "1 started 2",
        "since": "x",
        "beat": 4,
        "pending": None,
    }
    store, file = LocalStore(folder / "leased"), folder / "leased" / ".leases" / f"dt={DAY}.json"

    def hold() -> None:
        with night_lease(store, DAY, patience=-1.0) as lease:
            lease.begin("x")

    return Reader("lease", _json(record), partial(_written, file, hold), json.loads, _json)


def _written(file: Path, read: Callable[[], object], data: bytes) -> object:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return read()


def _yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")


def _pipeline(folder: Path) -> Reader:
    file = folder / "orders.yml"
    good = (Path(__file__).parents[1] / "pipelines" / "flights.yml").read_bytes()
    return Reader("pipeline", good, partial(_written, file, lambda: _used(file)), yaml.safe_load, _yaml)


def _used(file: Path) -> None:
    pipeline = load_pipeline(file)
    pipeline.digest()
    _ = pipeline.source_path, pipeline.output_path, pipeline.suite_path, pipeline.columns.kinds


def _tracking(folder: Path) -> Reader:
    good = b"experiment: shop\nmodel_name: '{pipeline}'\naliases: {live: a, candidate: b}\ntracking_uri: sqlite:///a.db\n"
    file = folder / "tracking" / "mlflow.yml"
    return Reader(
        "mlflow.yml", good, partial(_written, file, lambda: load_tracking(file.parent)), yaml.safe_load, _yaml
    )


def _table() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table({"n": np.arange(99), "x": rng.normal(size=99), "s": rng.choice(["a", "b"], 99)})


def _suite(folder: Path) -> Reader:
    file = folder / "suite.json"
    good = _json(profile(_table(), name="orders", keys=["n"]))

    def read() -> None:
        for rule in row_rules(load_suite(file), _table().schema):
            rule.mask(_table().to_batches()[0])

    return Reader("suite", good, partial(_written, file, read), json.loads, _json)


def _parquet(rows: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def _rows(data: bytes) -> Any:
    return pq.read_table(io.BytesIO(data)).to_pylist()


def _verdicts(folder: Path) -> Reader:
    store = LocalStore(folder / "results")
    row = {
        "row_id": "a",
        "row_key": '{"n": 1}',
        "dt": str(DAY),
        "verdict": "anomaly",
        "note": "",
        "reviewer": "ann",
    }
    good = _parquet([row | {"decided_at": datetime(2024, 3, 2, tzinfo=UTC), "supersedes": None}])
    file = folder / "results" / "verdicts" / f"dt={DAY}" / "part-0.parquet"

    def read() -> None:
        confirmed_rows(store, DAY)
        said_of(store, DAY, DAY, CONFIRMED).among(_table(), ["n"], [])
        settled_rows(store, DAY)

    return Reader("verdicts", good, partial(_written, file, read), _rows, _parquet)


def _journal(folder: Path) -> Reader:
    store = LocalStore(folder / "journalled")
    Journal(store).append("champion", "1", by="ann", how="trained", at=datetime(2024, 3, 2, tzinfo=UTC))
    [stored] = store.list("journal")
    file = Path(stored.path)

    def seal(rows: Any) -> bytes:
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), sink)
        return sink.getvalue()

    return Reader(
        "journal", file.read_bytes(), partial(_written, file, lambda: Journal(store).moves()), _rows, seal
    )


def _model(folder: Path) -> list[Reader]:
    """Return readers of the two files of a model folder."""
    saved, meta, tensors = folder / "model", "model.json", "tensors.safetensors"
    like = pa.array([f"{word}{i % 5}" for i, word in enumerate(_table()["s"].to_pylist())])  # in groups
    table = _table().append_column("like", like)
    kinds = {"n": "key", "like": "categorical"}
    small: dict[str, Any] = {"max_steps": 2, "n_members": 1, "hidden_dims": (8,), "max_categories": 1}
    detector = VAEDetector(kinds=kinds, random_state=0, **small)
    detector.fit(table).calibrate(table)
    detector.save(saved)
    good = {name: (saved / name).read_bytes() for name in (meta, tensors)}

    def load(folder: Path) -> None:
        loaded = VAEDetector.load(folder)
        loaded.explain(table.slice(0, 2))
        loaded.p_values(table)
        loaded.sample(2, random_state=0)

    def description(data: bytes) -> None:
        _written(saved / tensors, lambda: None, good[tensors])
        _written(saved / meta, lambda: load(saved), data)

    def weights(data: bytes) -> None:
        content = json.loads(good[meta])
        content["files"] = {tensors: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
        _written(saved / tensors, lambda: None, data)
        _written(saved / meta, lambda: load(saved), _json(content))

    first = Reader("model.json", good[meta], description, json.loads, _json)
    return [
        first,
        Reader("tensors.safetensors", good[tensors], weights, _header, _with_header(good[tensors])),
    ]


def _header(data: bytes) -> Any:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def _with_header(good: bytes) -> Seal:
    body = good[8 + int.from_bytes(good[:8], "little") :]

    def seal(header: Any) -> bytes:
        text = _json(header)
        return len(text).to_bytes(8, "little") + text + body

    return seal
