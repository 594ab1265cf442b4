from functools import partial

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.middleware.cors import CORSMiddleware

from server.middleware import add_middlewares
from server.settings import ServerSettings
from server.shortcut import can_be_passed

PARTS = ["one ", "two ", "three"]


class Shouting:
    """A middleware that looks at more than heads."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def shout(message):
            if message["type"] == "http.response.body":
                message["body"] = message["body"].upper()
            await send(message)

        await self.app(scope, receive, shout)


@pytest.fixture
def handled(monkeypatch):
    """The messages that a middleware between ours takes in hand."""
    messages = []
    send = CORSMiddleware.send

    async def noting(self, message, **others):
        messages.append(message["type"])
        await send(self, message, **others)

    monkeypatch.setattr(CORSMiddleware, "send", noting)
    return messages


@pytest.fixture
def served(idle_engine):
    return partial(serve, idle_engine)


def serve(engine, *middlewares) -> TestClient:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["https://a.test"])
    for middleware in middlewares:
        app.add_middleware(middleware)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts():
            for part in PARTS:
                yield part

        return StreamingResponse(parts())

    @app.get("/error")
    async def error() -> JSONResponse:
        return JSONResponse({"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}}, 400)

    app.middleware_stack = app.build_middleware_stack()
    assert can_be_passed(app) is not bool(middlewares)
    add_middlewares(app, engine, ServerSettings(), keyring=None)
    return TestClient(app)


def test_parts_take_the_shortcut_and_heads_do_not(served, handled):
    answer = served().get("/stream", headers={"Origin": "https://a.test"})
    assert answer.text == "".join(PARTS)
    assert answer.headers["access-control-allow-origin"] == "https://a.test"
    assert "x-request-id" in answer.headers
    assert handled == ["http.response.start"]


def test_a_middleware_that_is_not_known_sees_everything(served, handled):
    assert served(Shouting).get("/stream").text == "".join(PARTS).upper()
    assert handled == ["http.response.start"] + ["http.response.body"] * (len(PARTS) + 1)


def test_an_error_is_worded_as_openai_does_though_its_head_and_body_come_by_different_ways(served, handled):
    answer = served().get("/error")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert handled == ["http.response.start"]
