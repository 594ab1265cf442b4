"""The log for machines: every line on standard output is one JSON object."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, os, sys
from server.log import announce, configure_log
configure_log("json")
announce("ready: über\\nlines", "json")
logging.getLogger("vllm.engine").warning("slow %s", "engine")
logging.getLogger("vllm.engine").info("chatter")
logging.getLogger("server.request_log").info("request", extra={"status": 200, "choices": [{"steps": 1}]})
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("uvicorn.error").exception("failed")
print(os.environ["VLLM_LOGGING_CONFIG_PATH"], file=sys.stderr)
"""


def run(**environment):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": "."} | environment,
    )


def test_every_line_is_an_object_with_time_level_and_logger():
    lines = [json.loads(line) for line in run().stdout.splitlines()]
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("INFO", "server.log", "ready: über\nlines"),
        ("WARNING", "vllm.engine", "slow engine"),
        ("INFO", "server.request_log", "request"),
        ("ERROR", "uvicorn.error", "failed"),
    ]
    assert all(line["time"][4] == "-" and line["process"] for line in lines)
    assert (lines[2]["status"], lines[2]["choices"]) == (200, [{"steps": 1}])
    assert "ZeroDivisionError" in lines[3]["exc_info"]


def test_the_engine_and_uvicorn_find_the_same_configuration():
    assert run().stderr.strip().endswith("server/logging.json")


def test_a_configuration_of_ones_own_is_kept(tmp_path):
    own = tmp_path / "own.json"
    own.write_text('{"version": 1}')
    result = run(VLLM_LOGGING_CONFIG_PATH=str(own))
    assert result.stderr.strip().endswith(str(own))


@pytest.mark.parametrize("line", ["ready", "two\nlines"])
def test_people_get_plain_lines(line, capsys):
    from server.log import announce

    announce(line, "text")
    assert capsys.readouterr().out == line + "\n"
