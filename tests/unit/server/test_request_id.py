import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from server.exchange import current_exchange
from server.request_id import RequestId


async def answer(request):
    headers = {"x-request-id": "of the app"}
    return PlainTextResponse(f"{request.headers['x-request-id']} {current_exchange().request_id}", headers=headers)


@pytest.fixture
def client():
    app = Starlette(routes=[Route("/", answer)], middleware=[Middleware(RequestId)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_the_clients_id_is_kept_everywhere(client):
    response = await client.get("/", headers={"X-Request-Id": "my-id.1:2"})
    assert response.text == "my-id.1:2 my-id.1:2"
    assert response.headers.get_list("x-request-id") == ["my-id.1:2"]


@pytest.mark.parametrize("chosen", [None, "", "a b", "a\tb", "x" * 129, '"}', "ü"])
async def test_without_a_usable_one_an_id_is_made(client, chosen):
    headers = {} if chosen is None else {"X-Request-Id": chosen.encode()}
    responses = [await client.get("/", headers=headers) for _ in range(2)]
    first, second = (response.headers["x-request-id"] for response in responses)
    assert first != second
    assert len(first) == 32
    assert responses[0].text == f"{first} {first}"


async def test_there_is_no_exchange_outside_of_a_request():
    assert current_exchange() is None
