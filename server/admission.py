"""Whether the server takes on more work at all, decided before a request's body is read."""

from typing import Final, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from server.refusal import refusal

RETRY_SECONDS: Final = {429: 1.0, 503: 5.0}


class Engine(Protocol):
    """The part of the engine that tells how it is."""

    draining: bool

    @property
    def errored(self) -> bool:
        """Whether it has died."""

    def get_num_unfinished_requests(self) -> int:
        """Requests that run or wait."""


class Admission:
    """Middleware that refuses POST requests: 503 while the engine drains or is dead, 429 while its queue is full."""

    def __init__(self, app: ASGIApp, engine: Engine, max_queue: int) -> None:
        self._app = app
        self._engine = engine
        self._max_queue = max_queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let requests pass that the engine can take on."""
        refused = self._refused() if scope["type"] == "http" and scope["method"] == "POST" else None
        if refused is None:
            await self._app(scope, receive, send)
        else:
            status, message = refused
            await refusal(status, message, retry_after=RETRY_SECONDS[status])(scope, receive, send)

    def _refused(self) -> tuple[int, str] | None:
        if self._engine.draining:
            return 503, "The server is shutting down. Ask another instance, or again later."
        if self._engine.errored:
            return 503, "The engine has died and the server is ending. Ask another instance, or again later."
        if self._engine.get_num_unfinished_requests() >= self._max_queue:
            return 429, f"The server is busy: {self._max_queue} requests are running or waiting. Ask again later."
        return None
