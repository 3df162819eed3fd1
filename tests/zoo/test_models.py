"""Models from elsewhere: refused by name before anything of them is used; and nothing is unpickled."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.context import champion_detector, registry_of
from flows.errors import RegistryError
from flows.registry import ModelRef
from flows.tracking import SETTINGS
from vae_core import ModelFileError, VAEDetector

META, TENSORS = "model.json", "tensors.safetensors"


def described(folder: Path, **changes: Any) -> None:
    """Change model.json, and make its digests those of the files: what someone does who knows the format."""
    meta = {**json.loads((folder / META).read_text()), **changes}
    data = (folder / TENSORS).read_bytes()
    sealed = {TENSORS: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    meta["files"] = {**sealed, **changes.get("files", {})}
    (folder / META).write_text(json.dumps(meta))


def with_header(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change what the tensors' file says of its tensors, digests included."""
    data = (folder / TENSORS).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    (folder / TENSORS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    described(folder)


def first(header: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(value for name, value in header.items() if name.startswith("model."))
    return found


def flipped_byte(folder: Path) -> None:
    data = bytearray((folder / TENSORS).read_bytes())
    data[-10] ^= 1
    (folder / TENSORS).write_bytes(data)


def wrong_shape(folder: Path) -> None:
    def edit(header: dict[str, Any]) -> None:
        one = first(header)
        size = 1
        for extent in one["shape"]:
            size *= extent
        one["shape"] = [size, 1]

    with_header(folder, edit)


def huge_tensor(folder: Path) -> None:
    with_header(folder, lambda header: first(header).update(shape=[2**40], data_offsets=[0, 2**42]))


def huge_header(folder: Path) -> None:
    data = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(struct.pack("<Q", 2**62) + data[8:])
    described(folder)


def huge_file(folder: Path) -> None:
    os.truncate(folder / TENSORS, 3 << 30)  # sparse: takes no room


def huge_description(folder: Path) -> None:
    os.truncate(folder / META, 1 << 30)


def strange_tensor(folder: Path) -> None:
    with_header(folder, lambda header: header.update({"model.../../evil": header.pop(next(iter(header)))}))


def another_version(folder: Path) -> None:
    described(folder, format_version=99)


def name_outside(folder: Path) -> None:
    described(folder, files={"../../evil": {"size": 1, "sha256": "0"}})


def name_from_root(folder: Path) -> None:
    described(folder, files={"/etc/passwd": {"size": 1, "sha256": "0"}})


def linked_tensors(folder: Path) -> None:
    shutil.move(folder / TENSORS, folder.parent / "elsewhere")
    (folder / TENSORS).symlink_to(folder.parent / "elsewhere")


def linked_description(folder: Path) -> None:
    shutil.move(folder / META, folder.parent / "elsewhere")
    (folder / META).symlink_to(folder.parent / "elsewhere")


def piped_tensors(folder: Path) -> None:
    (folder / TENSORS).unlink()
    os.mkfifo(folder / TENSORS)


TAMPERED = [
    flipped_byte,
    wrong_shape,
    huge_tensor,
    huge_header,
    huge_file,
    huge_description,
    strange_tensor,
    another_version,
    name_outside,
    name_from_root,
    linked_tensors,
    linked_description,
    piped_tensors,
]


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda one: one.__name__)
def test_a_tampered_model_is_refused_by_name(
    shop_model: Any, tmp_path: Path, tamper: Callable[[Path], None]
) -> None:
    """Though whoever did it may have mended the digests, too; the sentence names the folder or its file."""
    folder = tmp_path / "model"
    shop_model.detector.save(folder)
    tamper(folder)

    with pytest.raises(ModelFileError, match=str(folder)):
        VAEDetector.load(folder)
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "elsewhere"}


@pytest.fixture
def registered(shop: Any) -> tuple[Any, ModelRef]:
    """Return a pipeline whose model is registered, and the version."""
    pipeline = shop.pipeline
    registry = registry_of(pipeline)
    shop.model.detector.save(shop.root / "detector")
    example = pq.read_table(shop.night / "good.parquet").drop_columns(["id"]).slice(0, 3)
    with registry.start_run("a run", {}) as run:
        ref = registry.register(run, shop.root / "detector", example=example)
    return pipeline, ref


def stored_folder(root: Path) -> Path:
    """Return the registered detector's folder as MLflow keeps it."""
    return next(path.parent for path in (root / "data").rglob(TENSORS) if "artifacts" in path.parts)


def test_registered_files_are_checked_before_they_are_read(
    shop: Any, registered: tuple[Any, ModelRef]
) -> None:
    """One more file, another one, a link: it is no longer what was registered, and the version is named."""
    pipeline, ref = registered
    folder = stored_folder(shop.root)
    for add in ("extra.txt", "../beside.txt"):
        (folder / add).write_text("more")
        with pytest.raises(RegistryError, match=f"version {ref.version} of model 'shop'.*altered"):
            champion_detector(pipeline, ref)
        (folder / add).unlink()
    flipped_byte(folder)

    with pytest.raises(RegistryError, match=f"version {ref.version} of model 'shop'.*altered"):
        champion_detector(pipeline, ref)


PROBE = """
import json, sys
from pathlib import Path
root, found = Path(sys.argv[1]), []
import vae_core, flows.manifest, flows.verdicts, flows.config, flows.registry, mlflow.pyfunc
sys.addaudithook(lambda event, values: found.append(str(values)) if event == "pickle.find_class" else None)
from datetime import date
from flows.config import load_pipeline
from flows.context import champion_detector, model_ref, reference_of, registry_of
from flows.manifest import read_manifest
from flows.storage import Store
from flows.verdicts import confirmed_rows
pipeline = load_pipeline(root / "shop.yml")
ref = model_ref(pipeline, "1")
detector = champion_detector(pipeline, ref)
reference_of(pipeline, ref)
store = Store.of(pipeline.output_path)
manifest = read_manifest(store, date(2024, 3, 1))
verdicts = confirmed_rows(store, date(2024, 3, 1))
import os
import mlflow
mlflow.set_tracking_uri(registry_of(pipeline).tracking_uri)
served = mlflow.pyfunc.load_model(ref.uri)
print(json.dumps({"pickles": found, "rows": manifest.rows_in, "verdicts": len(verdicts),
    "setting": os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"], "served": type(served).__name__}))
"""


def test_loading_never_unpickles(shop: Any, registered: tuple[Any, ModelRef]) -> None:
    """A model, its reference, a pipeline, a manifest, verdicts: loaded under an eye on every unpickling."""
    shop.score()
    verdicts = shop.root / "results" / "verdicts" / "dt=2024-03-01" / "part-0.parquet"
    verdicts.parent.mkdir(parents=True)
    said = {"row_id": "a", "row_key": "{}", "verdict": "anomaly", "decided_at": datetime.now(UTC)}
    pq.write_table(pa.Table.from_pylist([said]), verdicts)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_ALLOW")}

    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(shop.root)],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "MLFLOW_TRACKING_URI": ""},
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"pickles": [], "rows": 100, "verdicts": 1, "setting": "false", "served": "PyFuncModel"}


def test_mlflow_is_told_not_to_unpickle() -> None:
    """Whatever else it may be asked to load."""
    assert SETTINGS["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
