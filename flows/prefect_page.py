"""Prefect's server, before which `flows.loopback` stands: ``python -m flows.prefect_page``.

Prefect's own ``prefect server start`` answers any Host and any Origin. Settings come from the environment.
"""

from __future__ import annotations

from flows.loopback import serve

__all__ = ["main"]


def main() -> None:
    """Serve API and page at the port of ``PREFECT_SERVER_API_PORT`` until SIGINT or SIGTERM."""
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_SERVER_API_PORT, PREFECT_SERVER_LOGGING_LEVEL

    level = PREFECT_SERVER_LOGGING_LEVEL.value().lower()
    serve(create_app(final=True), PREFECT_SERVER_API_PORT.value(), level)


if __name__ == "__main__":
    main()
