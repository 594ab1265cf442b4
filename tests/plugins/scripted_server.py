"""An OpenAI-compatible server that serves our page and answers what a test has written down."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse

from server.web import WebPage, web_routes

REPORT = {
    "steps": 2,
    "exit": {"reason": "model", "step": 2, "reasoning_tokens": 6},
    "tokens": {"reasoning": 6, "answer": 2, "completion": 8},
    "baseline": {"source": "calibrated", "completion_tokens": 16.0},
    "tokens_saved": 8.0,
    "savings_ratio": 0.5,
}
EFFICIENCY = {
    "model": "scripted",
    "requests": 1,
    "answers": 1,
    "tokens_per_answer": {"completion": 8.0, "reasoning": 6.0, "answer": 2.0},
    "steps_per_answer": 2.0,
    "exits": {"model": 1},
    "savings": {"calibrated": {"answers": 1, "savings_ratio": 0.5}},
}
END = "[DONE]"


def chunk(delta: dict[str, Any], tokens: int, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a stream; ``tokens`` is the running total."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return {"object": "chat.completion.chunk", "choices": [choice], "usage": {"completion_tokens": tokens}}


def thinking(text: str, tokens: int) -> dict[str, Any]:
    """A chunk of thinking."""
    return chunk({"reasoning": text}, tokens)


def answer(text: str, tokens: int) -> dict[str, Any]:
    """A chunk of the answer."""
    return chunk({"content": text}, tokens)


def end(**more: Any) -> dict[str, Any]:
    """The last chunk, with the report."""
    return chunk({"content": ""}, 8, "stop", reasoning_efficiency=REPORT | more)


class ScriptedServer:
    """A server on a free port.

    Attributes:
        script: events of the next answers: chunks, ``END``, seconds to wait, or an event of threading to wait for.
        refusal: status, body and headers of every answer instead.
        key: what requests must carry; None lets anyone.
        models: names that are served.
        efficiency: entries of ``/v1/efficiency``; None where the server has none.
        asked: headers and bodies of the requests for answers.
        summaries: how often the summary was asked for.
    """

    def __init__(self) -> None:
        self.script: list[Any] = [thinking("Two. ", 3), thinking("Wait, two.", 6), answer("2", 8), end(), END]
        self.refusal: tuple[int, Any, dict[str, str]] | None = None
        self.key: str | None = None
        self.models = ["scripted"]
        self.efficiency: list[dict[str, Any]] | None = [EFFICIENCY]
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.summaries = 0
        self.page = WebPage(markers=("Wait",))
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["ScriptedServer"]:
        """Listen as long as the context is open."""
        app = FastAPI()
        app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
        app.add_api_route("/v1/models", self._models)
        app.add_api_route("/v1/efficiency", self._efficiency)
        app.add_api_route("/v1/chat/completions", self._chat, methods=["POST"])
        app.include_router(web_routes(self.page))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join()

    async def _models(self, request: Request) -> Response:
        return self._refused(request) or JSONResponse({"data": [{"id": name} for name in self.models]})

    async def _efficiency(self, request: Request) -> Response:
        self.summaries += 1
        if self.efficiency is None:
            return JSONResponse({"error": {"message": "Not Found"}}, 404)
        return self._refused(request) or JSONResponse({"data": self.efficiency})

    async def _chat(self, request: Request) -> Response:
        self.asked.append((dict(request.headers), await request.json()))
        if self.refusal:
            status, body, headers = self.refusal
            return Response(body if isinstance(body, str) else json.dumps(body), status, headers)
        return self._refused(request) or StreamingResponse(self._events(), media_type="text/event-stream")

    def _refused(self, request: Request) -> Response | None:
        if self.key is None or request.headers.get("authorization") == f"Bearer {self.key}":
            return None
        return JSONResponse({"error": {"message": "Incorrect API key provided.", "code": "invalid_api_key"}}, 401)

    async def _events(self) -> AsyncIterator[str]:
        for event in self.script:
            if isinstance(event, Event):
                await asyncio.to_thread(event.wait, 60)
            elif isinstance(event, int | float):
                await asyncio.sleep(event)
            else:
                yield f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n"
