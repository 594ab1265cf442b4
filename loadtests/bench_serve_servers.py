"""The two servers of the benchmark: ours, and vLLM's own with the same engine options."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil

from loadtests.bench_serve_load import LoadError

START_SECONDS: Final = 600
STOP_SECONDS: Final = 60
MODEL: Final = "bench"
OPTIONS: Final = ("--served-model-name", MODEL, "--host", "127.0.0.1", "--dtype", "float32")
"""Of both servers."""
QUIET: Final = ("--reasoning-parser", "qwen3", "--disable-uvicorn-access-log", "--uvicorn-log-level", "warning")
"""What ours sets by default, so that vLLM's own does the same work."""
ENVIRONMENT: Final = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test; its process is known where it was started here."""

    url: str
    process: psutil.Process | None = None

    def processes(self) -> list[psutil.Process]:
        """Its own process and all that it started; none where it was not started here.

        Raises:
            LoadError: it has ended.
        """
        if self.process is None:
            return []
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            raise LoadError(f"{self.url} has ended") from None

    def cpu_seconds(self) -> float | None:
        """What all its processes have used so far, user and system time; None where they are not known.

        Raises:
            LoadError: one of them has ended.
        """
        if self.process is None:
            return None
        try:
            times = [process.cpu_times() for process in self.processes()]
        except psutil.NoSuchProcess:
            raise LoadError(f"a process of {self.url} has ended") from None
        return float(sum(time.user + time.system for time in times))


@contextmanager
def both(checkpoint: Path, options: Sequence[str] = (), *, stock_first: bool = False) -> Iterator[list[Server]]:
    """Start both servers and stop them at the end; yields ours and vLLM's.

    Args:
        checkpoint: folder that both serve.
        options: further options of vLLM, for both.
        stock_first: whether vLLM's is started first.

    Raises:
        LoadError: one of them did not start.
    """
    ours = ("stepgrpo", "serve", str(checkpoint))
    stock = ("vllm.entrypoints.launchers.api_server.entry", "--model", str(checkpoint), *QUIET)
    modules = (stock, ours) if stock_first else (ours, stock)
    with ExitStack() as stack:
        servers = [stack.enter_context(_running((*module, *OPTIONS, *options))) for module in modules]
        yield servers[::-1] if stock_first else servers


@contextmanager
def _running(module: Sequence[str]) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *module, "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env=ENVIRONMENT | os.environ, stdout=log, stderr=log, process_group=0
        )
        try:
            url = f"http://127.0.0.1:{port}"
            if not _answers(process, url):
                log.seek(0)
                raise LoadError(f"{module[0]} did not start:\n{log.read().decode(errors='replace')[-2000:]}")
            yield Server(url, psutil.Process(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(process: "subprocess.Popen[bytes]", url: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == httpx.codes.OK:
                return True
        except httpx.TransportError:
            time.sleep(0.5)
    return False
