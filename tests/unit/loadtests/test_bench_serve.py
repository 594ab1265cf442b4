import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread

import psutil
import pytest
from typer.testing import CliRunner

from loadtests.bench_serve import Rounds, app
from loadtests.bench_serve_load import Load, LoadError, Measured, run_load
from loadtests.bench_serve_report import line_of, row_of
from loadtests.bench_serve_servers import Server

LOAD = Load(concurrency=2, requests=10, tokens=3, stream=True)


class Handler(BaseHTTPRequestHandler):
    """Answers every chat with three tokens; a server that is ``failing`` answers 500."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        usage = {"usage": {"completion_tokens": body["max_tokens"]}}
        if body["stream"]:
            chunks = [
                {"choices": [{"delta": {"role": "assistant"}}]},
                {"choices": [{"delta": {"content": "x"}}]},
                usage,
            ]
            answer = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        else:
            answer = json.dumps(usage)
        self.send_response(500 if self.server.failing else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None: ...


class Scripted(ThreadingHTTPServer):
    """A server on a free port that remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, object]] = []
        self.failing = False
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(autouse=True)
def keep_signal_handlers() -> Iterator[None]:
    """The command sets its own handler of SIGTERM, which forked children of later tests would inherit."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """These servers do not go on polling."""
    monkeypatch.setattr("loadtests.bench_serve.REST_SECONDS", 0)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("stream", [True, False])
async def test_every_request_of_a_load_is_made_and_counted(scripted, stream):
    load = Load(concurrency=3, requests=10, tokens=3, stream=stream)
    measured = await run_load(scripted.url, "bench", load, seed=1)
    assert measured.completion_tokens == 30
    assert len(measured.first) == 10
    assert all(0 < first <= measured.seconds for first in measured.first)
    assert len({str(body["messages"]) for body in scripted.bodies}) == 10
    assert all(body["ignore_eos"] and body["temperature"] == 0 for body in scripted.bodies)


async def test_both_servers_get_the_same_questions(scripted):
    await run_load(scripted.url, "bench", LOAD, seed=1)
    await run_load(scripted.url, "bench", LOAD, seed=1)
    first, second = (sorted(map(str, scripted.bodies[start : start + 10])) for start in (0, 10))
    assert first == second


async def test_a_server_that_fails_ends_the_run(scripted):
    scripted.failing = True
    with pytest.raises(LoadError, match="500"):
        await run_load(scripted.url, "bench", LOAD, seed=1)


def run(seconds, tokens=100, first=(0.1,), cpu=None):
    return Measured(seconds, tokens, first, cpu)


def test_throughput_is_that_of_all_rounds_together():
    row = row_of(LOAD, [[(run(1.0), run(2.0)), (run(3.0), run(2.0))]])
    assert row.throughput == (50.0, 50.0)
    assert row.throughput_ratio[0] == 1.0
    assert row.throughput_ratio[1] < 1 < row.throughput_ratio[2]


def test_an_interval_knows_how_starts_differ():
    """Each start is steady in itself, so rounds alone would call the difference of one certain."""
    fast, slow = [(run(1.0), run(1.0))] * 5, [(run(2.0), run(1.0))] * 5
    assert row_of(LOAD, [slow]).throughput_ratio == (0.5, 0.5, 0.5)
    ratio, lower, upper = row_of(LOAD, [fast, slow]).throughput_ratio
    assert (lower, upper) == (0.5, 1.0)
    assert ratio == pytest.approx(2 / 3)


def test_the_slowest_first_tokens_are_compared():
    ours = run(1.0, first=(*[0.1] * 98, 0.3, 0.3))
    row = row_of(LOAD, [[(ours, run(1.0, first=(0.1,) * 100))]])
    assert row.first == pytest.approx((300, 100))
    assert row.first_ratio[0] == pytest.approx(3)
    assert not row.passes


@pytest.mark.parametrize(
    ("seconds", "first", "stream", "passes"),
    [
        (1.0, 0.1, True, True),
        (1.02, 0.105, True, True),
        (1.03, 0.1, True, False),
        (1.0, 0.106, True, False),
        (1.0, 0.106, False, True),  # its first token cannot be seen
    ],
)
def test_the_bounds(seconds, first, stream, passes):
    load = Load(concurrency=1, requests=1, tokens=1, stream=stream)
    assert row_of(load, [[(run(seconds, first=(first,)), run(1.0))]]).passes is passes


def test_a_row_of_the_table():
    row = "| stream | 2 | 100 | 100 | 1.000 (1.000 to 1.000) | 100.0 | 100.0 | 1.000 (1.000 to 1.000)"
    assert line_of(row_of(LOAD, [[(run(1.0), run(1.0))]])) == f"{row} | - | - | - |"
    measured = row_of(LOAD, [[(run(1.0, cpu=0.03), run(1.0, cpu=0.02))]])
    assert line_of(measured) == f"{row} | 300 | 200 | 1.500 (1.500 to 1.500) |"


def test_the_processor_time_of_a_server_is_that_of_all_its_processes():
    busy = "import subprocess, sys; any(i < 0 for i in range(10**7)); print(flush=True); sys.stdin.readline()"
    command = [sys.executable, "-c", f"{busy}; subprocess.run([sys.executable, '-c', {busy!r}])"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, process_group=0, **pipes) as process:
        server = Server("", psutil.Process(process.pid))
        process.stdout.readline()
        one = server.cpu_seconds()
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        both = server.cpu_seconds()
        os.killpg(process.pid, signal.SIGKILL)
    assert both > 1.2 * one > 0
    assert Server("").cpu_seconds() is None


def test_rounds_are_at_least_so_many_and_go_on_for_their_time(monkeypatch):
    assert list(Rounds(3)) == [1, 2, 3]
    monkeypatch.setattr(time, "monotonic", count().__next__)
    assert list(Rounds(2, seconds=3)) == [1, 2, 3, 4]


@pytest.mark.integration
def test_the_command(scripted):
    """Against servers that run already."""
    command = ["bench", "serve", "--urls", f"{scripted.url},{scripted.url}", "--rounds", "2", "--requests", "4"]
    result = CliRunner().invoke(app, [*command, "--concurrency", "1,3", "--tokens", "5"])
    assert result.exit_code == 0, result.output
    assert [line.split("|")[1:3] for line in result.output.splitlines()[2:6]] == [
        [" stream ", " 1 "],
        [" stream ", " 3 "],
        [" whole ", " 1 "],
        [" whole ", " 3 "],
    ]
    assert "of 4 rows within bounds" in result.output


@pytest.mark.parametrize(
    "options",
    [
        ["--answers", "some"],
        ["--concurrency", "many"],
        ["--urls", "http://one"],
        ["--rounds", "0"],
        ["--urls", "http://one,http://two", "--starts", "2"],
        ["--urls", "http://one,http://two", "--slice", "0.1"],
        ["--slice", "-1"],
    ],
)
def test_options_that_do_not_fit(options):
    assert CliRunner().invoke(app, ["bench", "serve", *options]).exit_code == 2


def test_a_server_that_is_not_there():
    result = CliRunner().invoke(app, ["bench", "serve", "--urls", "http://127.0.0.1:9,http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "http://127.0.0.1:9 did not answer" in result.output
