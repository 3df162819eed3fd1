"""Files with bytes changed at random: read or refused, never a crash of the process."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PROBE = """
import random, sys
from pathlib import Path
from flows.errors import VaewatchError
from flows.tables import open_table

good, trials = Path(sys.argv[1]), int(sys.argv[2])
data, file = good.read_bytes(), good.with_name("changed.parquet")
footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
for seed in range(trials):
    random.seed(seed)
    changed = bytearray(data)
    low, high = (footer, len(data) - 8) if seed % 3 else (4, footer)
    for _ in range(random.choice([1, 1, 2, 4, 16])):
        changed[random.randrange(low, high)] = random.choice([0, 1, 127, 128, 255, random.randrange(256)])
    file.write_bytes(changed)
    try:
        with open_table(file) as reader:
            for batch in reader.batches():
                batch.validate(full=True)
        print("read")
    except VaewatchError as error:
        print("refused" if str(error).isprintable() else "unprintable")
"""


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_changed_bytes_are_read_or_refused(tmp_path: Path, version: str) -> None:
    """In the footer and in the pages; each refusal is a sentence of ours."""
    columns = {
        "id": range(200),
        "city": ["Bern", "Basel"] * 100,
        "price": [0.5 * i for i in range(200)],
        "tags": [["a", "b"]] * 200,
    }
    pq.write_table(
        pa.table(columns), tmp_path / "good.parquet", data_page_version=version, compression="none"
    )

    done = subprocess.run(
        [sys.executable, "-c", PROBE, tmp_path / "good.parquet", "300"],
        capture_output=True,
        text=True,
        check=False,
    )

    said = Counter(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert said["read"] + said["refused"] == 300
    assert min(said["read"], said["refused"]) > 20
