import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from server.authentication import Authentication
from server.errors import OpenAIErrors
from server.exchange import current_exchange
from server.keys import Keyring
from server.limits import KeyLimits, TokenBucket
from server.request_id import RequestId


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Service:
    """An app whose requests wait for ``gate`` and use as many tokens as their body says."""

    def __init__(self, clock, max_concurrent=None, tokens_per_minute=None, keys=None):
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Semaphore(0)
        middleware = [Middleware(RequestId), Middleware(OpenAIErrors)]
        if keys is not None:
            middleware.append(Middleware(Authentication, keys))
        middleware.append(Middleware(KeyLimits, max_concurrent, tokens_per_minute, clock))
        app = Starlette(routes=[Route("/ask", self.answer, methods=["GET", "POST"])], middleware=middleware)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    async def answer(self, request):
        self.arrived.release()
        await self.gate.wait()
        tokens = int(await request.body() or 0)
        current_exchange().prompted(tokens // 2)
        current_exchange().sampled(tokens - tokens // 2)
        return PlainTextResponse("")

    def post(self, tokens=0, **headers):
        return self.client.post("/ask", content=str(tokens), headers=headers)

    async def hold(self, count, **headers):
        self.gate.clear()
        tasks = [asyncio.ensure_future(self.post(**headers)) for _ in range(count)]
        for _ in tasks:
            await self.arrived.acquire()
        return tasks


class TestConcurrency:
    async def test_beyond_the_limit_is_refused_until_one_ends(self, clock):
        service = Service(clock, max_concurrent=2)
        held = await service.hold(2)
        refused = await service.post()
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["x-ratelimit-limit-requests"] == "2"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        service.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        assert (await service.post()).status_code == 200

    async def test_a_request_that_is_cut_off_frees_its_place(self, clock):
        service = Service(clock, max_concurrent=1)
        (held,) = await service.hold(1)
        held.cancel()
        await asyncio.wait([held])
        service.gate.set()
        assert (await service.post()).status_code == 200

    async def test_reading_is_not_limited(self, clock):
        service = Service(clock, max_concurrent=1, tokens_per_minute=1)
        await service.hold(1)
        service.gate.set()
        answer = await service.client.get("/ask")
        assert answer.status_code == 200
        assert "x-ratelimit-limit-requests" not in answer.headers

    async def test_every_key_has_its_own(self, clock, tmp_path):
        file = tmp_path / "keys.yaml"
        file.write_text("- {name: alice, key: key-of-alice}\n- {name: bob, key: key-of-bob, max_concurrent: 2}\n")
        service = Service(clock, max_concurrent=1, keys=Keyring(file))
        await service.hold(1, authorization="Bearer key-of-alice")
        assert (await service.post(authorization="Bearer key-of-alice")).status_code == 429
        service.gate.set()
        bob = await service.post(authorization="Bearer key-of-bob")
        assert (bob.status_code, bob.headers["x-ratelimit-limit-requests"]) == (200, "2")


class TestTokens:
    async def test_the_headers_say_what_is_left(self, clock):
        service = Service(clock, tokens_per_minute=600)
        answer = await service.post(100)
        assert answer.headers["x-ratelimit-limit-tokens"] == "600"
        assert answer.headers["x-ratelimit-remaining-tokens"] == "500"
        assert answer.headers["x-ratelimit-reset-tokens"] == "10.000s"

    async def test_a_debt_runs_off_before_the_next_request(self, clock):
        service = Service(clock, tokens_per_minute=600)
        assert (await service.post(700)).status_code == 200
        refused = await service.post()
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "11"
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
        clock.now = 10.0
        assert (await service.post()).status_code == 429
        clock.now = 10.2
        assert (await service.post()).status_code == 200

    async def test_a_limit_that_changes_keeps_the_debt(self, clock, tmp_path):
        file = tmp_path / "keys.yaml"
        file.write_text("- {name: alice, key: key-of-alice, tokens_per_minute: 60}")
        service = Service(clock, keys=Keyring(file, clock=clock))
        await service.post(120, authorization="Bearer key-of-alice")
        file.write_text("- {name: alice, key: key-of-alice, tokens_per_minute: 6000}")
        clock.now = 1.0
        refused = await service.post(authorization="Bearer key-of-alice")
        assert (refused.status_code, refused.headers["x-ratelimit-limit-tokens"]) == (429, "6000")
        clock.now = 2.0
        assert (await service.post(authorization="Bearer key-of-alice")).status_code == 200

    def test_a_bucket_never_holds_more_than_a_minute(self, clock):
        bucket = TokenBucket(60, clock)
        clock.now = 1000.0
        assert (bucket.left, bucket.seconds_until_full, bucket.seconds_until_open) == (60, 0, 0)


async def test_without_limits_nothing_is_said(clock):
    answer = await Service(clock).post(10**9)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
