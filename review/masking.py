"""Values of sensitive columns: not for viewers, and never in links, logs or messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from review.access import Role

__all__ = ["HIDDEN", "mask", "mask_row"]

HIDDEN = "(sensitive)"


def mask(table: pa.Table, sensitive: Collection[str], role: Role) -> pa.Table:
    """The table as a role may see it.

    Mask first, then filter, sort, search and export: whoever may order rows by a value, or ask which rows
    have it, knows the value.
    """
    if role == "reviewer":
        return table
    for i, name in enumerate(table.schema.names):
        if name in sensitive:
            hidden = pa.repeat(pa.scalar(HIDDEN), table.num_rows)
            table = table.set_column(i, name, hidden)
    return table


def mask_row(row: Mapping[str, Any], sensitive: Collection[str], role: Role) -> dict[str, Any]:
    """One row's values by column, as a role may see them."""
    masked = role != "reviewer"
    return {name: HIDDEN if masked and name in sensitive else value for name, value in row.items()}
