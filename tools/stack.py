"""The server and a real Prometheus beside it, for machines without Docker: ``make stack``."""

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from prometheus import PrometheusError, running

BOUND = 45
"""Seconds that a server may take to finish the requests in flight before it is killed."""


def main() -> int:
    """Run both until Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", help="checkpoint folder; by default the bundled one")
    parser.add_argument("--port", type=int, default=8000, help="the server's port; by default 8000")
    parser.add_argument("--prometheus-port", type=int, default=9090, help="Prometheus's port; by default 9090")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="stepgrpo-stack-") as folder, contextlib.suppress(KeyboardInterrupt):
        try:
            with (
                running([f"127.0.0.1:{options.port}"], Path(folder), options.prometheus_port) as prometheus,
                serving(options.checkpoint, options.port) as server,
            ):
                return _watch(server, f"http://127.0.0.1:{options.port}", prometheus.url)
        except PrometheusError as error:
            print(f"stack: {error}", file=sys.stderr)
            return 1
    return 0


@contextlib.contextmanager
def serving(checkpoint: str | None, port: int, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run ``stepgrpo serve`` until the block ends; it may not be ready yet when the block begins."""
    chosen = [checkpoint] if checkpoint else []
    command = [sys.executable, "-m", "stepgrpo", "serve", *chosen, "--port", str(port), *options]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(BOUND)
        process.kill()


def becomes_ready(server: "subprocess.Popen[bytes]", url: str) -> bool:
    """Wait until a server takes requests; false if it ends before."""
    while server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ready", timeout=5):  # noqa: S310
            return True
        time.sleep(0.5)
    return False


def _watch(server: "subprocess.Popen[bytes]", url: str, prometheus: str) -> int:
    """Say the URLs once the server is ready, and return when it ends."""
    if becomes_ready(server, url):
        print(f"server      {url}  (page under /, API under /v1, metrics under /metrics)")
        print(f"prometheus  {prometheus}  (alerts under /alerts; the queries are in deploy/grafana/dashboards)")
        print("Ctrl-C stops both", flush=True)
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
