"""The life of a model version: made a challenger, held to the champion, promoted, rolled back.

Aliases live in MLflow, their history in the journal beside the results. An alias is moved first and
journalled right after; one that something else has moved is journalled when it is seen, as by ``outside``.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.context import champion_detector, registry_of
from flows.errors import NoChampionError, NoDataError, RegistryError, StoreError
from flows.evidence import log_evidence
from flows.journal import Journal, Move, carried, step_back
from flows.promotion import Contender, Verdict, gate
from flows.registry import PRUNED
from flows.storage import Store

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.registry import ModelRef, Registry

__all__ = [
    "GATE",
    "journal_of",
    "journal_training",
    "live_version",
    "notice_live",
    "promote",
    "rollback",
    "versions",
]

GATE = "vaewatch.gate"
"""Tag of a version: ``passed`` or ``failed``, and where the evidence lies."""
OUTSIDE = "outside"


def journal_of(pipeline: Pipeline) -> Journal:
    """The journal beside a pipeline's results."""
    return Journal(Store.of(pipeline.output_path))


def live_version(pipeline: Pipeline, at: datetime) -> str:
    """The version that was live at a time.

    Raises
    ------
    NoChampionError
        None was, as far as the journal goes back.
    StoreError
        The journal cannot be read, or was altered.
    """
    alias = registry_of(pipeline).live_alias
    journal = journal_of(pipeline)
    found = journal.live_version(alias, at)
    if found is None:
        first = next((move.at for move in journal.moves() if move.alias == alias), None)
        began = f"the journal begins at {_text(first)}" if first else "the journal is empty"
        raise NoChampionError(
            f"a model that was live at {_text(at)} was required, however {began}; choose later dates, "
            "or name a version"
        )
    return found


def notice_live(pipeline: Pipeline, ref: ModelRef) -> None:
    """Journal the live version where it became so outside of vaewatch.

    Raises
    ------
    StoreError
        The journal cannot be written, or its last row was altered.
    """
    notice(journal_of(pipeline), {registry_of(pipeline).live_alias: ref.version})


def notice(journal: Journal, aliases: Mapping[str, str | None]) -> list[Move]:
    """Journal the aliases that do not stand where the journal left them."""
    found = []
    for alias, version in aliases.items():
        last = journal.last(alias)
        if version != (None if last is None else last.version):
            found.append(journal.append(alias, version, by=OUTSIDE, how=OUTSIDE))
    return found


def journal_training(pipeline: Pipeline, ref: ModelRef) -> None:
    """Journal the alias that a training run has just given its version."""
    registry, journal = registry_of(pipeline), journal_of(pipeline)
    others = {alias: version for alias, version in _watched(registry).items() if version != ref.version}
    notice(journal, others)
    for alias in (registry.live_alias, registry.candidate_alias):
        if alias in ref.aliases:
            journal.append(alias, ref.version, by="training", how="trained")


def _watched(registry: Registry) -> dict[str, str | None]:
    """The aliases that the journal follows, and who carries them."""
    aliases = registry.aliases()
    return {alias: aliases.get(alias) for alias in (registry.live_alias, registry.candidate_alias)}


# -- Promotion ----------------------------------------------------------------------------------------------


def promote(pipeline: Pipeline, version: str | None = None, *, force: bool = False) -> dict[str, Any]:
    """Make a version live if the gate lets it pass.

    Parameters
    ----------
    version
        By default the challenger.
    force
        Make it live whatever the gate says; the journal says so.

    Returns
    -------
    dict
        ``status`` (``promoted``, ``refused`` or ``unchanged``), ``forced``, ``model``, ``version``,
        ``from_version``, ``evidence_run_id``, ``evidence`` and ``verdict``.

    Raises
    ------
    NoChampionError, NoDataError
        There is nothing to hold the version to; not with ``force``.
    RegistryError, StoreError
        There is no such version, MLflow or the results cannot be reached, or the journal was altered.
    """
    registry, journal = registry_of(pipeline), journal_of(pipeline)
    journal.moves()  # refuses one that was altered
    aliases = _watched(registry)
    notice(journal, aliases)
    ref = registry.version(version or _candidate(registry, aliases))
    before = aliases[registry.live_alias]
    if ref.version == before:
        return _report("unchanged", ref, before, False, None, None)
    verdict = _verdict(pipeline, registry, ref, force=force)
    evidence = None if verdict is None else _keep(registry, ref, verdict)
    passed = verdict is not None and verdict.passed
    if not (passed or force):
        return _report("refused", ref, before, False, verdict, evidence)
    _make_live(registry, journal, ref, verdict, aliases, forced=not passed)
    return _report("promoted", ref, before, not passed, verdict, evidence)


def _candidate(registry: Registry, aliases: Mapping[str, str | None]) -> str:
    found = aliases[registry.candidate_alias]
    if found is None:
        raise RegistryError(
            f"a version of model {registry.model_name!r} with alias {registry.candidate_alias!r} was "
            "required, however there is none; train one, or name one with --version"
        )
    return found


