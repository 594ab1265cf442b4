"""Savings on live traffic: a drawn share of the requests is asked again of the base model, once they are answered.

The user's request knows nothing of it. Its body is kept while it passes; everything else happens after its answer.

The base model may be this server's own: an adapter is then compared with what it was put on. Such replays come back
through the middleware, which knows them by their mark, whatever name or proxy the address goes through.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import httpx
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import admission
from server.exchange import Exchange, current_exchange
from server.limits import TokenBucket
from server.metering import Meter
from server.outlet import Outlet
from server.replay import MARK, OWN, REPLAYED, BaseModel, replay_of
from server.route import route_path
from server.settings import ServerSettings

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 2**20
"""Larger bodies are not kept."""
AT_A_TIME: Final = 4
"""Requests that the base model is asked at a time."""
POLL_SECONDS: Final = 0.1
"""How often it is looked whether a shutdown has begun while the base model answers."""
PRIORITY: Final = "x-vllm-priority"
"""vLLM's header for the place in its queue."""
LAST: Final = 2**31 - 1
"""The place behind everybody who does not ask for it; the default is 0."""


class Engine(admission.Engine, Protocol):
    """The engine of the tuned model."""

    @property
    def vllm_config(self) -> Any:
        """How vLLM was set up."""


class Base(Protocol):
    """The base model that is asked."""

    async def completion_tokens(self, path: str, request: dict[str, Any]) -> int:
        """Tokens of its answer."""

    async def close(self) -> None:
        """End."""


class Shadow:
    """Draws requests, asks the base model again, and counts the pairs.

    Args:
        base: the model that is asked.
        meter: where pairs are counted.
        engine: of the tuned model; while it is busy, nobody is asked.
        settings: share, seed, rate and how busy is busy.
    """

    def __init__(self, base: Base, meter: Meter, engine: Engine, settings: ServerSettings) -> None:
        self._base = base
        self._meter = meter
        self._engine = engine
        self._share = settings.shadow_share
        self._max_busy = settings.shadow_max_busy
        self._rate = TokenBucket(settings.shadow_per_minute)
        self._random = random.Random(settings.shadow_seed)
        self._own_base: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def draws(self) -> bool:
        """Whether the next request is drawn."""
        return self._random.random() < self._share

    def answered(self, path: str, body: bytes, exchange: Exchange) -> None:
        """A request that was drawn has been answered: ask the base model, unless something speaks against it."""
        if not exchange.reports or exchange.aborted or self._is_base(exchange):
            return
        if self._is_busy():
            self._meter.metrics.shadowed(exchange.model, "skipped")
            return
        self._rate.spend(1)
        task = asyncio.create_task(self._compare(path, body, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def came_back(self, exchange: Exchange) -> None:
        """A replay has been answered by this very server: the model that did so is the base model."""
        self._own_base = exchange.model or self._own_base

    @property
    def by_priority(self) -> bool:
        """Whether the engine serves requests by their priority; otherwise it may refuse those that have one."""
        return bool(self._engine.vllm_config.scheduler_config.policy == "priority")

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._base.close()

    def _is_base(self, exchange: Exchange) -> bool:
        """Whether the base model has answered already, and would be compared with itself."""
        return exchange.model == self._own_base

    def _is_busy(self) -> bool:
        return (
            self._engine.draining
            or self._engine.errored
            or self._engine.get_num_unfinished_requests() > self._max_busy
            or len(self._tasks) >= AT_A_TIME
            or self._rate.seconds_until_open > 0
        )

    async def _compare(self, path: str, body: bytes, exchange: Exchange) -> None:
        counted = self._meter.metrics
        try:
            request = replay_of(body, len(exchange.reports))
            if request is None:
                counted.shadowed(exchange.model, "skipped")
                return
            baseline = await self._asked(path, request)
        except (httpx.HTTPError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            logger.warning("the base model was asked in vain: %s", type(error).__name__)
            counted.shadowed(exchange.model, "failed")
            return
        if self._is_base(exchange):
            return
        if baseline is None:
            counted.shadowed(exchange.model, "skipped")
            return
        actual = sum(report["tokens"]["completion"] for report in exchange.reports)
        counted.shadowed(exchange.model, "compared")
        counted.compared(exchange.model, actual, baseline)
        self._meter.summary.compared(exchange.model, actual, baseline)

    async def _asked(self, path: str, request: dict[str, Any]) -> int | None:
        """Tokens of the base model's answer; None where a shutdown begins first, which a replay must not hold up."""
        asking = asyncio.ensure_future(self._base.completion_tokens(path, request))
        try:
            while not asking.done():
                if self._engine.draining:
                    return None
                await asyncio.wait({asking}, timeout=POLL_SECONDS)
            return asking.result()
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


class ShadowedRequests:
    """Middleware that keeps the bodies of drawn requests until they are answered."""

    def __init__(self, app: ASGIApp, shadow: Shadow) -> None:
        self._app = app
        self._shadow = shadow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and hand it over afterwards if it is drawn."""
        mark = _mark(scope)
        if mark == OWN:
            await self._answer_replay(scope, receive, send)
            return
        if mark is not None or not _may_be_drawn(scope) or not self._shadow.draws():
            await self._app(scope, receive, send)
            return
        body = bytearray()
        whole = False

        async def kept() -> Message:
            nonlocal whole
            message = await receive()
            if message["type"] == "http.request" and len(body) <= MOST_BYTES:
                body.extend(message.get("body", b""))
                whole = not message.get("more_body", False)
            return message

        await self._app(scope, kept, send)
        exchange = current_exchange()
        if whole and len(body) <= MOST_BYTES and exchange is not None:
            self._shadow.answered(route_path(scope), bytes(body), exchange)

    async def _answer_replay(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a replay that has come back, behind everybody else, and take note of the model that answers."""
        headers = MutableHeaders(raw=list(scope["headers"]))
        if self._shadow.by_priority:
            headers[PRIORITY] = str(LAST)

        def note(_: Message) -> None:
            exchange = current_exchange()
            if exchange is not None:
                self._shadow.came_back(exchange)

        await self._app({**scope, "headers": headers.raw}, receive, Outlet.at(send).watch(note))


def _may_be_drawn(scope: Scope) -> bool:
    return bool(scope["type"] == "http" and scope["method"] == "POST" and route_path(scope) in REPLAYED)


def _mark(scope: Scope) -> str | None:
    return Headers(scope=scope).get(MARK) if scope["type"] == "http" else None


@asynccontextmanager
async def shadowing(settings: ServerSettings, meter: Meter, engine: Engine) -> AsyncIterator[Shadow | None]:
    """What asks the base model as long as the block runs; None where no base model is set."""
    if settings.shadow_url is None:
        yield None
        return
    key = settings.shadow_api_key
    base = BaseModel(
        str(settings.shadow_url),
        settings.shadow_model,
        key.get_secret_value() if key else None,
        settings.request_timeout,
    )
    shadow = Shadow(base, meter, engine, settings)
    try:
        yield shadow
    finally:
        await shadow.close()
