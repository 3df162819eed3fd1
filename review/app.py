"""The script that `review.server` runs for each visit: who is let in, which pipeline, which page."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

from flows.config import Pipeline, load_pipeline
from flows.errors import VaewatchError
from review.access import Settings, User, who
from review.errors import AccessError
from review.server import arguments
from review.views import links, log, model, night, nights, row, rules, turned_away
from review.views.desk import Addresses, set_desk

ICON = Path(__file__).with_name("icon.svg")
STYLE = Path(__file__).with_name("style.css")


def main() -> None:
    """Run the page that was asked for, for those who are let in."""
    st.set_page_config(page_title="vaewatch review", page_icon=str(ICON), layout="wide")
    st.html(STYLE)
    try:
        pipelines = [load_pipeline(file) for file in arguments(sys.argv[1:]).pipelines]
        user = _visitor(Settings.of(pipelines[0].review))
        chosen = st.navigation(_pages(), position="top")
        set_desk(_pipeline(pipelines), user, _addresses())
        nights.open_chosen()
        night.open_chosen()
        chosen.run()
    except AccessError as error:
        _outside(error, Settings.of(pipelines[0].review))
    except VaewatchError as error:
        st.error(str(error))


def _visitor(settings: Settings) -> User:
    """Who is looking, by the connection and by the login; nobody gets further without a role.

    Streamlit tells no address of a visitor from this machine; those of others are told as they are, since
    headers of proxies are not listened to.
    """
    headers = {name: st.context.headers.get_all(name) for name in st.context.headers}
    claims = dict(st.user.to_dict()) if settings.oidc else None
    return who(headers, st.context.ip_address or "127.0.0.1", claims, settings)


def _outside(error: AccessError, settings: Settings) -> None:
    """What those see who are not let in, whatever page a link that they were sent asks for."""
    doors = [st.Page(_nothing, title="vaewatch review", url_path=path) for path in PATHS]
    st.navigation([st.Page(_nothing, title="vaewatch review", default=True), *doors], position="hidden")
    st.title("vaewatch review", anchor=False)
    st.error(f"You are not let in: {error}.")
    if settings.oidc:
        if st.user.get("is_logged_in"):
            st.button("Log in as somebody else", on_click=st.logout)
        else:
            st.button("Log in", on_click=st.login, type="primary")


PATHS = ("night", "row", "quarantine", "rules", "model", "log")


def _nothing() -> None:
    """Draw nothing: what is to be seen is on each page."""


def _pages() -> list[st.Page]:
    shown = {
        "nights": st.Page(nights.show, title="Nights", icon=":material/calendar_month:", default=True),
        "night": st.Page(night.show, title="Night", icon=":material/table_rows:", url_path="night"),
        "row": st.Page(row.show, title="Row", icon=":material/search:", url_path="row"),
        "turned_away": st.Page(
            turned_away.show, title="Quarantine", icon=":material/block:", url_path="quarantine"
        ),
        "rules": st.Page(rules.show, title="Rules", icon=":material/rule:", url_path="rules"),
        "model": st.Page(model.show, title="Model", icon=":material/model_training:", url_path="model"),
        "log": st.Page(log.show, title="Log", icon=":material/history:", url_path="log"),
    }
    links.PAGES.update(shown)
    return list(shown.values())


def _addresses() -> Addresses:
    found = arguments(sys.argv[1:])
    return Addresses(found.mlflow, found.prefect)


def _pipeline(pipelines: list[Pipeline]) -> Pipeline:
    """The pipeline to show; where there are several, people choose."""
    if len(pipelines) == 1:
        return pipelines[0]
    names = [one.name for one in pipelines]
    asked = st.query_params.get("pipeline")
    with st.sidebar:
        name = st.selectbox("Pipeline", names, index=names.index(asked) if asked in names else 0)
    st.query_params["pipeline"] = name
    return pipelines[names.index(name)]


main()
