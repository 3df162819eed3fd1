"""The log: who said or changed what, when."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from review.said import Change
from review.text import cut
from review.views.desk import TROUBLES, desk
from review.views.words import day_text

__all__ = ["show"]

MOST = 1_000
WORDS = {
    "decided": "settled rows",
    "undone": "took settled rows back",
    "adopted": "scored the night again",
    "rule added": "added a rule",
    "rule withdrawn": "withdrew a rule",
}


def show() -> None:
    """The page."""
    here = desk()
    st.title("Log", anchor=False)
    try:
        changes = here.verdicts.log(MOST)
    except TROUBLES as error:
        st.error(str(error))
        return
    if not changes:
        st.info("Nobody has settled a row or made a rule yet.")
        return
    st.caption("Who said or changed what, newest first; the database refuses to alter a line.")
    _table(_of_somebody(changes))
    if len(changes) == MOST:
        st.caption(f"Older lines than the newest {MOST:,} stand in the database alone.")


def _of_somebody(changes: list[Change]) -> list[Change]:
    """The lines of all, or of the one that people choose."""
    authors = sorted({one.author for one in changes})
    chosen = st.selectbox(
        "Who",
        [None, *authors],
        format_func=lambda name: "anybody" if name is None else name,
        key="log_author",
        width=320,
    )
    return [one for one in changes if chosen in (None, one.author)]


def _table(changes: list[Change]) -> None:
    rows = [
        {
            "When": one.at,
            "Who": one.author,
            "What": WORDS.get(one.action, one.action),
            "Night": "" if one.dt is None else day_text(one.dt),
            "Rows": one.count or None,
            "Detail": cut(one.detail, 500),
        }
        for one in changes
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "When": st.column_config.DatetimeColumn(
                "When (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"
            ),
            "Rows": st.column_config.NumberColumn("Rows", format="localized"),
        },
        key="log",
        alt="Who said or changed what, when",
    )
