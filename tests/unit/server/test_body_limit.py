import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.middleware import Middleware

from server.body_limit import BodyLimit
from server.errors import OpenAIErrors

bodies = []


@pytest.fixture
def client():
    app = FastAPI(middleware=[Middleware(OpenAIErrors), Middleware(BodyLimit, 10)])
    bodies.clear()

    @app.post("/raw")
    async def raw(request: Request) -> int:
        bodies.append(await request.body())
        return len(bodies[-1])

    @app.post("/json")
    async def parsed(body: dict[str, str]) -> int:
        bodies.append(body)
        return len(body)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def in_pieces(*pieces):
    for piece in pieces:
        yield piece


async def test_a_body_of_the_limit_passes(client):
    assert (await client.post("/raw", content=b"x" * 10)).json() == 10
    assert (await client.post("/raw", content=in_pieces(b"x" * 4, b"x" * 6))).json() == 10


@pytest.mark.parametrize("path", ["/raw", "/json"])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_larger_body_never_reaches_the_app(client, path, announced):
    content = b'"' * 11 if announced else in_pieces(b'"' * 10, b'"')
    answer = await client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "The request body is larger than 10 bytes."
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["connection"] == "close"
    assert bodies == []
