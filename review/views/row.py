"""One row: why it stands out, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from flows.errors import StoreError
from flows.manifest import Manifest, read_manifest
from review.earlier import NIGHTS, earlier, lasting
from review.flagged import Flagged
from review.nearest import nearest
from review.nights import Night
from review.parts import KINDS, Part, Reason, parts_of, reasons_of
from review.store import RowRef, Verdict
from review.text import cut, escaped, share, shown
from review.training import Distribution, reference_file, training_of
from review.views import charts, settle
from review.views.desk import TROUBLES, Desk, desk, flagged_of, settled_of, token_of
from review.views.links import back_to_night, date_asked, go_to_row, night_link, remember
from review.views.order import in_order
from review.views.words import day_text, verdict_text

__all__ = ["show"]

LONG = 2_000  # letters of a cell that this page shows
MANY = 40  # columns that the table shows without a scroll bar of its own
MORE = ("Nearest ordinary rows", "Earlier rows of this key", "History", "Model and run")


def show() -> None:
    """The page."""
    here, day, row_id = desk(), date_asked(), st.query_params.get("row", "")
    if day is None or not row_id:
        st.title("Row", anchor=False)
        st.info("Open a night, then one of its rows.")
        return
    remember(date=day, row=row_id)
    try:
        flagged = flagged_of(here, day)
    except TROUBLES as error:
        st.error(str(error))
        return
    place = None if flagged is None else flagged.place(row_id)
    if flagged is None or place is None:
        _gone(here, day, row_id)
        return
    _body(here, flagged, place, row_id)


def _gone(here: Desk, day: date, row_id: str) -> None:
    """A row that is not, or no longer, among the flags."""
    st.title("Row", anchor=False)
    st.info(f"This row is not among the flags of {day}. The night may have been scored again.")
    night_link(day, f"Night of {day:%-d %b %Y}")
    _history(here, day, row_id)


def _body(here: Desk, flagged: Flagged, place: int, row_id: str) -> None:
    row, night = flagged.row(place), here.nights.one(flagged.day)
    reasons = reasons_of(row, flagged.prefix)
    parts = parts_of(here.store, flagged.day, row_id, reasons, here.hidden)
    known = _training(here, night)
    settled = settled_of(here, flagged.day)
    _head(here, flagged, row, row_id, settled)
    settle.say_last()
    settle.tell_changes(here, flagged.day, token_of(here, flagged.day))
    own = RowRef(flagged.day, row_id, row[flagged.prefix + "row_key"])
    if settle.bar(here, flagged.day, settled, lambda: [own]):
        st.rerun()
    _reasons(here, reasons, row, known)
    _columns(here, flagged, parts, row, known)
    _more(here, flagged, row, row_id, parts, known)


def _training(here: Desk, night: Night | None) -> dict[str, Distribution]:
    if night is None:
        return {}
    file = reference_file(here.pipeline.root, night.model, night.version, night.run_id)
    return _read_training(str(file), file.stat().st_mtime_ns if file.is_file() else 0)


@st.cache_resource(show_spinner=False, max_entries=8)
def _read_training(file: str, _version: int) -> dict[str, Distribution]:
    from pathlib import Path

    return training_of(Path(file))


# -- Head and walking ---------------------------------------------------------------------------------------


def _head(
    here: Desk, flagged: Flagged, row: Mapping[str, Any], row_id: str, settled: Mapping[str, Verdict]
) -> None:
    walk = _walk(flagged)
    number = walk.index(row_id) if row_id in walk else None
    with st.container(horizontal=True, vertical_alignment="center", key="head"):
        back_to_night(flagged.day, day_text(flagged.day))
        if number is not None:
            _step("Previous", "K", walk, number - 1, flagged.day)
            st.caption(f"{number + 1:,} of {len(walk):,}", width="content")
            _step("Next", "J", walk, number + 1, flagged.day)
    st.title(_name(here, row, flagged.prefix), anchor=False)
    verdict = settled.get(row_id)
    with st.container(horizontal=True, key="summary"):
        st.metric("Severity", f"{row[flagged.prefix + 'severity']:.1f}", border=True)
        st.metric(
            "As odd as this, among ordinary rows", _one_in(row[flagged.prefix + "p_value"]), border=True
        )
        st.metric("Score", f"{row[flagged.prefix + 'anomaly_score']:.3f}", border=True)
        st.metric("Verdict", verdict_text(verdict.verdict) if verdict else "open", border=True)
    if verdict:
        note = f": {escaped(verdict.note)}" if verdict.note else ""
        st.caption(f"{escaped(verdict.reviewer)}, {verdict.decided_at:%-d %b %Y %H:%M} UTC{note}")


def _walk(flagged: Flagged) -> list[str]:
    """Row ids in the order in which the visitor saw them last."""
    day, ids = st.session_state.get("walk", (None, []))
    return (
        ids
        if day == flagged.day
        else flagged.ids(np.argsort(-flagged.index["score"].to_numpy(), kind="stable"))
    )


def _step(label: str, key: str, walk: list[str], number: int, day: date) -> None:
    inside = 0 <= number < len(walk)
    if st.button(label, key=f"step {label}", shortcut=key, disabled=not inside) and inside:
        go_to_row(day, walk[number])


def _name(here: Desk, row: Mapping[str, Any], prefix: str) -> str:
    """The row's key in words; instants go without their zone, which is told among the columns."""
    keys = [name for name in here.keys if name in row and name not in here.pipeline.columns.sensitive]
    if not keys:
        return escaped(f"Row {row[prefix + 'row_number']:,} of {row[prefix + 'batch_file']}")
    parts = [
        f"{row[name]:%Y-%m-%d %H:%M}" if isinstance(row[name], datetime) else f"{name} {shown(row[name], 40)}"
        for name in keys
    ]
    return escaped(" · ".join(parts))


