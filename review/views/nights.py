"""All nights: what came, what was flagged, what is still open, and whether the data or the model changed."""

from __future__ import annotations

from datetime import date
from typing import Any

import pandas as pd
import streamlit as st

from review.nights import Night, Watch
from review.text import share
from review.views import charts
from review.views.desk import Desk, desk
from review.views.links import go_to_night
from review.views.words import columns_text

__all__ = ["show"]

A_PAGE = 92  # nights, a quarter of a year
FEW = 24  # nights that the table shows without a scroll bar of its own
TRAIL = 14  # nights that the small line of each night shows


def show() -> None:
    """The page."""
    here = desk()
    nights = here.nights.all()
    st.title("Nights", anchor=False)
    if not nights:
        st.info(f"No night is scored yet under {here.pipeline.output_path}: vaewatch score --date D")
        return
    settled = {day: sum(counts.values()) for day, counts in here.verdicts.settled().items()}
    _summary(nights, settled)
    page = _page(nights)
    charts.show(charts.flag_shares(_recent(page)), "Share of rows flagged, a bar a night")
    _table(here, nights, page, settled)


def _summary(nights: list[Night], settled: dict[date, int]) -> None:
    """What waits, in numbers."""
    waiting = [max(one.flagged - settled.get(one.date, 0), 0) for one in nights]
    newest = nights[0]
    with st.container(horizontal=True, key="summary"):
        st.metric("Newest night", f"{newest.date:%-d %b %Y}", border=True)
        st.metric("Flags in it", f"{newest.flagged:,}", border=True)
        st.metric("Open in all nights", f"{sum(waiting):,}", border=True)
        st.metric(
            "Nights with open flags", f"{sum(1 for one in waiting if one):,} of {len(nights):,}", border=True
        )


def _recent(page: list[Night]) -> list[Night]:
    """Nights of the chart: not those that lie far before the others, which would leave it empty."""
    return [one for one in page if (page[0].date - one.date).days < A_PAGE]


def _page(nights: list[Night]) -> list[Night]:
    """The nights shown now."""
    pages = -(-len(nights) // A_PAGE)
    chosen = st.pagination(pages, key="nights_page") if pages > 1 else 1
    return nights[(chosen - 1) * A_PAGE : chosen * A_PAGE]


def _table(here: Desk, nights: list[Night], page: list[Night], settled: dict[date, int]) -> None:
    trail = [one.flag_share for one in nights]
    places = {one.date: i for i, one in enumerate(nights)}
    rows = [
        _row(one, here.nights.watch(one.date), settled.get(one.date, 0), trail[places[one.date] :][:TRAIL])
        for one in page
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height="content" if len(rows) <= FEW else 760,
        column_config=_columns(page),
        key="nights",
        alt="Nights, the newest first; the button in the first column opens one",
    )


def _row(one: Night, watch: Watch | None, settled: int, trail: list[float]) -> dict[str, Any]:
    open_rows = max(one.flagged - settled, 0)
    return {
        "Night": one.date.isoformat(),
        "Rows": one.rows,
        "Flags": one.flagged,
        "Share": share(one.flag_share),
        "Trend": [100 * value for value in reversed(trail)],
        "Open": open_rows,
        "Settled": 100 * min(settled / one.flagged, 1.0) if one.flagged else 100.0,
        "Quarantined": one.quarantined,
        "Rejected files": one.rejected,
        "Drift": "–" if watch is None else columns_text(watch.alarming) or "none",
        "Canaries": "–" if watch is None or watch.planted is None else share(watch.planted),
        "Blind in": "–" if watch is None else columns_text(watch.blind),
        "Model": one.version,
        "Note": one.trouble or one.incident,
    }


def _columns(page: list[Night]) -> dict[str, Any]:
    def open_one() -> None:
        st.session_state["go_to"] = page[st.session_state["open_night"]["row"]].date

    of = st.column_config
    return {
        "Night": of.ButtonColumn(
            "Night", type="tertiary", on_click=open_one, key="open_night", pinned=True, width=110
        ),
        "Rows": of.NumberColumn("Rows", format="localized"),
        "Flags": of.NumberColumn("Flags", format="localized"),
        "Trend": of.LineChartColumn("Flag share, last nights", y_min=0, width=120),
        "Open": of.NumberColumn("Open", format="localized", help="Flags without a verdict"),
        "Settled": of.ProgressColumn("Settled", min_value=0, max_value=100, format="%.0f %%"),
        "Quarantined": of.NumberColumn("Quarantined", format="localized"),
        "Drift": of.TextColumn(
            "Drift", help="Columns that drifted or changed; – where the night was not monitored"
        ),
        "Canaries": of.TextColumn("Canaries", help="Planted errors that the model found, mean over columns"),
        "Blind in": of.TextColumn("Blind in", help="Columns in which planted errors are not found"),
    }


def open_chosen() -> None:
    """Go to the night whose button was pressed, if one was."""
    day = st.session_state.pop("go_to", None)
    if day is not None:
        go_to_night(day)
