"""One line in the log for each request: who asked, what it took, how its thinking ended; nothing of what was said."""

import logging
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.exchange import current_exchange
from server.outlet import Outlet
from server.route import route_path

logger = logging.getLogger(__name__)

PROBES: Final = frozenset({"/health", "/ready", "/version", "/metrics"})
"""Routes that are asked all the time, and not logged."""


class RequestLog:
    """Middleware that logs requests when they have been answered, or left.

    A line has ``request_id``, ``client`` (the name of its key), ``method``, ``path``, ``status`` (null where the client
    left before it was answered), ``seconds``, and of requests that reached the engine ``model``, ``prompt_tokens``,
    ``completion_tokens``, ``aborted`` (choices that did not come to their end) and ``choices``, their reports.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and log it."""
        if scope["type"] != "http" or route_path(scope) in PROBES:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status: int | None = None
        left = False

        async def receive_noting() -> Message:
            nonlocal left
            message = await receive()
            left = left or (message["type"] == "http.disconnect" and status is None)
            return message

        def note(head: Message) -> None:
            nonlocal status
            status = head["status"]

        try:
            await self._app(scope, receive_noting, Outlet.at(send).watch(note))
        finally:
            self._log(scope, None if left else status, time.perf_counter() - began)

    def _log(self, scope: Scope, status: int | None, seconds: float) -> None:
        line = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": round(seconds, 4)}
        exchange = current_exchange()
        if exchange is not None:
            line |= {"request_id": exchange.request_id, "client": exchange.client}
            if exchange.model:
                line |= {
                    "model": exchange.model,
                    "prompt_tokens": exchange.prompt_tokens,
                    "completion_tokens": exchange.completion_tokens,
                    "aborted": exchange.aborted,
                    "choices": exchange.reports,
                }
        logger.info("request", extra=line)
