"""Locust against the real server, started as users start it."""

import contextlib
import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import httpx
import pytest
from prometheus import free_port
from scripted_server import ScriptedServer

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


def locust(server, *options, timeout=120):
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"]
    command += ["--host", server.url, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def test_totals_equal_the_servers_metrics_exactly(server, counted, tmp_path):
    run = locust(server, "--users", "16", "--run-time", "5s", "--exact-totals", "--report", str(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    gained = counted()
    report = json.loads((tmp_path / "load.json").read_text())
    assert report["failures"] == {}
    assert report["seen"] == {
        "answers": gained["stepgrpo_completion_tokens_count"],
        "tokens": gained["vllm:request_generation_tokens_sum"],
        "steps": gained["stepgrpo_reasoning_steps_sum"],
    }
    assert report["seen"]["answers"] >= 16
    assert report["quantities"]["time between tokens"]["total"] > 0


def with_two_workers(server, *options):
    port = str(free_port())
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--worker", "--processes", "2"]
    command += ["--master-host", "127.0.0.1", "--master-port", port]
    workers = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return locust(server, "--master", "--expect-workers", "2", "--master-bind-port", port, *options)
    finally:
        workers.wait(60)


def test_the_totals_of_two_workers_are_exact_too(server, tmp_path):
    run = with_two_workers(server, "--users", "8", "--run-time", "3s", "--exact-totals", "--report", str(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads((tmp_path / "load.json").read_text())["seen"]["answers"] >= 8


@pytest.fixture(scope="module")
def two_slow_answers(tmp_path_factory):
    """Two users of two workers, who are told by their master alone what to do; each answer takes two seconds."""
    folder = tmp_path_factory.mktemp("load")
    (folder / "keys").write_text("one\ntwo\n")
    options = ["--users", "2", "--run-time", "1s", "--scenario", "many-keys"]
    with ScriptedServer().running() as slow:
        slow.script.insert(1, 2)
        run = with_two_workers(slow, *options, "--keys-file", str(folder / "keys"), "--report", str(folder))
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((folder / "load.json").read_text()), slow.asked


def test_a_master_waits_for_the_answers_that_its_workers_users_still_finish(two_slow_answers):
    report, asked = two_slow_answers
    assert report["seen"]["answers"] == len(asked) == 2
    assert report["seconds"] < 4, "all users start at once"
    assert report["lost_workers"] == 0


def test_no_two_users_of_different_workers_do_the_same(two_slow_answers):
    _, asked = two_slow_answers
    assert sorted(headers["authorization"] for headers, _ in asked) == ["Bearer one", "Bearer two"]
    assert len({body["seed"] for _, body in asked}) == 2


def test_totals_cannot_be_exact_where_clients_hang_up(server):
    run = locust(server, "--scenario", "disconnects", "--exact-totals")
    assert run.returncode == 1
    assert "leave out --exact-totals" in run.stderr


@pytest.mark.parametrize("scenario", ["ramp", "burst", "long-tail", "exit-control", "many-keys", "disconnects"])
def test_every_scenario_runs_without_failures(server, tmp_path, scenario):
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    options = ["--users", "8", "--run-time", "2s", "--scenario", scenario, "--keys-file", str(keys)]
    run = locust(server, *options, "--report", str(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((tmp_path / "load.json").read_text())
    assert report["seen"]["answers"] > 0
    assert (report["hang_ups"] > 0) == (scenario == "disconnects")


def test_a_missed_threshold_fails_the_run(server):
    run = locust(server, "--users", "2", "--run-time", "1s", "--max-latency-p95", "0.001")
    assert run.returncode == 1
    assert "- latency: p95 is" in run.stdout


class Dying(BaseHTTPRequestHandler):
    """A server that goes away in the middle of every answer."""

    def do_GET(self):
        found = b'{"data": [{"id": "dying"}]}' if self.path == "/v1/models" else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)

    def do_POST(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"40\r\ndata: {")

    def log_message(self, *_):
        pass


def test_answers_that_are_cut_off_are_failures(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Dying) as dying:
        Thread(target=dying.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{dying.server_port}"
        run = locust(SimpleNamespace(url=url), "--users", "2", "--run-time", "1s", "--report", str(tmp_path))
        dying.shutdown()
    assert run.returncode == 1
    report = json.loads((tmp_path / "load.json").read_text())
    assert sum(report["failures"].values()) > 2, "a user goes on after a failure"
    assert not any("load test" in failure for failure in report["failures"])


def test_no_server_is_said_in_one_line(server):
    run = locust(type(server)(server.process, "http://127.0.0.1:9", server.checkpoint, server.log), "--run-time", "1s")
    assert run.returncode == 1
    assert "start one with `stepgrpo serve`" in run.stderr


def until(done, seconds=30):
    """What ``done`` returns once it is something; locust may not listen yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if found := done():
                return found
        time.sleep(0.2)
    pytest.fail("it did not come in time")


def test_locusts_page_starts_runs_and_charts_their_answers(server):
    """What is typed on the page counts; a run that cannot begin does not keep the next one from it."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py"]
    command += ["--web-host", "127.0.0.1", "--web-port", url.rpartition(":")[2]]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    form = {"user_count": "2", "spawn_rate": "2", "run_time": "1m", "max_latency_p95": "", "temperature": "0.5"}

    def state():
        return httpx.get(f"{url}/stats/requests").json()["state"]

    try:
        until(lambda: httpx.get(url).is_success)
        httpx.post(f"{url}/swarm", data=form | {"host": "http://127.0.0.1:9"})
        until(lambda: state() == "stopped")
        httpx.post(f"{url}/swarm", data=form | {"host": server.url})
        points = until(
            lambda: [each for each in httpx.get(f"{url}/answers.json").json() if each.get("steps per answer")]
        )
        page = httpx.get(f"{url}/answers")
    finally:
        process.terminate()
        report, _ = process.communicate(timeout=90)
    assert "Answers over time" in page.text
    assert points[0].keys() >= {"seconds", "answers per second", "tokens per answer"}
    assert "**passed**" in report
