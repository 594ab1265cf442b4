"""A real Prometheus with the project's own configuration, watching servers on this machine."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "prometheus"
START_SECONDS = 30


class PrometheusError(Exception):
    """Prometheus is missing, did not start or refused a query; the message says what to do."""


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus.

    Attributes:
        url: where it listens.
    """

    url: str

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The samples of an instant query, each with ``metric`` (labels) and ``value`` (time, text)."""
        return self._data("query", query=expression, **({} if at is None else {"time": str(at)}))

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of a range query, each with ``metric`` and ``values``."""
        return self._data("query_range", query=expression, start=str(start), end=str(end), step=str(step))

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {sample["metric"]["alertname"] for sample in self.query('ALERTS{alertstate="firing"}')}

    def _data(self, endpoint: str, **parameters: str) -> list[dict[str, Any]]:
        body = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{endpoint}", body, timeout=30) as reply:  # noqa: S310
                result: list[dict[str, Any]] = json.load(reply)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"{parameters['query']}: {json.load(error)['error']}") from error
        return result


@contextlib.contextmanager
def running(
    targets: Sequence[str], folder: Path, port: int = 0, *, speed: float = 1, configuration: Path = FOLDER
) -> Iterator[Prometheus]:
    """Run Prometheus until the block ends.

    Args:
        targets: ``host:port`` of the servers.
        folder: where its data and its copy of the configuration go.
        port: where it listens on the loopback address; 0 for a free one.
        speed: scrape and evaluate this many times as often as configured.
        configuration: folder with ``prometheus.yml`` and ``rules``.

    Raises:
        PrometheusError: the program is missing or did not start.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise PrometheusError("prometheus is not on the PATH: install it (on Debian: apt-get install prometheus)")
    shutil.copytree(configuration, folder, dirs_exist_ok=True)
    (folder / "targets.yml").write_text(json.dumps([{"targets": list(targets)}]))
    config = folder / "prometheus.yml"
    config.write_text(_faster(config.read_text(), speed))
    address = f"127.0.0.1:{port or free_port()}"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        _wait_until_ready(process, f"http://{address}", folder / "log")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait()


def _faster(config: str, speed: float) -> str:
    for interval in (5, 15):
        config = config.replace(f"_interval: {interval}s", f"_interval: {max(1, round(1000 * interval / speed))}ms")
    return config


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5):  # noqa: S310
            return
        time.sleep(0.1)
    last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    raise PrometheusError(f"prometheus did not start: {last}")


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
