"""MLflow's page, before which `flows.loopback` stands: the application ``vaewatch`` of ``mlflow server``.

MLflow's own checks let pass any Host at ``/health``, Hosts such as ``10.example.com``, and foreign Origins
where nothing is changed.
"""

from __future__ import annotations

import os

from flows.loopback import LoopbackOnly

__all__ = ["PORT", "create_app"]

PORT = "VAEWATCH_MLFLOW_PORT"
"""Environment variable of the port that the server listens at."""


def create_app() -> LoopbackOnly:
    """Return the application; MLflow asks for it in each of its processes."""
    from mlflow.server.fastapi_app import app

    return LoopbackOnly(app, int(os.environ[PORT]))