def _one_in(p_value: float) -> str:
    return f"1 in {1 / p_value:,.0f}" if p_value > 0 else "none"


# -- Reasons and columns ------------------------------------------------------------------------------------


def _reasons(
    here: Desk, reasons: list[Reason], row: Mapping[str, Any], known: Mapping[str, Distribution]
) -> None:
    st.subheader("Why it stands out", anchor=False)
    for column, reason in zip(st.columns(3), reasons, strict=False):
        with column.container(border=True):
            _reason(here, reason, row.get(reason.column), known.get(reason.column))


def _reason(here: Desk, reason: Reason, value: Any, known: Distribution | None) -> None:
    veiled = reason.column in here.hidden
    st.markdown(f"**{escaped(reason.column)}** {escaped(cut('(sensitive)' if veiled else reason.value, 80))}")
    st.markdown(
        f"{KINDS.get(reason.kind, escaped(reason.kind))}; expected **{escaped(cut(reason.expected, 80))}**"
    )
    st.progress(
        min(max(reason.share, 0.0), 1.0), text=f"{share(reason.share)} of what the row costs above the usual"
    )
    if known is None or veiled:
        return
    picture = charts.distribution(known, value)
    if picture is not None:
        said = known.place(value)
        charts.show(picture, f"Training rows of {reason.column}: {said}")
        st.caption(escaped(said).capitalize() if said else "")


def _columns(
    here: Desk, flagged: Flagged, parts: list[Part], row: Mapping[str, Any], known: Mapping[str, Distribution]
) -> None:
    st.subheader("All columns", anchor=False)
    modelled = [part.column for part in parts]
    rest = [name for name in flagged.own if name not in modelled]
    lines = [_line(here, part, row.get(part.column), known) for part in parts]
    lines += [_line(here, Part(name, float("nan"), float("nan"), ""), row.get(name), {}) for name in rest]
    st.dataframe(
        pd.DataFrame(lines),
        hide_index=True,
        height="content" if len(lines) <= MANY else 900,
        column_config={
            "Share": st.column_config.ProgressColumn(
                "Share of the loss", min_value=0, max_value=100, format="%.0f %%"
            ),
            "Loss": st.column_config.NumberColumn("Loss (nats)", format="%.2f"),
            "Value": st.column_config.TextColumn("Value", width="medium"),
            "Expected": st.column_config.TextColumn("Expected", width="medium"),
            "Among training rows": st.column_config.TextColumn("Among training rows", width="large"),
        },
        placeholder="",
        key="columns",
        alt="Columns of the row: value, what the model expected, share of the loss",
    )


def _line(here: Desk, part: Part, value: Any, known: Mapping[str, Distribution]) -> dict[str, Any]:
    veiled = part.column in here.hidden
    place = known[part.column].place(value) if part.column in known and not veiled else ""
    return {
        "Column": part.column,
        "Value": "(sensitive)" if veiled else shown(value, LONG),
        "Expected": cut(part.expected),
        "Share": 100 * part.share,
        "Among training rows": place,
        "Loss": part.loss,
    }


# -- More ---------------------------------------------------------------------------------------------------


def _more(
    here: Desk,
    flagged: Flagged,
    row: Mapping[str, Any],
    row_id: str,
    parts: list[Part],
    known: Mapping[str, Distribution],
) -> None:
    """What costs a look into other files is looked up when it is asked for."""
    chosen = st.segmented_control("More about this row", MORE, default=MORE[0], required=True, key="more")
    if chosen == MORE[0]:
        _nearest(here, flagged, row, parts, known)
    elif chosen == MORE[1]:
        _earlier(here, flagged, row)
    elif chosen == MORE[2]:
        _history(here, flagged.day, row_id)
    else:
        _lineage(here, flagged, row)


def _manifest(here: Desk, flagged: Flagged) -> Manifest | None:
    """The night's manifest; what is wrong with it is shown."""
    try:
        return read_manifest(here.store, flagged.day)
    except StoreError as error:
        st.warning(str(error))
        return None


