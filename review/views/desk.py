"""What every page works with: the pipeline, its results and verdicts, and who is looking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import streamlit as st

from flows.config import Pipeline
from flows.errors import InputError, StoreError
from flows.storage import Store
from review.access import Role, User
from review.database import default_url
from review.flagged import Flagged
from review.nights import Nights
from review.store import Verdict, VerdictStore

__all__ = ["TROUBLES", "Addresses", "Desk", "desk", "flagged_of", "set_desk", "settled_of", "token_of"]

NIGHTS_KEPT = 4
"""Nights whose index is held in memory, for all visitors together."""


@dataclass(frozen=True)
class Addresses:
    """Where MLflow's and Prefect's pages are; empty where that is not known."""

    mlflow: str = ""
    prefect: str = ""

    def run(self, run_id: str) -> str:
        """Address of an MLflow run."""
        return f"{self.mlflow}/#/runs/{run_id}" if self.mlflow else ""

    def version(self, model: str, version: str) -> str:
        """Address of a model version."""
        return f"{self.mlflow}/#/models/{model}/versions/{version}" if self.mlflow else ""

    def flow_run(self, flow_run_id: str | None) -> str:
        """Address of a run of Prefect's, or of the list of them where it is not known which."""
        if not self.prefect:
            return ""
        return f"{self.prefect}/runs/flow-run/{flow_run_id}" if flow_run_id else f"{self.prefect}/runs"


@dataclass(frozen=True)
class Desk:
    """One pipeline as one visitor sees it."""

    pipeline: Pipeline
    store: Store
    nights: Nights
    verdicts: VerdictStore
    visitor: User
    addresses: Addresses = field(default_factory=Addresses)

    @property
    def user(self) -> str:
        """Name of whoever is looking."""
        return self.visitor.name

    @property
    def role(self) -> Role:
        """What the visitor may do."""
        return self.visitor.role

    @property
    def may_decide(self) -> bool:
        """Whether the visitor's verdicts are taken."""
        return self.visitor.may_decide

    @property
    def prefix(self) -> str:
        """Put before the names of our columns."""
        return self.pipeline.prefix

    @property
    def hidden(self) -> frozenset[str]:
        """Columns whose values this visitor may not see."""
        return frozenset() if self.may_decide else frozenset(self.pipeline.columns.sensitive)

    @property
    def keys(self) -> list[str]:
        """Columns that name a row."""
        return list(self.pipeline.columns.key)


def desk() -> Desk:
    """What the page that is running works with."""
    found = st.session_state["desk"]
    assert isinstance(found, Desk)  # noqa: S101  # `set_desk` has put it there
    return found


def set_desk(pipeline: Pipeline, visitor: User, addresses: Addresses) -> Desk:
    """Open a pipeline's results and verdicts for the page that is about to run."""
    found = Desk(
        pipeline,
        Store.of(pipeline.output_path),
        _nights(pipeline.output_path),
        _verdicts(default_url(pipeline.root), pipeline.name),
        visitor,
        addresses,
    )
    st.session_state["desk"] = found
    return found


@st.cache_resource(show_spinner=False, max_entries=16)
def _nights(output: str) -> Nights:
    return Nights(Store.of(output))


@st.cache_resource(show_spinner=False, max_entries=16)
def _verdicts(url: str, pipeline: str) -> VerdictStore:
    return VerdictStore.open(url, pipeline)


def flagged_of(found: Desk, day: date) -> Flagged | None:
    """The flags of a night as they are now, None where there are none.

    Raises
    ------
    StoreError, InputError
        They cannot be read.
    """
    stamps = _stamps(found.store, day)
    return (
        None if stamps is None else _flagged(found.store.uri("flags"), day, found.prefix, stamps, found.store)
    )


def _stamps(store: Store, day: date) -> Sequence[tuple[int, float]] | None:
    """Size and time of the files that an index is made of."""
    keys = (f"flags/dt={day}/part-0.parquet", f"triage/dt={day}/part-0.parquet")
    files = [store.find(key) for key in keys]
    return None if files[0] is None else tuple((one.size, one.modified) for one in files if one is not None)


@st.cache_resource(show_spinner=False, max_entries=NIGHTS_KEPT)
def _flagged(
    place: str, day: date, prefix: str, stamps: Sequence[tuple[int, float]], _store: Store
) -> Flagged | None:
    return Flagged.open(_store, day, prefix)


def settled_of(found: Desk, day: date) -> dict[str, Verdict]:
    """The last verdict of each row of a night, read again only when one has changed."""
    return _settled(found.verdicts.pipeline, day, token_of(found, day), found.verdicts)


def token_of(found: Desk, day: date) -> str:
    """What names the state of a night's verdicts."""
    return found.verdicts.tokens().get(day, "")


@st.cache_resource(show_spinner=False, max_entries=NIGHTS_KEPT)
def _settled(pipeline: str, day: date, token: str, _verdicts: VerdictStore) -> dict[str, Verdict]:
    return _verdicts.current(day)


TROUBLES = (StoreError, InputError)
"""What may go wrong while results are read; the sentence is shown."""
