"""One night's flags: find them, sort them, settle them, take them along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from flows.cells import plain_rows
from review.flagged import LEARNED, OPEN, Flagged, Query
from review.nights import Night
from review.parts import KINDS, brief, reasons_of
from review.store import RowRef, Verdict
from review.text import LONG, cut, escaped, share, shown
from review.views import export, families, settle
from review.views.desk import TROUBLES, Desk, desk, flagged_of, settled_of, token_of
from review.views.links import date_asked, go_to_row, night_link, remember, remember_night, returned
from review.views.order import in_order
from review.views.words import VERDICTS, columns_text, day_text, key_text, rows_text, verdict_text

__all__ = ["show"]

PAGE_ROWS = 100
FEW = 16  # rows that a table shows without a scroll bar of its own
WALK = 5_000  # rows that people can go through one by one
SORTS = {"": "most anomalous first", LEARNED: "as learned from verdicts"}

Places = npt.NDArray[np.int64]


def show() -> None:
    """The page."""
    here = desk()
    returned()
    nights = here.nights.all()
    day = date_asked() or (nights[0].date if nights else None)
    night = next((one for one in nights if one.date == day), None)
    if day is None or night is None:
        st.title("Night", anchor=False)
        st.info(f"No scored night {day or ''} under {here.pipeline.output_path}.")
        return
    remember(date=day)
    _head(here, nights, night)
    try:
        flagged = flagged_of(here, day)
    except TROUBLES as error:
        st.error(str(error))
        return
    if flagged is None or not len(flagged):
        st.success("Nothing was flagged in this night.")
        return
    _body(here, flagged, night)


def _head(here: Desk, nights: list[Night], night: Night) -> None:
    """Date, neighbours, numbers, and what was odd about the night."""
    place = nights.index(night)
    with st.container(horizontal=True, vertical_alignment="center", key="head"):
        st.title(day_text(night.date), anchor=False, width="content")
        if place + 1 < len(nights):
            night_link(nights[place + 1].date, f"{nights[place + 1].date:%-d %b}", ":material/arrow_back:")
        if place:
            night_link(nights[place - 1].date, f"{nights[place - 1].date:%-d %b}", ":material/arrow_forward:")
    settled = len(settled_of(here, night.date))
    with st.container(horizontal=True, key="summary"):
        st.metric("Rows", f"{night.rows:,}", border=True)
        st.metric("Flagged", f"{night.flagged:,}", border=True)
        st.metric("Share", share(night.flag_share), border=True)
        st.metric("Open", f"{max(night.flagged - settled, 0):,}", border=True)
        st.metric("Quarantined", f"{night.quarantined:,}", border=True)
        st.metric("Model", f"version {night.version}", border=True)
    _warnings(here, night)


def _warnings(here: Desk, night: Night) -> None:
    if night.incident or night.trouble:
        st.warning(escaped(night.incident or night.trouble))
    watch = here.nights.watch(night.date)
    said = []
    if watch is not None and watch.alarming:
        said.append(f"Drift: {columns_text(watch.alarming, 8)}.")
    if watch is not None and watch.blind:
        said.append(f"Planted errors are not found in {columns_text(watch.blind, 12)}.")
    if said:
        st.caption(escaped(" ".join(said)))
    orphans = here.verdicts.orphans(night.date)
    if orphans:
        with st.expander(f"{rows_text(len(orphans))} with a verdict are no longer in this night"):
            st.caption("The night was scored again. Their verdicts are kept, and come back when the rows do.")
            st.dataframe(
                pd.DataFrame([_orphan(one) for one in orphans]), hide_index=True, alt="Orphaned verdicts"
            )


def _orphan(one: Verdict) -> dict[str, Any]:
    return {
        "Row": key_text(one.row_key),
        "Verdict": verdict_text(one.verdict),
        "By": one.reviewer,
        "When": f"{one.decided_at:%Y-%m-%d %H:%M}",
        "Note": shown(one.note),
    }


def _body(here: Desk, flagged: Flagged, night: Night) -> None:
    settled = settled_of(here, night.date)
    settle.say_last()
    settle.tell_changes(here, night.date, token_of(here, night.date))
    family = families.chosen(here, flagged, settled)
    query = _query(here, flagged, family)
    searched = [name for name in flagged.own if name not in here.hidden]
    places = flagged.select(query, {row_id: one.verdict or "" for row_id, one in settled.items()}, searched)
    st.session_state["walk"] = (night.date, flagged.ids(places[:WALK]))
    st.subheader(_found(len(places), len(flagged)), anchor=False)
    above = st.container()  # filled when it is known which rows are ticked
    page = _page(places)
    chosen = _table(here, flagged, page, settled, family)
    with above:
        done = settle.bar(here, night.date, settled, lambda: _scope(flagged, places, chosen, family))
    export.buttons(here, flagged, places, settled)
    remember_night(night.date)
    if done:
        st.rerun()


def _found(some: int, all_of_them: int) -> str:
    return rows_text(some) if some == all_of_them else f"{some:,} of {rows_text(all_of_them)}"


# -- Filters ------------------------------------------------------------------------------------------------


def _query(here: Desk, flagged: Flagged, family: str | None) -> Query:
    """What is looked for; all but free text stands in the address."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        text = st.text_input(
            "Search", key="text", placeholder="in all columns", width=190, persist_state="session"
        )
        severity = st.number_input(
            "Severity from", 0, 100, 0, 5, key="severity", width=120, bind="query-params"
        )
        columns = _several("Column", flagged.choices("column"), "column", str)
        kinds = _several("Reason", flagged.choices("kind"), "kind", lambda kind: KINDS.get(kind, kind))
        verdicts = _several("Verdict", [OPEN, *VERDICTS], "verdict", str)
        sort = st.selectbox(
            "Sort by",
            _sorts(here, flagged),
            format_func=lambda name: SORTS.get(name, name),
            key="sort",
            width=200,
            bind="query-params",
        )
        upwards = st.toggle("Smallest first", key="upwards", disabled=not sort, bind="query-params")
        hidden = _with_hidden(flagged)
    return Query(
        text=text or "",
        severity=float(severity or 0),
        columns=tuple(columns),
        kinds=tuple(kinds),
        families=(family,) if family else (),
        verdicts=tuple(verdicts),
        hidden=hidden,
        sort=sort or "",
        descending=not upwards and sort != LEARNED,
    )


