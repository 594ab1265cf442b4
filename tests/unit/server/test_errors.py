import json

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, model_validator

from server.errors import OpenAIErrors, UnreadableBodies, openai_error

CHAT = "/v1/chat/completions"
TOO_LONG = "This model's maximum context length is 2048 tokens. However, your prompt contains 2049."


def error(message="no", kind="BadRequestError", param=None, code=400):
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "path", "expected"),
    [
        (400, error(param="max_tokens"), CHAT, ("no", "invalid_request_error", "max_tokens", None)),
        (400, error(param="body.messages"), CHAT, ("no", "invalid_request_error", "messages", None)),
        (400, error(param="body.tools.0.type"), CHAT, ("no", "invalid_request_error", "tools.0.type", None)),
        (400, error(param="body.62"), CHAT, ("no", "invalid_request_error", None, None)),
        (400, error(param="body"), CHAT, ("no", "invalid_request_error", None, None)),
        (
            400,
            error(TOO_LONG, param="input_tokens"),
            CHAT,
            (TOO_LONG, "invalid_request_error", "messages", "context_length_exceeded"),
        ),
        (
            400,
            error(TOO_LONG, param="input_tokens"),
            "/v1/completions",
            (TOO_LONG, "invalid_request_error", "prompt", "context_length_exceeded"),
        ),
        (
            404,
            error(kind="NotFoundError", param="model", code=404),
            CHAT,
            ("no", "invalid_request_error", "model", "model_not_found"),
        ),
        (404, {"detail": "Not Found"}, "/nope", ("Not Found", "invalid_request_error", None, None)),
        (401, {"error": "Unauthorized"}, CHAT, ("Unauthorized", "invalid_request_error", None, "invalid_api_key")),
        (429, error(), CHAT, ("no", "rate_limit_error", None, "rate_limit_exceeded")),
        (500, error(kind="InternalServerError", code=500), CHAT, ("no", "server_error", None, None)),
        (503, "busy", CHAT, ("busy", "server_error", None, None)),
    ],
)
def test_errors_are_worded_as_the_openai_api_does(status, body, path, expected):
    assert tuple(openai_error(status, body, path)["error"].values()) == expected


@pytest.fixture
async def client():
    app = FastAPI()
    app.add_middleware(OpenAIErrors)

    @app.get("/bad")
    async def bad():
        return JSONResponse(error("ungültig", param="max_tokens"), status_code=400, headers={"x-id": "1"})

    @app.get("/v1/messages")
    async def messages():
        return JSONResponse({"type": "error", "error": error("no such model")["error"]}, status_code=404)

    @app.get("/text")
    async def text():
        return PlainTextResponse("gone", status_code=410)

    @app.get("/broken")
    async def broken():
        return PlainTextResponse("{", status_code=500, media_type="application/json")

    @app.get("/good")
    async def good():
        return error()

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_the_middleware_rewrites_json_errors_and_keeps_the_rest(client):
    answer = await client.get("/bad")
    assert answer.status_code == 400
    assert answer.headers["x-id"] == "1"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.json() == {
        "error": {"message": "ungültig", "type": "invalid_request_error", "param": "max_tokens", "code": None}
    }


async def test_the_routes_of_the_anthropic_api_answer_in_its_form(client):
    answer = await client.get("/v1/messages")
    assert answer.json() == {"type": "error", "error": {"type": "not_found_error", "message": "no such model"}}


async def test_unknown_routes_have_the_same_form(client):
    answer = await client.get("/nope")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Not Found"


@pytest.mark.parametrize(("path", "body"), [("/text", "gone"), ("/broken", "{"), ("/good", json.dumps(error()))])
async def test_everything_else_passes(client, path, body):
    assert (await client.get(path)).text.replace(" ", "") == body.replace(" ", "")


class Stumbling(BaseModel):
    """Takes a field apart before its type is checked, as some of vLLM's requests do."""

    options: dict[str, int] = {}

    @model_validator(mode="before")
    @classmethod
    def stumble(cls, values):
        values["options"].get("n")
        return values


@pytest.fixture
async def stumbling():
    app = FastAPI()
    app.router.middleware_stack = UnreadableBodies(app.router.middleware_stack)

    @app.post("/read")
    async def read(body: Stumbling) -> str:
        return "read"

    @app.post("/work")
    async def work(body: Stumbling) -> str:
        raise AttributeError("of the work itself")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        yield client


async def test_a_body_that_makes_a_validator_stumble_is_refused(stumbling):
    answer = await stumbling.post("/read", json={"options": 1})
    assert answer.status_code == 400
    assert "wrong type (AttributeError: 'int' object has no attribute 'get')" in answer.json()["detail"]
    assert (await stumbling.post("/read", json={"options": {}})).json() == "read"


async def test_an_error_of_the_work_itself_stays_one_of_the_server(stumbling):
    with pytest.raises(AttributeError, match="work itself"):
        await stumbling.post("/work", json={"options": {}})
