"""Who answers, where something is wrong with them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from training.answering import from_checkpoint, from_url
from training.errors import TrainingError
from training.recipe import load_recipe
from training.sampler import GREEDY

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"
ANSWER = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "\\boxed{4}"}}


class Handler(BaseHTTPRequestHandler):
    usage = None

    def do_GET(self):
        self.reply({"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(
            {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [ANSWER]} | self.used
        )

    @property
    def used(self):
        return {"usage": self.usage} if self.usage else {}

    def reply(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
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
    recipe = load_recipe("quickstart")
    with pytest.raises(TrainingError, match="reports no token counts"):
        from_url(recipe, url, ["q"], GREEDY, 1)
    monkeypatch.setattr(Handler, "usage", {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8})
    [[reply]] = from_url(recipe, url, ["q"], GREEDY, 1)
    assert (reply.text, reply.tokens) == ("\\boxed{4}", 7)


def test_a_question_that_does_not_fit_is_named_before_the_engine_starts():
    recipe = load_recipe("quickstart", ["rollout.max_prompt_tokens=40"])
    with pytest.raises(TrainingError, match=r"question 2 takes \d+ tokens.*rollout\.max_prompt_tokens=\d+"):
        from_checkpoint(recipe, str(BASE), ["What is 1 + 1?", "What is 1 + 1? " * 20], GREEDY, 1)
