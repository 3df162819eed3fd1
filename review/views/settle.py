"""Verdicts: the buttons, their keys, undo, and what is said when somebody else was faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import streamlit as st

from flows.errors import StoreError
from review.errors import ReviewError
from review.store import RowRef, Verdict
from review.views.desk import Desk
from review.views.words import rows_text, verdict_text

__all__ = ["KEYS", "bar", "say_last", "tell_changes"]

KEYS = {"anomaly": "A", "expected": "E", "data error": "D", "investigating": "I"}
"""Keys of the verdicts; U undoes."""
LAST, SAID, SHOWN = "last_batch", "said", "shown_verdicts"


@dataclass(frozen=True)
class Undoable:
    """What this visitor has settled last."""

    batch: str
    told: str


def bar(here: Desk, day: date, settled: Mapping[str, Verdict], asked: Callable[[], Sequence[RowRef]]) -> bool:
    """Buttons that settle rows; returns whether one was pressed just now.

    Viewers see none. With no row at hand the buttons cannot be pressed.

    Parameters
    ----------
    day, settled
        The night, and the last verdicts of its rows as they are now. What a button changes is what its
        visitor saw when it was drawn, so those are kept until then.
    asked
        Returns the rows; it may draw what people choose them by, beside the buttons.
    """
    if not here.may_decide:
        st.caption("You may look, and not decide: a reviewer does.")
        return False
    shown = _shown(day, settled)
    with st.container(horizontal=True, vertical_alignment="center", key="verdicts"):
        rows = asked()
        pressed = [_button(here, verdict, rows, shown) for verdict in KEYS]
        pressed += [_withdraw(here, rows, shown), _undo(here)]
        st.text_input(
            "Note",
            key="note",
            placeholder="Note: why",
            max_chars=2_000,
            width=300,
            label_visibility="collapsed",
        )
    return any(pressed)


def _shown(day: date, settled: Mapping[str, Verdict]) -> Mapping[str, Verdict]:
    """The verdicts as this visitor saw them last; those of now are remembered for the next time."""
    before: tuple[date, Mapping[str, Verdict]] | None = st.session_state.get(SHOWN)
    st.session_state[SHOWN] = (day, settled)
    return before[1] if before is not None and before[0] == day else settled


def _button(here: Desk, verdict: str, rows: Sequence[RowRef], settled: Mapping[str, Verdict]) -> bool:
    pressed = st.button(
        verdict_text(verdict), key=f"decide {verdict}", shortcut=KEYS[verdict], disabled=not rows
    )
    return pressed and _decide(here, rows, verdict, settled)


def _withdraw(here: Desk, rows: Sequence[RowRef], settled: Mapping[str, Verdict]) -> bool:
    known = [row for row in rows if row.row_id in settled]
    pressed = st.button("Withdraw", key="withdraw", type="tertiary", disabled=not known)
    return pressed and _decide(here, known, None, settled)


def _decide(here: Desk, rows: Sequence[RowRef], verdict: str | None, settled: Mapping[str, Verdict]) -> bool:
    """Write a verdict on rows as they are on this visitor's page."""
    seen = {row.row_id: settled[row.row_id].id if row.row_id in settled else None for row in rows}
    note = st.session_state.get("note", "")
    try:
        batch = here.verdicts.decide(rows, verdict, reviewer=here.user, note=note, seen=seen)
    except (ReviewError, StoreError) as error:
        st.session_state[SAID] = ("error", str(error))
        return True
    told = f"{rows_text(len(rows))}: {verdict or 'withdrawn'}"
    st.session_state[LAST] = Undoable(batch, told)
    st.session_state[SAID] = ("success", told)
    return True


def _undo(here: Desk) -> bool:
    last: Undoable | None = st.session_state.get(LAST)
    told = f"Undo ({last.told})" if last else "Undo"
    if not st.button(told, key="undo", shortcut="U", type="tertiary", disabled=last is None) or last is None:
        return False
    del st.session_state[LAST]
    try:
        here.verdicts.undo(last.batch, reviewer=here.user)
        st.session_state[SAID] = ("success", f"Undone: {last.told}")
    except (ReviewError, StoreError) as error:
        st.session_state[SAID] = ("error", str(error))
    return True


def say_last() -> None:
    """Say what became of the last button, once."""
    said = st.session_state.pop(SAID, None)
    if said is None:
        return
    kind, text = said
    if kind == "error":
        st.error(text, icon=":material/group:")
    else:
        st.toast(text, icon=":material/check:")


@st.fragment(run_every="20s")
def tell_changes(here: Desk, day: date, token: str) -> None:
    """Say when others have settled rows of a night since it was drawn."""
    if here.verdicts.tokens().get(day, "") == token:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info("Somebody has settled rows of this night meanwhile.", icon=":material/group:")
        if st.button("Show", key="show_changes"):
            st.rerun(scope="app")
