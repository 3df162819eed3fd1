"""Quarantine and rejected: rows that broke a rule, files that could not be scored, and why."""

from __future__ import annotations

from datetime import date

import pandas as pd
import streamlit as st

from flows.cells import plain_rows
from flows.results import BROKEN
from review.nights import Night
from review.text import LONG, cut, shown
from review.turned_away import Quarantined, rejected_files
from review.views.desk import TROUBLES, Desk, desk
from review.views.links import date_asked, remember
from review.views.words import day_text, files_text, rows_text

__all__ = ["show"]

PAGE_ROWS = 100


def show() -> None:
    """The page."""
    here = desk()
    nights = here.nights.all()
    st.title("Quarantine and rejected", anchor=False)
    touched = [one for one in nights if one.quarantined or one.rejected]
    if not touched:
        st.success(f"In {len(nights):,} nights no row broke a rule, and no file was turned away.")
        return
    night = _chosen(touched)
    try:
        _rejected(here, night)
        _quarantined(here, night)
    except TROUBLES as error:
        st.error(str(error))


def _chosen(touched: list[Night]) -> Night:
    """The night that the address names, or another that people choose."""
    days = [one.date for one in touched]
    asked = date_asked()
    start = days.index(asked) if asked in days else 0
    chosen: date = st.selectbox(
        "Night",
        days,
        index=start,
        format_func=lambda day: _label(touched[days.index(day)]),
        key="away_night",
        width=480,
    )
    remember(date=chosen)
    return touched[days.index(chosen)]


def _label(night: Night) -> str:
    return f"{day_text(night.date)}: {rows_text(night.quarantined)}, {files_text(night.rejected)}"


def _rejected(here: Desk, night: Night) -> None:
    if not night.rejected:
        return
    st.subheader(f"{files_text(night.rejected)} rejected", anchor=False)
    rows = [
        {"File": cut(str(one["path"]), 500), "Bytes": one["size"], "Why": cut(str(one["reason"]), 2_000)}
        for one in rejected_files(here.store, night.date)
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["File", "Bytes", "Why"]),
        hide_index=True,
        column_config={"Bytes": st.column_config.NumberColumn("Bytes", format="localized")},
        key="rejected",
        alt="Files that could not be scored, and why",
    )


def _quarantined(here: Desk, night: Night) -> None:
    found = Quarantined.open(here.store, night.date, here.prefix)
    if found is None:
        return
    rules = found.rules()
    st.subheader(f"{rows_text(night.quarantined)} in quarantine", anchor=False)
    rule = st.selectbox(
        "Rule that they broke",
        [None, *(name for name, _ in rules.most_common())],
        format_func=lambda name: "any" if name is None else f"{cut(name, 120)} ({rows_text(rules[name])})",
        key="rule",
        width=720,
    )
    places = found.places(rule)
    pages = max(-(-len(places) // PAGE_ROWS), 1)
    number = st.pagination(pages, key="away_page") if pages > 1 else 1
    page = places[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]
    broken = here.prefix + BROKEN
    own = [name for name in found.rows.schema.names if name != broken and name not in here.hidden]
    rows = [
        {"Rule": shown(row[broken]), **{f"{name} ": shown(row[name]) for name in own}}
        for row in plain_rows(found.rows.take(page, [broken, *own], LONG))
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={"Rule": st.column_config.TextColumn("Rule that it broke", width="large", pinned=True)},
        key="quarantined",
        alt="Rows in quarantine, and the rules that they broke",
    )
