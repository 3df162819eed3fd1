"""A fitted detector as a folder: ``model.json``, ``tensors.safetensors`` and nothing that runs code.

``model.json`` carries the format version and the digest and size of every other file; a folder whose
files do not match is refused before any of them is parsed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from vae_core.calibration import Calibration
from vae_core.exceptions import ModelFileError
from vae_core.restored import checked, require_numbers
from vae_core.schema import ColumnKind, ColumnSpec, TableSchema

__all__ = [
    "FORMAT_VERSION",
    "load_calibration",
    "load_folder",
    "save_folder",
    "schema_from_json",
    "schema_to_json",
]

FORMAT_VERSION = 1
META, TENSORS = "model.json", "tensors.safetensors"
LARGEST = {META: 256 << 20, TENSORS: 2 << 30}  # bytes of a file that is read at all


def save_folder(folder: str | Path, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model folder; ``model.json`` comes last, so that a folder with it is complete."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    data = dump_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    (target / TENSORS).write_bytes(data)
    files = {TENSORS: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    document = {"format_version": FORMAT_VERSION, "files": files, **meta}
    (target / META).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read and verify a model folder.

    Raises
    ------
    ModelFileError
        It is missing, of another format version, or a file is not the one that was saved.
    """
    source = Path(folder)
    meta = _meta(source / META)
    if meta.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{source / META} must have format_version {FORMAT_VERSION}, however it has "
            f"{meta.get('format_version')!r}; train the model again with this version"
        )
    data = _verified(source / TENSORS, meta)
    try:
        return meta, load_tensors(data)
    except SafetensorError as error:
        raise ModelFileError(
            f"{source / TENSORS} must hold tensors, however: {str(error)[:300]}; train again"
        ) from None


def load_calibration(folder: str | Path) -> Calibration:
    """Read the calibration of a model folder alone.

    Raises
    ------
    ModelFileError
        As `load_folder`.
    """
    meta, tensors = load_folder(folder)
    try:
        scores = tensors["calibration.scores"].numpy()
        require_numbers("calibration.scores", scores)
        return checked(Calibration, {**meta["calibration"], "scores": scores})
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(
            f"{folder} must describe a calibration of this version, however: {error!r}; train again"
        ) from None


def _meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(_bytes(path), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} must be JSON, however: {error}; fetch the model again") from None
    if not isinstance(meta, dict):
        raise ModelFileError(f"{path} must hold a JSON object, however it holds {type(meta).__name__}")
    return meta


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _bytes(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise ModelFileError(
            f"{path} must be a regular file of a saved detector, however there is none; train first"
        )
    most, size = LARGEST[path.name], path.stat().st_size
    if size > most:
        raise ModelFileError(
            f"{path} must have {most:,} bytes at most, however it has {size:,}; fetch it again"
        )
    return path.read_bytes()


def _verified(path: Path, meta: dict[str, Any]) -> bytes:
    data = _bytes(path)
    found = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    files = meta.get("files")
    strange = sorted({*files} - {TENSORS}) if isinstance(files, dict) else []
    if strange:
        raise ModelFileError(
            f"{path.with_name(META)} must name {TENSORS} alone, however it names {', '.join(strange[:3])!r}; "
            "fetch the model again"
        )
    stated = files.get(path.name) if isinstance(files, dict) else None
    if stated != found:
        raise ModelFileError(
            f"{path} must be the file that was saved, {stated}, however it is {found}; fetch the model again"
        )
    return data


def schema_to_json(schema: TableSchema) -> dict[str, Any]:
    """A table schema as JSON values; Arrow types as Arrow's own serialised form."""
    packed = base64.b64encode(schema.arrow.serialize().to_pybytes()).decode("ascii")
    return {"kinds": schema.kinds, "arrow": packed}


def schema_from_json(data: dict[str, Any]) -> TableSchema:
    """A table schema from :func:`schema_to_json`."""
    try:
        arrow = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(data["arrow"])))
    except OSError as error:  # Arrow's word for bytes that are no schema
        raise ValueError(f"no Arrow schema: {error}") from error
    return TableSchema(
        tuple(ColumnSpec(field.name, ColumnKind(data["kinds"][field.name]), field.type) for field in arrow)
    )


def restore(module: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load weights into a module of just their names and shapes.

    Raises
    ------
    ModelFileError
        A tensor is missing, unknown or of another shape.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(
            f"weights of the model that {META} describes were required, however: {reason}; fetch it again"
        ) from None
