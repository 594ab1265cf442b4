"""The calls of ``tests/sdks/calls.json``, made with the OpenAI SDKs for Python and Node."""

import json
import os
import shutil
import subprocess
from operator import attrgetter
from pathlib import Path
from typing import Any

import openai
import pytest
from programs import PATH, program
from real_server import ROOT, Server

CALLS = ROOT / "tests" / "sdks" / "calls.json"
MESSAGES = [{"role": "user", "content": "Tom has 12 apples and buys 7 more. How many apples does Tom have?"}]

Outcomes = dict[str, Any]
"""By call: the response, the chunks of a stream, or what the SDK raised."""


def python_outcomes(server: Server) -> Outcomes:
    """Make every call with the Python SDK."""
    calls = json.loads(CALLS.read_bytes())
    return {name: _outcome(server, **call) for name, call in calls.items()}


def _outcome(
    server: Server, call: str, body: dict[str, Any] | None = None, extra: Any = None, argument: str | None = None
) -> Any:
    method = attrgetter(call)(server.openai)
    chat = {"messages": MESSAGES} if call.startswith("chat") else {}
    try:
        if not call.endswith("create"):
            return method(*([argument] if argument else [])).to_dict()
        result = method(**{"model": server.model, **chat, **(body or {})}, extra_body=extra)
        return [chunk.to_dict() for chunk in result] if isinstance(result, openai.Stream) else result.to_dict()
    except openai.APIStatusError as error:
        return {
            "error": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "type": error.type,
            "param": error.param,
        }


def node_outcomes(server: Server, folder: Path) -> Outcomes:
    """Make every call with the Node SDK, of the version that the examples name; skips where node or npm is absent."""
    npm, node = program("npm", "Node.js"), program("node", "Node.js")
    shutil.copy(ROOT / "clients" / "examples" / "package.json", folder)
    shutil.copy(CALLS.with_suffix(".mjs"), folder)
    install = [npm, "install", "--no-audit", "--no-fund", "--silent"]
    installed = subprocess.run(
        install, cwd=folder, env=os.environ | {"PATH": PATH}, capture_output=True, text=True, timeout=300, check=False
    )
    if installed.returncode:
        pytest.skip("npm cannot fetch the SDK here: " + installed.stderr.strip()[-200:])
    command = [node, "calls.mjs", str(CALLS), f"{server.url}/v1", server.model]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr
    outcomes: Outcomes = json.loads(made.stdout)
    return outcomes
