import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from reasoning import CheckpointError
from server import cli
from server.checkpoint import ServedCheckpoint
from server.settings import BUNDLED, ServerSettings


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What the server would be started with."""
    calls = []
    app = type(sys)("server.app")
    app.serve = lambda settings, checkpoint, options: calls.append((settings, options))
    monkeypatch.setitem(sys.modules, "server.app", app)
    monkeypatch.setattr(cli, "load_checkpoint", lambda source: ServedCheckpoint(source, None))
    for name in ("CHECKPOINT", "HOST", "PORT"):
        monkeypatch.delenv(f"STEPGRPO_{name}", raising=False)

    def start(*arguments):
        result = CliRunner().invoke(cli.app, ["serve", *arguments])
        assert result.exit_code == 0, result.output
        settings, options = calls[-1]
        return str(settings.checkpoint), settings.host, settings.port, options

    return start


def test_the_bundled_checkpoint_is_the_default(started):
    assert started() == (str(BUNDLED), "127.0.0.1", 8000, [])
    assert BUNDLED.parts[-2:] == ("checkpoints", "step-grpo")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ckpt"], ("ckpt", "127.0.0.1", 8000, [])),
        (["ckpt", "--port", "9", "--host", "::"], ("ckpt", "::", 9, [])),
        (["--port=9", "ckpt"], ("ckpt", "127.0.0.1", 9, [])),
        (["--max-model-len", "512"], (str(BUNDLED), "127.0.0.1", 8000, ["--max-model-len", "512"])),
        (
            ["ckpt", "-tp", "2", "--port", "9", "--lora-modules", "a=b", "c=d"],
            ("ckpt", "127.0.0.1", 9, ["-tp", "2", "--lora-modules", "a=b", "c=d"]),
        ),
        (["ckpt", "--served-model-name", "a", "b"], ("ckpt", "127.0.0.1", 8000, ["--served-model-name", "a", "b"])),
        (["ckpt", "-O3", "--x={}"], ("ckpt", "127.0.0.1", 8000, ["-O3", "--x={}"])),
    ],
)
def test_what_is_not_ours_is_vllms(started, arguments, expected):
    assert started(*arguments) == expected


def test_flags_win_over_the_environment(started, monkeypatch):
    monkeypatch.setenv("STEPGRPO_CHECKPOINT", "from-env")
    monkeypatch.setenv("STEPGRPO_PORT", "7000")
    assert started() == ("from-env", "127.0.0.1", 7000, [])
    assert started("ckpt", "--port", "9")[:3] == ("ckpt", "127.0.0.1", 9)


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_a_port_that_is_none(port):
    result = CliRunner().invoke(cli.app, ["serve", "--port", port])
    assert result.exit_code == 2
    assert "port:" in result.output


def test_what_is_said_of_the_checkpoint(card, tmp_path):
    assert "savings unknown" in cli._described(ServedCheckpoint(tmp_path, None))
    assert "not calibrated" in cli._described(ServedCheckpoint(tmp_path, card(calibration=None)))
    said = cli._described(ServedCheckpoint(tmp_path, card()))
    assert "calibrated on 1000 questions: 32.0% of the base model's tokens (95 % interval 30.0% to 34.0%)" in said


def test_a_checkpoint_that_cannot_be_served_is_one_line_on_stderr_before_anything_heavy(tmp_path):
    code = (
        "import sys; from server.cli import app\n"
        "try: app(['serve', sys.argv[1]])\n"
        "finally: print([m for m in ('vllm', 'torch', 'transformers', 'fastapi') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "nope")], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == f"stepgrpo serve: there is no checkpoint folder {tmp_path / 'nope'}\n"
    assert result.stdout == "[]\n"


def test_an_error_while_loading_is_shown(monkeypatch):
    def refuse(_):
        raise CheckpointError("step_grpo.json is broken")

    monkeypatch.setattr(cli, "load_checkpoint", refuse)
    result = CliRunner().invoke(cli.app, ["serve", "ckpt"])
    assert (result.exit_code, result.stderr) == (2, "stepgrpo serve: step_grpo.json is broken\n")


def test_settings_do_not_read_foreign_variables(monkeypatch):
    monkeypatch.setenv("PORT", "1")
    assert ServerSettings().port == 8000


def test_help_says_of_which_kind_a_setting_is():
    shown = CliRunner().invoke(cli.app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    kinds = dict(re.findall(r"(--[\w-]+) +<(\w+)>", shown))
    assert kinds["--port"] == kinds["--max-reasoning-steps"] == "int"
    assert kinds["--early-exit-threshold"] == "float"
    assert kinds["--host"] == "text"
    assert kinds["--compare-url"] == "url"
    assert kinds["--api-keys-file"] == "path"
