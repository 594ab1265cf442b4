"""``make stack``: the server and a real Prometheus come up together, say where they are, and end together."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from programs import program
from prometheus import Prometheus, free_port

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
STACK = [sys.executable, str(ROOT / "tools" / "stack.py")]


def test_the_stack_says_its_urls_is_scraped_and_ends_on_a_signal(checkpoint):
    program("prometheus", "Debian's package prometheus")
    ports = ["--port", str(free_port()), "--prometheus-port", str(free_port())]
    process = subprocess.Popen(
        [*STACK, *ports, "--checkpoint", str(checkpoint)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    give_up = threading.Timer(300, process.kill)
    give_up.start()
    urls = {}
    for line in process.stdout:
        if found := re.match(r"(server|prometheus) +(http://\S+)", line):
            urls[found[1]] = found[2]
        if "Ctrl-C" in line:
            break
    assert [urls["server"], urls["prometheus"]] == [f"http://127.0.0.1:{port}" for port in ports[1::2]]
    prometheus = Prometheus(urls["prometheus"])
    while not (up := prometheus.query('up{job="stepgrpo"} == 1')):
        time.sleep(1)
    assert up[0]["metric"]["instance"] == urls["server"].removeprefix("http://")
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 0
    give_up.cancel()


def test_without_prometheus_it_says_what_to_install():
    environment = os.environ | {"PATH": "/nowhere"}
    result = subprocess.run(STACK, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 1
    assert result.stderr == (
        "stack: prometheus is not on the PATH: install it (on Debian: apt-get install prometheus)\n"
    )