def _verdict(pipeline: Pipeline, registry: Registry, ref: ModelRef, *, force: bool) -> Verdict | None:
    """The gate's verdict; None where there is nothing to hold the version to, and that was foreseen."""
    try:
        champion = registry.champion()
        detectors = [champion_detector(pipeline, one) for one in (champion, ref)]
        return gate(pipeline, Contender(champion, detectors[0]), Contender(ref, detectors[1]))
    except (NoChampionError, NoDataError):
        if force:
            return None
        raise


def _keep(registry: Registry, ref: ModelRef, verdict: Verdict) -> str:
    """Log the verdict to the challenger's run, and tag its version; returns where it lies in the run."""
    folder = log_evidence(registry.run(ref.run_id), verdict)
    registry.tag(ref.version, {GATE: "passed" if verdict.passed else "failed", f"{GATE}.evidence": folder})
    return folder


def _make_live(
    registry: Registry,
    journal: Journal,
    ref: ModelRef,
    verdict: Verdict | None,
    aliases: Mapping[str, str | None],
    *,
    forced: bool,
) -> None:
    """Move the live alias, take away that of the candidate, and journal both."""
    evidence = None if verdict is None else ref.run_id
    how = "forced" if forced else "promoted"
    registry.set_alias(registry.live_alias, ref.version)
    _journalled(journal, registry.live_alias, ref.version, how, evidence)
    if aliases[registry.candidate_alias] == ref.version:
        registry.take_alias(registry.candidate_alias)
        _journalled(journal, registry.candidate_alias, None, how, evidence)


def _journalled(
    journal: Journal, alias: str, version: str | None, how: str, evidence: str | None = None
) -> None:
    try:
        journal.append(alias, version, by=_user(), how=how, evidence_run_id=evidence)
    except StoreError as error:
        raise StoreError(
            f"{error}; alias {alias!r} was moved all the same: once the place can be written, "
            f"`vaewatch models` journals the move as by {OUTSIDE!r}"
        ) from error


def _user() -> str:
    """Who is at the command line."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"


def _report(
    status: str,
    ref: ModelRef,
    before: str | None,
    forced: bool,
    verdict: Verdict | None,
    evidence: str | None,
) -> dict[str, Any]:
    return {
        "status": status,
        "forced": forced,
        "model": ref.name,
        "version": ref.version,
        "from_version": before,
        "evidence_run_id": None if verdict is None else ref.run_id,
        "evidence": evidence,
        "verdict": None if verdict is None else verdict.to_dict(),
    }


# -- Rollback -----------------------------------------------------------------------------------------------


def rollback(pipeline: Pipeline) -> dict[str, Any]:
    """Make the version live that was so before; each further call goes one version further back.

    Returns
    -------
    dict
        ``model``, ``version`` that is live now, and ``from_version``.

    Raises
    ------
    RegistryError
        The journal knows no earlier version, or it is gone.
    StoreError
        The journal cannot be read or written, or was altered.
    """
    registry, journal = registry_of(pipeline), journal_of(pipeline)
    aliases = _watched(registry)
    journal.moves()  # refuses one that was altered, before anything is added
    notice(journal, aliases)
    before = aliases[registry.live_alias]
    version = step_back(journal.moves(), registry.live_alias)
    if version is None:
        raise RegistryError(
            f"a version of model {registry.model_name!r} that was live before {before} was required, however "
            "the journal knows none; name one: `vaewatch promote --version V --force`"
        )
    registry.set_alias(registry.live_alias, version)
    _journalled(journal, registry.live_alias, version, "rolled back")
    return {"model": registry.model_name, "version": version, "from_version": before}


# -- What there is ------------------------------------------------------------------------------------------


def versions(pipeline: Pipeline) -> list[dict[str, Any]]:
    """All versions, newest first: aliases, when each was live, the gate's verdict, when and how it was made.

    Raises
    ------
    RegistryError, StoreError
        MLflow or the journal cannot be reached, or the journal was altered.
    """
    registry, journal = registry_of(pipeline), journal_of(pipeline)
    found = registry.models()
    moves = journal.moves()
    moves += notice(journal, {alias: _carrier(found, alias) for alias in _aliases(registry)}) if found else []
    return [_described(ref, moves, registry.live_alias) for ref in found]


def _aliases(registry: Registry) -> tuple[str, str]:
    return registry.live_alias, registry.candidate_alias


def _carrier(found: Sequence[ModelRef], alias: str) -> str | None:
    return next((ref.version for ref in found if alias in ref.aliases), None)


def _described(ref: ModelRef, moves: Sequence[Move], alias: str) -> dict[str, Any]:
    return {
        "name": ref.name,
        "version": ref.version,
        "aliases": list(ref.aliases),
        "live": [
            {"from": _text(start), "until": _text(end)}
            for version, start, end in carried(moves, alias)
            if version == ref.version
        ],
        "gate": ref.tags.get(GATE),
        "pruned": ref.tags.get(PRUNED),
        "created": _text(ref.created),
        "run_id": ref.run_id,
    }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="seconds")
