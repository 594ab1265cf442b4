"""Real servers in processes of their own, stopped and continued by real signals."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from loadtests.bench_serve_load import Load, LoadError
from loadtests.bench_serve_servers import Server
from loadtests.bench_serve_slices import race, racing

LOAD = Load(concurrency=2, requests=10, tokens=3, stream=False)
SLICE_SECONDS = 0.01


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts a server that answers with the status given, 200 by default."""
    with ExitStack() as stack:

        def started(status: int = 200) -> Server:
            command = [sys.executable, str(Path(__file__).with_name("busy_server.py")), str(status)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            process = stack.enter_context(subprocess.Popen(command, text=True, **pipes))
            stack.callback(process.kill)
            return Server(process.stdout.readline().strip(), psutil.Process(process.pid))

        yield started


def stops(server: Server) -> bool:
    return becomes(server, lambda status: status == psutil.STATUS_STOPPED)


def goes_on(server: Server) -> bool:
    return becomes(server, lambda status: status != psutil.STATUS_STOPPED)


def becomes(server: Server, wanted: Callable[[str], bool]) -> bool:
    """A signal takes a moment to arrive."""
    deadline = time.monotonic() + 5
    while not (reached := wanted(server.process.status())) and time.monotonic() < deadline:
        time.sleep(0.001)
    return reached


def test_only_one_side_runs_at_any_moment(start):
    """Else the two clocks, which stand still while their side does, would together run faster than ours."""
    with racing([start(), start()]) as racers:
        begun = time.perf_counter()
        first, second = race(racers, 1, LOAD, SLICE_SECONDS)
        elapsed = time.perf_counter() - begun
    assert first.seconds + second.seconds <= elapsed
    for measured in (first, second):
        assert measured.completion_tokens == LOAD.requests * LOAD.tokens
        assert len(measured.first) == LOAD.requests
        assert max(measured.first) <= measured.seconds
        assert measured.cpu_seconds > 0


def test_a_load_takes_as_many_slices_as_it_needs(start):
    with racing([start()]) as (racer,):
        racer.start(LOAD, seed=1)
        slices = 1
        while (measured := racer.run(SLICE_SECONDS)) is None:
            slices += 1
    assert slices > 2
    assert measured.completion_tokens == LOAD.requests * LOAD.tokens


def test_the_servers_are_stopped_between_runs_and_go_on_in_the_end(start):
    servers = [start(), start()]
    with racing(servers) as racers:
        assert all(map(stops, servers))
        race(racers, 1, LOAD, SLICE_SECONDS)
        assert all(map(stops, servers))
    assert all(map(goes_on, servers))


def test_a_request_that_fails_ends_the_race(start):
    servers = [start(), start(500)]
    with racing(servers) as racers, pytest.raises(LoadError, match=f"{servers[1].url} did not answer.*500"):
        race(racers, 1, LOAD, SLICE_SECONDS)
    assert all(map(goes_on, servers))


def test_a_server_that_dies_ends_the_race(start):
    servers = [start(), start()]
    with racing(servers) as racers:
        servers[0].process.kill()
        servers[0].process.wait()
        with pytest.raises(LoadError, match=servers[0].url):
            race(racers, 1, LOAD, SLICE_SECONDS)
    assert goes_on(servers[1])
