"""The review page's server: ``python -m review.server --address A --port N FILE.yml …``.

It is Streamlit's application in a server of ours, since Streamlit's own answers any Host. What matters is set
here and goes before a user's own settings for Streamlit: no telemetry, no watching of files, protections on.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.config import load_pipeline
from flows.loopback import ADDRESS, serve
from review.access import Settings, login_secrets

__all__ = ["arguments", "main"]

SETTINGS: dict[str, Any] = {
    "browser.gatherUsageStats": False,
    "client.disableDataExport": True,  # its CSV would carry formulas; the page has downloads of its own
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "logger.enableRich": False,
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.maxUploadSize": 1,
    "theme.baseFontSize": 15,
    "theme.baseRadius": "0.4rem",
    "theme.headingFontSizes": ["1.9rem", "1.35rem", "1.1rem"],
    "theme.light.primaryColor": "#1f5f99",
    "theme.dark.primaryColor": "#6aa9e0",
}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What the page is told: pipeline files, where it listens, where other pages are."""
    parser = argparse.ArgumentParser(prog="python -m review.server")
    parser.add_argument("pipelines", nargs="+", type=Path)
    parser.add_argument("--address", default=ADDRESS)
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--mlflow", default="")
    parser.add_argument("--prefect", default="")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Serve the page until SIGINT or SIGTERM: without a login to pages of its own alone, on this machine.

    Headers that tell another address than the connection's are never listened to: anybody can send them.
    """
    import uvicorn

    asked = arguments(argv)
    settings = Settings.of(load_pipeline(asked.pipelines[0]).review)
    app = _application(settings)
    if asked.address == ADDRESS and not settings.login:  # a proxy asks by the name that people know
        serve(app, asked.port, "warning")
    else:
        uvicorn.run(app, host=asked.address, port=asked.port, log_level="warning", proxy_headers=False)


def _application(settings: Settings) -> Any:
    from streamlit import config
    from streamlit.starlette import App

    secrets = tomllib.loads(login_secrets()) if settings.oidc else None
    app = App(Path(__file__).with_name("app.py"), secrets=secrets)
    for name, value in SETTINGS.items():
        config.set_option(name, value, "vaewatch")
    return app


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
