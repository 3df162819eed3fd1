"""Verbs of the command line that have a file of their own, a subject each."""

from __future__ import annotations

from importlib import import_module

__all__ = ["registered"]

SUBJECTS = ("bench", "doctor", "flags", "models", "monitor", "nights", "prune", "review")
"""Modules of this package; importing one adds its verbs to the application."""


def registered() -> None:
    """Add the verbs of all subjects to the application."""
    for subject in SUBJECTS:
        import_module(f"flows.verbs.{subject}")
