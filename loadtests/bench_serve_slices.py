"""Two servers that share the processors in slices of time: at any moment one of them runs, and the other is stopped.

The speed of a machine that others use, too, changes within a second, which runs one after the other take for a
difference between the servers. Slices of some hundredths of a second see the same machine.
"""

import asyncio
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import psutil

from loadtests.bench_serve_load import Load, LoadError, Measured, run_load
from loadtests.bench_serve_servers import MODEL, Server


class Racer:
    """A server and a client in a process of its own, stopped together; made stopped.

    While they are stopped their clock stands still, so that they notice nothing.

    Args:
        server: one whose processes are known.
    """

    def __init__(self, server: Server) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._server = server
        self._answers, theirs = spawn.Pipe()
        self._stopped_seconds = spawn.Value("d", lock=False)
        self._client = spawn.Process(target=_client, args=(server.url, theirs, self._stopped_seconds), daemon=True)
        self._client.start()
        theirs.close()
        self._processes = [psutil.Process(self._client.pid), *server.processes()]
        self._cpu_before = 0.0
        self._stop()

    def start(self, load: Load, seed: int) -> None:
        """Give the client a load to put on the server when they run."""
        self._cpu_before = self._server.cpu_seconds() or 0.0
        self._answers.send((load, seed))

    def run(self, seconds: float) -> Measured | None:
        """Let both go on for a slice; what was measured, if the load is done by then.

        Raises:
            LoadError: a request failed, or one of the processes has ended.
        """
        self._stopped_seconds.value += time.perf_counter() - self._stopped_at
        self._signal(signal.SIGCONT)
        try:
            if not self._answers.poll(seconds):
                return None
            answer: Measured | LoadError = self._answers.recv()
        except (EOFError, ConnectionError):
            raise LoadError(f"the client of {self._server.url} has ended") from None
        finally:
            self._stop()
        if isinstance(answer, LoadError):
            raise answer
        return replace(answer, cpu_seconds=(self._server.cpu_seconds() or 0.0) - self._cpu_before)

    def close(self) -> None:
        """Let the server go on, and end the client."""
        for process in self._processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        self._client.kill()
        self._client.join()
        self._answers.close()

    def _stop(self) -> None:
        self._signal(signal.SIGSTOP)
        self._stopped_at = time.perf_counter()

    def _signal(self, number: signal.Signals) -> None:
        try:
            for process in self._processes:
                process.send_signal(number)
        except psutil.NoSuchProcess:
            raise LoadError(f"{self._server.url} has ended") from None


@contextmanager
def racing(servers: Sequence[Server]) -> Iterator[list[Racer]]:
    """Stop the servers, to run in slices; in the end they go on."""
    racers: list[Racer] = []
    try:
        for server in servers:
            racers.append(Racer(server))
        yield racers
    finally:
        for racer in racers:
            racer.close()


def race(racers: Sequence[Racer], seed: int, load: Load, slice_seconds: float) -> list[Measured]:
    """Put the same load on all, in slices and in the order given; what was measured of each.

    Raises:
        LoadError: a request failed, or a process has ended.
    """
    for racer in racers:
        racer.start(load, seed)
    measured: dict[Racer, Measured] = {}
    while len(measured) < len(racers):
        for racer in racers:
            if racer not in measured and (run := racer.run(slice_seconds)) is not None:
                measured[racer] = run
    return [measured[racer] for racer in racers]


def _client(url: str, jobs: "Connection[Any, Any]", stopped_seconds: Any) -> None:
    """Put every load that comes on the server, until the process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def clock() -> float:
        return time.perf_counter() - float(stopped_seconds.value)

    while True:
        load, seed = jobs.recv()
        try:
            jobs.send(asyncio.run(run_load(url, MODEL, load, seed, clock)))
        except LoadError as error:
            jobs.send(error)
