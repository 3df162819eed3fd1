"""Rules: what is expected from now on, tried on past nights before it is saved."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pandas as pd
import streamlit as st

from flows.errors import StoreError
from review.errors import ReviewError
from review.flagged import Flagged
from review.parts import KINDS
from review.rehearsal import Rehearsal, past_nights, rehearse
from review.rules import Rule, words
from review.text import cut, escaped
from review.triaging import rerank
from review.views.desk import TROUBLES, Desk, desk, flagged_of
from review.views.links import date_asked, row_link
from review.views.words import key_text

__all__ = ["show"]

TRIED, SAID = "tried_rule", "rule_said"
AFTERWARDS = 31
"""Nights whose hidden rows are marked anew at once; older ones when they are scored again."""


def show() -> None:
    """The page."""
    here = desk()
    st.title("Rules", anchor=False)
    st.caption("A rule hides flags that are expected. They stay in the results, beside the rule.")
    said = st.session_state.pop(SAID, None)
    if said:
        st.success(said)
    names = _family_names(here)
    _saved(here, names)
    if here.may_decide:
        _new(here, names)


# -- Rules that hold ----------------------------------------------------------------------------------------


def _saved(here: Desk, names: dict[str, str]) -> None:
    rules = here.verdicts.rules(ended=True)
    holding = [rule for rule in rules if rule.withdrawn_at is None]
    if not rules:
        st.info("No rule yet.")
        return
    st.dataframe(
        pd.DataFrame([_line(here, rule, names) for rule in reversed(rules)]),
        hide_index=True,
        key="rules",
        alt="Rules, the newest first",
    )
    if here.may_decide and holding:
        _withdraw(here, holding, names)


def _line(here: Desk, rule: Rule, names: dict[str, str]) -> dict[str, Any]:
    return {
        "Number": rule.id,
        "Rule": _words(here, rule, names),
        "State": "withdrawn" if rule.withdrawn_at else "holds",
        "By": cut(rule.author),
        "Since": f"{rule.created_at:%Y-%m-%d %H:%M}" if rule.created_at else "",
        "Why": cut(rule.note),
    }


def _words(here: Desk, rule: Rule, names: dict[str, str]) -> str:
    return words(rule, family_name=names.get(rule.family_id or ""), sensitive=here.pipeline.columns.sensitive)


def _withdraw(here: Desk, holding: list[Rule], names: dict[str, str]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Withdraw a rule",
            holding,
            format_func=lambda rule: f"{rule.id}: {cut(_words(here, rule, names), 100)}",
            key="rule_to_end",
            width=640,
        )
        if st.button("Withdraw", key="end_rule"):
            _do(
                here,
                lambda: here.verdicts.withdraw_rule(chosen.id, author=here.user),
                f"Rule {chosen.id} is withdrawn.",
            )


# -- A new rule ---------------------------------------------------------------------------------------------


def _new(here: Desk, names: dict[str, str]) -> None:
    st.subheader("A new rule", anchor=False)
    rule = _asked(here, names)
    if st.button("Try it on past nights", key="try_rule", type="primary"):
        st.session_state[TRIED] = (rule, _rehearsed(here, rule))
    tried, found = st.session_state.get(TRIED, (None, None))
    if found is None or replace(tried, note="") != replace(rule, note=""):
        return
    _told(here, found)
    if st.button("Save the rule", key="save_rule"):
        del st.session_state[TRIED]
        _do(
            here,
            lambda: here.verdicts.add_rule(rule, author=here.user),
            f"Saved: {_words(here, rule, names)}.",
        )


def _asked(here: Desk, names: dict[str, str]) -> Rule:
    """The rule as it is typed."""
    asked = st.query_params.get("family")
    families = [None, *names]
    with st.container(horizontal=True, vertical_alignment="bottom", key="rule"):
        family = st.selectbox(
            "Family",
            families,
            index=families.index(asked) if asked in names else 0,
            width=420,
            key="rule_family",
            format_func=lambda one: "any" if one is None else cut(names[one], 80),
        )
        column = st.selectbox(
            "Column", [None, *_columns(here)], format_func=_any, width=200, key="rule_column"
        )
        value = st.text_input("Value in it", width=200, key="rule_value", disabled=column is None)
        kind = st.selectbox(
            "Reason",
            [None, *KINDS],
            width=220,
            key="rule_kind",
            format_func=lambda one: KINDS.get(one, "any"),
        )
    with st.container(horizontal=True, vertical_alignment="bottom", key="rule_ends"):
        until = st.date_input("Until (included)", None, width=160, key="rule_until", format="YYYY-MM-DD")
        unless = st.number_input("Unless severity is over", 0, 100, None, width=190, key="rule_unless")
        note = st.text_input("Why", key="rule_note", max_chars=2_000, width=420)
    return Rule(
        family_id=family,
        column=column,
        value=value if column is not None and value else None,
        reason_kind=kind,
        until=until if isinstance(until, date) else None,
        unless_severity_over=None if unless is None else float(unless),
        note=note or "",
    )


def _any(name: str | None) -> str:
    return name or "any"


def _rehearsed(here: Desk, rule: Rule) -> Rehearsal | None:
    nights = here.nights.all()
    try:
        last = nights[0].date if nights else date.max
        past = past_nights(rule, here.store, here.verdicts, last=last, prefix=here.prefix)
        return rehearse(rule, past, prefix=here.prefix)
    except (ReviewError, StoreError) as error:
        st.error(str(error))
        return None


def _told(here: Desk, found: Rehearsal) -> None:
    show = st.warning if found.confirmed or found.data_errors else st.info
    show(f"{found.words[:1].upper()}{found.words[1:]}.")
    for one in found.examples:
        row_link(one.dt, one.row_id, f"{one.dt}: {escaped(cut(key_text(one.row_key), 120))}")


# -- Around -------------------------------------------------------------------------------------------------


def _do(here: Desk, act: Any, told: str) -> None:
    """Change the rules, and mark the rows of the newest nights anew."""
    try:
        act()
        rules = here.verdicts.rules()
        with st.spinner("Marking what the rules hide …"):
            for night in here.nights.all()[:AFTERWARDS]:
                rerank(here.store, night.date, rules, prefix=here.prefix)
    except (ReviewError, StoreError) as error:
        st.error(str(error))
        return
    st.session_state[SAID] = told
    st.rerun()


def _family_names(here: Desk) -> dict[str, str]:
    """Families of the night that the address names, or of the newest ones, by id."""
    asked = date_asked()
    days = [asked] if asked else [one.date for one in here.nights.all()[:7]]
    names: dict[str, str] = {}
    for day in days:
        flagged = _flagged(here, day)
        if flagged is not None and flagged.has_families:
            pairs = flagged.index.select(["family", "name"]).to_pylist()
            names |= {one["family"]: one["name"] for one in pairs if one["family"]}
    return names


def _flagged(here: Desk, day: date) -> Flagged | None:
    try:
        return flagged_of(here, day)
    except TROUBLES:
        return None


def _columns(here: Desk) -> list[str]:
    """Columns of the newest night that has flags."""
    for night in here.nights.all():
        flagged = _flagged(here, night.date) if night.flagged else None
        if flagged is not None:
            return flagged.own
    return []
