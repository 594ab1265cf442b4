"""How long a request may take, its upload and a slow reader's download included."""

import asyncio
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.departure import Departure
from server.errors import last_events
from server.refusal import refusal
from server.route import route_path


class Deadline:
    """Middleware that gives a request up when its time is over.

    To the app the client seems to have left, which aborts the request in the engine. The client gets a 504 that tells
    it not to ask again by itself, or, where its stream has begun, an error event that ends it.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and stand in for its client when time is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = Departure(send)
        waiting: set[asyncio.Task[Any]] = set()
        over = False

        def end() -> None:
            nonlocal over
            over = True
            for task in waiting:
                task.cancel()

        async def receive_in_time() -> Message:
            task = asyncio.current_task()
            if over or task is None:
                return client.leave()
            cancelled_before = task.cancelling()
            waiting.add(task)
            try:
                return await receive()
            except asyncio.CancelledError:
                if over and task.uncancel() <= cancelled_before:
                    return client.leave()
                raise
            finally:
                waiting.discard(task)
                del task  # which may keep this frame, with the exception that it ends with: a cycle for every request

        timer = asyncio.get_running_loop().call_later(self._seconds, end)  # one a request, not one a message
        try:
            await client.run(self._app, scope, receive_in_time)
        finally:
            timer.cancel()
        outlet = client.outlet
        if not client.left or outlet.ended:
            return
        if outlet.head is None:
            await refusal(504, self._message, headers={"x-should-retry": "false"})(scope, receive, outlet)
        else:
            streams = Headers(raw=outlet.head["headers"]).get("content-type", "").startswith("text/event-stream")
            body = last_events(504, self._message, route_path(scope)) if streams else b""
            await outlet({"type": "http.response.body", "body": body})

    @property
    def _message(self) -> str:
        return f"The request took longer than {self._seconds:g} seconds and was given up."
