"""A detector on disk: equal after reading, refused after tampering, never executed."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import vae_core
from vae_core import ModelFileError, VAEDetector


@pytest.fixture
def folder(detector: VAEDetector, tmp_path: Path) -> Path:
    detector.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_detector_scores_as_before(detector: VAEDetector, fresh: pa.Table, folder: Path) -> None:
    """Reading what was saved gives equal scores, decisions, p-values and reasons."""
    again = VAEDetector.load(folder)

    assert np.array_equal(again.score_samples(fresh), detector.score_samples(fresh))
    assert np.array_equal(again.predict(fresh), detector.predict(fresh))
    assert np.array_equal(again.p_values(fresh), detector.p_values(fresh))
    assert again.explain(fresh.slice(0, 9)) == detector.explain(fresh.slice(0, 9))


def test_a_saved_detector_remembers_itself(detector: VAEDetector, folder: Path) -> None:
    """Parameters, schema, history and names come back."""
    again = VAEDetector.load(folder)

    assert again.get_params() == detector.get_params()
    assert again.schema_ == detector.schema_
    assert again.history_ == detector.history_
    assert again.feature_names_in_.tolist() == detector.feature_names_in_.tolist()


def test_parameters_of_a_grid_can_be_saved(tmp_path: Path) -> None:
    """Parameters given as NumPy scalars and arrays are written as numbers."""
    rows = np.random.default_rng(0).normal(size=(50, 2))
    chosen = {"latent_dim": np.int64(3), "hidden_dims": np.array([8]), "random_state": np.int32(1)}

    VAEDetector(np.float32(0.125), max_epochs=1, **chosen).fit(rows).save(tmp_path)

    again = VAEDetector.load(tmp_path).get_params()
    assert [again[name] for name in ("contamination", "latent_dim", "hidden_dims", "random_state")] == [
        0.125,
        3,
        (8,),
        1,
    ]


def test_a_detector_can_be_saved_over_another(folder: Path, fresh: pa.Table) -> None:
    """Saving into a folder that holds a model replaces it."""
    other = VAEDetector(random_state=1, max_epochs=1).fit(fresh)

    other.save(folder)

    assert np.array_equal(VAEDetector.load(folder).score_samples(fresh), other.score_samples(fresh))


@pytest.mark.parametrize(
    "later",
    [
        {"min_scale": 0.5},
        {"latent_dim": 4},
        {"hidden_dims": (7,)},
        {"n_members": 3},
        {"bound": "elbo"},
        {"preset": "textbook"},
        {"kinds": {"x9": "key"}, "device": "nowhere", "contamination": 5},
    ],
    ids=str,
)
def test_what_was_fitted_is_saved(tmp_path: Path, later: dict[str, Any]) -> None:
    """Parameters set after fit change neither the scores nor what is saved: they wait for the next fit."""
    rows = np.random.default_rng(0).normal(size=(60, 2))
    detector = VAEDetector(max_epochs=1, n_members=1, hidden_dims=(8,), random_state=0).fit(rows)
    given, scores, decisions = detector.get_params(), detector.score_samples(rows), detector.predict(rows)

    detector.set_params(**later).save(tmp_path)

    again = VAEDetector.load(tmp_path)
    assert np.array_equal(detector.score_samples(rows), scores)
    assert np.array_equal(detector.predict(rows), decisions)
    assert np.array_equal(detector.score_batch(rows).anomaly_score, -scores)
    assert np.array_equal(again.score_samples(rows), scores)
    assert again.get_params() == given


def test_the_contamination_of_the_calibration_is_saved(tmp_path: Path) -> None:
    """One that was set after fit decides where calibrate was called with it."""
    rows = np.random.default_rng(0).normal(size=(200, 2))
    detector = VAEDetector(max_epochs=1, n_members=1, random_state=0).fit(rows)

    detector.set_params(contamination=0.2).calibrate(rows).save(tmp_path)

    assert VAEDetector.load(tmp_path).contamination == 0.2
    assert np.mean(VAEDetector.load(tmp_path).predict(rows) == -1) == pytest.approx(0.2, abs=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(folder: Path, fresh: pa.Table) -> None:
    """A model fitted on CUDA says that the device is the matter, and loads on the processor."""
    edit(folder, lambda document: document["parameters"].update(device="cuda"))

    with pytest.raises(ModelFileError, match=r"'cuda' needs a CUDA device.*load\(folder, device='cpu'\)"):
        VAEDetector.load(folder)
    assert np.isfinite(VAEDetector.load(folder, device="cpu").score_samples(fresh)).all()


@pytest.mark.parametrize("device", ["nope", "cuda:99", 2.5])
def test_a_device_asked_for_that_is_none_is_refused(folder: Path, device: Any) -> None:
    """It is the argument that is wrong, not the file."""
    with pytest.raises(ValueError, match=r"device .*; take 'cpu'"):
        VAEDetector.load(folder, device=device)


def test_a_model_of_parameters_that_are_refused_now_is_loaded(folder: Path) -> None:
    """What fit was content with in former versions is no matter where nothing is trained."""
    edit(folder, lambda document: document["parameters"].update(batch_size=0, beta=-1, max_steps=1000.0))

    assert VAEDetector.load(folder).max_steps == 1000.0


TAMPERED = {
    "offset": lambda document: document.update(offset="1e999"),
    "kinds": lambda document: document["parameters"].update(kinds="x"),
    "counts": lambda document: document["encoder"]["codecs"][0]["counts"].__setitem__(0, 0),
}


@pytest.mark.parametrize("matter", TAMPERED)
def test_values_that_break_scoring_later_are_refused(tmp_path: Path, matter: str) -> None:
    """An offset beyond all numbers, kinds that are none and a word never counted are named on loading."""
    words = pa.table({"s": [f"word {i % 30}" for i in range(90)]})
    VAEDetector(max_epochs=1, n_members=1, max_categories=8, random_state=0).fit(words).save(tmp_path / "m")

    edit(tmp_path / "m", TAMPERED[matter])

    with pytest.raises(ModelFileError, match=rf"however: (Value|Parameter)Error.*{matter} "):
        VAEDetector.load(tmp_path / "m")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document).replace('"1e999"', "1e999"))


def flip_a_byte(folder: Path) -> str:
    path = folder / "tensors.safetensors"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    return path.name


def cut_short(folder: Path) -> str:
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    return path.name


def raise_version(folder: Path) -> str:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 2}))
    return path.name


def write_prose(folder: Path) -> str:
    (folder / "model.json").write_text("once upon a time")
    return "model.json"


def write_a_list(folder: Path) -> str:
    (folder / "model.json").write_text("[1]")
    return "model.json"


def nest_deeply(folder: Path) -> str:
    (folder / "model.json").write_text("[" * 100_000)
    return "model.json"


def remove_weights(folder: Path) -> str:
    (folder / "tensors.safetensors").unlink()
    return "tensors.safetensors"


def remove_meta(folder: Path) -> str:
    (folder / "model.json").unlink()
    return "model.json"


def link_weights(folder: Path) -> str:
    path = folder / "tensors.safetensors"
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")
    return path.name


def remove_folder(folder: Path) -> str:
    shutil.rmtree(folder)
    return "model.json"


TAMPERINGS = [
    flip_a_byte,
    cut_short,
    raise_version,
    write_prose,
    write_a_list,
    nest_deeply,
    remove_weights,
    remove_meta,
    link_weights,
    remove_folder,
]


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_a_tampered_folder_is_refused_by_file(folder: Path, tamper: Callable[[Path], str]) -> None:
    """Whatever is not the file that was saved is refused, and the message names the file."""
    name = tamper(folder)

    with pytest.raises(ModelFileError, match=re.escape(str(folder / name))):
        VAEDetector.load(folder)


def changes(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values of a JSON document, two of each list."""
    pairs = document.items() if isinstance(document, dict) else []
    pairs = list(enumerate(document))[:2] if isinstance(document, list) else pairs
    return [found for key, value in pairs for found in [(*path, key), *changes(value, (*path, key))]]


