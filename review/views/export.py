"""The filtered view as a file: Parquet as it is, CSV and Excel with cells that do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import streamlit as st

from review.export import MOST_ROWS, to_csv, to_excel, to_parquet
from review.flagged import Flagged
from review.masking import mask
from review.store import Verdict
from review.views.desk import Desk

__all__ = ["buttons", "taken_along"]

Places = npt.NDArray[np.int64]
FORMATS: dict[str, tuple[str, Callable[[pa.Table], bytes], str]] = {
    "Parquet": ("parquet", to_parquet, "application/vnd.apache.parquet"),
    "CSV": ("csv", to_csv, "text/csv"),
    "Excel": ("xlsx", to_excel, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
}
SAID = ("verdict", "note", "reviewer")


def buttons(here: Desk, flagged: Flagged, places: Places, settled: Mapping[str, Verdict]) -> None:
    """Buttons that save the rows found; a file is made when its button is pressed."""
    with st.container(horizontal=True, vertical_alignment="center", key="export"):
        st.caption("Save what was found:", width="content")
        for name, (suffix, made, mime) in FORMATS.items():
            st.download_button(
                name,
                partial(_made, made, here, flagged, places, settled),
                file_name=f"{here.pipeline.name}-flags-{flagged.day}.{suffix}",
                mime=mime,
                on_click="ignore",
                disabled=not len(places) or len(places) > MOST_ROWS,
                key=f"save {name}",
            )


def _made(
    made: Callable[[pa.Table], bytes],
    here: Desk,
    flagged: Flagged,
    places: Places,
    settled: Mapping[str, Verdict],
) -> bytes:
    return made(taken_along(here, flagged, places, settled))


def taken_along(here: Desk, flagged: Flagged, places: Places, settled: Mapping[str, Verdict]) -> pa.Table:
    """The rows found, as the visitor may see them: all columns, then families and verdicts."""
    table = mask(flagged.rows(places), here.pipeline.columns.sensitive, here.role)
    if flagged.has_families:
        index = flagged.index.take(pa.array(places))
        for called, name in (("family", "family_id"), ("name", "family_name"), ("learned", "learned_rank")):
            table = table.append_column(_free(name, table), index[called])
    said = [settled.get(row_id) for row_id in flagged.ids(places)]
    for name in SAID:
        values = pa.array([getattr(one, name) if one else None for one in said], pa.string())
        table = table.append_column(_free(f"review_{name}", table), values)
    return table


def _free(name: str, table: pa.Table) -> str:
    """A name that the table does not have yet."""
    while name in table.schema.names:
        name += "_"
    return name
