"""Families of flags: alike in reasons and place, settled with one verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from review.flagged import Flagged
from review.store import Verdict
from review.text import cut, escaped
from review.views.desk import Desk
from review.views.links import night_link, rule_link
from review.views.words import rows_text

__all__ = ["Family", "chosen", "families_of"]

SHOWN = 8


@dataclass(frozen=True)
class Family:
    """Flags of one night that belong together."""

    id: str
    name: str
    rows: int
    severity: float
    settled: int


def families_of(flagged: Flagged, settled: Mapping[str, Verdict]) -> list[Family]:
    """The families of a night, the most severe first."""
    if not flagged.has_families:
        return []
    known = pc.is_in(flagged.index["row_id"], value_set=pa.array(list(settled), pa.string()))
    rows = flagged.index.select(["family", "name", "severity"]).append_column("settled", known)
    sums = [("name", "min"), ("severity", "max"), ("settled", "sum"), ("family", "count")]
    found = [
        Family(
            id=str(one["family"]),
            name=one["name_min"] or "",
            rows=one["family_count"],
            severity=one["severity_max"],
            settled=one["settled_sum"],
        )
        for one in rows.group_by("family").aggregate(sums).to_pylist()
        if one["family"] is not None
    ]
    return sorted(found, key=lambda one: (-one.rows * one.severity, one.id))


def chosen(here: Desk, flagged: Flagged, settled: Mapping[str, Verdict]) -> str | None:
    """Show the families, and return the one that the address names."""
    found = families_of(flagged, settled)
    asked = st.query_params.get("family")
    if not found:
        return None
    own = next((one for one in found if one.id == asked), None)
    if own is not None:
        with st.container(border=True, key="family"):
            st.markdown(f"**Family: {escaped(own.name)}**")
            st.caption(
                f"{rows_text(own.rows)} in this night, {own.settled:,} settled."
                " The family keeps its id in later nights."
            )
            with st.container(horizontal=True):
                night_link(flagged.day, "All families", ":material/close:")
                if here.may_decide:
                    rule_link(flagged.day, own.id)
        return own.id
    if asked:
        st.info("The family of this link is not among those of this night.")
    _cards(flagged, found)
    return None


def _cards(flagged: Flagged, found: list[Family]) -> None:
    several = [family for family in found if family.rows > 1]
    alone = len(found) - len(several)
    st.subheader(f"Families ({len(several)})", anchor=False)
    with st.container(horizontal=True, key="families"):
        for one in several[:SHOWN]:
            with st.container(border=True, width=300):
                st.markdown(escaped(cut(one.name, 140)))
                st.caption(f"severity up to {one.severity:.0f} · {one.settled:,} of {one.rows:,} settled")
                night_link(flagged.day, "Open family", family=one.id)
    more = [f"{len(several) - SHOWN:,} more families"] if len(several) > SHOWN else []
    more += [f"{rows_text(alone)} of no family"] if alone else []
    if more:
        st.caption(f"And {' and '.join(more)}.")
