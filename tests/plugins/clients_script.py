"""A real HTTP server on a free port that answers from a script."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

REPORT = {
    "steps": 2,
    "exit": {"reason": "model", "step": 2, "reasoning_tokens": 9},
    "tokens": {"reasoning": 9, "answer": 3, "completion": 12},
    "baseline": {"source": "calibrated", "completion_tokens": 24.0},
    "tokens_saved": 12.0,
    "savings_ratio": 0.5,
}
MODEL = {"id": "m", "object": "model", "created": 1, "owned_by": "tests"}


@dataclass
class Scripted:
    """What the server answers, one reply after the other, and what it was asked."""

    url: str
    replies: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    markers: list[str] | None = None

    def reply(self, body: Any, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies.append((status, {"content-type": "application/json"} | named, json.dumps(body).encode()))

    def stream(self, *chunks: dict[str, Any], done: bool = True, lost: bool = False) -> None:
        events = [*map(json.dumps, chunks), *(["[DONE]"] if done else [])]
        body = "".join(f"data: {event}\n\n" for event in events).encode()
        headers = {"content-type": "text/event-stream", "content-length": str(len(body) + lost)}
        self.replies.append((200, headers, body))


def chunk(*, usage: int | None = None, **choice: Any) -> dict[str, Any]:
    """A chunk of a stream with one choice, or with the usage alone."""
    whole: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    if choice:
        whole["choices"] = [{"index": 0, "delta": {}, "finish_reason": None} | choice]
    if usage is not None:
        whole["usage"] = {"prompt_tokens": 1, "completion_tokens": usage, "total_tokens": 1 + usage}
    return whole


def completion(text: str = "It is 19.", tokens: int = 12, **choice: Any) -> dict[str, Any]:
    """A whole response."""
    message = {"role": "assistant", "content": text, "reasoning": "12 + 7.\nWait, 19."}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"} | choice],
        "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens},
    }


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known: dict[str, Any] = {"/v1/models": {"object": "list", "data": [MODEL]}}
            if script.markers is not None:
                known["/web/page.json"] = {"markers": script.markers, "compare_url": None}
            body = json.dumps(known.get(self.path, {"error": {"message": "Not Found"}})).encode()
            self.send_response(200 if self.path in known else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            script.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            script.keys.append(self.headers["authorization"])
            status, headers, body = script.replies.pop(0)
            self.send_response(status)
            for name, value in ({"content-length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script = Scripted(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield script
        server.shutdown()
