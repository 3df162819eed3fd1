"""Whether the schedules of a pipeline are alive: a server knows them, makes runs, and somebody takes these.

Prefect's server is asked by plain requests: its client takes two seconds to import.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.diagnosis import Diagnosis, failure, ok, warning
from flows.errors import ServerError
from flows.server import standing

if TYPE_CHECKING:
    from flows.config import Pipeline

__all__ = ["schedules"]

NAMES = ("score-nightly", "train-weekly", "monitor-daily")
ABOUT, START = "schedules", "vaewatch up"
PATIENCE = 5.0  # s for an answer
LATE = timedelta(minutes=10)
"""A run that is due for so long is late: whoever serves asks for runs every 10 s."""


def schedules(pipeline: Pipeline) -> Iterator[Diagnosis]:
    """Find the server that keeps a pipeline's schedules, and see whether they go."""
    url = standing(pipeline.root)
    if url is None:
        yield _nobody(pipeline.root)
        return
    known = _ask(url, "deployments/filter", {**_of(pipeline), "deployments": {"name": {"any_": list(NAMES)}}})
    missing = sorted(set(NAMES) - {one["name"] for one in known})
    if missing:
        said = f"the server at {url} knows no {', '.join(missing)} of {pipeline.name}"
        yield failure(ABOUT, said, f"{START}, or vaewatch deploy")
        return
    found = [*_paused(known), *_unserved(known), *_not_made(pipeline, url), *_late(pipeline, url)]
    yield from found or [
        ok(ABOUT, f"{len(known)} at {url}, asked for by whoever runs them; {_next(pipeline, url)}")
    ]
    yield from _last_run(pipeline, url)


def _nobody(root: Path) -> Diagnosis:
    if (root / "data" / "prefect" / "server.json").exists():
        said = "`vaewatch up` ran here and was killed, so nothing is scheduled"
        return failure(ABOUT, said, f"{START}; it makes up for the nights that were missed")
    said = "neither `vaewatch up` nor a server in PREFECT_API_URL: nights run when somebody starts them"
    return warning(ABOUT, said, f"{START}, or name your server in PREFECT_API_URL and `vaewatch deploy`")


def _paused(known: list[dict[str, Any]]) -> Iterator[Diagnosis]:
    for one in known:
        if one["paused"] or not any(each["active"] for each in one["schedules"]):
            yield failure(ABOUT, f"{one['name']} is paused", "resume it on Prefect's page")


def _unserved(known: list[dict[str, Any]]) -> Iterator[Diagnosis]:
    """Deployments whose due runs nobody has asked for of late."""
    idle = [one["name"] for one in known if one["status"] != "READY"]
    if idle:
        asked = max((one["last_polled"] or "never" for one in known if one["name"] in idle), default="never")
        said = f"nobody runs {', '.join(idle)}: their due runs were last asked for {asked}"
        yield failure(
            ABOUT, said, f"start it again: {START}, or a worker: prefect worker start --pool vaewatch"
        )


def _not_made(pipeline: Pipeline, url: str) -> Iterator[Diagnosis]:
    if not _ahead(pipeline, url):
        said = "the server has made no run of score-nightly ahead of time: its scheduler does not work"
        remedy = "see data/logs/prefect.log, and that the server's sqlalchemy is below 2.1; start it again"
        yield failure(ABOUT, said, remedy)


def _late(pipeline: Pipeline, url: str) -> Iterator[Diagnosis]:
    late = [one for one in _ahead(pipeline, url) if _due(one) < datetime.now(UTC) - LATE]
    if late:
        since = f"{_due(late[0]):%Y-%m-%d %H:%M} UTC"
        said = f"{len(late)} runs of score-nightly are due and not taken, the first since {since}"
        yield failure(ABOUT, said, f"start who runs them: {START}, or prefect worker start --pool vaewatch")


def _next(pipeline: Pipeline, url: str) -> str:
    return f"next night {_due(_ahead(pipeline, url)[0]):%Y-%m-%d %H:%M} UTC"


def _last_run(pipeline: Pipeline, url: str) -> Iterator[Diagnosis]:
    """How the last scheduled night has ended."""
    ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    for last in _runs(pipeline, url, ended, "END_TIME_DESC"):
        if last["state_type"] != "COMPLETED":
            said = f"the last run of score-nightly, {last['name']}, has {last['state_type'].lower()}: "
            said += str((last["state"] or {}).get("message") or "without a word")[:300]
            yield failure(ABOUT, said, f"see its log on Prefect's page: {url.removesuffix('/api')}")


def _ahead(pipeline: Pipeline, url: str) -> list[dict[str, Any]]:
    waiting = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    return _runs(pipeline, url, waiting, "EXPECTED_START_TIME_ASC", limit=100)


def _runs(pipeline: Pipeline, url: str, state: Any, sort: str, limit: int = 1) -> list[dict[str, Any]]:
    nightly = {
        "deployments": {"name": {"any_": [NAMES[0]]}},
        "flow_runs": state,
        "sort": sort,
        "limit": limit,
    }
    return _ask(url, "flow_runs/filter", {**_of(pipeline), **nightly})


def _of(pipeline: Pipeline) -> dict[str, Any]:
    return {"flows": {"name": {"any_": [pipeline.name]}}}


def _due(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["expected_start_time"])


def _ask(url: str, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    headers = {"Content-Type": "application/json", **_login()}
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), headers)  # noqa: S310 - http or https
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - as above
            found: list[dict[str, Any]] = json.load(answer)
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())[:200]
        raise ServerError(f"an answer of Prefect's server at {url} was required, however {reason}") from error
    return found


def _login() -> dict[str, str]:
    """The header of a server behind a login, as Prefect's own settings name it."""
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if login := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    return {}
