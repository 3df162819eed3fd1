"""The model: its versions, who is live, what the gate said, and which errors it does not see."""

from __future__ import annotations

from datetime import date
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
import streamlit as st

from flows.config import load_tracking
from flows.errors import StoreError
from flows.journal import Journal, Move
from flows.storage import Store
from review.life import Version, gate_verdict, power_of, versions_of
from review.text import cut, escaped, share, shown
from review.views import charts
from review.views.desk import Desk, desk
from review.views.words import day_text

__all__ = ["show"]

HOW = {"trained": "by training", "promoted": "gate passed", "forced": "forced past the gate"}


def show() -> None:
    """The page."""
    here = desk()
    tracking = load_tracking(here.pipeline.root)
    st.title("Model", anchor=False)
    try:
        moves = Journal(here.store).moves()
    except StoreError as error:
        st.error(str(error))
        moves = []
    versions = versions_of(moves, here.nights.all(), tracking.aliases.live)
    if not versions:
        st.info("No model yet: vaewatch train")
        return
    name = tracking.model_name_for(here.pipeline.name)
    _versions(here, name, versions)
    _moves(moves)
    _gate(Store.of(tracking.artifact_location), versions, moves)
    _canaries(here)


def _versions(here: Desk, name: str, versions: list[Version]) -> None:
    live = next((one.version for one in versions if one.is_live), None)
    with st.container(horizontal=True, key="summary"):
        st.metric("Model", escaped(name), border=True)
        st.metric("Live", f"version {live}" if live else "none", border=True)
        st.metric("Versions", str(len(versions)), border=True)
    st.subheader("Versions", anchor=False)
    st.dataframe(
        pd.DataFrame([_version(one) for one in versions]),
        hide_index=True,
        key="versions",
        alt="Versions of the model, the newest first",
    )
    if here.addresses.mlflow:
        with st.container(horizontal=True):
            for one in versions[:3]:
                st.link_button(f"Version {one.version} in MLflow", here.addresses.version(name, one.version))


def _version(one: Version) -> dict[str, Any]:
    spans = [
        f"{since:%Y-%m-%d %H:%M} to {f'{until:%Y-%m-%d %H:%M}' if until else 'now'}"
        for since, until in one.live
    ]
    return {
        "Version": one.version,
        "State": "● live" if one.is_live else "",
        "Live (UTC)": ", ".join(spans) or "never",
        "Nights scored": one.nights,
        "Share flagged": share(one.flagged / one.scored) if one.scored else "",
        "MLflow run": one.run_id,
    }


def _moves(moves: list[Move]) -> None:
    st.subheader("Who was live when", anchor=False)
    rows = [
        {
            "When (UTC)": f"{move.at:%Y-%m-%d %H:%M}",
            "Alias": move.alias,
            "Version": move.version or "nobody",
            "Before": move.from_version or "nobody",
            "How": f"{move.how} ({HOW[move.how]})" if move.how in ("promoted", "forced") else move.how,
            "By": cut(move.by),
            "Evidence": move.evidence_run_id or "none asked",
        }
        for move in reversed(moves)
    ]
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, key="moves", alt="Moves of the aliases, the newest first"
    )


def _gate(artifacts: Store, versions: list[Version], moves: list[Move]) -> None:
    """The last verdict of the gate on each version that it was asked about."""
    runs = {move.version: move.evidence_run_id for move in moves if move.evidence_run_id}
    asked = {one.version: runs.get(one.version) or one.run_id for one in versions}
    verdicts = {version: gate_verdict(artifacts, run) for version, run in asked.items() if run}
    found = {version: verdict for version, verdict in verdicts.items() if verdict}
    st.subheader("What the gate said", anchor=False)
    if not found:
        st.caption(
            "The gate has not been asked about any version yet, or MLflow's files are not within reach."
        )
    for version, verdict in found.items():
        with st.expander(f"Version {version}: {'passed' if verdict.get('passed') else 'refused'}"):
            rows = [
                {name: shown(one.get(name)) for name in ("verdict", "name", "required", "found")}
                for one in verdict.get("criteria", [])
            ]
            st.dataframe(
                pd.DataFrame(rows),
                hide_index=True,
                key=f"gate {version}",
                alt=f"Criteria of version {version}",
            )


def _canaries(here: Desk) -> None:
    """Share of planted errors found, of the night that was monitored last, or another one."""
    st.subheader("Planted errors that it finds", anchor=False)
    days = _monitored(here)
    if not days:
        st.caption("No night has been monitored yet: vaewatch monitor --date D")
        return
    day = st.selectbox("Night", days, format_func=day_text, key="canary_night", width=320)
    rows = power_of(here.store, f"monitor/dt={day}/part-0.parquet")
    if not rows:
        st.caption("No errors were planted in this night.")
        return
    charts.show(charts.power(rows), f"Share of planted errors found on {day}, by column and kind of error")
    blind = [f"{one['kind']} in {one['column']}" for one in rows if one["state"] == "blind"]
    if blind:
        st.caption(escaped(f"Not found often enough: {', '.join(blind)}."))


def _monitored(here: Desk) -> list[date]:
    """Nights that were monitored, the newest first."""
    names = {
        PurePosixPath(one.key).parts[1].removeprefix("dt=") for one in here.store.list("monitor", ".parquet")
    }
    found = []
    for name in names:
        try:
            found.append(date.fromisoformat(name))
        except ValueError:
            continue
    return sorted(found, reverse=True)
