import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from server.authentication import OPEN, Authentication
from server.errors import OpenAIErrors
from server.exchange import current_exchange
from server.keys import Keyring
from server.request_id import RequestId

PATHS = (*OPEN, "/v1/models", "/v1/chat/completions", "/tokenize", "/docs", "/openapi.json", "/invocations")


async def who(_):
    return PlainTextResponse(current_exchange().client)


async def talk(websocket):
    await websocket.accept()
    await websocket.close()


@pytest.fixture
def app():
    routes = [Route(path, who, methods=["GET", "POST"]) for path in PATHS]
    guards = [Middleware(RequestId), Middleware(OpenAIErrors), Middleware(Authentication, Keyring(None, ["the-key"]))]
    return Starlette(routes=[*routes, WebSocketRoute("/v1/realtime", talk)], middleware=guards)


@pytest.fixture
def client(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_open_paths_ask_for_no_key(client, path):
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", [*sorted(set(PATHS) - OPEN), "/health/", "/metrics/x", "/nowhere"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer no"}, {"authorization": "Basic the-key"}])
async def test_every_other_path_is_refused_without_a_key(client, path, headers):
    answer = await client.post(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    error = answer.json()["error"]
    assert error.pop("message").endswith("API key provided." if "Bearer no" in headers.values() else "Bearer KEY.")
    assert error == {"type": "invalid_request_error", "param": None, "code": "invalid_api_key"}


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer the-key"}, {"authorization": "bearer  the-key "}, {"x-api-key": "the-key"}]
)
async def test_a_key_opens_them_and_names_the_client(client, headers):
    answer = await client.post("/v1/chat/completions", headers=headers)
    assert (answer.status_code, answer.text) == (200, "option-1")


async def test_a_key_may_hold_any_character():
    app = Authentication(PlainTextResponse("in"), Keyring(None, ["schlüssel"]))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    for sent, status in (("schlüssel", 200), ("schlussel", 401), ("schl\xfcssel".encode("latin-1"), 401)):
        raw = sent if isinstance(sent, bytes) else sent.encode()
        answer = await client.get("/v1/models", headers={b"authorization": b"Bearer " + raw})
        assert answer.status_code == status


def test_a_websocket_without_a_key_is_closed(app):
    with pytest.raises(WebSocketDisconnect) as closed, TestClient(app).websocket_connect("/v1/realtime"):
        pass
    assert closed.value.code == 1008
    with TestClient(app).websocket_connect("/v1/realtime", headers={"authorization": "Bearer the-key"}):
        pass
