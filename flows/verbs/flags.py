"""The verb that prints what a night has found."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.console import AsJson, PipelineFile, app, pipeline_of, print_flags, print_json
from flows.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.config import Pipeline
    from flows.manifest import Manifest
    from review.triaging import Triage

__all__ = ["flags"]


@app.command(epilog="vaewatch flags --date 2013-07-06 --rows 20")
def flags(
    date: Annotated[str, typer.Option(help="The night to show, YYYY-MM-DD.")],
    pipeline: PipelineFile = None,
    rows: Annotated[int, typer.Option(min=1, help="Show at most so many rows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Print the flagged rows of a night with their families, in the order learned from verdicts."""
    from flows.context import parse_date
    from flows.manifest import read_manifest
    from flows.report import flagged_ids, flags_of, top_flags
    from flows.storage import Store
    from review.triaging import read_triage

    loaded = pipeline_of(pipeline)
    day, store = parse_date(date), Store.of(loaded.output_path)
    manifest = read_manifest(store, day)
    if manifest is None:
        raise ConfigError(
            f"a scored night was required, however {day} is not scored: vaewatch score --date {day}"
        )
    if "flags" in manifest.pruned:
        raise ConfigError(
            f"the flags of {day} were required, however `vaewatch prune` removed them at "
            f"{manifest.pruned['flags']}; its manifest still counts them: {manifest.rows_flagged:,}"
        )
    triage = read_triage(store, day)
    if triage is None:
        found = top_flags(loaded, day, rows)
    else:
        said = _said(triage)
        first = _ordered(flagged_ids(loaded, day), said)[:rows]
        found = [row | said[row[f"{loaded.prefix}row_id"]] for row in flags_of(loaded, day, first)]
    if as_json:
        print_json(found)
    else:
        _say(loaded, manifest, found, triage)


def _said(triage: Triage) -> defaultdict[str, dict[str, Any]]:
    """What triage says of each row; of one that it does not know, nothing."""
    names = [name for name in triage.rows.schema.names if name not in ("row_id", "row_key")]
    columns = (triage.rows[name].to_pylist() for name in names)
    rows = (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    known = zip(triage.rows["row_id"].to_pylist(), rows, strict=True)
    return defaultdict(lambda: dict.fromkeys(names), known)


def _ordered(row_ids: list[str], said: Mapping[str, dict[str, Any]]) -> list[str]:
    """Those rows first that triage has first; hidden ones last."""
    last = len(row_ids)
    return sorted(
        row_ids,
        key=lambda one: (said[one]["hidden_by"] is not None, said[one]["learned_rank"] or last),
    )


def _say(pipeline: Pipeline, manifest: Manifest, found: list[dict[str, Any]], triage: Triage | None) -> None:
    from flows.report import flags_table

    if not manifest.rows_flagged:
        typer.echo(_no_flags(manifest))
        return
    shown = [row for row in found if row.get("hidden_by") is None]
    for row, line in zip(shown, flags_table(shown, pipeline.prefix), strict=True):
        print_flags([line])
        if triage is not None:
            typer.echo(f"        {_place(row)}")
    if triage is None:
        return
    hidden = len(triage.rows) - triage.rows["hidden_by"].null_count
    if hidden:
        typer.echo(f"{hidden:,} more are hidden by rules.")
    typer.echo(triage.about.said)
    _say_precision(pipeline, manifest, triage)


def _no_flags(manifest: Manifest) -> str:
    from flows.report import counted

    if manifest.files_scored:
        return f"{manifest.date}  no flags, {counted(manifest.rows_scored, 'row')} scored"
    reasons = "; ".join(one.reason or "" for one in manifest.inputs)
    return f"{manifest.date}  no file could be scored: {reasons}"


def _place(row: dict[str, Any]) -> str:
    raw, learned = row["raw_rank"], row["learned_rank"]
    rank = f"rank {learned}" if raw == learned else f"rank {learned}, by score {raw}"
    return f"{rank}; {row['family_name']} ({row['family_id']})"


def _say_precision(pipeline: Pipeline, manifest: Manifest, triage: Triage) -> None:
    """What the verdicts say of the night's flags, where there are any."""
    from flows.storage import Store
    from flows.verdicts import settled_rows
    from review.precision import night_precision

    settled = settled_rows(Store.of(pipeline.output_path), manifest.date)
    night = night_precision(manifest, triage.rows, settled)
    if night.raw.settled or night.learned.settled:
        typer.echo(
            f"Confirmed among the settled ones of the first {night.budget:,}: {night.learned} in this order, "
            f"{night.raw} by score."
        )
