"""How large a request may be."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.departure import Departure
from server.refusal import refusal


class BodyLimit:
    """Middleware that answers 413 to larger bodies: at once where the length is announced, else where it is passed."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the body on its way in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = int(announced) if (announced := headers.get("content-length", "")).isdecimal() else None
        if length is not None and length <= self._max_bytes and "transfer-encoding" not in headers:
            await self._app(scope, receive, send)  # HTTP holds it to its length
            return
        message = f"The request body is larger than {self._max_bytes} bytes."
        refused = refusal(413, message, headers={"Connection": "close"})
        if length is not None and length > self._max_bytes:
            await refused(scope, receive, send)
            return
        client = Departure(send)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return client.leave() if received > self._max_bytes else message

        await client.run(self._app, scope, counted)
        if client.left and client.outlet.head is None:
            await refused(scope, receive, client.outlet)
