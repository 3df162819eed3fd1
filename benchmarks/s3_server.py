"""A small S3 server for tests and benchmarks: moto's, with conditional puts made truly atomic.

moto looks whether a condition holds and then writes; two threads may both look first. A lock around each
request makes the two one step, as they are on the stores that it stands for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["BUCKET", "environment", "one_at_a_time", "s3_server"]

BUCKET = "vaewatch"


def environment(port: int) -> dict[str, str]:
    """Return what points S3 clients to a server of this machine."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Run a server with one bucket, ``vaewatch``, in a process of its own; yield its environment."""
    command = [sys.executable, "-m", "benchmarks.s3_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield environment(int(next(iter(process.stdout or ()))))
        finally:
            process.send_signal(signal.SIGTERM)


def one_at_a_time(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Let an application answer one request after the other."""
    lock = threading.Lock()

    def locked(request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        with lock:
            return list(app(request, respond))

    return locked


def main() -> None:
    """Serve on a free port, whose number is printed first, until ended."""
    import logging

    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    os.environ |= environment(server.port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    print(server.port, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
