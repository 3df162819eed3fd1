"""The demo's way through the flows: train once, score what is not scored yet, show the finds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

from flows import progress
from flows.config import Pipeline, load_tracking
from flows.demo import NIGHTS, UNTIL
from flows.errors import NoChampionError

__all__ = ["tour"]

Say = Callable[[str], None]


def tour(pipeline: Pipeline, say: Say, show: Callable[[list[dict[str, Any]]], None]) -> None:
    """Run the main job on the flights; nights that are finished are recognised and not written again."""
    began = perf_counter()
    waiting = _unfinished(pipeline)
    _say_finished(pipeline, waiting, say)
    if waiting:
        from flows.server import api

        with api(pipeline.root):
            _make_sure_of_a_champion(pipeline, say)
            _score_nights(pipeline, waiting, say)
    _show_finds(pipeline, say, show)
    _say_where_next(pipeline, say)
    say(f"{perf_counter() - began:.0f} s")


def _unfinished(pipeline: Pipeline) -> list[date]:
    """Nights that are not scored yet by the live model; all of them where none is live."""
    from flows.context import registry_of
    from flows.sources import find_files, finished, model_of

    try:
        ref = registry_of(pipeline).champion()
    except NoChampionError:
        return list(NIGHTS)
    return [day for day in NIGHTS if not finished(pipeline, day, find_files(pipeline, day), model_of(ref))]


def _say_finished(pipeline: Pipeline, waiting: list[date], say: Say) -> None:
    from flows.manifest import read_manifest
    from flows.report import night_line, night_report
    from flows.storage import Store

    store = Store.of(pipeline.output_path)
    for day in NIGHTS:
        manifest = None if day in waiting else read_manifest(store, day)
        if manifest is not None:
            say(night_line(night_report(manifest, "unchanged", 0.0, None)))


def _make_sure_of_a_champion(pipeline: Pipeline, say: Say) -> None:
    from flows.context import registry_of

    try:
        ref = registry_of(pipeline).champion()
        say(f"Model {ref.name} version {ref.version} is live.")
    except NoChampionError:
        from flows.train import train

        say(f"Training on the flights up to {UNTIL} …")
        report = train(str(pipeline.file), str(UNTIL))
        say(
            f"Model {report['model']['name']} version {report['model']['version']}: "
            f"{report['rows_fitted']:,} rows, {report['epochs']} epochs, {report['seconds']} s"
        )
        say(report["honesty"]["sentence"])


def _score_nights(pipeline: Pipeline, waiting: list[date], say: Say) -> None:
    from flows.report import night_line
    from flows.score import score

    for done, day in enumerate(waiting, 1):
        say(night_line(score(str(pipeline.file), str(day))))
        progress.advance("nights", done, len(waiting))


def _show_finds(pipeline: Pipeline, say: Say, show: Callable[[list[dict[str, Any]]], None]) -> None:
    from flows.report import flags_table, top_flags

    found = [row for day in NIGHTS for row in top_flags(pipeline, day)]
    found.sort(key=lambda row: -row[f"{pipeline.prefix}anomaly_score"])
    say(f"\nThe most anomalous of {len(found)} flagged rows:")
    show(flags_table(found[:8], pipeline.prefix))


def _say_where_next(pipeline: Pipeline, say: Say) -> None:
    docs = Path(pipeline.output_path) / "docs" / "index.html"
    say("\nWhere to look next:")
    say("  vaewatch flags --date 2013-07-06      the night after the Asiana crash in San Francisco")
    say("  vaewatch score --date 2013-01-09      a night with a flight 1,301 minutes late")
    say(
        "  vaewatch up                           Prefect on http://127.0.0.1:4200, MLflow on http://127.0.0.1:5000"
    )
    say(f"  {docs.as_uri()}")
    say(f"  {pipeline.output_path}/flags          (pandas.read_parquet, DuckDB, …)")
    say(f"  runs and models: {load_tracking(pipeline.root).tracking_uri}")
