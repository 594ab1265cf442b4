import asyncio
from types import SimpleNamespace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from server.admission import Admission
from server.errors import OpenAIErrors


class Service:
    def __init__(self):
        self.requests = 0
        self.engine = SimpleNamespace(draining=False, errored=False, get_num_unfinished_requests=lambda: self.requests)
        self.reading = asyncio.Event()
        routes = [
            Route("/", lambda _: PlainTextResponse(""), methods=["GET", "POST"]),
            Route("/v1/responses/1/cancel", lambda _: PlainTextResponse(""), methods=["POST"]),
            Route("/slow", self.slow, methods=["POST"]),
            Route("/overtaken", self.overtaken, methods=["POST"]),
        ]
        app = Starlette(routes=routes, middleware=[Middleware(OpenAIErrors), Middleware(Admission, self.engine, 3)])
        self.failure = None
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    async def slow(self, _):
        await self.reading.wait()
        return PlainTextResponse("")

    def overtaken(self, _):
        """The shutdown begins while the request is on its way to the engine."""
        self.engine.draining = True
        if self.failure is None:
            return PlainTextResponse("cannot schedule new futures after shutdown", 500)
        raise self.failure


@pytest.fixture
def service():
    return Service()


@pytest.mark.parametrize(("requests", "status"), [(0, 200), (2, 200), (3, 429), (4, 429)])
async def test_a_full_queue(service, requests, status):
    service.requests = requests
    answer = await service.client.post("/")
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == ("1" if status == 429 else None)


async def test_requests_on_their_way_to_the_queue_count_too(service):
    """A burst is let in by its heads, long before the engine knows of it."""
    under_way = [asyncio.create_task(service.client.post("/slow")) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert (await service.client.post("/")).status_code == 429
    service.reading.set()
    assert [answer.status_code for answer in await asyncio.gather(*under_way)] == [200] * 3
    assert (await service.client.post("/")).status_code == 200


async def test_work_can_be_cancelled_however_busy_the_server_is(service):
    service.requests, service.engine.draining = 3, True
    assert (await service.client.post("/v1/responses/1/cancel")).status_code == 200


@pytest.mark.parametrize("state", ["draining", "errored"])
async def test_an_engine_that_takes_nothing_on(service, state):
    setattr(service.engine, state, True)
    answer = await service.client.post("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["type"] == "server_error"
    assert (await service.client.get("/")).status_code == 200


@pytest.mark.parametrize("failure", [None, RuntimeError("cannot schedule new futures after shutdown")])
async def test_a_request_that_the_shutdown_overtakes(service, failure):
    service.failure = failure
    answer = await service.client.post("/overtaken")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "shutting down" in answer.json()["error"]["message"]