def _nearest(
    here: Desk, flagged: Flagged, row: Mapping[str, Any], parts: list[Part], known: Mapping[str, Distribution]
) -> None:
    manifest = _manifest(here, flagged)
    if manifest is None:
        return
    columns = [part.column for part in parts] or flagged.own
    found = nearest(here.store, manifest, row, columns, _blamed(row, flagged.prefix), known, flagged.prefix)
    if not found.rows:
        why = f" {escaped(found.trouble)}." if found.trouble else ""
        st.info(f"Ordinary rows of this night cannot be shown.{why}")
        return
    st.caption(
        "Ordinary rows of the same night, most like it in the columns that are not to blame;"
        " the row itself comes first."
    )
    blamed = [name for name in _blamed(row, flagged.prefix) if name not in here.hidden]
    own = [
        *blamed,
        *(name for name in in_order(here, flagged) if name not in here.hidden and name not in blamed),
    ]
    lines: list[dict[str, Any]] = [{"Distance": None, **_cells(row, own)}]
    lines += [
        {"Distance": distance, **_cells(one, own)}
        for distance, one in zip(found.distances, found.rows, strict=True)
    ]
    st.dataframe(
        pd.DataFrame(lines),
        hide_index=True,
        column_config={"Distance": st.column_config.NumberColumn("Distance", format="%.2f", pinned=True)},
        placeholder="",
        key="nearest",
        alt="The row, and ordinary rows like it",
    )


def _blamed(row: Mapping[str, Any], prefix: str) -> list[str]:
    return [reason.column for reason in reasons_of(row, prefix)]


def _cells(row: Mapping[str, Any], names: list[str]) -> dict[str, str]:
    return {f"{name} ": shown(row.get(name)) for name in names}


def _earlier(here: Desk, flagged: Flagged, row: Mapping[str, Any]) -> None:
    key = row[flagged.prefix + "row_key"]
    wanted = {name: value for name, value in lasting(key, flagged.schema).items() if name not in here.hidden}
    if not wanted:
        st.info("The key of this row holds nothing that may come again.")
        return
    days = [one.date for one in here.nights.all() if one.date < flagged.day]
    found, looked = earlier(here.store, days, wanted, flagged.prefix)
    named = ", ".join(f"{name} {shown(value, 40)}" for name, value in wanted.items())
    st.caption(escaped(f"{named}: {len(found)} rows in the {looked} nights before (at most {NIGHTS})."))
    if not found:
        return
    lines = [
        {
            "Night": one.date.isoformat(),
            "Severity": one.severity,
            "Flagged": "yes" if one.flagged else "no",
            **{f"{name} ": shown(value) for name, value in one.key.items()},
        }
        for one in found
    ]
    st.dataframe(
        pd.DataFrame(lines),
        hide_index=True,
        column_config={
            "Severity": st.column_config.ProgressColumn("Severity", min_value=0, max_value=100, format="%.1f")
        },
        key="earlier",
        alt="Earlier rows with the same key",
    )


def _history(here: Desk, day: date, row_id: str) -> None:
    lines = [
        {
            "When (UTC)": f"{one.decided_at:%Y-%m-%d %H:%M:%S}",
            "Who": cut(one.reviewer),
            "Verdict": verdict_text(one.verdict) or "withdrawn",
            "Note": cut(one.note),
        }
        for one in reversed(here.verdicts.history(day, row_id))
    ]
    if lines:
        st.dataframe(
            pd.DataFrame(lines), hide_index=True, key="history", alt="Verdicts on this row, newest first"
        )
    else:
        st.info("Nobody has spoken of this row yet.")


def _lineage(here: Desk, flagged: Flagged, row: Mapping[str, Any]) -> None:
    """Where the row came from, and who judged it."""
    prefix, manifest = flagged.prefix, _manifest(here, flagged)
    name, version, run = (row[prefix + part] for part in ("model_name", "model_version", "run_id"))
    lines = {
        "File": row[prefix + "batch_file"],
        "Row number": f"{row[prefix + 'row_number']:,}",
        "Scored at": str(row[prefix + "scored_at"]),
        "Model": f"{name} version {version}",
        "MLflow run": run,
        "Row id": row[prefix + "row_id"],
    }
    st.dataframe(
        pd.DataFrame(lines.items(), columns=["", " "]), hide_index=True, key="lineage", alt="Lineage"
    )
    with st.container(horizontal=True):
        if here.addresses.mlflow:
            st.link_button("Run in MLflow", here.addresses.run(run))
            st.link_button("Model version in MLflow", here.addresses.version(name, version))
        if here.addresses.prefect:
            flow_run_id = manifest.flow_run_id if manifest else None
            st.link_button("Flow run in Prefect", here.addresses.flow_run(flow_run_id))
        if not here.addresses.mlflow:
            st.caption("Links to MLflow and Prefect are here when the page is part of `vaewatch up`.")
