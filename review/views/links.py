"""Ways from page to page, by addresses that can be sent to a colleague.

An address holds dates, row ids and family ids: never a value of a cell.
"""

from __future__ import annotations

from datetime import date
from typing import Any, NoReturn

import streamlit as st

__all__ = [
    "PAGES",
    "back_to_night",
    "date_asked",
    "go_to_night",
    "go_to_row",
    "night_link",
    "params",
    "remember",
    "remember_night",
    "returned",
    "row_link",
    "rule_link",
]

PAGES: dict[str, Any] = {}
"""The pages by name; `review.app` fills it."""

NIGHT = "night_left"


def params(**more: Any) -> dict[str, str]:
    """Query parameters of a link within the pipeline that is open."""
    kept = {"pipeline": st.query_params["pipeline"]} if "pipeline" in st.query_params else {}
    return kept | {name: str(value) for name, value in more.items() if value is not None}


def go_to_night(day: date, family: str | None = None) -> NoReturn:
    """Open a night."""
    st.switch_page(PAGES["night"], query_params=params(date=day, family=family))


def go_to_row(day: date, row_id: str) -> NoReturn:
    """Open a row."""
    st.switch_page(PAGES["row"], query_params=params(date=day, row=row_id))


def night_link(day: date, label: str, icon: str | None = None, family: str | None = None) -> None:
    """A link to a night."""
    st.page_link(PAGES["night"], label=label, icon=icon, query_params=params(date=day, family=family))


def row_link(day: date, row_id: str, label: str) -> None:
    """A link to a row."""
    st.page_link(PAGES["row"], label=label, query_params=params(date=day, row=row_id))


def rule_link(day: date, family: str) -> None:
    """A link to a new rule about a family."""
    shown = params(date=day, family=family)
    st.page_link(PAGES["rules"], label="Make it a rule", icon=":material/rule:", query_params=shown)


def remember_night(day: date) -> None:
    """Keep the address of the night's page, filters and all, for the way back to it."""
    st.session_state[NIGHT] = (day, st.query_params.to_dict())


def back_to_night(day: date, label: str) -> None:
    """A link to a night as it was left."""
    left, kept = st.session_state.get(NIGHT, (None, {}))
    shown = kept if left == day else params(date=day)
    st.page_link(PAGES["night"], label=label, icon=":material/arrow_back:", query_params=shown)


def returned() -> None:
    """Mend the address after the browser's own way back, which takes along that of the row."""
    if "row" not in st.query_params:
        return
    del st.query_params["row"]
    left, kept = st.session_state.get(NIGHT, (None, {}))
    if left == date_asked() and "family" in kept:
        st.query_params["family"] = kept["family"]


def date_asked() -> date | None:
    """The night that the address names; None where it names none."""
    try:
        return date.fromisoformat(st.query_params.get("date", ""))
    except ValueError:
        return None


def remember(**more: Any) -> None:
    """Put what is shown into the address, so that it can be sent.

    Also where it is there already: of a link from a page to itself the browser's address bar learns only by
    this.
    """
    for name, value in more.items():
        st.query_params[name] = str(value)