def _several(label: str, options: list[str], key: str, name: Any) -> list[str]:
    return list(
        st.multiselect(
            label, options, key=key, format_func=name, placeholder="any", width=150, bind="query-params"
        )
    )


def _sorts(here: Desk, flagged: Flagged) -> list[str]:
    """What rows may be sorted by; an order would tell hidden values."""
    ranks = [LEARNED, ""] if flagged.is_relearned else [""]
    return [
        *ranks,
        *(name for name in flagged.own if name not in here.hidden),
        *(f"{flagged.prefix}{name}" for name in ("reconstruction_loss", "p_value")),
    ]


def _with_hidden(flagged: Flagged) -> bool:
    """Whether to show rows that a rule hides; not asked where none does."""
    if not flagged.has_families:
        return False
    hidden = len(flagged) - flagged.index["hidden"].null_count
    return bool(hidden and st.toggle(f"Show {hidden:,} hidden by rules", key="hidden", bind="query-params"))


# -- The table ----------------------------------------------------------------------------------------------


def _page(places: Places) -> Places:
    """The rows shown now."""
    pages = max(-(-len(places) // PAGE_ROWS), 1)
    number = st.pagination(pages, key="page", bind="query-params") if pages > 1 else 1
    return places[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]


def _table(
    here: Desk, flagged: Flagged, page: Places, settled: Mapping[str, Verdict], family: str | None
) -> Places:
    """The rows of a page; returns those that are ticked."""
    if not len(page):
        st.info("No flag is like that.")
        return page
    frame = _frame(here, flagged, page, settled)
    needless = [] if flagged.is_relearned else ["Rank", "Learned rank"]
    frame = frame.drop(columns=["Family", *needless] if family else needless, errors="ignore")
    event = st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(frame) <= FEW else 560,
        on_select="rerun",
        selection_mode="multi-row",
        placeholder="null",
        column_config=_columns(flagged, page),
        key=f"flags {flagged.day} {flagged.ids(page[:1])} {len(page)}",
        alt="Flagged rows; tick rows to settle them, or open one with its button",
    )
    ticked = [i for i in event["selection"]["rows"] if i < len(page)]
    return page[np.asarray(ticked, dtype=np.int64)]


def _frame(here: Desk, flagged: Flagged, page: Places, settled: Mapping[str, Verdict]) -> pd.DataFrame:
    """What the table shows: ours first, then the table's own columns as text."""
    rows = plain_rows(flagged.rows(page, longest=LONG))
    index = flagged.index.take(page).to_pylist()
    own = [name for name in in_order(here, flagged) if name not in here.hidden]
    return pd.DataFrame(
        [_line(one, ours, own, flagged.prefix, settled) for one, ours in zip(rows, index, strict=True)]
    )


def _line(
    row: dict[str, Any], ours: dict[str, Any], own: list[str], prefix: str, settled: Mapping[str, Verdict]
) -> dict[str, Any]:
    verdict = settled.get(ours["row_id"])
    said = [brief(reason) for reason in reasons_of(row, prefix)]
    families = (
        {"Family": cut(ours["name"] or ""), "Rank": ours["rank"], "Learned rank": ours["learned"]}
        if "family" in ours
        else {}
    )
    return {
        "Open": "Open",
        "Severity": ours["severity"],
        "First reason": cut(said[0]) if said else "",
        "Verdict": verdict_text(verdict.verdict if verdict else None),
        **families,
        **{f"{name} ": _cell(row[name]) for name in own},
        "Second reason": cut(said[1]) if len(said) > 1 else "",
        "Score": ours["score"],
    }


def _cell(value: Any) -> Any:
    """A cell of the table's own: numbers as they are, all else as text that cannot harm."""
    if value is None or isinstance(value, bool):
        return None if value is None else str(value)
    return value if isinstance(value, int | float) and abs(value) < 2**53 else shown(value)


def _columns(flagged: Flagged, page: Places) -> dict[str, Any]:
    def open_one() -> None:
        place = st.session_state["open_row"]["row"]
        st.session_state["go_to_row"] = (flagged.day, flagged.ids(page[place : place + 1])[0])

    of = st.column_config
    ours = {
        "Open": of.ButtonColumn(
            "Row", type="tertiary", on_click=open_one, key="open_row", pinned=True, width=70
        ),
        "Verdict": of.TextColumn("Verdict", width=110),
        "Family": of.TextColumn("Family", width=230),
        "Rank": of.NumberColumn("Rank", help="By score"),
        "Learned rank": of.NumberColumn("Learned rank", help="By score and verdicts"),
        "Severity": of.ProgressColumn("Severity", min_value=0, max_value=100, format="%.1f", width=95),
        "First reason": of.TextColumn("First reason", width=340),
        "Second reason": of.TextColumn("Second reason", width=300),
        "Score": of.NumberColumn("Score", format="%.3f", help="Its own scale; higher is more anomalous"),
    }
    plain = {f"{name} ": of.Column(cut(name, 60)) for name in flagged.own}
    return ours | plain


def open_chosen() -> None:
    """Go to the row whose button was pressed, if one was."""
    asked = st.session_state.pop("go_to_row", None)
    if asked is not None:
        go_to_row(*asked)


def _scope(flagged: Flagged, places: Places, ticked: Places, family: str | None) -> list[RowRef]:
    """Ask which rows a verdict is for: those that are ticked, or all that were found."""
    found = f"the whole family, {rows_text(len(places))}" if family else f"all {rows_text(len(places))} found"
    scopes = [f"{rows_text(len(ticked))} ticked", found]
    choice = st.segmented_control(
        "Settle",
        ("ticked", "found"),
        label_visibility="collapsed",
        default="found" if family else "ticked",
        required=True,
        format_func=lambda one: scopes[one == "found"],
        key=f"scope {family or ''}",
    )
    return _refs(flagged, places if choice == "found" else ticked)


def _refs(flagged: Flagged, places: Places) -> list[RowRef]:
    rows = flagged.index.select(["row_id", "row_key"]).take(places).to_pylist()
    return [RowRef(flagged.day, row["row_id"], row["row_key"]) for row in rows]
