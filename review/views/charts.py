"""Charts, drawn without loading anything; fields have names of ours, whatever columns are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from review.nights import Night
from review.text import shown
from review.training import Distribution

__all__ = ["distribution", "flag_shares", "power", "show"]

USUAL, ODD, QUIET = "#4c78a8", "#e4572e", "#8fa3b8"
"""Blue for the usual, orange for what stands out; told apart by colour-blind readers, on light and dark."""
LABEL = 16  # letters of a category's name under a chart


def show(chart: Any, alt: str, key: str | None = None) -> None:
    """Draw a chart over the whole width; `alt` says in words what it shows."""
    st.altair_chart(chart, width="stretch", key=key, alt=alt)


def flag_shares(nights: Sequence[Night]) -> Any:
    """The share of flags of each night, nights that were odd as a whole in another colour."""
    frame = pd.DataFrame(
        {
            "night": [one.date.isoformat() for one in nights],
            "share": [one.flag_share for one in nights],
            "state": ["odd as a whole" if one.incident or one.trouble else "as usual" for one in nights],
            "flags": [one.flagged for one in nights],
        }
    )
    colours = alt.Scale(domain=["as usual", "odd as a whole"], range=[USUAL, ODD])
    return (
        alt.Chart(frame, height=140)
        .mark_bar(cornerRadiusEnd=2, size=max(2, min(22, 900 // max(len(nights), 1))))
        .encode(
            x=alt.X("night:T", title=None, axis=alt.Axis(format="%-d %b", tickCount=8)),
            y=alt.Y("share:Q", title="flagged", axis=alt.Axis(format=".1%", tickCount=3)),
            color=alt.Color("state:N", scale=colours, legend=None),
            tooltip=[
                alt.Tooltip("night:T", format="%a %-d %b %Y"),
                alt.Tooltip("share:Q", format=".2%"),
                "flags:Q",
            ],
        )
    )


def distribution(known: Distribution, value: Any) -> Any:
    """Training rows of one column, with the place of a value; None where nothing can be drawn."""
    if known.hidden or not known.counts:
        return None
    if known.kind == "numeric":
        return _numbers(known, value)
    if known.kind == "timestamp":
        return _hours(known, value)
    return _values(known, value) if known.kind == "categorical" else None


def _numbers(known: Distribution, value: Any) -> Any:
    bars = known.bars()
    if not bars:
        return None
    frame = pd.DataFrame(bars, columns=["left", "right", "share"])
    base = (
        alt.Chart(frame, height=110)
        .mark_bar(color=QUIET)
        .encode(
            x=alt.X(
                "left:Q", title=None, axis=alt.Axis(tickCount=4), scale=alt.Scale(zero=False, nice=False)
            ),
            x2="right:Q",
            y=alt.Y("share:Q", title=None, axis=None),
            y2=alt.datum(0),
        )
    )
    return base if value is None else base + _rule(float(value))


def _rule(value: float) -> Any:
    frame = pd.DataFrame({"value": [value]})
    return alt.Chart(frame).mark_rule(color=ODD, strokeWidth=3).encode(x="value:Q")


def _hours(known: Distribution, value: Any) -> Any:
    own = getattr(value, "hour", None)
    frame = pd.DataFrame(
        {"hour": range(24), "share": known.hours(), "own": [hour == own for hour in range(24)]}
    )
    return _bars(frame, alt.X("hour:O", title=None, axis=alt.Axis(labelAngle=0, values=[0, 6, 12, 18])))


def _values(known: Distribution, value: Any) -> Any:
    own = None if value is None else str(value)
    pairs = known.commonest(own or "")
    if own is not None and own not in dict(pairs):
        pairs = [(own, 0.0), *pairs]
    frame = pd.DataFrame(
        {
            "name": [shown(name, LABEL) for name, _ in pairs],
            "share": [part for _, part in pairs],
            "own": [name == own for name, _ in pairs],
        }
    )
    return _bars(frame, alt.X("name:N", title=None, sort=None, axis=alt.Axis(labelAngle=-40, labelLimit=70)))


def _bars(frame: pd.DataFrame, x: Any) -> Any:
    return (
        alt.Chart(frame, height=110)
        .mark_bar()
        .encode(
            x=x,
            y=alt.Y("share:Q", title=None, axis=None),
            color=alt.condition("datum.own", alt.value(ODD), alt.value(QUIET)),
            tooltip=[alt.Tooltip("share:Q", format=".2%")],
        )
    )


def power(rows: Sequence[dict[str, Any]]) -> Any:
    """Share of planted errors found, by column and kind."""
    frame = pd.DataFrame(rows)
    base = alt.Chart(frame, height=alt.Step(24)).encode(
        x=alt.X("kind:N", title=None, axis=alt.Axis(labelAngle=-35, labelLimit=120, orient="top")),
        y=alt.Y("column:N", title=None, sort=None, axis=alt.Axis(labelLimit=160)),
        tooltip=["column:N", "kind:N", alt.Tooltip("power:Q", format=".0%"), "detail:N"],
    )
    cells = base.mark_rect().encode(
        color=alt.Color("power:Q", title="found", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None)
    )
    light = alt.condition("datum.power > 0.5", alt.value("white"), alt.value("#10243a"))
    return cells + base.mark_text(fontSize=11).encode(text=alt.Text("power:Q", format=".0%"), color=light)
