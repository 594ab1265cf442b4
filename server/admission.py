"""Whether the server takes on more work at all, decided before a request's body is read."""

from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.outlet import Outlet, nowhere
from server.refusal import refusal

RETRY_SECONDS: Final = {429: 1.0, 503: 5.0}

DRAINING: Final = "The server is shutting down. Ask another instance, or again later."


class Engine(Protocol):
    """The part of the engine that tells how it is."""

    draining: bool

    @property
    def errored(self) -> bool:
        """Whether it has died."""

    def get_num_unfinished_requests(self) -> int:
        """Requests that run or wait."""


def asks_for_work(scope: Scope) -> bool:
    """Whether a request may cost the engine anything; one that cancels another is welcome at all times."""
    return bool(scope["type"] == "http" and scope["method"] == "POST" and not scope["path"].endswith("/cancel"))


class Admission:
    """Middleware that refuses work: 503 while the engine drains or is dead, 429 while its queue is full."""

    def __init__(self, app: ASGIApp, engine: Engine, max_queue: int) -> None:
        self._app = app
        self._engine = engine
        self._max_queue = max_queue
        self._passing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let requests pass that the engine can take on."""
        if not asks_for_work(scope):
            await self._app(scope, receive, send)
        elif (refused := self._refused()) is not None:
            await _refuse(*refused, scope, receive, send)
        else:
            self._passing += 1
            try:
                await self._pass_on(scope, receive, send)
            finally:
                self._passing -= 1

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass; one that the shutdown overtakes on its way to the engine is refused, too."""
        overtaken = False

        def examine(head: Message) -> Send | None:
            nonlocal overtaken
            overtaken = head["status"] == 500 and self._engine.draining
            return nowhere if overtaken else None

        outlet = Outlet.at(send).watch(examine)
        try:
            await self._app(scope, receive, outlet)
        except Exception:
            if outlet.head is not None or not self._engine.draining:
                raise
            overtaken = True
        if overtaken:
            outlet.release()
            await _refuse(503, DRAINING, scope, receive, outlet)

    def _refused(self) -> tuple[int, str] | None:
        if self._engine.draining:
            return 503, DRAINING
        if self._engine.errored:
            return 503, "The engine has died and the server is ending. Ask another instance, or again later."
        # What was let in reaches the engine only when its body has been read and its prompt put into tokens.
        if max(self._passing, self._engine.get_num_unfinished_requests()) >= self._max_queue:
            return 429, f"The server is busy: {self._max_queue} requests are running or waiting. Ask again later."
        return None


async def _refuse(status: int, message: str, scope: Scope, receive: Receive, send: Send) -> None:
    await refusal(status, message, retry_after=RETRY_SECONDS[status])(scope, receive, send)