@pytest.mark.parametrize("value", [None, "text", -1, [], {}, 10**400], ids=str)
def test_an_edited_description_is_refused_or_read(folder: Path, value: object) -> None:
    """Any value of model.json replaced by another either still makes a detector or is a ModelFileError."""
    original = json.loads((folder / "model.json").read_text())
    shorter = {**original, "history": original["history"][:1]}
    verdicts = []

    for path in changes(shorter):
        document = json.loads(json.dumps(shorter))
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (folder / "model.json").write_text(json.dumps(document).replace(str(10**400), "1" + "0" * 400))
        verdicts.append(loads(folder))

    assert len(verdicts) > 50
    assert verdicts.count(False) > 20


@pytest.mark.parametrize(("field", "value"), [("unseen", 0.0), ("shares", "ab")])
def test_a_category_that_could_not_be_scored_is_refused(tmp_path: Path, field: str, value: object) -> None:
    """A probability of 0 has no logarithm; a text of two letters is as long as a list of two shares."""
    rows = pa.table({"x": np.arange(60.0), "s": ["a", "b"] * 30})
    VAEDetector(max_epochs=1, n_members=1, hidden_dims=(4,), random_state=0).fit(rows).save(tmp_path / "m")
    file = tmp_path / "m" / "model.json"
    document = json.loads(file.read_text())
    document["encoder"]["codecs"][1][field] = value
    file.write_text(json.dumps(document))

    with pytest.raises(ModelFileError, match=field):
        VAEDetector.load(tmp_path / "m")


def loads(folder: Path) -> bool:
    try:
        VAEDetector.load(folder)
    except ModelFileError:
        return False
    return True


def test_nothing_is_pickled() -> None:
    """No file of the library names pickle, torch.load, eval or exec."""
    sources = {path.name: path.read_text() for path in Path(vae_core.__file__).parent.glob("*.py")}

    found = [
        name
        for name, text in sources.items()
        if re.search(r"import pickle|torch\.load|\bexec\(|[^.]\beval\(", text)
    ]

    assert sources
    assert found == []


def test_a_saved_folder_holds_no_pickle(folder: Path) -> None:
    """A model folder is JSON and safetensors, nothing else."""
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "tensors.safetensors"]
