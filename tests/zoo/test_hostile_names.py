"""Names and texts that strangers choose: nothing leaves the output folder, no line of a log is theirs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.errors import InputError, legible
from flows.report import flags_table, night_markdown, top_flags

VALUES = {
    "parent": "city=..",
    "encoded parent": "city=%2E%2E%2F%2E%2E%2Fetc",
    "slash": "city=%2Fetc%2Fpasswd",
    "nul": "city=%00",
    "newline": "city=a%0AERROR%20all%20is%20lost",
    "escape": "city=%1B%5B2J",
    "long": "city=" + "l" * 245,
    "empty": "city=",
    "no text": "city=%FF%FE",
    "column": "a%0Ab=1/city=x",
    "nameless": "=x/city=y",
    "percent": "city=%25s%7B0.__class__%7D",
    "twice": "city=a/city=b",
}
COLUMNS = {
    "newline": "a\nERROR all is lost",
    "format": "{0.__class__.__init__.__globals__}%s%(x)s",
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "backwards": "\u202egnihton",
    "path": "../../../tmp/evil",
    "page": "<script>alert(1)</script>",
    "formula": '=HYPERLINK("http://example.org")',
    "long": "x" * 100_000,
    "empty": "",
}


def tree(folder: Path) -> set[str]:
    """Return names of all files and folders below one."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def outside(shop: Any) -> Any:
    """Yield; afterwards nothing may have been written but below the output folder."""
    around = shop.root.parent
    before = tree(around)
    yield
    home = f"{shop.root.relative_to(around)}"
    allowed = (f"{home}/results", f"{home}/landing")
    assert {name for name in tree(around) - before if not name.startswith(allowed)} == set()


def printable(report: dict[str, Any], flags: list[dict[str, Any]]) -> None:
    """Fail when a sentence, the table of flags or the page of a night holds what is not printable."""
    shown = [said for one in report["files"] for said in (one["reason"], *one["warnings"]) if said]
    shown += [str(cell) for row in flags_table(flags) for cell in row.values()]
    shown += night_markdown(report, flags).split("\n")
    assert [text for text in shown if not text.isprintable()] == []


@pytest.mark.usefixtures("outside")
def test_values_of_folders_are_contained(shop: Any) -> None:
    """Each comes back as the value of a column, and as nothing else."""
    for folder in VALUES.values():
        (shop.night / folder).mkdir(parents=True, exist_ok=True)
        table = pq.read_table(shop.night / "good.parquet").drop_columns(["city"])
        pq.write_table(table, shop.night / folder / "p.parquet")

    report = shop.score()

    assert report["files_in"] == len(VALUES) + 1
    assert {one["status"] for one in report["files"]} == {"scored"}
    printable(report, top_flags(shop.pipeline, report["date"]))
    kept = set(shop.flags()["city"].to_pylist())
    assert kept >= {"..", "../../etc", "/etc/passwd", "\0", "a\nERROR all is lost", "\x1b[2J", "b", ""}
    assert {name.partition("/")[2] for name in tree(shop.root / "results/flags")} <= {"", "part-0.parquet"}


@pytest.mark.usefixtures("outside")
def test_names_of_columns_are_contained(shop: Any) -> None:
    """They are carried into the flags as they are, and shown with escapes."""
    good = pq.read_table(shop.night / "good.parquet")
    for i, name in enumerate(COLUMNS.values()):
        shop.land(
            f"{i}.parquet", good.append_column(name, pa.array([f"{name[:50]}|![x](http://x)"] * len(good)))
        )

    report = shop.score()

    assert {one["status"] for one in report["files"]} == {"scored"}
    printable(report, top_flags(shop.pipeline, report["date"]))
    assert set(COLUMNS.values()) <= set(shop.flags().schema.names)


def test_names_of_our_own_columns_are_refused(shop: Any) -> None:
    """Of those that a night is made with, too."""
    good = pq.read_table(shop.night / "good.parquet")
    shop.land("staged.parquet", good.append_column("\0row_id", good["id"]))
    shop.land("ours.parquet", good.append_column("Anomaly_Score", good["price"]))
    (shop.night / "%00row_id=1").mkdir()
    pq.write_table(good, shop.night / "%00row_id=1" / "p.parquet")

    said = shop.said()

    assert {name for name, (status, _) in said.items() if status == "rejected"} == set(said) - {
        "good.parquet"
    }
    assert "Anomaly_Score" in said["ours.parquet"][1]
    assert all(sentence.isprintable() for _, sentence in said.values())


@pytest.mark.usefixtures("outside")
def test_names_of_files_are_contained(shop: Any) -> None:
    """Newlines, escapes and formats in them are shown as escapes; bytes that are no text are refused."""
    good = (shop.night / "good.parquet").read_bytes()
    for name in (b"a\nERROR all is lost.parquet", b"{0}%s\x1b[2J.parquet", b"%2e%2e%2f.parquet"):
        (shop.night / os.fsdecode(name)).write_bytes(good)
    (shop.night / "b\nERROR bad.parquet").write_bytes(b"no Parquet")
    (shop.night / os.fsdecode(b"\xff\xfe.parquet")).write_bytes(good)

    report = shop.score()

    assert (report["files_in"], report["files_scored"]) == (6, 4)
    printable(report, top_flags(shop.pipeline, report["date"]))
    assert json.loads((shop.root / "results/manifests/dt=2024-03-01.json").read_text())["files_in"] == 6


def test_links_that_lead_elsewhere(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Devices, processes' memory, pipes and sockets are refused; nothing hangs."""
    for name, target in {"zero": "/dev/zero", "memory": "/proc/self/mem", "gone": "/nowhere"}.items():
        (shop.night / f"{name}.parquet").symlink_to(target)
    os.mkfifo(shop.night / "pipe.parquet")

    said = shop.said()

    assert {status for name, (status, _) in said.items() if name != "good.parquet"} == {"rejected"}


def test_sentences_are_one_printable_line() -> None:
    """Of every error, whatever its text holds."""
    error = InputError("a\nERROR \x1b[2J \u202e b" + "x" * 20_000)

    assert str(error).isprintable()
    assert str(error).startswith("a\\nERROR \\x1b[2J \\u202e b")
    assert len(str(error)) < 10_000
    assert legible("Øresund – 10 € 💥") == "Øresund – 10 € 💥"


PROBE = """
import sys, pyarrow as pa, pyarrow.parquet as pq
def refuse(event, values):
    if event == "pickle.find_class":
        sys.exit(f"unpickled {values}")
sys.addaudithook(refuse)
from flows.tables import open_table
with open_table(sys.argv[1]) as reader:
    print(sum(batch.num_rows for batch in reader.batches()))
"""


def test_what_a_schema_claims_runs_no_code(shop: Any, tmp_path: Path) -> None:
    """An extension type whose description is a pickle is read as the values that are stored."""
    import base64

    planted = b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR."
    marks = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": planted}
    good = pq.read_table(shop.night / "good.parquet")
    claimed = pa.schema([field.with_metadata(marks) for field in good.schema])
    described = base64.b64encode(claimed.serialize().to_pybytes())
    file = shop.land(
        "evil.parquet", good.replace_schema_metadata({"ARROW:schema": described}), store_schema=False
    )

    done = subprocess.run([sys.executable, "-c", PROBE, file], capture_output=True, text=True, check=False)

    assert (done.stdout.strip(), done.returncode) == ("100", 0), done.stderr
    assert not (tmp_path / "owned").exists()
