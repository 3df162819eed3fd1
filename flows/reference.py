"""The training reference that lies beside a model's files: what nights are compared with, ``reference.json``.

It is written before the model is registered, so the registered digest covers it, and every version has its
own. It holds counts, no rows, and of sensitive columns no values.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flows.errors import RegistryError

if TYPE_CHECKING:
    from vae_core import VAEDetector
    from vae_core.drift import TableProfile
    from vae_core.honesty import Honesty

__all__ = ["REFERENCE", "Reference", "read_reference", "write_reference"]

REFERENCE = "reference.json"
ROWS = 200_000  # training rows that are summarised at most

Place = tuple[str, str]


@dataclass(frozen=True)
class Reference:
    """What a model version knew when it was trained.

    ``profile`` sums up its training rows; ``power`` is the share of planted errors that it found then, by
    kind and column.
    """

    profile: TableProfile
    power: dict[Place, float]


def write_reference(
    folder: Path,
    detector: VAEDetector,
    fit: pa.Table,
    held_out: pa.Table,
    *,
    tried: Honesty | None = None,
    sensitive: Collection[str] = (),
) -> None:
    """Write ``reference.json`` into a saved detector's folder.

    Parameters
    ----------
    folder
        The detector's.
    detector
        Fitted and calibrated; its calibration scores are the usual ones.
    fit, held_out
        Rows that it was fitted on, and newer ones that it was not.
    tried
        How many planted errors it finds; None where that was not tried.
    sensitive
        Columns of which no value may be kept.
    """
    from vae_core.drift import TableProfile

    profile = TableProfile.of(
        _thinned(fit),
        detector.schema_,
        later=_thinned(held_out) if held_out.num_rows else None,
        scores=detector.calibration_.scores,
        sensitive=sensitive,
    )
    content = {"profile": profile.to_json(), "power": _powers(tried)}
    (folder / REFERENCE).write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def _thinned(table: pa.Table) -> pa.Table:
    """At most ROWS rows, evenly spaced."""
    import numpy as np

    from vae_core.arrays import pick

    if table.num_rows <= ROWS:
        return table
    return pick(table, np.linspace(0, table.num_rows - 1, ROWS).astype(np.int64))


def _powers(tried: Honesty | None) -> list[list[Any]]:
    from vae_core.honesty import OURS

    powers = () if tried is None else tried.powers
    return [[one.kind, one.column, one.found[OURS] / one.planted] for one in powers]


def read_reference(folder: Path) -> Reference | None:
    """Read a model's reference; None for a model that was registered before there were references.

    Raises
    ------
    RegistryError
        The file is not what was written.
    """
    from vae_core.drift import TableProfile

    file = folder / REFERENCE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_bytes())
        power = {(kind, column): float(share) for kind, column, share in content["power"]}
        return Reference(TableProfile.from_json(content["profile"]), power)
    except (ValueError, LookupError, TypeError) as error:
        raise RegistryError(
            f"{file}: a training reference was required, however {error}; train again"
        ) from error
