"""Files that belong to no night hold up none, and are told until they are moved."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from flows.doctor import CHECKS

DAY = date(2024, 3, 4)
Webhook = tuple[str, list[dict[str, str]]]


def test_a_night_is_scored_and_a_folder_that_is_no_date_is_told_once(
    project: Any, prefect_server: str, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the report, to the addresses, by the doctor; forgotten when it is gone."""
    from flows.report import night_markdown
    from flows.score import score

    monkeypatch.setenv("VAEWATCH_ALERTS", webhook[0])
    webhook[1].clear()
    pipeline = project.pipeline()
    stray = project.land(DAY).parents[1] / "dt=today" / "a.parquet"
    stray.parent.mkdir()
    shutil.copy(stray.parents[1] / f"dt={DAY}" / "a.parquet", stray)

    reports = [score(str(pipeline.file), str(DAY)) for _ in range(2)]
    diagnoses = list(CHECKS["source"][0](pipeline))
    shutil.rmtree(stray.parent)
    after = score(str(pipeline.file), str(DAY))

    said = f"{stray}: a date such as 2013-07-06 was required, however dt=today came; rename or remove it"
    assert [report["status"] for report in (*reports, after)] == ["scored", "unchanged", "unchanged"]
    assert [report["undated"] for report in (*reports, after)] == [[said], [said], []]
    assert "Belongs to no night" in night_markdown(reports[0], [])
    assert [one["message"] for one in webhook[1] if "no night" in one["message"]] == [
        f"A file belongs to no night, so that nobody scores what is in it: {said}."
    ]
    assert [one.state for one in diagnoses] == ["ok", "warning"]
    assert said in diagnoses[1].said
    assert not list(Path(pipeline.output_path).glob(".alerts/undated_files/*"))
