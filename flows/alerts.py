"""Tell people: Prefect events for machines, messages through Apprise for humans, once a cause.

Addresses come from the environment only: they hold secrets. ``alerts.notify`` of the pipeline file names
the variables, whose values are Apprise addresses with blanks between them. What has been told is kept below
the output folder, in ``.alerts/``; the same message about the same cause is not told again. Nothing here
fails a night: what cannot be told is logged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.config import Alerts, Pipeline, load_pipeline
from flows.context import logical_date
from flows.errors import VaewatchError
from flows.storage import Store

if TYPE_CHECKING:
    from flows.manifest import Manifest

__all__ = [
    "Alert",
    "all_is_well",
    "challenger_ready",
    "files_undated",
    "flow_failed",
    "night_late",
    "night_scored",
    "tell",
]

LOG = logging.getLogger("vaewatch.alerts")


@dataclass(frozen=True)
class Alert:
    """Something to tell.

    Parameters
    ----------
    kind
        One of ``flows.config.ALERT_KINDS``.
    cause
        What it is about, within its kind: a date, a model version, ``model``. A cause is told once, and again
        only when what is told of it changes.
    message
        One or two sentences.
    fingerprint
        What counts as a change; by default the message.
    """

    kind: str
    cause: str
    message: str
    fingerprint: str = ""

    @property
    def mark(self) -> str:
        """Digest of what counts as a change."""
        return _digest(self.fingerprint or self.message)

    @property
    def key(self) -> str:
        """Place of the memory of it below the output folder."""
        return f".alerts/{self.kind}/{self.cause}.json"


def tell(pipeline: Pipeline, alert: Alert) -> None:
    """Emit an event and notify every address that has not been told yet; failures are logged."""
    if alert.kind not in pipeline.alerts.kinds:
        return
    with _logged(f"cannot tell of {alert.kind}"):
        store = Store.of(pipeline.output_path)
        memory = _memory(store, alert)
        before = json.dumps(memory)
        if not memory["emitted"]:
            memory["emitted"] = _emit(pipeline, alert)
        for address in _addresses(pipeline.alerts):
            if _digest(address) not in memory["told"] and _notify(pipeline.name, alert, address):
                memory["told"].append(_digest(address))
        if json.dumps(memory) != before:
            store.write_bytes(alert.key, json.dumps(memory).encode())


def all_is_well(pipeline: Pipeline, kind: str, cause: str) -> None:
    """Forget a cause: it is over, and is told again when it comes back."""
    with _logged(f"cannot forget {kind}"):
        Store.of(pipeline.output_path).delete(Alert(kind, cause, "").key)


def _memory(store: Store, alert: Alert) -> dict[str, Any]:
    """Who has been told this very thing; nobody when something else was told of this cause, or nothing."""
    fresh: dict[str, Any] = {"mark": alert.mark, "message": alert.message, "emitted": False, "told": []}
    with contextlib.suppress(VaewatchError, ValueError, KeyError, TypeError):
        if store.exists(alert.key):
            memory = json.loads(store.read_bytes(alert.key))
            return dict(memory) if memory["mark"] == alert.mark else fresh
    return fresh


def _addresses(settings: Alerts) -> list[str]:
    return [address for name in settings.notify for address in os.environ.get(name, "").split()]


def _emit(pipeline: Pipeline, alert: Alert) -> bool:
    """Emit ``vaewatch.KIND`` on Prefect's stream of events, for its automations."""
    from prefect.events import emit_event

    about = {
        "prefect.resource.id": f"vaewatch.pipeline.{pipeline.name}",
        "prefect.resource.name": pipeline.name,
    }
    payload = {"pipeline": pipeline.name, "cause": alert.cause, "message": alert.message}
    return emit_event(event=f"vaewatch.{alert.kind}", resource=about, payload=payload) is not None


URGENCY = {"night_failed": "failure", "challenger_ready": "info"}
"""How Apprise marks a message; the others are warnings."""


def _notify(name: str, alert: Alert, address: str) -> bool:
    """Send one message; whether it arrived. An address is a secret: only its scheme is ever logged."""
    from apprise import Apprise, NotifyType

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs addresses that it cannot read
    title = f"vaewatch {name}: {alert.kind.replace('_', ' ')}"
    urgency, service = NotifyType(URGENCY.get(alert.kind, "warning")), Apprise()
    if service.add(address) and service.notify(body=alert.message, title=title, notify_type=urgency):
        return True
    scheme = re.match("([A-Za-z][A-Za-z0-9+.-]*)://", address)  # a piece of a password has none
    kind = scheme[1] if scheme else "unknown"
    LOG.warning("%s could not be told to an address of kind %s; it will be tried again", alert.kind, kind)
    return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _logged(action: str) -> Iterator[None]:
    """Log whatever goes wrong: telling must not fail what is told of."""
    try:
        yield
    except Exception:
        LOG.warning("%s", action, exc_info=True)


# -- What is told -------------------------------------------------------------------------------------------


def night_scored(pipeline: Pipeline, manifest: Manifest) -> None:
    """Tell of a tripped breaker, or of too many flags; the night is no longer late or failed."""
    day = str(manifest.date)
    for kind in ("night_late", "night_failed"):
        all_is_well(pipeline, kind, day)
    share, limit = manifest.rows_flagged / max(manifest.rows_scored, 1), pipeline.alerts.max_flag_share
    if manifest.incident is not None:
        tell(pipeline, Alert("breaker_tripped", day, f"Night {day}: {manifest.incident['sentence']}"))
    elif share > limit:
        said = (
            f"Night {day}: {share:.1%} of {manifest.rows_scored:,} rows are flagged, more than {limit:.1%}."
        )
        tell(pipeline, Alert("flag_share", day, said))
    else:
        for kind in ("breaker_tripped", "flag_share"):
            all_is_well(pipeline, kind, day)


def files_undated(pipeline: Pipeline, found: Sequence[str]) -> None:
    """Tell of files that belong to no night, or forget them when there are none any more."""
    if found:
        many = f"{len(found):,} files belong" if len(found) > 1 else "A file belongs"
        said = f"{many} to no night, so that nobody scores what is in it: {found[0]}."
        tell(pipeline, Alert("undated_files", "source", said, "\n".join(found)))
    else:
        all_is_well(pipeline, "undated_files", "source")


def night_late(pipeline: Pipeline, day: date, reason: str) -> None:
    """Tell that a night has not come, or is not scored, when it should."""
    tell(pipeline, Alert("night_late", str(day), f"Night {day} is late: {reason}", "late"))


def challenger_ready(pipeline: Pipeline, name: str, version: str, said: str) -> None:
    """Tell that a model version waits to be compared with the live one."""
    tell(
        pipeline,
        Alert("challenger_ready", version, f"Version {version} of model {name} is a challenger. {said}"),
    )


def flow_failed(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell that a night failed: a hook for flows whose parameters are ``pipeline`` and ``date``.

    A pipeline file that cannot be read cannot say whom to tell: then it is the addresses of
    ``VAEWATCH_ALERTS``, as often as the night fails.
    """
    reason = str(state.message).removeprefix("Flow run encountered an exception: ")
    file, asked = flow_run.parameters["pipeline"], flow_run.parameters.get("date")
    with _logged("cannot tell of a failed night"):
        try:
            pipeline = load_pipeline(file)
            day = str(logical_date(pipeline, asked, flow_run.expected_start_time))
        except VaewatchError:
            for address in _addresses(Alerts()):
                _notify(Path(file).stem, Alert("night_failed", "pipeline", reason), address)
        else:
            tell(pipeline, Alert("night_failed", day, f"Night {day} failed: {reason}"))
