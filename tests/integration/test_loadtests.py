"""Locust against the real server, started as users start it."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


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


def test_the_totals_of_two_workers_are_exact_too(server, tmp_path):
    ports = ("--master-bind-port", str(free_port()))
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--host", server.url, "--worker"]
    command += ["--master-host", "127.0.0.1", "--master-port", ports[1], "--processes", "2"]
    workers = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    options = ("--users", "8", "--run-time", "3s", "--exact-totals", "--report", str(tmp_path))
    run = locust(server, "--master", "--expect-workers", "2", *ports, *options)
    workers.wait(60)
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads((tmp_path / "load.json").read_text())["seen"]["answers"] >= 8


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


def test_no_server_is_said_in_one_line(server):
    run = locust(type(server)(server.process, "http://127.0.0.1:9", server.checkpoint, server.log), "--run-time", "1s")
    assert run.returncode == 1
    assert "start one with `stepgrpo serve`" in run.stderr


def test_answers_are_charted_beside_locusts_own_page(server):
    port = free_port()
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--host", server.url, "--users", "2"]
    command += ["--autostart", "--web-host", "127.0.0.1", "--web-port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        points: list[dict[str, float]] = []
        deadline = time.monotonic() + 30
        while not any("tokens per answer" in point for point in points) and time.monotonic() < deadline:
            time.sleep(0.5)
            try:
                points = httpx.get(f"http://127.0.0.1:{port}/answers.json").json()
            except httpx.TransportError:
                continue
        page = httpx.get(f"http://127.0.0.1:{port}/answers")
    finally:
        process.terminate()
        process.wait(90)
    assert "Answers over time" in page.text
    assert points[-1].keys() >= {"seconds", "answers per second"}
    assert any(point.get("steps per answer", 0) > 0 for point in points)
