"""What the store of verdicts costs to load: a page that opens, and a night that exports, wait for it."""

import subprocess
import sys

HEAVY = ("torch", "prefect", "mlflow", "great_expectations", "streamlit", "alembic", "xlsxwriter")


def test_verdicts_need_neither_the_model_nor_the_page() -> None:
    code = (
        "import sys, review.nightly, review.rehearsal, review.rule_book, review.masking, review.export\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
