"""Who answers, where something is wrong with them."""

import json
import re
import shutil
import threading
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from training.answering import check_prompts, from_url, load_tokenizer
from training.errors import TrainingError
from training.recipe import load_recipe
from training.sampler import GREEDY

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"
ANSWER = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "\\boxed{4}"}}


def ask_url(url, questions=("q",)):
    """By place, what came."""
    replies = {}
    from_url(load_recipe("quickstart"), url, GREEDY, dict(enumerate(questions)), replies.__setitem__)
    return replies


class Handler(BaseHTTPRequestHandler):
    usage = None
    refuses = False
    keys: ClassVar[list[str]] = []

    def do_GET(self):
        self.reply({"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append(self.headers["Authorization"])
        if self.refuses:
            self.reply({"error": {"message": f"bad key: {self.headers['Authorization']}"}}, status=401)
            return
        self.reply(
            {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [ANSWER]} | self.used
        )

    @property
    def used(self):
        return {"usage": self.usage} if self.usage else {}

    def reply(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_a_server_that_counts_no_tokens_cannot_be_measured(url, monkeypatch):
    with pytest.raises(TrainingError, match="reports no token counts"):
        ask_url(url)
    monkeypatch.setattr(Handler, "usage", {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8})
    reply = ask_url(url)[0]
    assert (reply.text, reply.tokens) == ("\\boxed{4}", 7)


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({"OPENAI_API_KEY": "sk-theirs"}, "none"),
        ({"OPENAI_API_KEY": "sk-theirs", "STEPGRPO_API_KEY": "own"}, "own"),
        ({}, "none"),
    ],
)
def test_the_key_comes_from_the_environment(url, monkeypatch, keys, sent):
    monkeypatch.setattr(Handler, "usage", {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8})
    monkeypatch.setattr(Handler, "keys", [])
    for name in ("OPENAI_API_KEY", "STEPGRPO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    ask_url(url)
    assert Handler.keys == [f"Bearer {sent}"]


def test_a_key_that_a_server_repeats_is_not_shown(url, monkeypatch, caplog):
    monkeypatch.setattr(Handler, "refuses", True)
    monkeypatch.setenv("STEPGRPO_API_KEY", "sk-theirs")
    caplog.set_level("DEBUG")
    with pytest.raises(TrainingError, match=r"bad key: Bearer \*\*\*") as raised:
        ask_url(url)
    assert "sk-theirs" not in "".join(traceback.format_exception(raised.value)) + caplog.text


def test_an_adapter_without_its_model_is_said_in_a_line(tmp_path):
    folder = shutil.copytree(BASE, tmp_path / "adapter", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(TrainingError, match=r"adapter.*merge") as raised:
        load_tokenizer(str(folder))
    assert "\n" not in str(raised.value)


def test_a_question_that_does_not_fit_is_named_with_the_length_that_fits_all():
    tokenizer = load_tokenizer(str(BASE))
    asked = ["What is 1 + 1?", "What is 2 + 2? " * 20, "What is 3 + 3? " * 10]
    with pytest.raises(TrainingError, match=r"takes \d+ tokens.*max_prompt_tokens=\d+: 'What is 2 \+ 2") as raised:
        check_prompts(load_recipe("quickstart", ["rollout.max_prompt_tokens=40"]), tokenizer, asked)
    fits = re.search(r"rollout\.max_prompt_tokens=\d+", str(raised.value))[0]
    check_prompts(load_recipe("quickstart", [fits]), tokenizer, asked)
