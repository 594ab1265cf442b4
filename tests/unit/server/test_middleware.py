"""The guards around an app: where they stand, and that they hold on an app whose stack was built before."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from server.authentication import OPEN
from server.keys import Keyring
from server.middleware import add_middlewares
from server.settings import ServerSettings
from server.web import PATHS

KEY = "sk-of-the-tests"
ASKED = {"model": "m", "prompt": "x"}


@pytest.fixture
def guarded(tmp_path: Path, idle_engine: Any) -> TestClient:
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump([{"name": "alice", "key": KEY}]))
    app = FastAPI()

    @app.post("/v1/completions")
    async def answer(body: dict[str, str]) -> dict[str, str]:
        return body

    @app.post("/v1/broken")
    async def broken() -> None:
        raise RuntimeError

    @app.exception_handler(Exception)
    async def as_vllm_does(_: Request, error: Exception) -> JSONResponse:
        body = {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}
        return JSONResponse({"error": body}, 500)

    app.middleware_stack = app.build_middleware_stack()
    add_middlewares(app, idle_engine, ServerSettings(max_body_bytes=100), Keyring(file))
    return TestClient(app, raise_server_exceptions=False)


def test_a_key_opens_what_is_closed_without(guarded: TestClient):
    assert guarded.post("/v1/completions", json=ASKED).status_code == 401
    assert guarded.post("/v1/completions", json=ASKED, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert guarded.post("/v1/completions", json=ASKED, headers={"Authorization": f"Bearer {KEY}"}).json() == ASKED


def test_even_a_refusal_has_a_request_id(guarded: TestClient):
    refused = guarded.post("/v1/completions", json=ASKED, headers={"X-Request-Id": "mine"})
    assert (refused.status_code, refused.headers["X-Request-Id"]) == (401, "mine")


@pytest.mark.parametrize(
    ("path", "headers", "status", "kind", "code"),
    [
        ("/v1/broken", {"Authorization": f"Bearer {KEY}"}, 500, "server_error", None),
        ("/v1/nope", {"Authorization": f"Bearer {KEY}"}, 404, "invalid_request_error", None),
        ("/v1/completions", {}, 401, "invalid_request_error", "invalid_api_key"),
    ],
)
def test_whatever_refuses_or_fails_words_it_as_openai_does(guarded: TestClient, path, headers, status, kind, code):
    answer = guarded.post(path, json=ASKED, headers=headers)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == (kind, None, code)


def test_a_body_beyond_the_limit_is_refused(guarded: TestClient):
    long = {"model": "m", "prompt": "x" * 100}
    assert guarded.post("/v1/completions", json=long, headers={"Authorization": f"Bearer {KEY}"}).status_code == 413


def test_the_page_can_be_loaded_to_ask_for_the_key():
    assert PATHS <= OPEN
