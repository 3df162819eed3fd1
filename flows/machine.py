"""What nights need of a machine: versions that work together, a device, settings that do no harm."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from flows.diagnosis import Diagnosis, failure, ok, warning

__all__ = ["device", "optional", "settings", "versions"]

TRAPS = {
    "fastapi": "from 0.151 on every flow of Prefect 3.8 fails on Body(min_items)",
    "sqlalchemy": "with 2.1 Prefect's schedules never fire, and nothing says so",
    "prefect": "other versions have other servers and clients, which nobody has tried together",
    "mlflow": "the next major version is untried, and older ones lack models from code",
    "great-expectations": "the next major version is untried",
}
"""What goes wrong with versions outside of the range, where it was seen."""

SHOWN = ("torch", "pyarrow", "pandas", "prefect", "mlflow", "great-expectations")
LITTLE_MEMORY = 2 * 1024**3
"""Bytes, below which nights of millions of rows may be killed."""

MISCHIEF = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": ("true", "a model file could run code when it is loaded"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": ("true", "Prefect's server tells its makers that it runs"),
    "MLFLOW_DISABLE_TELEMETRY": ("false", "MLflow tells its makers what is used"),
    "PYTHONDONTWRITEBYTECODE": ("1", "each server compiles its modules anew, 17 s instead of 8"),
}
"""Settings of the environment that win over ours, the value that does harm, and which."""


def versions() -> Iterator[Diagnosis]:
    """Each package that nights need is there, in a version of the range that ``pyproject.toml`` gives."""
    try:
        needed = [Requirement(text) for text in metadata.requires("vaewatch") or ()]
    except metadata.PackageNotFoundError:
        yield warning(
            "versions",
            "vaewatch runs from a folder that is not installed: its packages cannot be held to their ranges",
            "install it: pip install .",
        )
        return
    wrong = [one for one in map(_wrong, needed) if one is not None]
    yield from wrong
    if not wrong:
        shown = ", ".join(f"{name} {_version(name)}" for name in SHOWN)
        own = _version("vaewatch")
        yield ok("versions", f"Python {platform.python_version()}, vaewatch {own}, {shown}: all as required")


def _wrong(needed: Requirement) -> Diagnosis | None:
    if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
        return None
    found, text = _version(needed.name), f"{needed.name}{needed.specifier}"
    if found is not None and needed.specifier.contains(found, prereleases=True):
        return None
    came = f"{found} is installed" if found else "it is not installed"
    why = f": {TRAPS[needed.name]}" if needed.name in TRAPS else ""
    return failure("versions", f"{text} is required, however {came}{why}", f"pip install '{text}'")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def optional(name: str, package: str, purpose: str) -> Iterator[Diagnosis]:
    """The package of an extra is there, since a pipeline needs it."""
    if _version(package) is None:
        said = f"{package} is required for {purpose}, however it is not installed"
        yield failure("versions", said, f"pip install 'vaewatch[{name}]'")


def device() -> Iterator[Diagnosis]:
    """What trains and scores: a graphics card or the processor's cores, and the memory that is free."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free = _free_memory()
    memory = "" if free is None else f", {free / 1024**3:.1f} GB of memory free"
    if torch.cuda.is_available():
        named = f"{torch.cuda.get_device_name()} trains, {cores} cores score{memory}"
    else:
        named = f"torch {torch.__version__} sees no graphics card: {cores} cores train and score{memory}"
    if free is not None and free < LITTLE_MEMORY:
        yield warning("device", named, "end other programs, or set engine: {threads: 1}")
        return
    yield ok("device", named)


def _free_memory() -> int | None:
    """Bytes that programs may still take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith("MemAvailable:"))
    return next((int(words[1]) * 1024 for words in found), None)


def settings() -> Iterator[Diagnosis]:
    """No variable of the environment does harm."""
    for name, (value, harm) in MISCHIEF.items():
        if os.environ.get(name, "").lower() == value:
            yield warning("settings", f"{name} is {value}: {harm}", f"unset {name}")
