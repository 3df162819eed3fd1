"""Which failures are worth another try: those of the world, never those of a file or a setting."""

from __future__ import annotations

from typing import Any

__all__ = ["NIGHT_IS_LATE", "STORE_FAILED", "store_failed"]

NIGHT_IS_LATE = {"retries": 12, "retry_delay_seconds": 600}
"""Two hours for a night that is late."""


def store_failed(task: object, run: object, state: Any) -> bool:
    """Whether a task failed because a place, or MLflow, could not be reached, read or written."""
    return any(name in str(state.message) for name in ("StoreError", "RegistryAwayError"))


STORE_FAILED: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [1, 5, 20],
    "retry_condition_fn": store_failed,
}
"""Three more tries for a store or a registry that fails; a broken contract is not tried again."""
